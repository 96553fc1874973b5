"""Pre-warming through Ray's own autoscaler: `ray.autoscaler.sdk.request_resources`, called by a small job.

It needs no right in Kubernetes: the dashboard's Jobs API runs a line of Python on the head, which asks for so many
bundles at once, used ones included. The request stands after the job has ended, and the last one counts for the whole
Ray cluster; so one job speaks for all pools, and its metadata say what it asked for. Not for bundles of anybody else:
whoever calls request_resources besides leadtime takes it over.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from autoscaler.actuators.prewarm import Allowed, Held, Place, RayHead, Surroundings
from autoscaler.clients.ray_dashboard import Answer, DashboardClient, NoAnswer
from autoscaler.common.errors import ActuatorError, Forbidden, NotFound, Rejected, Unavailable
from autoscaler.common.fields import mapping, text
from autoscaler.core.types import PoolPlan, ServiceGpus
from autoscaler.core.types.pools import WarmPool, shares
from autoscaler.kubernetes.resources import Throttled

JOBS = "/api/jobs/"
MARK = "leadtime.dev/prewarm"
"""Key of a job's metadata: its value holds each pool's bundles as JSON."""
AGAIN_AFTER_S = 60.0
"""After a job that failed the next one follows no sooner."""
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_CODE = (
    "import sys; sys.path[:] = [place for place in sys.path if place]; "  # a folder `ray` where the job runs is not Ray
    "import ray; ray.init(address='auto', log_to_driver=False, logging_level='warning'); "
    "from ray.autoscaler.sdk import request_resources; "
    "request_resources(bundles=[bundle for n, bundle in %s for _ in range(n)])"  # written out they outgrow a command
)

Level = tuple[int, Mapping[str, float]]
"""How many bundles of which resources."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What stands at one Ray cluster: bundles by pool, as the newest job that counts said."""

    head: RayHead
    levels: Mapping[str, Level] = field(default_factory=dict)
    ended: tuple[str, ...] = ()
    """Submission ids of jobs that are over."""
    words: str = ""
    failed_at_s: float | None = None

    def of(self, pool: WarmPool) -> int:
        return self.levels.get(pool.name, (0, {}))[0]


class RayRequestResources:
    """The way `request_resources`. `heads` are the Ray clusters that there are now."""

    name = "request_resources"

    def __init__(self, heads: Callable[[], Sequence[RayHead]]) -> None:
        self._heads = heads
        self._writing: dict[Place, asyncio.Lock] = {}
        self._numbers = itertools.count()

    async def observe(self, pool: WarmPool, plan: PoolPlan | None, now_s: float) -> Held:
        heads = [head for head in self._heads() if pool.service in (None, head.place)]
        if plan is not None:
            named = {(s.namespace, s.service) for s in plan.gpus}
            heads = [head for head in heads if head.place in named or pool.service is not None] or heads
        if not heads and plan is not None:
            raise NotFound(f"pool {pool.name}: no Ray cluster is known that runs on it")
        asked = await asyncio.gather(*(self._read(head, now_s) for head in heads))
        words = "; ".join(f"{'/'.join(one.head.place)}: {one.words}" for one in asked if one.words)
        return Held(sum(one.of(pool) for one in asked), words, {one.head.place: one for one in asked})

    def patch(self, pool: WarmPool, held: Held, level: int, plan: PoolPlan | None) -> str:
        sent = {
            "/".join(place): f"request_resources(bundles=[{json.dumps(dict(_bundle(pool)))}] * {units})"
            for place, units in self._changes(pool, held, level, plan).items()
        }
        return json.dumps(sent) if sent else ""

    async def write(
        self, pool: WarmPool, held: Held, level: int, plan: PoolPlan | None, now_s: float, allowed_s: Allowed
    ) -> str:
        words = []
        for place, units in self._changes(pool, held, level, plan).items():
            asked: _Asked = held.seen[place]
            async with self._writing.setdefault(place, asyncio.Lock()):  # pools share one request
                newest = await self._read(asked.head, now_s)
                if newest.failed_at_s is not None and now_s - newest.failed_at_s < AGAIN_AFTER_S:
                    raise Unavailable(f"{'/'.join(place)}: {newest.words}")
                levels = {**newest.levels, pool.name: (units, _bundle(pool))}
                await self._submit(newest, levels, now_s, allowed_s())
            words.append(f"{'/'.join(place)}: {units} workers of pool {pool.name} asked for")
        return "; ".join(words)

    async def close(self) -> None:
        """The clients belong to who made them."""

    # ------------------------------------------------------------ what stands, and what to change

    def _changes(self, pool: WarmPool, held: Held, level: int, plan: PoolPlan | None) -> dict[Place, int]:
        """Bundles by Ray cluster, where they are others than those that stand."""
        seen: Mapping[Place, _Asked] = held.seen
        named = {(s.namespace, s.service): s for s in (plan.gpus if plan else ())}
        needs = [named.get(place, ServiceGpus(*place, 0)) for place in seen]
        wanted = shares(level, pool.unit_gpus, needs)
        return {place: units for place, units in wanted.items() if units != seen[place].of(pool)}

    async def _read(self, head: RayHead, now_s: float) -> _Asked:
        try:
            answer = await head.client.get(JOBS)
        except NoAnswer as error:
            raise Unavailable(str(error)) from None
        _refuse(answer, head.client)
        try:
            listed = answer.json()
        except ValueError:
            raise Unavailable(f"{head.client.shown}: the list of jobs is no JSON") from None
        jobs = [job for job in listed if isinstance(job, dict)] if isinstance(listed, list) else []
        ours = [job for job in jobs if MARK in (mapping(job, "metadata"))]
        return _asked(head, sorted(ours, key=_started_ms), now_s)

    async def _submit(self, before: _Asked, levels: Mapping[str, Level], now_s: float, within_s: float) -> None:
        bundles = [[units, dict(bundle)] for units, bundle in levels.values() if units]
        body = {
            "entrypoint": f"python -c {shlex.quote(_CODE % json.dumps(bundles))}",
            "submission_id": f"leadtime-prewarm-{now_s * 1000:.0f}-{next(self._numbers)}",
            "metadata": {MARK: json.dumps({name: [units, dict(bundle)] for name, (units, bundle) in levels.items()})},
        }
        client = before.head.client
        try:
            answer = await client.post_json(JOBS, body, within_s)
        except NoAnswer as error:
            raise Unavailable(str(error)) from None
        _refuse(answer, client)
        for submission in before.ended:  # only what is over can be deleted; what cannot be stays listed
            try:
                await client.delete(JOBS + quote(submission, safe=""), within_s)
            except NoAnswer:
                return


def _asked(head: RayHead, jobs: Sequence[Mapping[str, Any]], now_s: float) -> _Asked:
    """From our jobs, oldest first: the newest that has not failed counts."""
    levels: Mapping[str, Level] = {}
    ended, words, failed_at_s = [], "", None
    for job in jobs:
        status, submission = text(job, "status"), text(job, "submission_id")
        if status in _ENDED:
            ended.append(submission)
        if status in ("FAILED", "STOPPED"):
            message = " ".join(text(job, "message").split())[-200:]
            words = f"the job that asks for resources {status.lower()}: {message or 'no reason given'}"
            failed_at_s = _ms(job, "end_time") / 1000.0
            continue
        words, failed_at_s = ("" if status == "SUCCEEDED" else f"the job is {status.lower()}"), None
        levels = _levels(str(mapping(job, "metadata").get(MARK)))
    return _Asked(head, levels, tuple(ended), words, failed_at_s)


def _levels(written: str) -> Mapping[str, Level]:
    try:
        found = json.loads(written)
        return {str(name): (int(units), dict(bundle)) for name, (units, bundle) in found.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _started_ms(job: Mapping[str, Any]) -> float:
    return _ms(job, "start_time")


def _ms(job: Mapping[str, Any], key: str) -> float:
    at = job.get(key)
    return float(at) if isinstance(at, int | float) else 0.0


def _bundle(pool: WarmPool) -> Mapping[str, float]:
    return pool.resources or {"GPU": pool.unit_gpus}


def _refuse(answer: Answer, client: DashboardClient) -> None:
    """Errors: ActuatorError in one line with what to do, for every answer but 200."""
    status, said = answer.status, f"{client.shown}: answered {answer.status}: {answer.excerpt()}"
    error: ActuatorError
    if status == 200:
        return
    if status in (401, 403):
        hint = "the token in token_file was not accepted" if client.sends_token else "it wants a token: set token_file"
        error = Forbidden(f"{client.shown}: answered {status}: {hint}")
    elif status == 404:
        error = NotFound(f"{client.shown}: no Jobs API there (Ray without its `default` extra?)")
    elif status == 429:
        error = Throttled(said)
    elif status < 500:
        error = Rejected(said)
    else:
        error = Unavailable(said)
    raise error


def way(pools: Sequence[WarmPool], around: Surroundings) -> RayRequestResources:
    """For the pools that are warmed so."""
    return RayRequestResources(around.heads)
