"""Requests held against the SLO and cold starts, summed over plans."""

from __future__ import annotations

from autoscaler.model import Judged, Observation, Plan
from autoscaler.score import Score
from policies.base import StartView
from tests.autoscaler.build import KEY


def plan(seen: Observation) -> Plan:
    return Plan(1, 0.0, True, False, (), observations=(seen,))


def seen(as_of_s: float, running: int, asked_at_s: tuple[float, ...] = (), judged: Judged | None = None) -> Plan:
    starts = tuple(StartView(at_s, "new_node", "starting", at_s + 60.0) for at_s in asked_at_s)
    return plan(Observation(KEY, metrics_as_of_s=as_of_s, judged=judged, running=running, starting=starts))


def test_the_same_metrics_seen_at_two_ticks_count_once() -> None:
    score = Score()
    for as_of_s in (10.0, 10.0, 15.0):
        score.take_in(seen(as_of_s, 1, judged=Judged(20.0, 2.0, 1.0)))
    assert (score.requests[KEY], score.missed[KEY]) == (40.0, 4.0)


def test_a_start_without_a_miss_was_hidden() -> None:
    score = Score()
    score.take_in(seen(10.0, 1, (5.0,)))
    score.take_in(seen(15.0, 2, judged=Judged(20.0, 3.0, 0.0)))  # late between tokens, not to the first one
    assert dict(score.starts) == {(KEY, "hidden"): 1}


def test_a_start_during_which_a_request_missed_its_first_token_was_exposed() -> None:
    score = Score()
    score.take_in(seen(10.0, 1, (5.0,), Judged(20.0, 3.0, 3.0)))
    score.take_in(seen(15.0, 2))
    assert dict(score.starts) == {(KEY, "exposed"): 1}


def test_a_start_that_is_gone_without_a_replica_more_was_cancelled() -> None:
    score = Score()
    score.take_in(seen(10.0, 1, (5.0, 6.0)))
    score.take_in(seen(15.0, 2))
    assert dict(score.starts) == {(KEY, "hidden"): 1, (KEY, "cancelled"): 1}


def test_requests_that_nobody_judged_are_zero_and_not_absent() -> None:
    score = Score()
    score.take_in(seen(10.0, 1))
    assert score.requests == {KEY: 0.0}


def test_an_unknown_inventory_ends_no_start() -> None:
    score = Score()
    score.take_in(seen(10.0, 1, (5.0,)))
    score.take_in(plan(Observation(KEY, metrics_as_of_s=15.0)))
    assert not score.starts
    score.take_in(seen(20.0, 2))
    assert dict(score.starts) == {(KEY, "hidden"): 1}
