"""Pre-warming by a ProvisioningRequest (autoscaling.x-k8s.io/v1): all or nothing, for what is known long ahead.

A spec is immutable, so another level is another request: the old one is deleted, a new one made. Its name stays, since
the pods that may use what it books name it in their annotations. What is booked and not used within ten minutes is lost
again. Not for the minutes of a peak: the wait in the queue has no bound.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from autoscaler.actuators.prewarm import Allowed, Held, Surroundings
from autoscaler.actuators.ways.placeholder import OWNER_LABEL, refuse_others
from autoscaler.common.errors import NotFound
from autoscaler.common.fields import mapping, mappings, text, time_s, whole
from autoscaler.core.types import PoolPlan
from autoscaler.core.types.pools import WarmPool
from autoscaler.kubernetes.resources import PROVISIONING_REQUESTS, ClusterApi, Object

BOOKED_S = 600.0
"""How long provisioned nodes wait for the pods that were to come."""
SETTLE_S = 600.0
"""A request keeps its place in the queue at least this long, whatever the plan says but 0."""
AGAIN_AFTER_S = 1800.0
"""After a failed or unused request the next one follows no sooner."""


class Stage(enum.Enum):
    """How far a request got."""

    NONE = "none"
    QUEUED = "queued"
    PROVISIONED = "provisioned"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class _Seen:
    """The request as read."""

    stage: Stage
    count: int
    uid: str = ""
    settled: bool = True
    """It may be replaced by one of another size."""
    deleting: bool = False
    """Deleted, and a finalizer keeps it: nothing can be done about it, and no other one made under its name."""


class ProvisioningRequests:
    """The way `provisioning_request`."""

    name = "provisioning_request"

    def __init__(self, api: ClusterApi, settle_s: float = SETTLE_S, again_after_s: float = AGAIN_AFTER_S) -> None:
        self._api, self._settle_s, self._again_after_s = api, settle_s, again_after_s

    async def observe(self, pool: WarmPool, plan: PoolPlan | None, now_s: float) -> Held:
        try:
            obj = await self._api.get(PROVISIONING_REQUESTS, pool.namespace, pool.object)
        except NotFound as error:
            if "could not find the requested resource" in str(error):
                raise NotFound(f"the cluster has no ProvisioningRequests (autoscaling.x-k8s.io/v1): {error}") from None
            return Held(0, "", _Seen(Stage.NONE, 0))
        refuse_others(obj, pool)
        return self._held(obj, pool, now_s)

    def patch(self, pool: WarmPool, held: Held, level: int, plan: PoolPlan | None) -> str:
        steps = _steps(pool, held.seen, level, plan is None)
        return msgspec.json.encode(steps).decode() if steps else ""

    async def write(
        self, pool: WarmPool, held: Held, level: int, plan: PoolPlan | None, now_s: float, allowed_s: Allowed
    ) -> str:
        for step in _steps(pool, held.seen, level, plan is None):
            limit_s = allowed_s()
            if "delete" in step:
                uid = held.seen.uid
                await self._api.delete(PROVISIONING_REQUESTS, pool.namespace, pool.object, uid=uid, timeout_s=limit_s)
            else:
                await self._api.create(PROVISIONING_REQUESTS, pool.namespace, step["create"], timeout_s=limit_s)
        return f"asks for {level} at once, all or nothing" if level else "the request is withdrawn"

    async def close(self) -> None:
        """The API belongs to who made it."""

    def _held(self, obj: Object, pool: WarmPool, now_s: float) -> Held:
        meta, spec, status = mapping(obj, "metadata"), mapping(obj, "spec"), mapping(obj, "status")
        count = sum(whole(one.get("count")) or 0 for one in mappings(spec, "podSets"))
        true = {text(c, "type"): c for c in mappings(status, "conditions") if c.get("status") == "True"}
        uid, deleting = text(meta, "uid"), "deletionTimestamp" in meta
        if deleting:
            return Held(0, f"the request for {count} is being deleted", _Seen(Stage.OVER, 0, uid, False, True))
        for kind in ("BookingExpired", "CapacityRevoked", "Failed"):
            if kind in true:
                return self._over(kind, true[kind], count, uid, now_s)
        if "Provisioned" in true:
            at_s = time_s(true["Provisioned"].get("lastTransitionTime")) or now_s
            left_s = max(0.0, BOOKED_S - (now_s - at_s))
            ends = "" if pool.max_run_s is None else f"; its nodes end {_hours(at_s + pool.max_run_s - now_s)} from now"
            words = f"{count} provisioned; pods have {left_s:.0f} s left to claim them{ends}"
            return Held(count, words, _Seen(Stage.PROVISIONED, count, uid, False))
        made_s = time_s(meta.get("creationTimestamp"))
        waits_s = 0.0 if made_s is None else max(0.0, now_s - made_s)
        state = "accepted, in the queue" if "Accepted" in true else "not accepted yet"
        settled = made_s is None or now_s - made_s >= self._settle_s or self._settle_s == 0
        return Held(
            count, f"{count} asked for {_hours(waits_s)} ago: {state}", _Seen(Stage.QUEUED, count, uid, settled)
        )

    def _over(self, kind: str, condition: Mapping[str, Any], count: int, uid: str, now_s: float) -> Held:
        """It gave nothing, or what it gave is gone: said until it is time for another one."""
        at_s = time_s(condition.get("lastTransitionTime")) or now_s
        message = " ".join(text(condition, "message").split())
        words = {
            "BookingExpired": f"the booking of {count} expired unused: no pod claimed it in {BOOKED_S / 60:.0f} min",
            "CapacityRevoked": f"the {count} provisioned were taken back: their time was over",
        }.get(kind, f"the request for {count} failed")
        words += f" ({message})" if message else ""
        left_s = at_s + self._again_after_s - now_s
        if left_s > 0:
            words += f"; asked again in {left_s:.0f} s"
        refusal = (_kind(message), words) if kind == "Failed" else None
        return Held(0, words, _Seen(Stage.OVER, 0, uid, left_s <= 0), refusal)


def _steps(pool: WarmPool, seen: _Seen, level: int, everything_back: bool) -> list[dict[str, Any]]:
    """What brings the request to a level: delete, create, both or nothing."""
    delete, create = {"delete": pool.object}, {"create": request_body(pool, level)}
    if seen.deleting:
        return []
    if level == 0:
        there = seen.stage is not Stage.NONE and (everything_back or seen.stage is not Stage.OVER)
        return [delete] if there else []
    if seen.stage is Stage.NONE:
        return [create]
    if seen.stage is Stage.PROVISIONED or not seen.settled or seen.count == level:
        return []
    return [delete, create]


def request_body(pool: WarmPool, count: int) -> dict[str, Any]:
    """The object that asks for `count` pods of the chart's template at once."""
    queued = pool.provisioning_class == "queued-provisioning.gke.io" and pool.max_run_s is not None
    parameters = {"maxRunDurationSeconds": str(pool.max_run_s)} if queued else {}
    return {
        "apiVersion": PROVISIONING_REQUESTS.api_version,
        "kind": PROVISIONING_REQUESTS.kind,
        "metadata": {
            "name": pool.object,
            "namespace": pool.namespace,
            "labels": {OWNER_LABEL: pool.name, "app.kubernetes.io/managed-by": "leadtime"},
        },
        "spec": {
            "provisioningClassName": pool.provisioning_class,
            "podSets": [{"podTemplateRef": {"name": pool.object}, "count": count}],
            **({"parameters": parameters} if parameters else {}),
        },
    }


def _kind(message: str) -> str:
    lowered = message.lower()
    if "quota" in lowered:
        return "quota"
    return "stockout" if any(word in lowered for word in ("stock", "out of resources", "exhausted")) else "other"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{max(seconds, 0.0):.0f} s"


def way(pools: Sequence[WarmPool], around: Surroundings) -> ProvisioningRequests:
    """For the pools that are warmed so."""
    return ProvisioningRequests(around.cluster)
