"""predictive-HPA: its models by hand, and that they forecast the HPA's own output."""

from __future__ import annotations

from typing import Any

import pytest

from policies.baselines.phpa import combine, holt_winters, linear
from policies.registry import create_policy
from tests.policies.build import KEY, fleet, replicas_with, view


@pytest.mark.parametrize(
    ("history", "at_s", "expected"),
    [
        ([(0.0, 3)], 60.0, 3),  # one point stands for itself
        ([(0.0, 1), (15.0, 2)], 45.0, 4),  # one more every 15 s
        ([(0.0, 1), (15.0, 2), (30.0, 3), (45.0, 4)], 60.0, 5),
        ([(0.0, 2), (15.0, 2), (30.0, 2)], 600.0, 2),
        # least squares of (0, 1), (15, 1), (30, 4): mean 2 at 15, slope 45/450 = 0.1; at 60: 2 + 4.5 = 6.5
        ([(0.0, 1), (15.0, 1), (30.0, 4)], 60.0, 7),
        ([(0.0, 4), (15.0, 2)], 45.0, -2),  # falls below zero: the maximum with the HPA's own number forgives it
    ],
)
def test_a_line_through_past_recommendations(history: list[tuple[float, int]], at_s: float, expected: int) -> None:
    assert linear(history, at_s) == expected


def test_holt_winters_is_zero_until_two_seasons_and_the_library_can_start() -> None:
    season = [1, 2, 5, 2]
    assert holt_winters(season * 3, 4, 0.9, 0.0, 0.9) == 0  # 12 points; it needs max(8, 10 + 2 * 2) = 14
    assert holt_winters(season * 3 + season[:2], 4, 0.9, 0.0, 0.9) == 5, "the next of the season"
    assert holt_winters(season * 4, 4, 0.9, 0.0, 0.9) == 1


@pytest.mark.parametrize(("decision", "expected"), [("maximum", 7), ("minimum", 2), ("mean", 5), ("median", 4)])
def test_numbers_become_one(decision: Any, expected: int) -> None:
    assert combine(decision, [2, 4, 7]) == expected  # mean 4.33, rounded up
    assert combine("median", [2, 5]) == 4  # 3.5, rounded up


def play(options: dict[str, Any], ongoing: list[float]) -> list[int]:
    """A sync every 15 s at four replicas that run."""
    policy = create_policy("phpa", {"target": 10, **options})
    state = policy.new_state()
    return [
        policy.propose(fleet(view(replica_metrics=replicas_with([o] * 4))), state, 15.0 * i).replicas[KEY].replicas
        for i, o in enumerate(ongoing)
    ]


def test_a_ramp_is_carried_on_by_the_look_ahead() -> None:
    # by the metric: 4, 5, 6, 7 (10, 12.5, 15, 17.5 per replica); 30 s ahead the line is two more
    assert play({"look_ahead_s": 30}, [10.0, 12.5, 15.0, 17.5]) == [4, 7, 8, 8]  # at most double in 15 s
    assert play({"look_ahead_s": 0}, [10.0, 12.5, 15.0, 17.5]) == [4, 5, 6, 7]


def test_the_look_ahead_is_the_lead_time_unless_set() -> None:
    assert play({}, [10.0, 12.5])[1] == 8  # 60 s ahead: 4 + 1 + 4 = 9, at most double
    assert play({"decision": "minimum"}, [10.0, 12.5])[1] == 5


def test_without_a_metric_the_target_stays() -> None:
    policy = create_policy("phpa", {})
    proposal = policy.propose(fleet(view(replica_metrics=())), policy.new_state(), 0.0)
    assert proposal.replicas[KEY].replicas == 4
