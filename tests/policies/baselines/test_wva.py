"""llm-d's saturation analysis (v2) and the HPA that follows it, recomputed by hand."""

from __future__ import annotations

from typing import Any

import pytest

from policies.base import ReplicaMetrics, TokenMix, Totals
from policies.baselines.wva import Replica, WvaOptions, bucket, capacity_tokens, decide_replicas
from policies.capacity.load import load_profile
from policies.registry import create_policy
from tests.policies.build import KEY, fleet, view

PROFILE = load_profile("llama-3.1-8b/h100/tp1")


@pytest.mark.parametrize(
    ("demand", "ready", "pending", "expected"),
    [
        # each holds 1000 tokens. up: 3400/0.85 = 4000 = 4 * 1000: nothing missing; 3400/0.7 = 4857: nothing spare
        (3400.0, 4, 0, 4),
        (3500.0, 4, 0, 5),  # 4117.6 - 4000 = 117.6 missing: one more
        (6800.0, 4, 0, 8),  # 8000 - 4000: four at once
        (6800.0, 4, 4, 8),  # those on their way are supply already: no cascade
        (6900.0, 4, 4, 9),
        (2800.0, 4, 0, 4),  # 4000 - 4000 = 0 spare
        (2000.0, 4, 0, 3),  # 4000 - 2857 = 1143 spare: one fewer
        (100.0, 4, 0, 1),  # 4000 - 143: floor(3.86) = 3 fewer
        (0.0, 1, 0, 1),  # never the last one
        (2000.0, 4, 2, 5),  # only ready ones are supply when removing: 1143 spare, of the six that are asked for
    ],
)
def test_what_is_missing_comes_at_once_and_what_is_spare_goes(
    demand: float, ready: int, pending: int, expected: int
) -> None:
    assert decide_replicas(WvaOptions(), demand, 1000.0, ready, pending) == expected


def test_a_replica_holds_what_it_held_when_its_queue_was_long() -> None:
    options, learned = WvaOptions(), list[float]()
    assert capacity_tokens(options, Replica(0.5, 0.0), 1000.0, learned, None) == 800.0  # 80 % of the cache
    assert capacity_tokens(options, Replica(0.5, 0.0), 1000.0, learned, 700.0) == 700.0  # as the engine's limits allow
    assert capacity_tokens(options, Replica(0.6, 5.0), 1000.0, learned, 700.0) == 600.0  # saturated at 600
    assert capacity_tokens(options, Replica(0.7, 8.0), 1000.0, learned, 700.0) == 700.0
    assert learned == [600.0, 700.0]
    assert capacity_tokens(options, Replica(0.2, 0.0), 1000.0, learned, None) == 650.0  # the mean of what was seen
    assert capacity_tokens(options, Replica(0.95, 9.0), 1000.0, learned, None) == 800.0  # never above the cache's share
    for _ in range(12):
        capacity_tokens(options, Replica(0.4, 9.0), 1000.0, learned, None)
    assert learned == [400.0] * 10


def test_output_lengths_have_buckets() -> None:
    assert [bucket(t) for t in (99.0, 100.0, 499.0, 500.0)] == ["short", "medium", "medium", "long"]


def loaded(usage: list[float], waiting: float = 0.0, **changes: Any) -> Any:
    metrics = tuple(
        ReplicaMetrics(f"r{i}", ongoing=10.0, running=10.0, waiting=0.0, kv_usage_fraction=u)
        for i, u in enumerate(usage)
    )
    known = {
        "profile": PROFILE,
        "mix": TokenMix(1000.0, 200.0),
        "replica_metrics": metrics,
        "waiting": waiting,
        "target": len(usage),
        "running": len(usage),
    }
    return view(**(known | changes))


def decide(policy: Any, state: Any, now_s: float, d: Any) -> int:
    return int(policy.propose(fleet(d), state, now_s).replicas[KEY].replicas)


def test_a_decision_by_hand_from_gauges_to_replicas() -> None:
    policy = create_policy("wva", {})
    state = policy.new_state()
    # 432,992 tokens of cache; k1 = 346,394; engine's limits: 256 * 1,100 = 281,600, the lesser.
    # demand 2 * 0.6 * 432,992 = 519,590; / 0.85 = 611,283; supply 563,200; 48,083 missing: one more.
    # HPA: 3 / (1 * 2) = 1.5, beyond the tolerance: 3.
    assert decide(policy, state, 0.0, loaded([0.6, 0.6])) == 3
    assert state.deployments[KEY.full].desired == 3


def test_what_waits_in_front_counts_as_prompts() -> None:
    policy = create_policy("wva", {})
    # the same, and 200 requests of 1,000 tokens in front: 719,590 / 0.85 - 563,200 = 283,376: ceil(1.006) = 2 more
    assert decide(policy, policy.new_state(), 0.0, loaded([0.6, 0.6], waiting=200.0)) == 4


def test_the_hpa_that_follows_ignores_one_more_on_twelve() -> None:
    policy = create_policy("wva", {})
    state = policy.new_state()
    # 12 * 0.56 * 432,992 = 2,909,706 / 0.85 = 3,423,184 - 3,379,200 = 43,984: one more, a ratio of 1.083
    assert decide(policy, state, 0.0, loaded([0.56] * 12)) == 12
    assert state.deployments[KEY.full].desired == 13


def test_it_looks_every_5_s_decides_every_60_s_and_takes_maxima_of_a_minute() -> None:
    policy = create_policy("wva", {})
    state = policy.new_state()
    decide(policy, state, 0.0, loaded([0.3, 0.3]))
    assert state.deployments[KEY.full].desired == 2  # 371,136/0.7... spare 563,200 - 371,136 = 192,064 < one replica
    decide(policy, state, 30.0, loaded([0.6, 0.6]))
    assert state.deployments[KEY.full].desired == 2
    decide(policy, state, 60.0, loaded([0.3, 0.3]))
    assert state.deployments[KEY.full].desired == 3, "the peak of 30 s ago"


def test_zero_after_ten_minutes_without_a_request_and_back_when_one_waits() -> None:
    policy = create_policy("wva", {})
    state = policy.new_state()
    idle = {"min_replicas": 0, "ongoing": 0.0, "totals": Totals(arrivals=100.0)}
    assert decide(policy, state, 0.0, loaded([0.0], **idle)) == 1
    assert decide(policy, state, 599.0, loaded([0.0], **idle)) == 1
    assert decide(policy, state, 600.0, loaded([0.0], **idle)) == 0
    assert decide(policy, state, 605.0, loaded([], **idle, target=0, running=0)) == 0
    assert decide(policy, state, 610.0, loaded([], **(idle | {"waiting": 1.0}), target=0, running=0)) == 1


def test_without_a_profile_it_leaves_the_target() -> None:
    policy = create_policy("wva", {})
    assert decide(policy, policy.new_state(), 0.0, loaded([0.9, 0.9], profile=None)) == 2
