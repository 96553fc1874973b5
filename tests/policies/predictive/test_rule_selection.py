"""`predictive` where it follows the cheapest rule of the shadow family: history, zero, limits, words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from policies.base import (
    BacktestTrace,
    DeploymentKey,
    DeploymentView,
    Forecast,
    ForecastSpec,
    LeadPath,
    LeadTimes,
    PoolView,
    ReplicaProposal,
    StartView,
)
from policies.base.durations import Duration
from policies.forecasting import create
from policies.forecasting.backtest_trace import backtest_forecasters
from policies.predictive import PredictiveOptions, PredictivePolicy
from policies.predictive.context import FleetContext, Start, quantum, start_s, stop_s
from policies.predictive.rules.family import LEVELS
from policies.predictive.state import DeploymentMemory, PredictiveState, RuleState, remember_asked
from tests.policies.build import KEY, fleet, view

BIN_S = 10.0
POOL = PoolView("h100", 8, nodes_ready=1, nodes_starting=0, max_nodes=4)


def policy(**options: Any) -> PredictivePolicy:
    return PredictivePolicy(PredictiveOptions(**{"bin_s": BIN_S, **options}))


def said(rps: float, spread: float = 0.1) -> Forecast:
    """The same quantiles at every horizon, `spread` of the rate up and down."""
    row = tuple(rps * (1.0 + spread * (2.0 * level - 1.0)) for level in LEVELS)
    return Forecast("mixture", 0.0, (10.0, 2560.0), LEVELS, (row, row), True, "a test")


def run(
    p: PredictivePolicy, state: PredictiveState, rates: list[float], d: DeploymentView, begin_s: float = 0.0
) -> list[ReplicaProposal]:
    """One bin a look; the fleet is what was asked for at the look before."""
    found = []
    for i, rps in enumerate(rates):
        now_s = begin_s + (i + 1) * BIN_S
        seen = replace(d, rate_rps=rps, bins=((now_s, rps),), forecast=said(rps))
        proposal = p.propose(fleet(seen, now_s=now_s), state, now_s).replicas[KEY]
        found.append(proposal)
        d = replace(d, target=proposal.replicas, running=proposal.replicas)
    return found


def diary(hours: float, rps: float = 8.0) -> BacktestTrace:
    spec = ForecastSpec("last", BIN_S, levels=LEVELS)
    ends_s = BIN_S * np.arange(-round(hours * 360) + 1, 1)
    [found] = backtest_forecasters([(create(spec), (ends_s, np.full(len(ends_s), rps)))], spec)
    assert found is not None
    return found


def names(proposal: ReplicaProposal) -> list[str]:
    return [t.name for t in proposal.terms]


def test_the_first_hour_is_sized_by_the_forecast_and_then_a_rule_is_followed() -> None:
    found = run(policy(), PredictiveState(), [8.0] * 400, view())
    assert "rule" not in names(found[100])
    assert found[-1].terms[0].name == "rule"
    assert found[-1].replicas == 4
    assert found[-1].terms[0].why.startswith("rule 'hold 0.95' until the first choice among the rules")


def test_history_is_rehearsed_when_capacity_has_settled_and_followed_at_once() -> None:
    p, state = policy(), PredictiveState()
    p.warm_start(state, KEY, diary(5.0))
    found = run(p, state, [8.0] * 16, view())
    assert ["rule" in names(one) for one in found] == [False] * 12 + [True] * 4
    assert state.deployments[KEY.full].shadow.diary is None


def test_until_history_is_rehearsed_the_present_stays_whatever_the_first_requests_look_like() -> None:
    """The first to finish are few and tell nothing: a replica seems to carry a fifth of what it does."""
    p, state = policy(), PredictiveState()
    p.warm_start(state, KEY, diary(5.0))
    found = run(p, state, [8.0] * 12, view(capacity_rps=0.5, target=4, running=4))
    assert {one.replicas for one in found} == {4}
    assert found[0].terms[0].name == "rehearsing"
    waits = view(capacity_rps=0.5, target=4, running=4, waiting=600.0, rate_rps=8.0)
    p, state = policy(), PredictiveState()
    p.warm_start(state, KEY, diary(5.0))
    assert p.propose(fleet(waits, now_s=10.0), state, 10.0).replicas[KEY].terms[0].name == "backlog"


def test_rules_look_ahead_through_the_first_bin_that_a_replica_asked_for_now_serves() -> None:
    assert Start(lead_s=55.0, mean_s=40.0, quantum=1).reach_s(30.0) == 90.0
    assert Start(lead_s=420.0, mean_s=290.0, quantum=1).reach_s(30.0) == 420.0


def test_where_a_season_takes_minutes_the_forecast_decides_until_history_is_rehearsed() -> None:
    p, state = policy(season_s=150.0), PredictiveState()
    p.warm_start(state, KEY, diary(1.0))
    found = run(p, state, [8.0] * 3, view(target=1, running=1))
    assert "rehearsing" not in names(found[0])
    assert found[0].replicas > 1


def test_the_forecast_decides_where_the_turn_to_rehearse_is_long_in_coming(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policies.predictive.warm_start._REHEARSED_AT_ONCE", 1)
    p, state = policy(), PredictiveState()
    p.warm_start(state, KEY, diary(1.0))
    found = run(p, state, [8.0] * 30, view(target=1, running=1))
    assert ["rehearsing" in names(one) for one in found] == [True] * 24 + [False] * 6
    assert found[-1].replicas > 1


def test_those_who_rehearse_at_a_time_share_what_a_look_has_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policies.predictive.warm_start._REHEARSED_AT_ONCE", 100)
    p, state = policy(), PredictiveState()
    there = [replace(view(bins=(), forecast=said(8.0)), key=key) for key in (KEY, *keys("other", 3))]
    for key in (*(d.key for d in there), *keys("gone", 5)):
        p.warm_start(state, key, diary(1.0))
    for now_s in (10.0, 130.0):
        p.propose(fleet(*there, now_s=now_s), state, now_s)
    assert {state.deployments[d.key.full].shadow.rehearsed for d in there} == {100 // 4}


def keys(name: str, count: int) -> list[DeploymentKey]:
    return [DeploymentKey.parse(f"{name}{i}/llm") for i in range(count)]


def test_a_saved_memory_goes_on_in_the_middle_of_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policies.predictive.warm_start._REHEARSED_AT_ONCE", 1000)
    p, state = policy(), PredictiveState()
    p.warm_start(state, KEY, diary(5.0))
    run(p, state, [8.0] * 13, view())
    assert 0 < state.deployments[KEY.full].shadow.rehearsed < 1800
    saved = msgspec.convert(msgspec.json.decode(msgspec.json.encode(state)), PredictiveState)
    assert saved == state
    after = [run(p, one, [8.0, 9.0, 8.0, 9.0], view(), begin_s=130.0) for one in (state, saved)]
    assert after[0] == after[1]


def test_what_was_not_asked_to_follow_keeps_no_history() -> None:
    state = PredictiveState()
    PredictivePolicy(PredictiveOptions(follow=False)).warm_start(state, KEY, diary(1.0))
    assert state.deployments == {}


def test_where_nobody_rehearses_the_same_is_learned_and_no_diary_written() -> None:
    spec = ForecastSpec("mixture", BIN_S, levels=LEVELS)
    ends_s = BIN_S * np.arange(-1079, 1)
    rates = 8.0 + np.sin(ends_s / 500.0)
    with_diary, without = create(spec), create(spec)
    assert backtest_forecasters([(with_diary, (ends_s, rates))], spec) != [None]
    assert backtest_forecasters([(without, (ends_s, rates))], spec, write=False) == [None]
    assert without.state() == with_diary.state()
    assert policy().wants_backtest
    assert not PredictivePolicy(PredictiveOptions(follow=False)).wants_backtest


def test_backlog_and_saturation_are_answered_whatever_the_rule_says() -> None:
    p, state = policy(), PredictiveState()
    run(p, state, [8.0] * 400, view())
    d = view(bins=(), forecast=said(8.0), target=4, running=4)
    waits = p.propose(fleet(replace(d, waiting=600.0), now_s=4010.0), state, 4010.0).replicas[KEY]
    assert waits.terms[0].name == "backlog"
    p.propose(fleet(replace(d, waiting=1.0, kv_usage_fraction=0.97), now_s=4020.0), state, 4020.0)
    full = p.propose(fleet(replace(d, waiting=1.0, kv_usage_fraction=0.97), now_s=4100.0), state, 4100.0).replicas[KEY]
    assert (full.terms[0].name, full.replicas) == ("saturation", 5)


def test_an_unknown_rate_is_never_less_than_the_present() -> None:
    p, state = policy(), PredictiveState()
    run(p, state, [8.0] * 400, view())
    blind = view(rate_rps=None, bins=(), forecast=said(1.0), target=7, running=7)
    assert p.propose(fleet(blind, now_s=4010.0), state, 4010.0).replicas[KEY].replicas == 7


def test_it_sleeps_when_nothing_comes_and_wakes_before_what_is_expected() -> None:
    p, state = policy(), PredictiveState()
    idle = view(min_replicas=0, rate_rps=0.0, ongoing=0.0, target=1, running=1)
    assert run(p, state, [0.0] * 400, idle)[-1].replicas == 0
    asleep = replace(idle, target=0, running=0, bins=(), forecast=said(2.0))
    woken = p.propose(fleet(asleep, now_s=4010.0), state, 4010.0).replicas[KEY]
    assert (woken.replicas, woken.terms[0].name) == (1, "awake")


def test_alone_on_its_pool_it_wants_whole_nodes_and_beside_others_it_does_not() -> None:
    d = view(gpus_per_replica=2, node_pools=("h100",), lead_times=LeadTimes(*(Duration(60.0),) * 3))
    other = view(key=KEY._replace(app="other"), node_pools=("h100",))
    for companions, expected in (((), 8), ((other,), 5)):
        p, state, wanted = policy(), PredictiveState(), 0
        for i in range(400):
            now_s = (i + 1) * BIN_S
            seen = replace(d, bins=((now_s, 10.4),), rate_rps=10.4, forecast=said(10.4), capacity_rps=2.5)
            found = p.propose(fleet(seen, *companions, pools=(POOL,), now_s=now_s), state, now_s)
            wanted = found.replicas[KEY].replicas
            d = replace(d, target=wanted, running=wanted)
        assert wanted == expected


@pytest.mark.parametrize(
    ("gang_size", "gpus", "alone", "wanted"),
    [
        (1, 2, True, 4),
        (3, 2, True, 3),
        (2, 2, True, 4),
        (8, 2, True, 8),
        (3, 1, True, 6),
        (4, 8, True, 4),
        (4, 2, False, 4),
    ],
)
def test_rules_are_replayed_in_whole_gangs_that_fill_a_node_where_they_can(
    gang_size: int, gpus: int, alone: bool, wanted: int
) -> None:
    d = view(gpus_per_replica=gpus, node_pools=("h100",), gang_size=gang_size)
    context = FleetContext({"h100": POOL}, {"h100": 1 if alone else 2})
    assert quantum(d, context) == wanted


def test_misses_that_a_limit_caused_do_not_count_against_the_rule() -> None:
    """Somebody let it have fewer than it wanted: what users missed says nothing of how it sizes."""
    accounts = []
    for target in (4, 1):
        p, state = policy(), PredictiveState()
        run(p, state, [8.0] * 400, view())
        for i in range(50):
            now_s = 4000.0 + (i + 1) * BIN_S
            d = view(bins=((now_s, 8.0),), forecast=said(8.0), target=target, running=target, judged_requests=80.0)
            p.propose(fleet(replace(d, judged_missed=40.0), now_s=now_s), state, now_s)
        accounts.append(state.deployments[KEY.full].shadow.sizing.account.missed)
    assert accounts[0] > 0
    assert accounts[1] == pytest.approx(0.0)


def test_a_burst_is_felt_for_as_long_as_its_requests_stay() -> None:
    """At capacity a request stays 100 s (50 in flight at 0.5 req/s): one bin of ten times is a fourteenth of it."""
    state, p = PredictiveState(), policy()
    d = view(capacity_rps=0.5, capacity_batch=50.0)
    run(p, state, [1.0] * 20 + [10.0], d)
    effective = state.deployments[KEY.full].shadow.smooth
    assert effective == pytest.approx(2.0 + 18.0 * (1.0 - np.exp(-10.0 / 130.0)), rel=1e-3)


def test_what_a_replica_costs_after_it_was_given_up_is_learned() -> None:
    book = RuleState()
    assert stop_s(book) == 600.0
    p, state = policy(), PredictiveState()
    for i in range(400):
        up = i % 40 < 20
        pool = replace(POOL, gpus_free=0 if up else 4)
        d = view(running=4 if up else 3, target=4, starting=(), node_pools=("h100",), gpus_per_replica=4)
        p.propose(fleet(d, pools=(pool,), now_s=30.0 * i), state, 30.0 * i)
    assert stop_s(state.deployments[KEY.full].shadow) == pytest.approx(600.0, rel=0.05)
    for i in range(400, 1200):
        d = view(running=4 if i % 40 < 20 else 3, target=4, starting=(), node_pools=("h100",), gpus_per_replica=4)
        p.propose(fleet(d, pools=(replace(POOL, gpus_free=0),), now_s=30.0 * i), state, 30.0 * i)
    assert stop_s(state.deployments[KEY.full].shadow) < 400.0


def test_a_start_takes_as_long_as_starts_did_by_the_ways_that_they_went() -> None:
    """A new node takes 300 s, one that still stands there 100 s; two of three starts found one."""
    lead_times = LeadTimes(Duration(40.0, 0.0), Duration(100.0, 0.0), Duration(300.0, 0.0))
    p, state = policy(), PredictiveState()
    assert start_s(RuleState(), 300.0) == 300.0
    for i in range(3000):  # of ten bins, six see a start over a new node, four one over a standing one: 2 : 4 starts
        path: LeadPath = "new_node" if i % 10 < 6 else "warm_node"
        starting = (StartView(30.0 * i, path, "node", 30.0 * i + 100.0),)
        d = view(
            running=4, target=5, starting=starting, node_pools=("h100",), gpus_per_replica=4, lead_times=lead_times
        )
        p.propose(fleet(d, pools=(POOL,), now_s=30.0 * i), state, 30.0 * i)
    assert start_s(state.deployments[KEY.full].shadow, 300.0) == pytest.approx(
        10 * 30.0 / (180 / 300 + 120 / 100), rel=0.01
    )


def test_what_users_get_of_a_level_that_somebody_else_holds_is_not_on_the_account() -> None:
    """A dry run beside a fleet of sixty: nobody misses anything there, and that says nothing of ours."""
    p, state = policy(), PredictiveState()
    d = view(max_replicas=80, judged_requests=20.0)
    account = state.deployments.setdefault(KEY.full, DeploymentMemory()).shadow.sizing.account
    shown = 60
    for known in (False, True):
        before = account.seen
        for i in range(800):
            now_s = (i + 1 + 800 * known) * BIN_S
            seen = replace(d, target=shown, running=shown, rate_rps=2.0, bins=((now_s, 2.0),), forecast=said(2.0))
            proposal = p.propose(fleet(seen, now_s=now_s), state, now_s).replicas[KEY]
        assert (account.seen > before) is known
        assert proposal.replicas < 60
        shown = proposal.replicas


def test_the_most_that_was_asked_for_stands_for_half_an_hour() -> None:
    book = RuleState()
    for now_s, replicas, asked in ((0.0, 4, 4), (60.0, 9, 9), (1800.0, 3, 9), (1900.0, 3, 3), (1000.0, 2, 2)):
        remember_asked(book, now_s, replicas)
        assert book.asked == asked


def test_before_the_first_choice_nobody_says_that_the_first_rule_is_the_cheapest() -> None:
    p, state = policy(), PredictiveState()
    whys = [q.terms[0].why for q in run(p, state, [2.0] * 800, view(max_replicas=80, judged_requests=20.0))]
    rules = [why for why in whys if why.startswith("rule")]
    assert rules[0].startswith("rule 'hold 0.95' until the first choice among the rules; ")
    assert "is the cheapest at" in rules[-1]
    assert not any("at 0.0 replica-seconds" in why for why in rules)
