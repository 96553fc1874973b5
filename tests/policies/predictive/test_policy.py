"""The flagship: every argument by itself, the largest counts, unknown is never less, and it goes on after a restart."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.base import DeploymentKey, DeploymentView, Forecast, LeadTimes, ReplicaProposal, Slo, StartView
from policies.base.durations import Duration
from policies.predictive import PredictivePolicy
from policies.predictive.state import DeploymentMemory, PredictiveState, learn_level, level
from policies.registry import create_policy
from tests.policies.build import KEY, LEVELS, flat_forecast, fleet, rising_forecast, view


def policy(**options: Any) -> PredictivePolicy:
    made = create_policy("predictive", options)
    assert isinstance(made, PredictivePolicy)
    return made


def propose(
    d: DeploymentView, state: PredictiveState | None = None, now_s: float = 1000.0, **options: Any
) -> ReplicaProposal:
    state = PredictiveState() if state is None else state
    return policy(**options).propose(fleet(d, now_s=now_s), state, now_s).replicas[d.key]


def term(proposal: ReplicaProposal, name: str) -> int | None:
    return next((t.wants for t in proposal.terms if t.name == name), None)


def starting(count: int, ready_in_s: float = 30.0) -> tuple[StartView, ...]:
    return tuple(StartView(990.0, "free_gpu", "starting", 1000.0 + ready_in_s) for _ in range(count))


# ---------------------------------------------------------------- forecast and load


def test_what_the_forecast_expects_within_the_lead_time_is_wanted_now() -> None:
    proposal = propose(view(forecast=flat_forecast(16.9)))
    assert proposal.replicas == math.ceil(16.9 / 2.5)
    assert proposal.terms[0].name == "forecast"
    assert proposal.terms[0].why == "16.9 req/s expected within 65 s (95% level); 4 replicas carry 10.0"


def test_it_looks_as_far_as_a_new_replica_takes_by_the_path_it_would_take() -> None:
    times = LeadTimes(Duration(30.0), Duration(90.0), Duration(300.0))
    rising = rising_forecast(8.0, 40.0, 320.0)  # 0.1 req/s more each second
    wants = {}
    for path in ("free_gpu", "warm_node", "new_node"):
        wants[path] = term(propose(view(forecast=rising, lead_times=times, next_path=path)), "forecast")
    assert wants == {
        "free_gpu": math.ceil(11.5 / 2.5),
        "warm_node": math.ceil(17.5 / 2.5),
        "new_node": math.ceil(38.5 / 2.5),
    }


def test_an_uncertain_lead_time_is_planned_with_its_upper_quantile() -> None:
    sure, unsure = Duration(60.0), Duration(60.0, 0.8)
    rising = rising_forecast(8.0, 40.0, 320.0)
    few = term(propose(view(forecast=rising, lead_times=LeadTimes(sure, sure, sure))), "forecast")
    more = term(propose(view(forecast=rising, lead_times=LeadTimes(unsure, unsure, unsure))), "forecast")
    assert few is not None
    assert more is not None
    assert more > few


def test_without_a_forecast_it_is_reactive_with_headroom_and_says_so() -> None:
    proposal = propose(view(rate_rps=10.0, forecast=None))
    load = 10.0 * 1.3 / 2.5
    assert proposal.replicas == math.ceil(load + 0.1 * math.sqrt(load))
    assert proposal.terms[0].name == "load"
    assert "30% more (no forecast yet)" in proposal.terms[0].why


def test_a_forecast_that_is_not_calibrated_is_not_used_and_the_reason_is_told() -> None:
    proposal = propose(view(rate_rps=10.0, forecast=flat_forecast(100.0, calibrated=False, why="only 40 s of history")))
    assert proposal.replicas == 6
    assert "only 40 s of history" in proposal.terms[0].why


def test_headroom_weighs_less_in_a_large_fleet() -> None:
    small = propose(view(rate_rps=2.4, forecast=flat_forecast(0.0), target=1, running=1)).replicas
    large = propose(
        view(rate_rps=240.0, forecast=flat_forecast(0.0), target=100, running=100, max_replicas=200)
    ).replicas
    assert small == 2  # 0.96 + 10 % of 0.98
    assert large == 97  # 96 + 10 % of 9.8


def test_the_largest_argument_counts_and_stands_first() -> None:
    proposal = propose(view(rate_rps=20.0, forecast=flat_forecast(5.0), waiting=300.0))
    wants = [t.wants for t in proposal.terms]
    assert proposal.replicas == wants[0] == max(wants)
    assert wants == sorted(wants, reverse=True)
    assert {"forecast", "load", "backlog", "min_replicas"} <= {t.name for t in proposal.terms}


# ---------------------------------------------------------------- backlog and saturation


def test_a_backlog_adds_the_replicas_that_drain_it() -> None:
    """300 wait; 4 replicas spare 2 req/s over 60 + 60 s (240); 56 too many are left: 1 replica drains 150 in 60 s."""
    proposal = propose(view(waiting=300.0, forecast=flat_forecast(8.0)))
    assert term(proposal, "backlog") == 5
    assert "296 too many wait" in next(t.why for t in proposal.terms if t.name == "backlog")


def test_starts_under_way_are_not_asked_for_again() -> None:
    alone = propose(view(waiting=900.0, forecast=flat_forecast(8.0)))
    helped = propose(view(waiting=900.0, forecast=flat_forecast(8.0), target=9, starting=starting(5)))
    assert term(alone, "backlog") == 9  # 656 are left over after 120 s; 150 each
    assert term(helped, "backlog") == 9  # nothing more: five that come in 30 s serve 1125


@pytest.mark.parametrize("ready_in_s", [0.0, 30.0, 60.0, 300.0, 3000.0])
def test_late_starts_are_waited_for_instead_of_being_asked_for_twice(ready_in_s: float) -> None:
    """Also when a quicker path seems to be open: the GPU that came free is the one they wait for."""
    quick = LeadTimes(Duration(5.0), Duration(30.0), Duration(60.0))
    waiting = view(waiting=600.0, rate_rps=12.0, forecast=flat_forecast(8.0), lead_times=quick, target=12)
    assert propose(replace(waiting, starting=starting(8, ready_in_s))).replicas <= 12 + 1


def test_what_a_healthy_fleet_holds_is_no_backlog() -> None:
    assert term(propose(view(waiting=4.0)), "backlog") is None


def test_a_request_at_zero_replicas_wakes_the_deployment() -> None:
    asleep = view(
        target=0, running=0, min_replicas=0, waiting=1.0, ongoing=0.0, rate_rps=0.0, forecast=flat_forecast(0.0)
    )
    proposal = propose(asleep)
    assert proposal.replicas == 1
    assert proposal.terms[0].name == "wake"


def in_trouble_since(at_s: float, d: DeploymentView) -> PredictiveState:
    """The memory of a fleet that was seen like this at `at_s`: 0.4 of a lead time (60 s) later more is asked for."""
    state = PredictiveState()
    assert propose(d, state, at_s).replicas == 4
    return state


def test_a_full_kv_cache_that_stays_full_adds_one_but_not_one_each_tick() -> None:
    full = view(kv_usage_fraction=0.95, waiting=1.0, forecast=flat_forecast(8.0))
    state = in_trouble_since(970.0, full)
    assert propose(full, state, 990.0).replicas == 4
    assert propose(full, state, 1000.0).replicas == 5
    following = replace(full, target=5, starting=starting(1))
    for t in range(5, 30, 5):
        assert propose(following, state, 1000.0 + t).replicas == 5
    assert propose(following, state, 1030.0).replicas == 6  # half a lead time later it is still full


def test_trouble_that_passes_before_a_replica_could_come_adds_none() -> None:
    full = view(kv_usage_fraction=0.95, waiting=1.0, forecast=flat_forecast(8.0))
    state = in_trouble_since(900.0, full)
    assert propose(replace(full, kv_usage_fraction=0.5), state, 915.0).replicas == 4
    assert propose(full, state, 930.0).replicas == 4
    assert propose(full, state, 950.0).replicas == 4  # for 20 s now, not for 50 s
    assert propose(full, state, 955.0).replicas == 5


def test_a_look_that_nobody_could_take_does_not_end_trouble() -> None:
    full = view(kv_usage_fraction=0.95, waiting=1.0, forecast=flat_forecast(8.0))
    state = in_trouble_since(970.0, full)
    assert propose(replace(full, kv_usage_fraction=None, waiting=None), state, 995.0).replicas == 4
    assert propose(full, state, 1000.0).replicas == 5


def test_what_saturation_asked_for_stands_until_it_can_have_helped() -> None:
    full = view(kv_usage_fraction=0.95, waiting=1.0, forecast=flat_forecast(8.0))
    state = in_trouble_since(970.0, full)
    assert propose(full, state, 1000.0).replicas == 5
    calm = view(kv_usage_fraction=0.5, forecast=flat_forecast(8.0), target=5, running=5)
    assert propose(calm, state, 1060.0).replicas == 5
    assert propose(calm, state, 1121.0).replicas == 4


def test_a_queue_that_grows_is_answered_before_any_model_says_so() -> None:
    state = PredictiveState()
    quiet = view(capacity_rps=None, max_ongoing_requests=None, forecast=flat_forecast(8.0))
    assert propose(replace(quiet, waiting=2.0), state, 1000.0).replicas == 4
    assert propose(replace(quiet, waiting=20.0), state, 1005.0).replicas == 4
    proposal = propose(replace(quiet, waiting=40.0), state, 1030.0)
    assert proposal.replicas == 5
    assert proposal.terms[0].why == "20 -> 40 waiting, trouble for 25 s: 1 more than run or start"


# ---------------------------------------------------------------- fewer, and zero


def test_a_replica_is_kept_when_it_would_be_wanted_back_before_giving_it_up_paid() -> None:
    soon = rising_forecast(8.0, 15.0, 125.0)  # 65 s: what a start now serves; 125 s: break-even
    proposal = propose(view(target=6, running=6, forecast=soon))
    assert proposal.terms[0].name == "keep"
    assert proposal.replicas == 6
    assert propose(view(target=6, running=6, forecast=soon), break_even_s=0.0).replicas == 5


def test_it_lets_go_when_nothing_is_expected() -> None:
    assert propose(view(target=12, running=12, forecast=flat_forecast(8.0))).replicas == 4


def test_without_a_forecast_what_was_wanted_lately_stands() -> None:
    state = PredictiveState()
    assert propose(view(rate_rps=20.0), state, 1000.0).replicas == 11
    held = propose(view(rate_rps=5.0, target=11, running=11), state, 1200.0)
    assert (held.replicas, held.terms[0].name) == (11, "hold")
    assert propose(view(rate_rps=5.0, target=11, running=11), state, 1301.0).replicas == 3


def test_it_goes_to_zero_only_when_nothing_is_there_and_nothing_expected() -> None:
    idle: dict[str, Any] = {
        "min_replicas": 0,
        "rate_rps": 0.0,
        "ongoing": 0.0,
        "waiting": 0.0,
        "target": 1,
        "running": 1,
    }
    nothing = flat_forecast(0.0)
    assert propose(view(**idle, forecast=nothing)).replicas == 0
    for change in ({"ongoing": 1.0}, {"waiting": 1.0}, {"waiting": None}, {"ongoing": None}, {"rate_rps": 0.1}):
        assert propose(view(**(idle | change), forecast=nothing)).replicas == 1, change
    assert propose(view(**idle, forecast=flat_forecast(0.0, spread=0.1))).replicas == 1
    assert propose(view(**(idle | {"min_replicas": 1}), forecast=nothing)).replicas == 1


def test_it_wakes_before_traffic_that_is_expected() -> None:
    asleep = view(
        target=0, running=0, min_replicas=0, waiting=0.0, ongoing=0.0, rate_rps=0.0, forecast=flat_forecast(1.0)
    )
    assert propose(asleep).replicas == 1


# ---------------------------------------------------------------- unknown


@pytest.mark.parametrize("target", [0, 1, 4, 9])
def test_an_unknown_rate_is_never_less_than_the_present(target: int) -> None:
    blind = view(rate_rps=None, waiting=None, ongoing=None, kv_usage_fraction=None, target=target, running=target)
    proposal = propose(replace(blind, min_replicas=0, forecast=flat_forecast(0.1)))
    assert proposal.replicas >= target
    assert any(t.name == "unknown" for t in proposal.terms)


def test_an_unknown_capacity_is_judged_by_the_slots_in_use() -> None:
    proposal = propose(view(capacity_rps=None, rate_rps=None, ongoing=40.0 * 4, forecast=None))
    assert proposal.replicas == 4
    busy = propose(view(capacity_rps=None, ongoing=250.0, forecast=None))
    assert busy.replicas == math.ceil(1.3 * 250 / (0.7 * 64) + 0.1 * math.sqrt(1.3 * 250 / 44.8))


def test_unlimited_slots_say_nothing_so_that_nothing_is_taken_away() -> None:
    proposal = propose(view(capacity_rps=None, max_ongoing_requests=1_000_000_000, target=7, running=7))
    assert proposal.replicas == 7
    assert "capacity is unknown" in proposal.terms[0].why


def test_a_deployment_of_which_nothing_is_known_is_left_alone() -> None:
    d = view(target=None, running=None)
    assert policy().propose(fleet(d), PredictiveState(), 0.0).replicas == {}


def test_a_forecast_without_values_is_no_forecast() -> None:
    empty = Forecast("seasonal", 0.0, (10.0,), LEVELS, (), True)
    assert term(propose(view(forecast=empty)), "forecast") is None


# ---------------------------------------------------------------- the quantile follows what is attained


def test_the_level_starts_near_the_target_and_within_bounds() -> None:
    assert "(95% level)" in propose(view(forecast=flat_forecast(16.0))).terms[0].why
    loose = view(forecast=flat_forecast(16.0), slo=Slo(target_fraction=0.5))
    assert "(50% level)" in propose(loose).terms[0].why
    assert "(90% level)" in propose(view(forecast=flat_forecast(16.0)), quantile=0.9).terms[0].why


def test_misses_raise_the_level_and_a_season_without_any_lowers_it() -> None:
    missing, fine = DeploymentMemory(), DeploymentMemory()
    for t in range(0, 86400, 60):
        learn_level(missing, float(t), 10.0, 0.95, 0.99, 86400.0)
        learn_level(fine, float(t), 10.0, 1.0, 0.99, 86400.0)
    assert level(0.95, missing.shift) == 0.99
    assert 0.85 < level(0.95, fine.shift) < 0.9


def test_what_is_attained_exactly_on_target_moves_nothing() -> None:
    memory = DeploymentMemory()
    for t in range(0, 86400, 60):
        learn_level(memory, float(t), 10.0, 0.99, 0.99, 86400.0)
    assert level(0.95, memory.shift) == pytest.approx(0.95)


def test_an_hour_of_misses_weighs_as_much_as_the_days_its_budget_would_have_lasted() -> None:
    memory = DeploymentMemory()
    for t in range(0, 10 * 86400, 60):
        learn_level(memory, float(t), 10.0, 0.9 if t % 36000 < 3600 else 1.0, 0.99, 10 * 86400.0)
    assert memory.shift == pytest.approx(0.0, abs=0.05)  # one hour in ten at 10 % misses: 1 % in all


def test_quiet_hours_say_little() -> None:
    memory = DeploymentMemory()
    for t in range(0, 86400, 60):
        learn_level(memory, float(t), 100.0, 0.99, 0.99, 86400.0)
    for t in range(86400, 2 * 86400, 60):
        learn_level(memory, float(t), 0.01, 1.0, 0.99, 86400.0)
    assert memory.shift > -0.01


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e3), st.floats(0, 1)), max_size=50))
def test_feedback_is_bounded_whatever_is_measured(rows: list[tuple[float, float, float]]) -> None:
    memory = DeploymentMemory()
    for now_s, rate, attained in rows:
        learn_level(memory, now_s, rate, attained, 0.99, 86400.0)
        assert -1.5 <= memory.shift <= 1.0
        assert 0.5 <= level(0.95, memory.shift) <= 0.99


# ---------------------------------------------------------------- invariants

views = st.builds(
    view,
    rate_rps=st.one_of(st.none(), st.floats(0, 100)),
    waiting=st.one_of(st.none(), st.floats(0, 500)),
    ongoing=st.one_of(st.none(), st.floats(0, 500)),
    kv_usage_fraction=st.one_of(st.none(), st.floats(0, 1)),
    target=st.integers(0, 16),
    running=st.integers(0, 16),
    starting=st.integers(0, 4).map(starting),
    capacity_rps=st.floats(0.1, 50),
    min_replicas=st.integers(0, 2),
    forecast=st.one_of(st.none(), st.builds(flat_forecast, st.floats(0, 100), spread=st.floats(0, 5))),
    attained_fraction=st.one_of(st.none(), st.floats(0, 1)),
)


@settings(max_examples=200)
@given(views, st.floats(0, 50), st.floats(0, 200), st.floats(0, 50))
def test_more_demand_never_wants_fewer_replicas(
    d: DeploymentView, more_rps: float, more_waiting: float, more_expected: float
) -> None:
    forecast = d.forecast
    if forecast is not None:
        rows = tuple(tuple(v + more_expected for v in row) for row in forecast.values_rps)
        forecast = replace(forecast, values_rps=rows)
    busier = replace(
        d,
        rate_rps=None if d.rate_rps is None else d.rate_rps + more_rps,
        waiting=None if d.waiting is None else d.waiting + more_waiting,
        forecast=forecast,
    )
    assert propose(busier).replicas >= propose(d).replicas


@settings(max_examples=100)
@given(views)
def test_the_minimum_and_a_reason_are_always_there(d: DeploymentView) -> None:
    proposal = propose(d)
    assert proposal.replicas >= d.min_replicas
    assert proposal.terms[0].wants == proposal.replicas
    assert all(t.why for t in proposal.terms)


@settings(max_examples=50)
@given(st.lists(st.tuples(views, st.floats(1, 300)), min_size=2, max_size=8))
def test_a_saved_memory_goes_on_with_the_same_proposals(rows: list[tuple[DeploymentView, float]]) -> None:
    """Also shows that proposals are deterministic: two policies, two memories, the same words."""
    one, other, state, now_s = policy(), policy(), PredictiveState(), 0.0
    for d, elapsed_s in rows:
        now_s += elapsed_s
        saved = msgspec.json.decode(msgspec.json.encode(state), type=PredictiveState)
        assert saved == state
        expected = one.propose(fleet(d, now_s=now_s), state, now_s)
        assert other.propose(fleet(d, now_s=now_s), saved, now_s) == expected
        assert saved == state


def test_deployments_have_memories_of_their_own() -> None:
    other = DeploymentKey.parse("chat/other")
    state = PredictiveState()
    full, calm = view(kv_usage_fraction=0.95, waiting=1.0), view(key=other, kv_usage_fraction=0.1)
    for now_s in (1000.0, 1030.0):
        policy().propose(fleet(full, calm), state, now_s)
    assert state.deployments[KEY.full].reflex is not None
    assert state.deployments[other.full].reflex is None


def test_what_is_not_known_neither_wakes_nor_puts_to_sleep() -> None:
    unknown = replace(view(), rate_rps=None, waiting=None, ongoing=None, min_replicas=0)
    assert propose(replace(unknown, running=0, target=0)).replicas == 0
    assert propose(replace(unknown, running=1, target=1)).replicas == 1
