"""AIBrix APA, recomputed by hand."""

from __future__ import annotations

from typing import Any

import pytest

from policies.base import ReplicaMetrics
from policies.baselines.apa import ApaMemory, ApaOptions, cool_down, recommend
from policies.registry import create_policy
from tests.policies.build import KEY, fleet, view


@pytest.mark.parametrize(
    ("replicas", "mean", "expected"),
    [
        (4, 0.5, 4),  # on target
        (4, 0.54, 4),  # ratio 1.08
        (4, 0.56, 5),  # ratio 1.12: ceil(4.48)
        (4, 1.0, 8),  # ratio 2
        (4, 1.4, 8),  # ratio 2.8 wants 12, at most doubled
        (4, 0.46, 4),  # ratio 0.92
        (4, 0.4, 4),  # ratio 0.8: ceil(3.2)
        (4, 0.3, 3),  # ratio 0.6: ceil(2.4)
        (5, 0.05, 2),  # ratio 0.1 wants 1, at least floor(5 / 2)
        (1, 0.0, 0),  # bounded by min replicas afterwards
    ],
)
def test_ratio_tolerance_and_rates(replicas: int, mean: float, expected: int) -> None:
    assert recommend(ApaOptions(), replicas, mean) == expected


def test_the_documented_cooldown_waits_for_the_greatest_of_300_s() -> None:
    options, memory = ApaOptions(), ApaMemory()
    assert cool_down(options, memory, 0.0, 6, 6) == 6
    assert cool_down(options, memory, 10.0, 6, 3) == 6
    assert cool_down(options, memory, 299.0, 6, 3) == 6
    assert cool_down(options, memory, 300.0, 6, 3) == 3


def test_the_cooldown_as_the_code_has_it_takes_the_least_and_so_goes_deeper() -> None:
    options, memory = ApaOptions(cooldown="as_read"), ApaMemory()
    assert cool_down(options, memory, 0.0, 6, 3) == 3
    assert cool_down(options, memory, 10.0, 6, 5) == 3, "not 5: the least of the window"


def test_up_is_at_once_unless_a_window_is_set() -> None:
    assert cool_down(ApaOptions(), ApaMemory(), 0.0, 2, 4) == 4
    options, memory = ApaOptions(scale_up_cooldown_s=60.0), ApaMemory()
    cool_down(options, memory, 0.0, 2, 3)
    assert cool_down(options, memory, 30.0, 2, 4) == 3
    assert cool_down(options, memory, 60.0, 2, 4) == 4


def propose(policy: Any, state: Any, now_s: float, usage: list[float], target: int = 4) -> int:
    metrics = tuple(ReplicaMetrics(f"r{i}", kv_usage_fraction=u) for i, u in enumerate(usage))
    d = view(target=target, running=len(usage) or 4, replica_metrics=metrics)
    return int(policy.propose(fleet(d), state, now_s).replicas[KEY].replicas)


def test_the_metric_is_the_mean_over_pods_and_over_180_s() -> None:
    policy = create_policy("apa", {})
    state = policy.new_state()
    assert propose(policy, state, 0.0, [0.2, 0.4, 0.4, 0.6]) == 4  # 0.4: ratio 0.8, ceil(3.2)
    assert propose(policy, state, 10.0, [1.0] * 4) == 6  # (0.4 + 1.0)/2 = 0.7: ratio 1.4, ceil(5.6)
    assert propose(policy, state, 185.0, [1.0] * 4) == 8  # the first look is out of the window
    assert propose(policy, state, 1000.0, []) == 4, "no value: the target stays"
