"""The KPA's arithmetic, recomputed by hand from its pseudo-code and defaults."""

from __future__ import annotations

from typing import Any

import pytest

from policies.base import ReplicaMetrics
from policies.baselines.knative import KnativeMemory, KnativeOptions, excess_burst_capacity, scale
from policies.registry import create_policy
from tests.policies.build import KEY, fleet, view


def run(options: KnativeOptions, memory: KnativeMemory, ready: int, target: float, series: list[float]) -> list[int]:
    """One tick of 2 s after the other."""
    begin_s = memory.concurrency[-1][0] + 2.0 if memory.concurrency else 0.0
    return [scale(options, memory, begin_s + 2.0 * i, ready, target, value) for i, value in enumerate(series)]


def test_steady_concurrency_wants_its_ratio_to_the_target_rounded_up() -> None:
    assert run(KnativeOptions(), KnativeMemory(), 1, 70.0, [60.0] * 4) == [1] * 4
    assert run(KnativeOptions(), KnativeMemory(), 1, 70.0, [71.0]) == [2]  # ceil(71 / 70)


def test_a_restarted_autoscaler_panics_so_that_an_empty_history_cannot_shrink_the_fleet() -> None:
    wants = run(KnativeOptions(), KnativeMemory(), 10, 70.0, [70.0] * 31)
    assert wants == [10] * 31, "60 s after the start it still keeps the ten"
    memory = KnativeMemory()
    wants = run(KnativeOptions(), memory, 10, 70.0, [70.0] * 33)
    assert wants[-1] == 5, "then at most half of the ready ones may go: floor(10 / 2)"


def test_panic_begins_at_twice_the_ready_replicas_and_never_goes_down() -> None:
    memory = KnativeMemory()
    run(KnativeOptions(), memory, 1, 70.0, [35.0] * 30)
    assert memory.panic_since_s is None
    # 6 s window (3 looks): (35 + 35 + 350)/3 = 140 -> want 2; 2/1 >= 2: panic; 60 s: (29*35 + 350)/30 = 45.5 -> 1
    assert run(KnativeOptions(), memory, 1, 70.0, [350.0]) == [2]
    assert memory.panic_since_s == 60.0
    # (35 + 350 + 350)/3 = 245 -> 4, then 350 -> 5
    assert run(KnativeOptions(), memory, 1, 70.0, [350.0, 350.0]) == [4, 5]
    # back to 35 at once: want_panic falls, but what panic wanted at the most stays
    assert run(KnativeOptions(), memory, 5, 70.0, [35.0] * 20) == [5] * 20


def test_panic_ends_a_stable_window_after_its_last_cause() -> None:
    memory = KnativeMemory()
    run(KnativeOptions(), memory, 1, 70.0, [350.0] * 3)  # panic at 0, 2, 4 s: want 5, 5, 5
    wants = run(KnativeOptions(), memory, 5, 70.0, [35.0] * 32)  # 6 .. 68 s
    # since = 4 s: over when 4 + 60 < now, first at 66 s
    assert wants[:30] == [5] * 30
    assert wants[30] < 5


def test_at_most_a_thousandfold_up_and_half_down() -> None:
    memory = KnativeMemory()
    assert run(KnativeOptions(max_scale_up_rate=4.0), memory, 2, 1.0, [1000.0])[0] == 8
    calm = KnativeMemory(started=True)
    assert run(KnativeOptions(), calm, 9, 70.0, [0.0]) == [4]  # floor(9 / 2)


def test_activation_scale_holds_only_when_some_are_wanted() -> None:
    options = KnativeOptions(activation_scale=3)
    assert run(options, KnativeMemory(), 1, 70.0, [1.0]) == [3]
    assert run(options, KnativeMemory(), 1, 70.0, [0.0]) == [0]


def test_scale_down_delay_keeps_the_most_of_its_window() -> None:
    options, memory = KnativeOptions(scale_down_delay_s=30.0), KnativeMemory(started=True)
    run(options, memory, 4, 10.0, [40.0])
    wants = run(options, memory, 4, 10.0, [0.0] * 20)
    assert wants[13] == 4  # 28 s later
    assert wants[14] < 4  # 30 s later


def test_excess_burst_capacity_by_hand() -> None:
    assert excess_burst_capacity(KnativeOptions(), 3, 100.0, 20.0) == 69  # 300 - 211 - 20
    assert excess_burst_capacity(KnativeOptions(), 2, 100.0, 0.0) == -11


def propose(policy: Any, state: Any, now_s: float, **changes: Any) -> int:
    return int(policy.propose(fleet(view(**changes)), state, now_s).replicas[KEY].replicas)


def idle(**changes: Any) -> dict[str, Any]:
    return {"ongoing": 0.0, "waiting": 0.0, "target": 1, "running": 1, "min_replicas": 0} | changes


@pytest.mark.parametrize(
    ("container_concurrency", "wait_s"),
    [
        (100.0, 0.0),  # 100 - 211 < 0: the activator buffers anyway, so the last one goes at once
        (300.0, 30.0),  # 300 - 211 >= 0: it has to be switched in, up to the grace of 30 s
    ],
)
def test_the_last_replica_goes_when_the_activator_is_in_the_path(container_concurrency: float, wait_s: float) -> None:
    policy = create_policy("knative", {"container_concurrency": container_concurrency})
    state = policy.new_state()
    gone = [t for t in range(0, 120, 2) if propose(policy, state, float(t), **idle()) == 0]
    assert gone[0] == wait_s


def test_from_zero_one_waiting_request_is_enough() -> None:
    policy = create_policy("knative", {})
    state = policy.new_state()
    assert propose(policy, state, 0.0, **idle(target=0, running=0)) == 0
    assert propose(policy, state, 2.0, **idle(target=0, running=0, waiting=1.0)) == 1


def test_concurrency_counts_what_waits_in_front_once() -> None:
    policy = create_policy("knative", {"container_concurrency": 100})
    metrics = (ReplicaMetrics("a", ongoing=60.0, waiting=10.0),)
    # 60 at the replica (10 of them waiting in its engine) and 40 - 10 = 30 in front: 90 in the system -> ceil(90/70)
    assert propose(policy, policy.new_state(), 0.0, ongoing=60.0, waiting=40.0, running=1, replica_metrics=metrics) == 2


def test_the_target_comes_from_the_engine_where_nothing_is_set() -> None:
    policy = create_policy("knative", {})
    assert propose(policy, policy.new_state(), 0.0, running=1, ongoing=71.0, capacity_batch=None) == 2  # 0.7 * 100
    policy = create_policy("knative", {})
    assert propose(policy, policy.new_state(), 0.0, running=1, ongoing=71.0, capacity_batch=20.0) == 6  # 71 / 14


def test_no_data_does_nothing() -> None:
    policy = create_policy("knative", {})
    assert propose(policy, policy.new_state(), 0.0, ongoing=None) == 4
