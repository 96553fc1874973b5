"""Leader election on a Kubernetes Lease: who may write, and for how long still.

Guard 5: no write starts later than the renew deadline after the last renewal, counted from when that renewal was
*sent* on a clock that only goes forward; whatever goes wrong with a renewal, it did not happen. A rival may take the
lease only `lease_s` after it saw our last renewal, which is later than we sent it; what lies between the two deadlines
is for writes already under way. Not for choosing what to write, and not a lock: a write whose answer is late may still
land, so writes are levels and a new leader reads everything again (`term` says that one is new).

`Election` is the pure half, `LeaderElector` the loop around it; kubernetes/lease.py is where the record lives.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, Protocol

from autoscaler.common.errors import ConfigError, Conflict, LeadtimeError, NotFound
from autoscaler.kubernetes.resources import micro_time

Action = Literal["create", "write", "wait"]


def lease_clock_s() -> float:
    """Seconds that only go forward, and go on while the machine is suspended where the system can tell."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """`identity` must differ between processes, also between two lives of one pod."""

    identity: str
    lease_s: float = 15.0
    """A rival waits this long after the last renewal that it saw."""
    renew_deadline_s: float = 10.0
    """No write starts later than this after the last renewal."""
    retry_s: float = 2.0
    """Between attempts to renew or to take the lease."""

    def __post_init__(self) -> None:
        if not self.identity:
            raise ConfigError("leader_election.identity: empty; a name of this process is needed")
        if not 0 < self.retry_s < self.renew_deadline_s < self.lease_s:
            raise ConfigError(
                f"leader_election: lease_s {self.lease_s:g}, renew_deadline_s {self.renew_deadline_s:g}, retry_s "
                f"{self.retry_s:g}: 0 < retry_s < renew_deadline_s < lease_s is needed"
            )


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What the lease says. Times are its writer's wall clock, as text: they are compared for change only."""

    holder: str
    duration_s: int
    acquired_at: str
    renewed_at: str
    transitions: int


class Election:
    """The rules, without I/O: what was seen and when by the local clock. Times are seconds of that one clock."""

    def __init__(self, settings: LeaseSettings) -> None:
        self.settings = settings
        self.record: LeaseRecord | None = None
        self.term = 0
        """Rises each time that this process becomes the leader."""
        self._observed_at: float | None = None
        self._renewed_at: float | None = None
        self._stopped = False

    def is_leader(self, now_mono: float) -> bool:
        """May a write start at this moment? Ask with a clock read just now: an older one than the renewal says no."""
        if self._stopped or self._renewed_at is None:
            return False
        return 0 <= now_mono - self._renewed_at < self.settings.renew_deadline_s

    def write_budget_s(self, now_mono: float) -> float:
        """Seconds that a write which starts now may take until a rival could lead; 0: it must not start."""
        if not self.is_leader(now_mono) or self._renewed_at is None:
            return 0.0
        return self._renewed_at + self.settings.lease_s - now_mono

    def observe(self, record: LeaseRecord | None, now_mono: float) -> None:
        """The lease as read: a record that changed counts from now; one of somebody else ends our leadership."""
        if record != self.record or self._observed_at is None:
            self.record, self._observed_at = record, now_mono
        if record is None or record.holder != self.settings.identity:
            self._renewed_at = None

    def next_action(self, now_mono: float) -> Action:
        """What to do about the record last seen."""
        if self._stopped:
            return "wait"
        if self.record is None:
            return "create"
        if self.record.holder in ("", self.settings.identity):
            return "write"
        observed_at = now_mono if self._observed_at is None else self._observed_at
        return "write" if now_mono - observed_at >= (self.record.duration_s or self.settings.lease_s) else "wait"

    def claim(self, now_wall: str) -> LeaseRecord:
        """The record that says that this process leads."""
        seen, identity = self.record, self.settings.identity
        duration_s = math.ceil(self.settings.lease_s)
        if seen is None:
            return LeaseRecord(identity, duration_s, now_wall, now_wall, 0)
        if seen.holder == identity:
            return replace(seen, duration_s=duration_s, renewed_at=now_wall)
        return LeaseRecord(identity, duration_s, now_wall, now_wall, seen.transitions + 1)

    def confirmed(self, record: LeaseRecord, sent_at: float, now_mono: float) -> None:
        """The claim was written; it counts from when it was sent."""
        if self._stopped:
            return
        if not self.is_leader(now_mono):
            self.term += 1
        self.record, self._observed_at, self._renewed_at = record, now_mono, sent_at

    def step_down(self) -> None:
        """No write starts any more, for good."""
        self._stopped = True


class LeaseStore(Protocol):
    """Where the record lives. Writes fail with Conflict when it is not as last read. Errors: LeadtimeError."""

    async def read(self, timeout_s: float) -> LeaseRecord | None: ...

    async def create(self, record: LeaseRecord, timeout_s: float) -> None: ...

    async def write(self, record: LeaseRecord, timeout_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class ElectionStatus:
    """For pages and metrics."""

    leader: bool
    holder: str
    transitions: int
    why: str = ""
    """Why the last attempt failed; empty when it did not."""


class LeaderElector:
    """Keeps the lease renewed, or waits for it. Run `run()` as a task; ask `is_leader` before every write."""

    def __init__(
        self,
        store: LeaseStore,
        settings: LeaseSettings,
        *,
        clock: Callable[[], float] = lease_clock_s,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: random.Random | None = None,
        on_change: Callable[[bool], None] | None = None,
        on_trouble: Callable[[str], None] | None = None,
    ) -> None:
        """`on_trouble` hears why attempts fail, when that changes; empty: they succeed again. A lost race is none."""
        self.clock = clock
        self.settings = settings
        self._store, self._election = store, Election(settings)
        self._wall, self._sleep, self._on_change = wall, sleep, on_change
        self._on_trouble = on_trouble or (lambda why: None)
        self._trouble = ""
        self._jitter = jitter or random.Random()
        self._why = ""
        self._told = False
        self._busy = asyncio.Lock()

    # ------------------------------------------------------------ asked before writes

    def is_leader(self, now_mono: float) -> bool:
        """May a write start? `now_mono` is `clock()`, read just now."""
        return self._election.is_leader(now_mono)

    def write_budget_s(self, now_mono: float) -> float:
        """The longest timeout that a write which starts now may have; 0: it must not start."""
        return self._election.write_budget_s(now_mono)

    @property
    def term(self) -> int:
        """Rises with each time that this process becomes the leader: read everything again before the first write."""
        return self._election.term

    def status(self) -> ElectionStatus:
        record = self._election.record
        leader = self.is_leader(self.clock())
        return ElectionStatus(leader, record.holder if record else "", record.transitions if record else 0, self._why)

    # ------------------------------------------------------------ the loop

    async def run(self) -> None:
        """Until cancelled. Whatever happens to an attempt, only time decides about leadership."""
        while True:
            await self.attempt()
            self._tell()
            await self._sleep(self.settings.retry_s * (0.9 + 0.2 * self._jitter.random()))
            self._tell()

    async def serve(self) -> None:
        """`run` until cancelled, then give the lease back. For the end of a process: no write may be under way then."""
        try:
            await self.run()
        finally:
            await self.release()

    async def attempt(self) -> None:
        """One try to renew or to take the lease, of at most half the renew deadline. Never raises."""
        try:
            async with self._busy, asyncio.timeout(self.settings.renew_deadline_s / 2):
                await self._try()
            self._why = trouble = ""
        except Conflict as error:
            self._why, trouble = str(error), self._trouble
        except (LeadtimeError, TimeoutError) as error:
            self._why = trouble = str(error) or "no answer in time"
        except Exception as error:
            # A defect in an adapter must cost the leadership by time, never the loop that would win it back.
            self._why = trouble = f"{type(error).__name__}: {error}"
        if trouble != self._trouble:
            self._trouble = trouble
            self._on_trouble(trouble)

    async def _try(self) -> None:
        if self._election.is_leader(self.clock()):
            try:
                await self._write()
                return
            except (Conflict, NotFound):
                pass  # touched, taken or deleted by somebody: look
        self._election.observe(await self._store.read(self._limit_s), self.clock())
        action = self._election.next_action(self.clock())
        if action != "wait":
            await self._write(create=action == "create")

    async def _write(self, create: bool = False) -> None:
        record = self._election.claim(micro_time(self._wall()))
        sent_at = self.clock()
        await (self._store.create if create else self._store.write)(record, self._limit_s)
        self._election.confirmed(record, sent_at, self.clock())

    @property
    def _limit_s(self) -> float:
        return self.settings.renew_deadline_s / 2

    def _tell(self) -> None:
        leader = self.is_leader(self.clock())
        if leader != self._told:
            self._told = leader
            if self._on_change is not None:
                self._on_change(leader)

    # ------------------------------------------------------------ the end

    def step_down(self) -> None:
        """From now on no write starts here. Then let those under way end, and `release`."""
        self._election.step_down()
        self._tell()

    async def release(self) -> bool:
        """Give the lease back so that another leads at once; True when it was ours and is free now. Never raises."""
        self.step_down()
        try:
            async with asyncio.timeout(self._limit_s), self._busy:
                for _ in range(2):  # a renewal under way may land between the two calls
                    seen = await self._store.read(self._limit_s)
                    if seen is None or seen.holder != self.settings.identity:
                        return False
                    now = micro_time(self._wall())
                    try:
                        await self._store.write(LeaseRecord("", 1, now, now, seen.transitions), self._limit_s)
                        return True
                    except Conflict as error:
                        self._why = f"not released: {error}"
        except Exception as error:
            self._why = f"not released: {error}"
        return False
