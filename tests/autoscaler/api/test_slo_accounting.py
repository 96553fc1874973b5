"""Requests held against the SLO and cold starts, summed over plans."""

from __future__ import annotations

from autoscaler.api.slo_accounting import AFTERWARDS_S, SloAccounting
from autoscaler.core.build import new_controller
from autoscaler.core.types import EndedStart, Histogram, Judged, Observation, Plan, ReplicaSignal
from policies.base import LeadTimes
from policies.base.durations import Duration
from tests.autoscaler.build import KEY, Says, config, inventory, metrics, signals

LEAD_S = 40.0
TIMES = LeadTimes(Duration(LEAD_S), Duration(LEAD_S), Duration(LEAD_S))


def plan(now_s: float, as_of_s: float | None = None, judged: Judged | None = None, *ended: EndedStart) -> Plan:
    seen = Observation(KEY, metrics_as_of_s=as_of_s, judged=judged)
    return Plan(1, now_s, True, False, (), observations=(seen,), lead_times={KEY: TIMES}, ended=ended)


def ended(asked_at_s: float, ended_at_s: float, runs: bool = True) -> EndedStart:
    return EndedStart(KEY, asked_at_s, ended_at_s, "free_gpu", runs)


def outcomes(misses_at_s: float | None, asked_at_s: float = 500.0, ended_at_s: float = 540.0) -> dict[str, int]:
    """One start, metrics each 10 s, and one request that is told to have missed its TTFT."""
    score = SloAccounting()
    for now_s in range(0, 1000, 10):
        judged = Judged(20.0, 3.0, 3.0 if now_s == misses_at_s else 0.0)
        starts = [ended(asked_at_s, ended_at_s)] if now_s == ended_at_s else []
        score.ingest(plan(float(now_s), float(now_s), judged, *starts))
    return {outcome: count for (_, outcome), count in score.starts.items()}


def test_the_same_metrics_seen_at_two_ticks_count_once() -> None:
    score = SloAccounting()
    for as_of_s in (10.0, 10.0, 15.0):
        score.ingest(plan(20.0, as_of_s, Judged(20.0, 2.0, 1.0)))
    assert (score.requests[KEY], score.missed[KEY]) == (40.0, 4.0)


def test_a_start_without_a_miss_of_a_first_token_was_hidden() -> None:
    assert outcomes(None) == {"hidden": 1}


def test_a_miss_while_it_was_pending_exposes_it() -> None:
    assert outcomes(520.0) == {"exposed": 1}


def test_a_miss_before_it_was_asked_for_exposes_it_if_asking_earlier_had_helped() -> None:
    assert outcomes(500.0 - LEAD_S + 10.0) == {"exposed": 1}
    assert outcomes(500.0 - LEAD_S) == {"hidden": 1}


def test_who_waited_for_it_is_known_only_after_it_runs() -> None:
    assert outcomes(550.0) == {"exposed": 1}
    assert outcomes(540.0 + AFTERWARDS_S) == {"exposed": 1}
    assert outcomes(540.0 + AFTERWARDS_S + 10.0) == {"hidden": 1}


def test_a_start_that_was_withdrawn_or_died_was_cancelled() -> None:
    score = SloAccounting()
    score.ingest(plan(10.0, 10.0, None, ended(5.0, 10.0, runs=False), ended(5.0, 10.0)))
    score.ingest(plan(100.0, 100.0))
    assert dict(score.starts) == {(KEY, "hidden"): 1, (KEY, "cancelled"): 1}


def test_without_metrics_a_start_is_judged_late_and_not_never() -> None:
    score = SloAccounting()
    score.ingest(plan(10.0, 10.0, None, ended(5.0, 10.0)))
    score.ingest(plan(200.0, 10.0))
    assert not score.starts
    score.ingest(plan(400.0, 10.0))
    assert dict(score.starts) == {(KEY, "hidden"): 1}


def test_requests_that_nobody_judged_are_zero_and_not_absent() -> None:
    score = SloAccounting()
    score.ingest(plan(10.0, 10.0))
    assert score.requests == {KEY: 0.0}


def test_from_inventories_and_histograms_to_outcomes() -> None:
    """A request waits for the first replica of a deployment at zero, and gets its late token when that runs."""
    score, controller = SloAccounting(), new_controller(config(), policy=Says(1))
    for tick in range(40):
        now_s = 5.0 * tick
        state = "STARTING" if now_s < 60 else "RUNNING"
        late = 1.0 if now_s >= 65 else 0.0
        ttft = {"r0": Histogram((2.0, float("inf")), (0.0, late))}
        found = inventory(now_s, running=0, target=1, replicas=(ReplicaSignal("r0", state, 0.0),))
        score.ingest(controller.step(signals(found, metrics(now_s, arrivals=1.0, ttft=ttft)), now_s))
    assert dict(score.starts) == {(KEY, "exposed"): 1}
