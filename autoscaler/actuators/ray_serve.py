"""Writes replica targets to Ray Serve through its external-scaler API, one instance for each Ray cluster.

Targets are levels: posting one twice, or late, does no harm, and a target that something else reset (a redeploy) is
posted again at the next tick since the observed one differs. It decides nothing: a plan that is blocked, not the
leader's or a dry run is not posted.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from urllib.parse import quote

from autoscaler.clients.ray_dashboard import Answer, DashboardClient, NoAnswer
from autoscaler.common.errors import ActuatorError, ConfigError, Conflict, Forbidden, NotFound, Rejected, Unavailable
from autoscaler.core.ports import Actuator
from autoscaler.core.types import Applied, DeploymentPlan, Outcome, Plan
from policies.base import DeploymentKey

MEND_AUTOSCALED = (
    "give the deployment `autoscaling_config: null` and `num_replicas: 1` in the Serve config "
    "(with serve.llm: set `num_replicas` in LLMConfig.deployment_config) and deploy again"
)
_FOLLOW_WITHIN_S, _FOLLOW_WITHIN_TICKS = 60.0, 6
"""A published level that Serve does not take up for longer than both is a failure worth telling."""
MEND_SWITCHED_OFF = "set `external_scaler_enabled: true` on the application in the Serve config and deploy again"


class RayServeActuator(Actuator):
    """All writes of one `apply` run together and share one deadline, `deadline_s`.

    `write_budget_s` is for several controllers: the seconds for which a write that starts now may be under way before
    another one may lead; none starts at 0. None: there is no other.
    """

    def __init__(
        self, name: str, namespace: str, service: str, client: DashboardClient,
        deadline_s: float = 4.0, concurrency: int = 16, write_budget_s: Callable[[], float] | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.namespace = namespace
        self.service = service
        self._client = client
        self._deadline_s = deadline_s
        self._slots = asyncio.Semaphore(concurrency)
        self._write_budget_s = write_budget_s or (lambda: math.inf)
        self._ahead: dict[DeploymentKey, tuple[float, int]] = {}
        """Published levels that Serve does not have yet: since when (seconds), for how many ticks."""

    async def apply(self, plan: Plan, now_s: float) -> Outcome:
        wanted = [one for one in plan.deployments if one.target is not None and self._is_ours(one.key)]
        async with asyncio.TaskGroup() as group:
            until_s = asyncio.get_running_loop().time() + self._deadline_s
            tasks = [group.create_task(self._outcome(one, plan, until_s)) for one in wanted]
        return Outcome(self.name, tuple(task.result() for task in tasks))

    async def close(self) -> None:
        await self._client.close()

    def _is_ours(self, key: DeploymentKey) -> bool:
        return (key.namespace, key.service) == (self.namespace, self.service)

    async def _outcome(self, one: DeploymentPlan, plan: Plan, until_s: float) -> Applied:
        what, target = str(one.key), one.target
        if target == one.observed_target:
            self._ahead.pop(one.key, None)
            return Applied(self.name, what, "unchanged", target)
        if plan.dry_run or not plan.leader:
            return Applied(self.name, what, "withheld", target, "dry run" if plan.dry_run else "not the leader")
        try:
            if one.blocked is not None:
                raise Conflict(one.blocked)
            if one.target is not None and one.target % one.gang_size:
                raise Rejected(f"{one.target} replicas are no whole number of gangs of {one.gang_size}: not posted")
            if one.act == "policy":
                return self._published(one, plan.now_s)
            async with asyncio.timeout_at(until_s), self._slots:
                budget_s = self._write_budget_s()  # asked at the last moment: the wait for a slot may have been long
                if budget_s <= 0:
                    return Applied(self.name, what, "withheld", target, "the lease ran out")
                await self._post(one.key, target, min(budget_s, self._deadline_s))
        except TimeoutError:
            error: ActuatorError = Unavailable(f"{self._client.shown}: no answer within {self._deadline_s:g} s")
            return Applied(self.name, what, _outcome_name(error), target, str(error))
        except ActuatorError as error:
            return Applied(self.name, what, _outcome_name(error), target, str(error))
        return Applied(self.name, what, "ok", target)

    def _published(self, one: DeploymentPlan, now_s: float) -> Applied:
        """Nothing is posted: the policy in Serve's controller follows. Errors: Unavailable when it does not."""
        since_s, ticks = self._ahead.get(one.key, (now_s, 0))
        self._ahead[one.key] = (since_s, ticks + 1)
        if now_s - since_s > _FOLLOW_WITHIN_S and ticks > _FOLLOW_WITHIN_TICKS:
            raise Unavailable(
                f"Serve's controller does not follow the plan: its level is {one.observed_target} for "
                f"{now_s - since_s:.0f} s now; its log says why (does it reach /api/v1/plan, and do min_replicas and "
                "max_replicas of its autoscaling_config allow it?)"
            )
        why = "act is policy: nothing is posted, Serve's controller follows the published plan"
        return Applied(self.name, str(one.key), "published", one.target, why)

    async def _post(self, key: DeploymentKey, target: int | None, within_s: float) -> None:
        """Errors: ActuatorError."""
        path = f"/api/v1/applications/{quote(key.app, safe='')}/deployments/{quote(key.deployment, safe='')}/scale"
        try:
            answer = await self._client.post_json(path, {"target_num_replicas": target}, within_s)
        except NoAnswer as error:
            raise Unavailable(str(error)) from None
        except ConfigError as error:
            raise Forbidden(str(error)) from None
        refused = refusal(answer, key, self._client.sends_token)
        if refused is not None:
            raise refused


def refusal(answer: Answer, key: DeploymentKey, sent_token: bool) -> ActuatorError | None:
    """What an answer of the scale API means: None for yes, else the error in one line with what to do about it."""
    status, said = answer.status, answer.excerpt()
    if status == 200:
        return (
            None if _is_json_object(answer) else Unavailable("answered 200, but not as Ray Serve does: a login page?")
        )
    if status == 400 and "not found" in said.lower():  # Ray before 2.60; since then it is a 404
        return NotFound(said)
    if status == 400:
        return Rejected(f"Ray Serve refused the request: {said}")
    if status in (401, 403):
        hint = "the token in token_file was not accepted" if sent_token else "it wants a token: set token_file"
        return Forbidden(f"answered {status}: {hint}")
    if status == 404:
        return NotFound(
            said if _is_json_object(answer) else "no scale API there: Ray older than 2.53, or no dashboard?"
        )
    if status == 412 and "delet" in said.lower():
        return NotFound(f"{key.deployment} is being deleted")
    if status == 412:
        return Rejected(f"the external scaler is off for application {key.app!r}: {MEND_SWITCHED_OFF}")
    return Unavailable(f"answered {status}: {said}" if said else f"answered {status}")


def _is_json_object(answer: Answer) -> bool:
    try:
        return isinstance(answer.json(), dict)
    except ValueError:
        return False


def _outcome_name(error: ActuatorError) -> str:
    return type(error).__name__.lower()
