"""KEDA's two loops, recomputed by hand: none or some by itself, 1..N by an HPA on an external metric."""

from __future__ import annotations

from typing import Any

import pytest

from policies.baselines.hpa import recommend_external
from policies.baselines.keda import KedaMemory, KedaOptions, none_or_some
from policies.registry import create_policy
from tests.policies.build import KEY, fleet, view


@pytest.mark.parametrize(
    ("total", "target", "replicas", "expected"),
    [
        (25.0, 5.0, 2, 5),  # ceil(25 / 5)
        (26.0, 5.0, 2, 6),
        (10.0, 5.0, 2, 2),  # ratio 1
        (54.0, 5.0, 10, 10),  # ratio 1.08: inside the tolerance
        (56.0, 5.0, 10, 12),  # ratio 1.12: ceil(11.2)
        (0.0, 5.0, 3, 0),  # an empty queue wants none; only the window holds it
        (12.0, 1.0, 11, 11),  # one more on eleven is a ratio of 1.09: within the tolerance
        (11.0, 1.0, 10, 11),  # on ten it is 1.1, which is more than 0.1 off in floating point, there as here
    ],
)
def test_an_external_metric_with_an_average_value(total: float, target: float, replicas: int, expected: int) -> None:
    assert recommend_external(total, target, replicas, 0.1) == expected


def test_waking_needs_more_than_the_activation_threshold() -> None:
    assert none_or_some(KedaOptions(), KedaMemory(), 0.0, 0.0, 0, 0) == 0
    assert none_or_some(KedaOptions(), KedaMemory(), 0.0, 1.0, 0, 0) == 1
    assert none_or_some(KedaOptions(), KedaMemory(), 0.0, 1.0, 0, 3) == 3
    assert none_or_some(KedaOptions(activation_threshold=5.0), KedaMemory(), 0.0, 5.0, 0, 0) == 0
    assert none_or_some(KedaOptions(activation_threshold=5.0), KedaMemory(), 0.0, 5.1, 0, 0) == 1


def test_zero_comes_after_the_cooldown_since_it_was_last_active() -> None:
    options, memory = KedaOptions(), KedaMemory()
    assert none_or_some(options, memory, 0.0, 2.0, 4, 0) == 4
    assert none_or_some(options, memory, 300.0, 0.0, 4, 0) == 4  # not *more than* 300 s yet
    assert none_or_some(options, memory, 330.0, 0.0, 4, 0) == 0
    assert none_or_some(options, memory, 360.0, 0.0, 4, 1) == 4, "a minimum is never left"


def test_never_active_goes_to_zero_as_soon_as_the_initial_cooldown_is_over() -> None:
    assert none_or_some(KedaOptions(), KedaMemory(), 0.0, 0.0, 2, 0) == 0
    options, memory = KedaOptions(initial_cooldown_s=60.0), KedaMemory()
    assert none_or_some(options, memory, 0.0, 0.0, 2, 0) == 2
    assert none_or_some(options, memory, 60.0, 0.0, 2, 0) == 0


def play(options: dict[str, Any], looks: list[tuple[float, float]], start: int, low: int = 0) -> list[int]:
    """Waiting requests by time; the fleet follows at once."""
    policy = create_policy("keda", options)
    state, present, counts = policy.new_state(), start, []
    for now_s, waiting in looks:
        d = view(waiting=waiting, target=present, running=present, min_replicas=low)
        present = policy.propose(fleet(d), state, now_s).replicas[KEY].replicas
        counts.append(present)
    return counts


def test_it_polls_every_30_s_but_the_hpa_syncs_every_15_s() -> None:
    looks = [(0.0, 0.0), (15.0, 3.0), (30.0, 3.0)]
    assert play({}, looks, start=0) == [0, 0, 1], "what comes at 15 s wakes it at the next poll only"
    # 1..N: queue of 30 at 5 each = 6, at most max(1 + 4, 2 * 1) = 5 in the first 15 s
    assert play({}, [(0.0, 30.0), (15.0, 30.0)], start=1) == [5, 6]


def test_down_to_one_after_300_s_and_to_zero_after_the_cooldown() -> None:
    looks = [(15.0 * i, 30.0 if i == 0 else 0.0) for i in range(25)]
    counts = play({}, looks, start=6)
    assert counts[:20] == [6] * 20  # the window of 300 s still holds the 6 of time 0
    assert counts[20] == 1  # 300 s
    assert counts[21] == 1  # 315 s: no poll
    assert counts[22] == 0  # 330 s: polled, and 330 > 0 + 300


def test_the_values_of_the_production_stack() -> None:
    options = {"polling_interval_s": 15, "cooldown_s": 360, "threshold": 5, "initial_cooldown_s": 60}
    looks = [(15.0 * i, 1.0 if i == 0 else 0.0) for i in range(30)]
    counts = play(options, looks, start=1)
    assert counts[24] == 1  # 360 s
    assert counts[25] == 0  # 375 s


def test_a_trigger_without_a_value_changes_nothing() -> None:
    policy = create_policy("keda", {})
    proposal = policy.propose(fleet(view(waiting=None, target=3)), policy.new_state(), 0.0)
    assert proposal.replicas[KEY].replicas == 3
