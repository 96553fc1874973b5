"""Pre-warming behind one port: brings each pool's way to the level of the plan, and gives back what is held.

What is common to all ways is here, once: levels instead of differences, dry run (with the exact patch), followers,
lowering, deadlines, the leader's budget, waiting after a 429, and what a failure is called. A way (one file each in
ways/) only knows how to look, what to write, and how to write it. Not for deciding a level.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from autoscaler.clients.ray_dashboard import DashboardClient
from autoscaler.common.errors import ActuatorError, ConfigError, LeadtimeError, SourceError, Unavailable
from autoscaler.core.ports import Actuator
from autoscaler.core.types import Applied, Outcome, Plan, PoolPlan
from autoscaler.core.types.pools import WarmPool
from autoscaler.kubernetes.resources import ClusterApi, Object, PatchOperation, Throttled

_LONGEST_WAIT_S = 120.0
Place = tuple[str, str]
"""(namespace, Ray service)."""
Allowed = Callable[[], float]
"""Asked directly before each write: the seconds that it may take. Errors: LeaseRanOut."""


class LeaseRanOut(ActuatorError):
    """No write may start any more: another controller may lead."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Capacity was refused: no stock, no quota."""

    pool: str
    at_s: float
    kind: str
    """`stockout`, `quota` or `other`."""
    words: str
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """What a way holds of a pool now: `level` in units, `words` on how it fares; `seen` is the way's own."""

    level: int
    words: str = ""
    seen: Any = None
    refusal: tuple[str, str] | None = None
    """(kind, words): capacity was refused since."""
    keeps: bool = False
    """It must not be given back now, which is said and is no failure: somebody may use it."""


class PrewarmWay(Protocol):
    """One way to hold capacity. Errors of every method: ActuatorError."""

    name: str

    async def observe(self, pool: WarmPool, plan: PoolPlan | None, now_s: float) -> Held:
        """What is held now, as the world says it; `plan` None: all that may be ours, to be given back.

        Errors: NotFound, and Rejected for what is not ours.
        """
        ...

    def patch(self, pool: WarmPool, held: Held, level: int, plan: PoolPlan | None) -> str:
        """What `write` would send, in one line; empty when all is as it should be. `plan` None: it is given back."""
        ...

    async def write(
        self, pool: WarmPool, held: Held, level: int, plan: PoolPlan | None, now_s: float, allowed_s: Allowed
    ) -> str:
        """Bring it to the level; words on what follows from it (may be empty). Several writes ask `allowed_s` each."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class RayHead:
    """The Ray cluster of a service, by its dashboard."""

    namespace: str
    service: str
    client: DashboardClient

    @property
    def place(self) -> Place:
        return (self.namespace, self.service)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the ways may need besides their pools."""

    api: ClusterApi | None = None
    """The Kubernetes API; None: there is none."""
    namespace: str = "default"
    """Where the chart's objects are."""
    watch_namespaces: Sequence[str] = ()
    """Empty: all of them."""
    consent: Callable[[Sequence[WarmPool]], Callable[[Object], bool]] = lambda pools: lambda obj: False
    """Of these pools: whether leadtime may act on a RayService."""
    heads: Callable[[], Sequence[RayHead]] = tuple
    """The Ray clusters that there are now."""
    write_budget_s: Callable[[], float] | None = None
    on_refusal: Callable[[Refusal], None] | None = None
    service_version: Callable[[str, str], str | None] | None = None
    """The resourceVersion of a RayService (namespace, name) by a watch of them; None: it is not known now."""
    in_use: Callable[[str], Awaitable[int | None]] | None = None
    """Nodes of a pool that workers are on, looked at now; for giving back without a controller. Errors: SourceError."""
    deadline_s: float = 4.0

    @property
    def cluster(self) -> ClusterApi:
        """For a way that the table of ways says to write to Kubernetes."""
        assert self.api is not None
        return self.api


class PrewarmActuator(Actuator):
    """The Actuator of one way over its pools; `release` gives everything back.

    `write_budget_s` as for the Ray Serve actuator. `on_refusal` hears of capacity that was refused.
    """

    def __init__(
        self,
        way: PrewarmWay,
        pools: Sequence[WarmPool],
        *,
        deadline_s: float = 4.0,
        write_budget_s: Callable[[], float] | None = None,
        on_refusal: Callable[[Refusal], None] | None = None,
    ) -> None:
        self.name = f"prewarm_{way.name}"
        self._way = way
        self._pools = {pool.name: pool for pool in pools}
        self._deadline_s = deadline_s
        self._write_budget_s = write_budget_s or (lambda: math.inf)
        self._on_refusal = on_refusal or (lambda refusal: None)
        self._wait_until_s: dict[str, float] = {}
        self._failures: dict[str, int] = {}

    @property
    def pool_names(self) -> tuple[str, ...]:
        return tuple(self._pools)

    async def apply(self, plan: Plan, now_s: float) -> Outcome:
        """One outcome for each of its pools that the plan says something about."""
        ours = [one for one in plan.pools if one.name in self._pools and one.nodes is not None]
        jobs = [self._timely(self._one(self._pools[p.name], p, plan, now_s), p.name, now_s) for p in ours]
        done = await asyncio.gather(*jobs)
        return Outcome(self.name, tuple(done))

    async def release(self, now_s: float) -> Outcome:
        """Give back what is held of every pool, whatever was planned; what is not held stays as it is."""
        jobs = [self._timely(self._give_back(pool, now_s), pool.name, now_s) for pool in self._pools.values()]
        return Outcome(self.name, tuple(await asyncio.gather(*jobs)))

    async def close(self) -> None:
        await self._way.close()

    # ------------------------------------------------------------ one pool

    async def _one(self, pool: WarmPool, one: PoolPlan, plan: Plan, now_s: float) -> Applied:
        waits_s = self._wait_until_s.get(pool.name, 0.0) - now_s
        if 0 < waits_s <= _LONGEST_WAIT_S:  # longer: the clock was set back
            return self._said(pool, "withheld", None, f"asked to wait: next try in {math.ceil(waits_s)} s")
        held = await self._way.observe(pool, one, now_s)
        self._learn_refusals(pool, held, now_s)
        level = pool.wanted(one)
        if level is None:
            why = f"what nodes there are is unknown: {held.level} stay held"
            return self._said(pool, "withheld", held.level, why)
        patch = self._way.patch(pool, held, level, one)
        if not patch:
            self._failures.pop(pool.name, None)
            return self._said(pool, "unchanged", held.level, held.words)
        if plan.dry_run or not plan.leader:
            why = "dry run" if plan.dry_run else "not the leader"
            return self._said(pool, "withheld", level, f"{why}; would send {patch}")
        return await self._write(pool, held, level, one, now_s)

    async def _write(self, pool: WarmPool, held: Held, level: int, one: PoolPlan | None, now_s: float) -> Applied:
        try:
            self._allowed_s()
            words = await self._way.write(pool, held, level, one, now_s, self._allowed_s)
        except LeaseRanOut as over:
            return self._said(pool, "withheld", level, str(over))
        self._failures.pop(pool.name, None)
        return self._said(pool, "ok", level, words)

    def _allowed_s(self) -> float:
        budget_s = self._write_budget_s()
        if budget_s <= 0:
            raise LeaseRanOut("the lease ran out")
        return min(budget_s, self._deadline_s)

    async def _give_back(self, pool: WarmPool, now_s: float) -> Applied:
        held = await self._way.observe(pool, None, now_s)
        if not self._way.patch(pool, held, pool.rest, None):
            if held.level > pool.rest:  # it cannot be given back now
                outcome = "unchanged" if held.keeps else "withheld"
                return self._said(pool, outcome, held.level, held.words or f"{held.level} are still held")
            return self._said(pool, "unchanged", held.level, "nothing is held")
        applied = await self._write(pool, held, pool.rest, None, now_s)
        return Applied(applied.actuator, applied.what, applied.outcome, applied.value, applied.why or "given back")

    async def _timely(self, job: Awaitable[Applied], name: str, now_s: float) -> Applied:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await job
        except TimeoutError:
            error: LeadtimeError = Unavailable(f"no answer within {self._deadline_s:g} s")
        except Throttled as refused:
            self._back_off(name, refused.retry_after_s, now_s)
            error = refused
        except (ActuatorError, SourceError, ConfigError) as refused:
            error = refused if isinstance(refused, ActuatorError) else Unavailable(str(refused))
        except Exception as odd:  # an answer of a shape that nobody expected must not take the other pools with it
            error = Unavailable(f"not understood: {type(odd).__name__}: {' '.join(str(odd).split())[:200]}")
        return Applied(self.name, name, type(error).__name__.lower(), None, str(error))

    def _back_off(self, pool: str, retry_after_s: float | None, now_s: float) -> None:
        """As long as the other side says, else twice as long at each further refusal."""
        failures = self._failures[pool] = self._failures.get(pool, 0) + 1
        wait_s = 5.0 * 2.0 ** min(failures, 5) if retry_after_s is None else retry_after_s
        self._wait_until_s[pool] = now_s + min(wait_s, _LONGEST_WAIT_S)

    def _learn_refusals(self, pool: WarmPool, held: Held, now_s: float) -> None:
        if held.refusal is not None:
            self._on_refusal(Refusal(pool.name, now_s, held.refusal[0], held.refusal[1]))

    def _said(self, pool: WarmPool, outcome: str, value: int | None, why: str) -> Applied:
        return Applied(self.name, pool.name, outcome, value, why)


def shown(operations: Sequence[PatchOperation]) -> str:
    """A JSON patch as it goes over the wire, in one line; empty for no operation."""
    if not operations:
        return ""
    return msgspec.json.encode([operation.wire() for operation in operations]).decode()
