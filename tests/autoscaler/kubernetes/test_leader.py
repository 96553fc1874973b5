"""Leader election on virtual time: two never write at once, whatever the lease's server and the processes suffer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.common.errors import ConfigError, Conflict, Unavailable
from autoscaler.kubernetes.leader import Election, LeaderElector, LeaseRecord, LeaseSettings
from tests.kube.virtual_time import run_virtual

SETTINGS = LeaseSettings("a", lease_s=15, renew_deadline_s=10, retry_s=2)


def record(holder: str, renewed_at: str = "t0", duration_s: int = 15, transitions: int = 0) -> LeaseRecord:
    return LeaseRecord(holder, duration_s, "t0", renewed_at, transitions)


def leading(sent_at: float = 100.0) -> Election:
    election = Election(SETTINGS)
    election.confirmed(record("a"), sent_at, sent_at)
    return election


# ---------------------------------------------------------------- the rules


def test_nobody_leads_before_a_claim_was_confirmed() -> None:
    election = Election(SETTINGS)
    assert not election.is_leader(0.0)
    assert election.write_budget_s(0.0) == 0.0


def test_writes_may_start_until_the_renew_deadline_and_end_with_the_lease() -> None:
    election = leading(100.0)

    assert election.is_leader(100.0)
    assert election.write_budget_s(100.0) == 15.0
    assert election.is_leader(109.99)
    assert election.write_budget_s(109.0) == 6.0
    assert not election.is_leader(110.0)
    assert election.write_budget_s(110.0) == 0.0


def test_a_clock_older_than_the_renewal_says_no() -> None:
    assert not leading(100.0).is_leader(99.0)


def test_a_renewal_counts_from_when_it_was_sent() -> None:
    election = leading(100.0)
    election.confirmed(record("a", "t1"), 105.0, 112.0)

    assert election.is_leader(114.9)
    assert not election.is_leader(115.0)


def test_an_answer_that_came_after_a_long_stop_makes_no_leader() -> None:
    election = Election(SETTINGS)
    election.confirmed(record("a"), 100.0, 160.0)

    assert not election.is_leader(160.0)


def test_a_record_of_somebody_else_ends_it_at_once() -> None:
    election = leading(100.0)
    election.observe(record("b", "t1"), 101.0)

    assert not election.is_leader(101.0)


def test_another_holder_is_waited_for_by_the_local_clock() -> None:
    election = Election(SETTINGS)
    election.observe(record("b", "t0"), 50.0)
    assert election.next_action(64.9) == "wait"
    election.observe(record("b", "t1"), 60.0)
    assert election.next_action(74.9) == "wait"
    election.observe(record("b", "t1"), 74.0)
    assert election.next_action(75.0) == "write"


@pytest.mark.parametrize(
    ("seen", "action"), [(None, "create"), (record(""), "write"), (record("a"), "write"), (record("b"), "wait")]
)
def test_a_free_lease_is_taken_at_once(seen: LeaseRecord | None, action: str) -> None:
    election = Election(SETTINGS)
    election.observe(seen, 0.0)

    assert election.next_action(0.0) == action


def test_a_holder_that_names_no_duration_is_waited_for_as_long_as_our_own() -> None:
    election = Election(SETTINGS)
    election.observe(record("b", duration_s=0), 0.0)

    assert election.next_action(14.9) == "wait"
    assert election.next_action(15.0) == "write"


def test_transitions_count_holders_and_terms_count_our_own_times() -> None:
    election = Election(SETTINGS)
    election.observe(record("b", transitions=4), 0.0)
    claim = election.claim("t9")
    assert (claim.holder, claim.transitions, claim.acquired_at) == ("a", 5, "t9")

    election.confirmed(claim, 20.0, 20.0)
    assert election.claim("t10") == LeaseRecord("a", 15, "t9", "t10", 5)
    election.confirmed(election.claim("t10"), 22.0, 22.0)
    assert election.term == 1
    election.confirmed(election.claim("t11"), 60.0, 60.0)
    assert election.term == 2


def test_who_stepped_down_never_leads_again() -> None:
    election = leading(100.0)
    election.step_down()
    election.confirmed(record("a", "t1"), 101.0, 101.0)

    assert not election.is_leader(101.0)
    assert election.next_action(200.0) == "wait"


@pytest.mark.parametrize("bad", [(10, 10, 2), (15, 10, 10), (15, 10, 0), (5, 10, 2)])
def test_deadlines_that_contradict_each_other_are_refused(bad: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match="0 < retry_s < renew_deadline_s < lease_s"):
        LeaseSettings("a", *bad)


# ---------------------------------------------------------------- the loop, in a bad world


@dataclass
class World:
    """A lease and the bad luck around it."""

    luck: random.Random
    badness: float
    record: LeaseRecord | None = None
    version: int = 0
    frozen_until: dict[str, float] = field(default_factory=dict)
    writes: list[tuple[str, float, float]] = field(default_factory=list)
    """(who, started, would have to be over by)."""
    tasks: list[asyncio.Task[object]] = field(default_factory=list)

    def start(self, coroutine: Coroutine[Any, Any, object]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(coroutine)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.tasks.append(task)
        return task

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def travel(self, who: str) -> None:
        """The way there or back: it may take long, and a stopped process notices only when it goes on."""
        await asyncio.sleep(self.luck.uniform(0.0, 8.0 if self.luck.random() < self.badness else 0.1))
        await asyncio.sleep(max(0.0, self.frozen_until.get(who, 0.0) - self.now))

    def fails(self) -> bool:
        return self.luck.random() < self.badness / 2


class Store:
    """A LeaseStore of one process; answers may be lost on the way there or back."""

    def __init__(self, world: World, who: str) -> None:
        self.world, self.who, self.seen = world, who, -1

    async def read(self, timeout_s: float) -> LeaseRecord | None:
        await self.world.travel(self.who)
        if self.world.fails():
            raise Unavailable("lost")
        found, version = self.world.record, self.world.version
        await self.world.travel(self.who)
        self.seen = version
        return found

    async def create(self, record: LeaseRecord, timeout_s: float) -> None:
        await self._put(record, lambda: self.world.record is None)

    async def write(self, record: LeaseRecord, timeout_s: float) -> None:
        seen = self.seen
        await self._put(record, lambda: self.world.version == seen)

    async def _put(self, record: LeaseRecord, allowed: Callable[[], bool]) -> None:
        # What is on its way lands even when the sender has given up: like a thread that nobody waits for.
        version = await asyncio.shield(self.world.start(self._land(record, allowed)))
        await self.world.travel(self.who)
        if self.world.fails():
            raise Unavailable("the answer was lost")
        self.seen = version

    async def _land(self, record: LeaseRecord, allowed: Callable[[], bool]) -> int:
        await self.world.travel(self.who)
        if self.world.fails():
            raise Unavailable("lost")
        if not allowed():
            raise Conflict("it changed")
        self.world.record, self.world.version = record, self.world.version + 1
        return self.world.version


async def live(world: World, who: str) -> None:
    """One process: its elector, and writes whenever it may."""
    elector = LeaderElector(
        Store(world, who),
        LeaseSettings(who),
        clock=lambda: world.now,
        wall=lambda: datetime.fromtimestamp(world.now, UTC),
        jitter=random.Random(who),
    )
    world.start(elector.run())
    while True:
        now = elector.clock()
        if elector.is_leader(now) and now >= world.frozen_until.get(who, 0.0):
            world.writes.append((who, now, now + elector.write_budget_s(now)))
        await asyncio.sleep(0.25)


async def play(seed: int, badness: float, lasts_s: float = 240.0) -> World:
    world = World(random.Random(seed), badness)
    for who in "abc":
        world.start(live(world, who))
    ends_at = world.now + lasts_s
    while world.now < ends_at:
        await asyncio.sleep(world.luck.uniform(5, 40))
        if world.luck.random() < badness * 2:
            world.frozen_until[world.luck.choice("abc")] = world.now + world.luck.uniform(1, 40)
    world.badness, world.frozen_until = 0.0, {}
    await asyncio.sleep(60)
    return world


@given(seed=st.integers(0, 2**32), badness=st.sampled_from([0.0, 0.1, 0.3, 0.5]))
@settings(max_examples=60, deadline=None)
def test_the_writes_of_two_processes_never_overlap(seed: int, badness: float) -> None:
    world = run_virtual(play(seed, badness))

    for (who, _, over), (other, started, _) in pairwise(world.writes):
        assert who == other or started >= over, f"{other} at {started} while {who} could write until {over}"
    last_minute = [w for w in world.writes if w[1] > world.writes[-1][1] - 30]
    assert len({who for who, _, _ in last_minute}) == 1


def test_the_bad_world_is_bad_enough_to_change_leaders() -> None:
    leaders = [{who for who, _, _ in run_virtual(play(seed, 0.5)).writes} for seed in range(10)]

    assert sum(len(names) > 1 for names in leaders) >= 5


def test_a_wrong_elector_would_be_caught() -> None:
    """One that counts a renewal from its answer, not from its sending, writes while another may."""

    class Wrong(Election):
        def confirmed(self, record: LeaseRecord, sent_at: float, now_mono: float) -> None:
            super().confirmed(record, now_mono, now_mono)

    import autoscaler.kubernetes.leader as leader

    original, leader.Election = leader.Election, Wrong  # type: ignore[misc]
    try:
        overlaps = 0
        for seed in range(40):
            writes = run_virtual(play(seed, 0.5)).writes
            overlaps += sum(a[0] != b[0] and b[1] < a[2] for a, b in pairwise(writes))
    finally:
        leader.Election = original  # type: ignore[misc]
    assert overlaps > 0
