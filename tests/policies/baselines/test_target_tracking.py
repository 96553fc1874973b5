"""Target tracking's alarms and cooldowns, recomputed by hand."""

from __future__ import annotations

from typing import Any

import pytest

from policies.base import Totals
from policies.baselines.target_tracking import TargetTrackingMemory, TargetTrackingOptions, alarm, track
from policies.registry import create_policy
from tests.policies.build import KEY, fleet, view

TUNED = TargetTrackingOptions(scale_out_cooldown_s=60.0)


@pytest.mark.parametrize(
    ("averages", "expected"),
    [
        ([10.1, 10.1, 10.1], 1),
        ([10.1, 10.1], 0),  # two periods are not three
        ([10.1, 10.0, 10.1], 0),  # at the target is not above it
        ([10.1, None, 10.1], 0),  # a missing one breaks the run
        ([8.9] * 15, -1),
        ([8.9] * 14, 0),
        ([9.0] + [8.9] * 14, 0),  # at nine tenths is not below
    ],
)
def test_three_periods_above_the_target_or_fifteen_below_nine_tenths(
    averages: list[float | None], expected: int
) -> None:
    assert alarm(TargetTrackingOptions(), averages, 10.0) == expected


def test_it_adds_in_proportion_and_more_during_the_cooldown_only_if_more_is_needed() -> None:
    memory = TargetTrackingMemory(averages=[16.0, 16.0, 16.0])
    assert track(TUNED, memory, 0.0, 3, 10.0) == 5  # ceil(3 * 16/10)
    memory.averages = [16.0, 16.0, 14.0]
    assert track(TUNED, memory, 10.0, 3, 10.0) == 3, "cooling down, and ceil(4.2) = 5 is no more than the 5 of before"
    memory.averages = [16.0, 14.0, 20.0]
    assert track(TUNED, memory, 20.0, 3, 10.0) == 6, "cooling down, but 6 is more"
    memory.averages = [12.0, 12.0, 12.0]
    assert track(TUNED, memory, 79.0, 4, 10.0) == 4
    assert track(TUNED, memory, 80.0, 4, 10.0) == 5


def test_it_removes_only_when_both_cooldowns_are_over() -> None:
    memory = TargetTrackingMemory(averages=[5.0] * 15, out_at_s=0.0, out_capacity=6)
    assert track(TUNED, memory, 59.0, 6, 10.0) == 6
    assert track(TUNED, memory, 60.0, 6, 10.0) == 3  # ceil(6 * 5/10)
    assert track(TUNED, memory, 359.0, 3, 10.0) == 3  # 300 s of scale-in cooldown
    assert track(TUNED, memory, 360.0, 3, 10.0) == 2
    memory.averages = [0.0] * 15
    assert track(TUNED, memory, 700.0, 2, 10.0) == 1, "zero takes a policy of another kind"


def play(options: dict[str, Any], views: list[dict[str, Any]]) -> list[int]:
    """A look every 10 s."""
    policy = create_policy("target_tracking", options)
    state = policy.new_state()
    return [policy.propose(fleet(view(**v)), state, 10.0 * i).replicas[KEY].replicas for i, v in enumerate(views)]


def test_the_metric_is_averaged_over_minutes_and_three_of_them_make_an_alarm() -> None:
    counts = play({"target": 10}, [{"ongoing": 60.0, "waiting": 4.0, "running": 4}] * 19)  # 64/4 = 16 per copy
    assert counts[:18] == [4] * 18
    assert counts[18] == 7  # at 180 s: ceil(4 * 1.6)


def test_invocations_per_copy_and_minute_come_from_the_counter() -> None:
    looks = [{"totals": Totals(arrivals=80.0 * i), "running": 4} for i in range(19)]  # 8 req/s: 120 per copy and minute
    counts = play({"metric": "invocations", "target": 100}, looks)
    assert counts[17:] == [4, 5]  # ceil(4 * 1.2)


def test_the_default_target_is_0_8_of_what_the_profile_says_and_stays() -> None:
    policy = create_policy("target_tracking", {})
    state = policy.new_state()
    policy.propose(fleet(view(capacity_batch=20.0)), state, 0.0)
    policy.propose(fleet(view(capacity_batch=90.0)), state, 10.0)
    assert state.deployments[KEY.full].target == 16.0
    assert play({}, [{"capacity_batch": None}])[0] == 4


def test_a_missing_metric_changes_nothing() -> None:
    counts = play({"target": 1}, [{"ongoing": None}] * 19)
    assert counts == [4] * 19
