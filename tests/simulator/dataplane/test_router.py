"""Ray Serve's router: who gets a request, who waits, and what happens when replicas come and go."""

from __future__ import annotations

import numpy as np
import pytest

from policies.capacity.profile import Limits, Scheduling
from simulator.dataplane.plane import DataPlane, Status
from tests.simulator.dataplane.cases import AFFINE, profile

ENGINE = profile(Limits(8, 64, 4, 800, 200), Scheduling(True, True, True), AFFINE, host_s=0.002)


def plane(max_ongoing: int = 100, timeout_s: float | None = None, max_queued: int = -1) -> DataPlane:
    return DataPlane(
        ENGINE,
        max_ongoing_requests=max_ongoing,
        request_timeout_s=timeout_s,
        seed=5,
        max_queued_requests=max_queued,
    )


def steady(made: DataPlane, count: int, gap_s: float, start_s: float = 0.0, prompt: int = 20, output: int = 20) -> None:
    made.feed(start_s + gap_s * np.arange(count), np.full(count, prompt), np.full(count, output))


def test_two_choices_keep_equal_replicas_about_equally_busy() -> None:
    made = plane()
    for replica in range(8):
        made.add_replica(replica, 0.0)
    steady(made, 8000, 0.02)
    spread = []
    for now_s in np.arange(5.0, 160.0, 0.5):
        made.advance(now_s)
        ongoing = made.gauges(now_s).ongoing
        spread.append(ongoing.max() - ongoing.min())
    assert np.mean(spread) < 4  # drawing one at random leaves differences of eight and more
    assert max(spread) <= 7
    made.advance(300.0)
    share = made.counters().finished_total / 8000
    assert share.min() > 0.11
    assert share.max() < 0.14


def test_requests_wait_at_the_handle_for_the_first_replica_and_go_in_order() -> None:
    made = plane(max_ongoing=3)
    steady(made, 10, 0.01)
    made.advance(5.0)
    assert made.queued == 10
    assert made.gauges(5.0).replica.tolist() == []
    made.add_replica(4, 5.0)
    assert (made.queued, made.ongoing(4)) == (7, 3)
    made.advance(100.0)
    done = made.completed()
    sent_s = (done.arrival_s + done.handle_s)[np.argsort(done.id)]
    assert np.all(np.diff(sent_s) >= 0)
    assert sent_s[:3].tolist() == [5.0] * 3
    assert set(done.status.tolist()) == {Status.OK}


def test_no_replica_ever_has_more_than_max_ongoing_requests() -> None:
    made = plane(max_ongoing=4)
    for replica in range(3):
        made.add_replica(replica, 0.0)
    steady(made, 600, 0.01)
    most = 0
    for now_s in np.arange(0.0, 8.0, 0.003):
        made.advance(now_s)
        gauges = made.gauges(now_s)
        most = max(most, gauges.ongoing.max())
        assert gauges.queued == 0 or gauges.ongoing.min() == 4
    assert most == 4


def test_a_draining_replica_gets_nothing_new_and_finishes_what_it_has() -> None:
    made = plane()
    made.add_replica(0, 0.0)
    made.add_replica(1, 0.0)
    steady(made, 400, 0.01)
    made.advance(1.0)
    made.drain_replica(0, 1.0)
    left = made.ongoing(0)
    assert left > 0
    made.advance(10.0)
    done = made.completed()
    at_zero = done.replica == 0
    assert np.all(done.arrival_s[at_zero] <= 1.0)
    assert set(done.status.tolist()) == {Status.OK}
    drained_s = made.drained_at_s(0)
    assert drained_s == pytest.approx((done.arrival_s + done.e2e_s)[at_zero].max() - ENGINE.api_s)
    assert made.ongoing(0) == 0
    assert made.replicas == (1,)


def test_an_idle_replica_is_drained_at_once() -> None:
    made = plane()
    made.add_replica(0, 0.0)
    made.drain_replica(0, 3.0)
    assert made.drained_at_s(0) == 3.0
    assert made.replicas == ()


def test_killing_a_replica_fails_its_requests_and_only_its() -> None:
    made = plane()
    made.add_replica(0, 0.0)
    made.add_replica(1, 0.0)
    steady(made, 200, 0.01)
    made.advance(1.0)
    inside = made.ongoing(0)
    made.kill_replica(0, 1.0)
    made.advance(30.0)
    done = made.completed()
    failed = done.status == Status.FAILED
    assert failed.sum() == inside > 0
    assert set(done.replica[failed].tolist()) == {0}
    assert (done.arrival_s + done.e2e_s)[failed] == pytest.approx(1.0)
    assert len(done) == 200
    assert made.counters().replica.tolist() == [1, 0]  # the dead one's counters stay


def test_a_replica_number_may_come_back() -> None:
    made = plane()
    made.add_replica(0, 0.0)
    made.kill_replica(0, 1.0)
    made.add_replica(0, 2.0)
    steady(made, 5, 0.1, start_s=2.5)
    made.advance(20.0)
    assert made.completed().status.tolist() == [Status.OK] * 5


def test_a_request_that_waits_too_long_at_the_handle_times_out_on_time() -> None:
    made = plane(timeout_s=2.5)
    steady(made, 4, 0.1)
    made.advance(10.0)
    done = made.completed()
    assert done.status.tolist() == [Status.TIMED_OUT] * 4
    assert done.e2e_s == pytest.approx(2.5)
    assert done.replica.tolist() == [-1] * 4
    assert made.queued == 0


def test_a_timeout_in_the_engine_frees_its_place_for_others() -> None:
    made = plane(max_ongoing=1, timeout_s=1.0)
    made.add_replica(0, 0.0)
    made.feed([0.0, 0.9], [20, 20], [180, 5])
    made.advance(10.0)
    done = made.completed()
    assert done.status.tolist() == [Status.TIMED_OUT, Status.OK]
    assert 0 < done.output_tokens[0] < 180
    assert done.handle_s[1] == pytest.approx(0.1)
    assert made.gauges(10.0).kv_usage_fraction.tolist() == [0.0]


def test_a_client_that_hangs_up_frees_its_place_wherever_its_request_is() -> None:
    made = plane(max_ongoing=2)
    made.add_replica(0, 0.0)
    made.feed([0.0, 0.1, 0.2, 0.3], [20] * 4, [170, 170, 170, 20])
    made.advance(0.5)
    assert made.queued == 2
    assert made.cancel(2, 0.5)  # at the handle
    assert made.cancel(0, 0.6)  # running
    assert (made.queued, made.ongoing(0)) == (0, 2)
    assert not made.cancel(0, 0.7)
    made.advance(20.0)
    done = made.completed()
    order = np.argsort(done.id)
    assert done.status[order].tolist() == [Status.FAILED, Status.OK, Status.FAILED, Status.OK]
    assert done.e2e_s[order][[0, 2]] == pytest.approx([0.6, 0.3])
    assert done.handle_s[order][3] == pytest.approx(0.3)
    assert made.gauges(20.0).kv_usage_fraction.tolist() == [0.0]


def test_more_than_max_queued_requests_are_dropped_at_once() -> None:
    made = plane(max_queued=2)
    steady(made, 5, 0.1)
    made.advance(1.0)
    done = made.completed()
    assert done.status.tolist() == [Status.FAILED] * 3
    assert done.e2e_s.tolist() == [0.0] * 3
    assert made.queued == 2


def test_the_same_request_meets_the_same_luck_whatever_happened_before() -> None:
    chosen = []
    for earlier in (0, 1):
        made = plane()
        for replica in range(4):
            made.add_replica(replica, 0.0)
        if earlier:
            made.add_replica(9, 0.0)
            made.kill_replica(9, 1.0)
        steady(made, 200, 1.0, start_s=2.0)
        made.advance(300.0)
        done = made.completed()
        chosen.append(done.replica[np.argsort(done.id)].tolist())
    assert chosen[0] == chosen[1]
