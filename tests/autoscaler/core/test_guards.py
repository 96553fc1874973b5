"""Each guard alone, and what must hold whatever they are given."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core import guards
from autoscaler.core.guards import GuardContext
from autoscaler.core.state import SupplyMemory
from autoscaler.core.types import GuardSettings, Observation
from policies.base import StartView
from tests.autoscaler.build import KEY

FRESH = Observation(KEY, rate_rps=0.0, waiting=0.0, ongoing=0.0, running=4, draining=0, target=4, fresh=True)
START = StartView(0.0, "free_gpu", "starting", 30.0)


def context(current: int = 4, observation: Observation = FRESH, **changes: object) -> GuardContext:
    values: dict[str, object] = {
        "key": KEY,
        "observation": observation,
        "memory": SupplyMemory(),
        "settings": GuardSettings(scale_down_stabilization_s=0.0, max_step_down=None),
        "now_s": 1000.0,
        "current": current,
        "min_replicas": 1,
        "max_replicas": 10,
        "capacity_rps": 2.0,
        "max_ongoing_requests": 10,
        "full": True,
    }
    return GuardContext(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("case", "proposed", "expected", "name"),
    [
        (context(min_replicas=2), 0, 2, guards.MINIMUM),
        (context(), 99, 10, guards.MAXIMUM),
        (context(observation=replace(FRESH, fresh=False, why_stale="old")), 1, 4, guards.UNKNOWN),
        (context(observation=replace(FRESH, rate_rps=2.0, error_rate_rps=0.5)), 1, 4, guards.FAILING),
        (context(observation=replace(FRESH, waiting=3.0, starting=(START,))), 1, 4, guards.START_UNDER_WAY),
        (context(observation=replace(FRESH, rate_rps=5.0)), 1, 3, guards.SURVIVORS),
        (context(observation=replace(FRESH, ongoing=25.0)), 1, 3, guards.SURVIVORS),
        (context(min_replicas=0, capacity_rps=None, observation=replace(FRESH, waiting=1.0)), 0, 1, guards.IN_FLIGHT),
        (context(settings=GuardSettings(0.0, 0.0, max_step_down=1)), 1, 3, guards.STEP_DOWN),
        (context(settings=GuardSettings(0.0, 0.0, max_step_up=2)), 9, 6, guards.STEP_UP),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_guard_changes_the_number_and_says_so(case: GuardContext, proposed: int, expected: int, name: str) -> None:
    number, records = guards.guard(case, proposed)
    assert number == expected
    assert records[-1].name == name
    assert (records[0].before, records[-1].after) == (proposed, expected)
    assert records[-1].why


def test_a_scale_down_waits_until_the_whole_window_allowed_it() -> None:
    memory = SupplyMemory()
    settings = GuardSettings(scale_down_stabilization_s=60.0, max_step_down=None)
    first, _ = guards.guard(context(4, memory=memory, settings=settings, now_s=0.0), 4)
    then, records = guards.guard(context(4, memory=memory, settings=settings, now_s=30.0), 2)
    late, _ = guards.guard(context(4, memory=memory, settings=settings, now_s=61.0), 2)
    assert (first, then, late) == (4, 4, 2)
    assert [r.name for r in records] == [guards.STABILIZATION]


BUSY = replace(FRESH, rate_rps=8.0, error_rate_rps=2.0, waiting=3.0, ongoing=40.0, starting=(START,))


def test_what_another_has_a_right_to_is_given_back_however_busy_the_borrower_is() -> None:
    settings = GuardSettings(scale_down_stabilization_s=60.0, max_step_down=1)
    memory = SupplyMemory()
    guards.guard(context(4, BUSY, memory=memory, settings=settings, now_s=0.0), 4)
    kept, _ = guards.guard(context(4, BUSY, memory=memory, settings=settings, now_s=1.0), 2)
    owed, records = guards.guard(context(4, BUSY, memory=memory, settings=settings, now_s=2.0, share=2), 2)
    assert (kept, owed) == (4, 3)
    assert [r.name for r in records] == [guards.STEP_DOWN], "no faster than step by step"


def test_a_borrower_keeps_its_share_for_its_users() -> None:
    """It may have three of the four; that only one fits now, since others drain, is no reason to give up those."""
    assert guards.guard(context(4, BUSY, share=3), 1)[0] == 3


def test_what_is_owed_is_not_given_back_on_what_is_not_known() -> None:
    stale = replace(BUSY, fresh=False, why_stale="old")
    assert guards.guard(context(4, stale, share=2), 2)[0] == 4


def test_a_rival_policy_meets_only_its_bounds() -> None:
    stale = replace(FRESH, fresh=False, waiting=5.0, starting=(START,))
    assert guards.guard(context(observation=stale, full=False), 1) == (1, ())


@given(
    current=st.integers(0, 12),
    proposed=st.integers(0, 30),
    fresh=st.booleans(),
    waiting=st.one_of(st.none(), st.floats(0, 100)),
    rate=st.one_of(st.none(), st.floats(0, 50)),
    errors=st.one_of(st.none(), st.floats(0, 50)),
    running=st.integers(0, 12),
    starting=st.integers(0, 4),
    full=st.booleans(),
)
def test_bounds_always_hold_and_the_unknown_never_scales_down(
    current: int,
    proposed: int,
    fresh: bool,
    waiting: float | None,
    rate: float | None,
    errors: float | None,
    running: int,
    starting: int,
    full: bool,
) -> None:
    current = min(max(current, 1), 10)
    seen = replace(
        FRESH, fresh=fresh, waiting=waiting, rate_rps=rate, error_rate_rps=errors, running=running,
        starting=(START,) * starting,
    )  # fmt: skip
    number, records = guards.guard(context(current, observation=seen, full=full), proposed)
    assert 1 <= number <= 10
    if full and not fresh:
        assert number >= min(current, 10)
    assert (not records) == (number == proposed) or any(r.before != r.after for r in records)
    chain = [proposed, *(r.after for r in records)]
    assert chain[-1] == number
