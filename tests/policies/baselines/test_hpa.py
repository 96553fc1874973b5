"""The HPA's arithmetic, recomputed by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.base import FleetProposal, ReplicaMetrics
from policies.baselines.hpa import HpaMemory, HpaOptions, Sample, limit_rate, recommend, stabilize
from policies.registry import create_policy
from tests.policies.build import KEY, fleet, replicas_with, view


@pytest.mark.parametrize(
    ("values", "target", "replicas", "expected"),
    [
        ((200.0, 200.0), 100.0, 2, 4),  # ceil(2 * 200/100): the documentation's doubling
        ((50.0, 50.0), 100.0, 2, 1),  # ceil(2 * 50/100): and its halving
        ((30.0, 50.0, 70.0), 40.0, 3, 4),  # mean 50, ratio 1.25, ceil(3.75)
        ((108.0, 108.0), 100.0, 2, 2),  # ratio 1.08: inside the tolerance of 0.1
        ((111.0, 111.0), 100.0, 2, 3),  # ratio 1.11: ceil(2.22)
        ((91.0, 91.0), 100.0, 2, 2),  # ratio 0.91: inside
        ((0.0, 0.0, 0.0), 5.0, 3, 0),  # an empty queue wants none; only the window holds it
        ((100.0,), 100.0, 5, 5),  # four pods start, but 100 % of target: no change
    ],
)
def test_a_pods_metric_scales_by_its_ratio_over_ready_pods(
    values: tuple[float, ...], target: float, replicas: int, expected: int
) -> None:
    assert recommend(Sample(values), target, replicas, 0.1) == expected


@pytest.mark.parametrize(
    ("sample", "replicas", "expected"),
    [
        # up, 2 not ready: (300+300+0+0)/4 = 150 -> 1.5 * 4 = 6 (without the rule: ceil(3 * 2) = 6 of 2 ready)
        (Sample((300.0, 300.0), unready=2), 4, 6),
        # up, 4 not ready: (150+150)/6 = 50 %: turned round, so no change
        (Sample((150.0, 150.0), unready=4), 6, 6),
        # up, 1 missing at 0: (200+200+0)/3 = 133 % -> ceil(1.333 * 3) = 4
        (Sample((200.0, 200.0), missing=1), 3, 4),
        # down, 2 missing at the target: (20+20+100+100)/4 = 60 % -> ceil(0.6 * 4) = 3
        (Sample((20.0, 20.0), missing=2), 4, 3),
        # down with pods not ready: they do not matter, ceil(0.2 * 2) = 1
        (Sample((20.0, 20.0), unready=2), 4, 1),
        # up, (219+0)/2 = 109.5 %: inside the tolerance once the one that starts is counted
        (Sample((219.0,), unready=1), 2, 2),
        # up, 260/2 = 130 % of 2 pods = 3, but 5 are asked for already: no move against the direction
        (Sample((260.0,), unready=1), 5, 5),
    ],
)
def test_missing_and_unready_pods_count_against_the_change(sample: Sample, replicas: int, expected: int) -> None:
    assert recommend(sample, 100.0, replicas, 0.1) == expected


def test_no_metric_at_all_is_no_recommendation() -> None:
    assert recommend(Sample((), missing=3), 100.0, 3, 0.1) is None


def test_scale_down_waits_until_the_greatest_recommendation_of_300_s_is_gone() -> None:
    options, memory = HpaOptions(), HpaMemory()
    assert stabilize(options, memory, 0.0, 5, 5) == 5
    assert stabilize(options, memory, 15.0, 5, 2) == 5
    assert stabilize(options, memory, 299.0, 5, 2) == 5
    assert stabilize(options, memory, 300.0, 5, 2) == 2


def test_scale_up_is_at_once_unless_a_window_is_set() -> None:
    assert stabilize(HpaOptions(), HpaMemory(), 0.0, 2, 6) == 6
    careful, memory = HpaOptions(scale_up_stabilization_s=60.0), HpaMemory()
    stabilize(careful, memory, 0.0, 2, 3)
    assert stabilize(careful, memory, 15.0, 2, 6) == 3
    assert stabilize(careful, memory, 75.0, 2, 6) == 6


def test_an_old_larger_recommendation_holds_but_does_not_raise() -> None:
    options, memory = HpaOptions(), HpaMemory()
    stabilize(options, memory, 0.0, 4, 10)
    assert stabilize(options, memory, 15.0, 4, 3) == 4


def test_up_at_most_four_or_double_in_15_s_counting_what_was_added_in_them() -> None:
    options, memory = HpaOptions(), HpaMemory()
    assert limit_rate(options, memory, 0.0, 1, 50, (1, 100)) == 5  # max(1 + 4, 2 * 1)
    assert limit_rate(options, memory, 5.0, 5, 50, (1, 100)) == 5  # the period began with 1
    assert limit_rate(options, memory, 15.0, 5, 50, (1, 100)) == 10  # max(5 + 4, 2 * 5)
    assert limit_rate(options, memory, 30.0, 10, 50, (1, 100)) == 20


def test_down_may_go_all_the_way_unless_a_percentage_is_set() -> None:
    assert limit_rate(HpaOptions(), HpaMemory(), 0.0, 10, 1, (1, 100)) == 1
    slow, memory = HpaOptions(scale_down_percent=10.0), HpaMemory()
    assert limit_rate(slow, memory, 0.0, 20, 1, (1, 100)) == 18
    assert limit_rate(slow, memory, 5.0, 18, 1, (1, 100)) == 18
    assert limit_rate(slow, memory, 15.0, 18, 1, (1, 100)) == 16  # int(18 * 0.9)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 5), st.integers(5, 30))
def test_bounds_hold_whatever_is_wanted(replicas: int, wanted: int, low: int, high: int) -> None:
    assert limit_rate(HpaOptions(), HpaMemory(), 0.0, replicas, wanted, (low, high)) <= max(high, 0)


def propose(name: str, options: dict[str, Any], **changes: Any) -> tuple[FleetProposal, Any]:
    policy = create_policy(name, options)
    state = policy.new_state()
    return policy.propose(fleet(view(**changes)), state, 1000.0), state


def test_ongoing_requests_per_ready_replica_against_the_target() -> None:
    metrics = replicas_with([20.0, 20.0, 20.0, 20.0])
    proposal, _ = propose("hpa_ongoing", {"target": 10.0}, replica_metrics=metrics)
    assert proposal.replicas[KEY].replicas == 8
    assert "ongoing 20 a replica, target 10" in proposal.replicas[KEY].terms[0].why


def test_replicas_that_start_are_in_the_number_it_works_from() -> None:
    metrics = replicas_with([20.0, 20.0])
    proposal, _ = propose("hpa_ongoing", {"target": 10.0}, running=2, target=4, replica_metrics=metrics)
    assert proposal.replicas[KEY].replicas == 4  # (20 + 20 + 0 + 0) / 4 = 100 %


def test_the_default_target_is_0_8_of_what_a_replica_holds_at_capacity_and_then_stays() -> None:
    policy = create_policy("hpa_ongoing", {})
    state = policy.new_state()
    for i in range(20):  # 40 in progress at 8 req/s: a request stays 5 s, so 2.5 req/s hold 12.5
        policy.propose(fleet(view(replica_metrics=replicas_with([10.0] * 4))), state, 15.0 * i)
    assert state.deployments[KEY.full].target == pytest.approx(0.8 * 12.5)
    policy.propose(fleet(view(ongoing=400.0, replica_metrics=replicas_with([100.0] * 4))), state, 315.0)
    assert state.deployments[KEY.full].target == pytest.approx(0.8 * 12.5)


def test_with_an_engine_profile_the_default_target_is_what_it_holds_whatever_the_load() -> None:
    policy = create_policy("hpa_ongoing", {})
    state = policy.new_state()
    for i in range(20):  # a quiet night: by Little's law a replica would hold next to nothing
        metrics = replicas_with([1.0] * 4)
        policy.propose(fleet(view(capacity_batch=50.0, ongoing=4.0, replica_metrics=metrics)), state, 15.0 * i)
    assert state.deployments[KEY.full].target == pytest.approx(40.0)
    policy.propose(fleet(view(capacity_batch=500.0, replica_metrics=replicas_with([1.0] * 4))), state, 315.0)
    assert state.deployments[KEY.full].target == pytest.approx(40.0), "as a configured HPA it stays"
    half, _ = propose(
        "hpa_ongoing", {"target_fraction": 0.5}, capacity_batch=40.0, replica_metrics=replicas_with([40.0] * 4)
    )
    assert half.replicas[KEY].replicas == 8


def test_a_queue_that_serve_holds_back_is_spread_over_the_replicas() -> None:
    metrics = tuple(ReplicaMetrics(f"r{i}", waiting=1.0) for i in range(4))
    # 4 wait in engines and 36 in front: 10 each at a target of 5
    proposal, _ = propose("hpa_queue", {}, waiting=40.0, replica_metrics=metrics)
    assert proposal.replicas[KEY].replicas == 8


def test_without_a_capacity_the_default_target_is_0_8_of_the_slots() -> None:
    metrics = replicas_with([64.0] * 4)
    proposal, _ = propose("hpa_ongoing", {}, capacity_rps=None, replica_metrics=metrics)
    assert proposal.replicas[KEY].replicas == 5  # 64 / (0.8 * 64) = 1.25


def test_without_metrics_the_target_stays() -> None:
    proposal, _ = propose("hpa_queue", {}, target=4, replica_metrics=())
    assert proposal.replicas[KEY].replicas == 4
    assert proposal.replicas[KEY].terms[0].name == "unknown"


def test_it_leaves_alone_what_it_does_not_know() -> None:
    assert propose("hpa_kv", {}, running=None)[0].replicas == {}
