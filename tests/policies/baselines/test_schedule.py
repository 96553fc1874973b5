"""Schedules: cron entries, a week that wraps, and floors out of a past."""

from __future__ import annotations

from typing import Any

import pytest

from policies.base import PolicyError
from policies.base.knowledge import PastDemand
from policies.baselines.schedule import floors_from, parse_week, percentile
from policies.registry import create_policy
from tests.policies.build import KEY, fleet, view

HOUR, DAY = 3600.0, 86400.0


def at(floors: dict[str, Any], time_s: float, **options: Any) -> int:
    policy = create_policy("schedule", {"floors": floors, "early_s": 0, **options})
    return policy.propose(fleet(view()), policy.new_state(), time_s).replicas[KEY].replicas


WORKDAYS = {"0 7 * * mon-fri": 6, "30 19 * * 1-5": 2, "0 0 * * 0,6": 1}


@pytest.mark.parametrize(
    ("time_s", "expected"),
    [
        (0.0, 2),  # the epoch began on a Thursday at 00:00: Wednesday evening's entry holds
        (6.99 * HOUR, 2),
        (7 * HOUR, 6),
        (19.5 * HOUR, 2),
        (2 * DAY, 1),  # Saturday
        (3 * DAY + 12 * HOUR, 1),  # Sunday
        (4 * DAY + 6 * HOUR, 1),  # Monday before seven: Sunday's entry still holds
        (4 * DAY + 7 * HOUR, 6),
        (1_767_225_600.0 + 8 * HOUR, 6),  # 2026-01-01, a Thursday, 08:00 UTC
    ],
)
def test_the_last_entry_before_now_holds(time_s: float, expected: int) -> None:
    assert at(WORKDAYS, time_s) == expected


def test_early_and_local_time_shift_the_clock() -> None:
    assert at(WORKDAYS, 6.9 * HOUR, early_s=600) == 6
    assert at(WORKDAYS, 6 * HOUR, utc_offset_s=3600) == 6
    policy = create_policy("schedule", {"floors": WORKDAYS})  # early by the median lead time: a minute here
    assert policy.propose(fleet(view()), policy.new_state(), 7 * HOUR - 61).replicas[KEY].replicas == 2
    assert policy.propose(fleet(view()), policy.new_state(), 7 * HOUR - 60).replicas[KEY].replicas == 6


def test_steps_lists_and_ranges() -> None:
    week = parse_week({"*/30 0-1 * * *": 1, "15 6,18 * * 7": 2}, "x")
    assert len(week.at_s) == 7 * 4 + 2
    assert week.at_s[4] == 6.25 * HOUR  # Sunday, as 7 and as 0


@pytest.mark.parametrize(
    ("floors", "message"),
    [
        ({}, "option floors: {}; allowed: at least one entry"),
        ({"0 7 * *": 1}, "'0 7 * *'; allowed: minute hour * * weekday"),
        ({"0 7 1 * *": 1}, "'0 7 1 * *'; allowed: minute hour * * weekday"),
        ({"0 24 * * *": 1}, "'0 24 * * *': '24'; allowed: *, or numbers from 0 to 23"),
        ({"0 7 * * fridays": 1}, "'fridays'; allowed"),
        ({"0 7 * * *": -1}, "'0 7 * * *': -1; allowed: a whole number of replicas >= 0"),
        ({"0 7 * * *": 2.5}, "2.5; allowed: a whole number"),
        (
            {"chat/llm": {"0 7 * * *": 2}, "0 7 * * *": 1},
            "'0 7 * * *': 1; allowed: entries, as the other deployments have",
        ),
        ([1], "option floors: [1]; allowed: a mapping or null"),
    ],
)
def test_a_wrong_entry_is_named(floors: Any, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        create_policy("schedule", {"floors": floors})
    assert message in str(caught.value)


def test_deployments_may_have_their_own() -> None:
    assert at({"chat/llm": {"0 0 * * *": 3}, "code/llm": {"0 0 * * *": 9}}, 0.0) == 3
    policy = create_policy("schedule", {"floors": {"code/llm": {"0 0 * * *": 9}}})
    assert policy.propose(fleet(view()), policy.new_state(), 0.0).replicas == {}


def test_percentiles_by_hand() -> None:
    values = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert [percentile(values, p) for p in (0.0, 0.1, 0.5, 0.9, 0.91, 1.0)] == [1, 1, 5, 9, 10, 10]


def past(days: float, rate: Any) -> PastDemand:
    """Bins of an hour that end at 0; `rate(hour since the past began)`."""
    hours = round(days * 24)
    ends = tuple(HOUR * (i + 1 - hours) for i in range(hours))
    return PastDemand(ends, tuple(float(rate(i)) for i in range(hours)), HOUR, 10.0)


def test_hours_of_the_day_from_a_few_days() -> None:
    floors = floors_from(past(3, lambda i: 100 * (1 + i // 24) if i % 24 == 9 else 5), 0.9)
    assert len(floors) == 24
    assert floors["0 9 * * *"] == 30  # needs 10, 20, 30: nine tenths are not below 30
    assert floors["0 8 * * *"] == 1  # 5 of 10 req/s
    assert floors_from(past(3, lambda i: 100 * (1 + i // 24) if i % 24 == 9 else 5), 0.6)["0 9 * * *"] == 20


def test_hours_of_the_week_from_a_fortnight() -> None:
    # The past ends at 0, a Thursday 00:00, so it begins on a Thursday; hour 33 is Friday 09:00.
    floors = floors_from(past(14, lambda i: 100 if i % 168 == 33 else 5), 0.9)
    assert len(floors) == 168
    assert [entry for entry, n in floors.items() if n == 10] == ["0 9 * * 5"]


def test_the_policy_of_a_past_says_what_it_found_and_follows_it() -> None:
    policy = create_policy("schedule", {"early_s": 0})
    with pytest.raises(PolicyError, match="option floors: null"):
        policy.propose(fleet(view()), policy.new_state(), 0.0)
    derived = policy.with_history({"chat/llm": past(2, lambda i: 100 if i % 24 == 9 else 5)})  # type: ignore[attr-defined]
    assert derived.options.floors["chat/llm"]["0 9 * * *"] == 10
    counts = [derived.propose(fleet(view()), derived.new_state(), h * HOUR).replicas[KEY].replicas for h in range(11)]
    assert counts == [1] * 9 + [10, 1]


def test_the_mean_of_the_past_rounded_up() -> None:
    policy = create_policy("static_mean", {})
    derived = policy.with_history({"chat/llm": past(1, lambda i: 100 if i < 12 else 5)})  # type: ignore[attr-defined]
    assert derived.propose(fleet(view()), derived.new_state(), 0.0).replicas[KEY].replicas == 6  # mean of 10 and 1
    with pytest.raises(PolicyError, match="option replicas: null"):
        policy.propose(fleet(view()), policy.new_state(), 0.0)
    with pytest.raises(PolicyError, match="option fleet: chat/llm: -1"):
        create_policy("static_mean", {"fleet": {"chat/llm": -1}})
