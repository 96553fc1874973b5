"""Dynamo's planners and predictors, recomputed by hand on an engine with round numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest

from policies.base import ReplicaMetrics, TokenMix, Totals
from policies.base.durations import Duration
from policies.baselines import dynamo_easy, dynamo_predictors, dynamo_v1, dynamo_v2
from policies.baselines.dynamo import (
    EngineLoad,
    best_decode_tokens_per_s,
    decode_s,
    engine_loads,
    prefill_s,
    prefill_tokens_per_s,
)
from policies.baselines.dynamo_predictors import Arima, Series, observe, one_step, predict
from policies.capacity.profile import EngineProfile, Limits, Scheduling, StepLaw
from policies.registry import create_policy
from tests.policies.build import KEY, fleet, view

# A step takes 10 ms, 0.1 ms more per sequence and 0.1 ms per prefill token; the cache holds 10,000 tokens.
PROFILE = EngineProfile(
    name="round",
    gpus=1,
    gpu="g",
    step=StepLaw("affine", 0.010, 0.0001, 0.0, 0.0001),
    host_s=0.0,
    api_s=0.0,
    limits=Limits(max_num_seqs=50, max_num_batched_tokens=1000, kv_tokens=10_000),
    scheduling=Scheduling(),
    load_s=Duration(1.0),
    init_s=Duration(1.0),
)

# ---------------------------------------------------------------- what an engine is measured by


def test_prefill_in_chunks_of_the_token_budget() -> None:
    assert prefill_s(PROFILE, 500.0) == pytest.approx(0.060)  # 10 ms + 500 * 0.1 ms
    assert prefill_s(PROFILE, 1500.0) == pytest.approx(0.170)  # two chunks of 750: 2 * (10 + 75) ms
    assert prefill_s(PROFILE, 500.0, running=20.0) == pytest.approx(0.062)
    assert prefill_s(PROFILE, 0.0) == 0.0
    assert prefill_tokens_per_s(PROFILE, 500.0) == pytest.approx(500 / 0.060)


def test_decode_at_the_largest_concurrency_within_a_time_between_tokens() -> None:
    assert decode_s(PROFILE, 20.0, 100.0) == pytest.approx(0.012)
    assert best_decode_tokens_per_s(PROFILE, 0.012, 100.0) == pytest.approx(20 / 0.012)
    assert best_decode_tokens_per_s(PROFILE, 0.050, 100.0) == pytest.approx(50 / 0.015)  # max_num_seqs
    assert best_decode_tokens_per_s(PROFILE, 0.050, 1000.0) == pytest.approx(10 / 0.011)  # ten contexts fit the cache
    assert best_decode_tokens_per_s(PROFILE, 0.010, 100.0) == 0.0  # not even one


def loaded(running: float, usage: float, waiting: float = 0.0, count: int = 2, **changes: Any) -> Any:
    metrics = tuple(
        ReplicaMetrics(f"r{i}", ongoing=running, running=running, waiting=waiting, kv_usage_fraction=usage)
        for i in range(count)
    )
    known = {
        "profile": PROFILE,
        "mix": TokenMix(100.0, 50.0),
        "replica_metrics": metrics,
        "waiting": waiting * count,
        "target": count,
        "running": count,
    }
    return view(**(known | changes))


def test_what_waits_in_front_is_spread_over_the_engines() -> None:
    loads = engine_loads(loaded(10.0, 0.5, waiting=2.0), PROFILE)
    assert loads == [EngineLoad(10.0, 5000.0, 2.0)] * 2
    in_front = engine_loads(view(waiting=10.0, replica_metrics=loaded(10.0, 0.5, 2.0).replica_metrics), PROFILE)
    assert in_front == [EngineLoad(10.0, 5000.0, 5.0)] * 2  # 10 wait, 4 of them in engines: 3 more each


# ---------------------------------------------------------------- predictors


def series_of(values: list[float]) -> Series:
    series = Series()
    for value in values:
        observe(series, value)
    return series


def test_leading_zeros_are_ignored_and_what_is_not_finite_is_zero() -> None:
    assert series_of([0.0, 0.0, 5.0, 0.0, math.nan, math.inf]).values == [5.0, 0.0, 0.0, 0.0]
    assert predict(Series(), "arima") == 0.0


@pytest.mark.parametrize("kind", ["constant", "arima", "kalman"])
def test_under_five_points_every_predictor_is_the_last_value(kind: Any) -> None:
    assert predict(series_of([3.0, 9.0, 4.0, 7.0]), kind) == 7.0


def test_the_kalman_filter_by_hand() -> None:
    # From level 0, trend 0 and P = 1000 I: P- = [[2001, 1000], [1000, 1000.1]], gains 2001/2011 and 1000/2011.
    series = series_of([10.0])
    assert series.level == pytest.approx(10 * 2001 / 2011)
    assert series.trend == pytest.approx(10 * 1000 / 2011)
    a, b, c, d = series.covariance
    assert (a, b) == (pytest.approx(2001 * 10 / 2011), pytest.approx(1000 * 10 / 2011))
    assert (c, d) == (pytest.approx(1000 * 10 / 2011), pytest.approx(1000.1 - 1000 * 1000 / 2011))


def test_kalman_carries_a_ramp_on_and_may_fall_below_zero() -> None:
    assert predict(series_of([10.0 * i for i in range(1, 41)]), "kalman") == pytest.approx(410.0, rel=0.01)
    assert predict(series_of([40.0, 30.0, 20.0, 10.0, 0.0, 0.0]), "kalman") < 0.0


def test_arima_one_step_by_hand() -> None:
    ar1 = Arima((1, 0, 0), False, 10.0, [0.5], [], 5)
    assert one_step(ar1, [8.0, 14.0]) == pytest.approx(12.0)  # 10 + 0.5 * 4
    walk = Arima((0, 1, 0), False, 0.0, [], [], 5)
    assert one_step(walk, [8.0, 14.0]) == 14.0
    # differences 6, -2; errors 6, -2 - 0.5 * 6 = -5; next difference 0.5 * -5
    ma1 = Arima((0, 1, 1), False, 0.0, [], [0.5], 5)
    assert one_step(ma1, [8.0, 14.0, 12.0]) == pytest.approx(9.5)
    on_log = Arima((0, 0, 0), True, math.log(8.0), [], [], 5)
    assert one_step(on_log, [1.0, 2.0]) == pytest.approx(7.0)


def test_arima_keeps_a_constant_never_falls_below_zero_and_finds_an_alternation() -> None:
    assert predict(series_of([6.0] * 8), "arima") == 6.0
    assert predict(series_of([50.0, 40.0, 30.0, 20.0, 10.0, 1.0, 0.0]), "arima") >= 0.0
    # The order is chosen at the fifth point, the parameters are estimated again at 10, 20 and 40.
    series = Series()
    for i in range(40):
        observe(series, 100.0 + 30.0 * (-1) ** i + 2.0 * math.sin(i))
        if i >= 4:
            value = predict(series, "arima")
    assert series.arima is not None
    assert series.arima.fitted_at == 40
    assert value == pytest.approx(130.0, abs=12.0)


def test_arima_that_fails_is_the_last_value(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("no convergence")

    monkeypatch.setattr(dynamo_predictors, "_choose", fails)
    assert predict(series_of([1.0, 2.0, 3.0, 4.0, 9.0]), "arima") == 9.0


# ---------------------------------------------------------------- v1


def test_v1_measures_an_interval_by_differences() -> None:
    before = Totals(100, 90, 9_000, 4_500, 0, 20.0, 90, 45.0, 4_410)
    after = Totals(460, 450, 45_000, 22_500, 0, 56.0, 450, 261.0, 22_050)
    seen = dynamo_v1.interval_between(before, after, 2)
    assert seen is not None
    assert (seen.requests, seen.prompt_tokens, seen.output_tokens) == (360, 100.0, 50.0)
    assert seen.ttft_s == pytest.approx(0.1)
    assert seen.itl_s == pytest.approx(216 / 17_640)
    assert seen.duration_s == pytest.approx(0.1 + 49 * 216 / 17_640)
    assert dynamo_v1.interval_between(after, after, 2) is None


def test_v1_corrections_and_needs_by_hand() -> None:
    seen = dynamo_v1.Interval(360, 100.0, 50.0, 0.1, 0.014, 2)
    # prefill of 100 tokens takes 20 ms: 0.1/0.02. Concurrency 180/180 * (0.1 + 49 * 0.014) = 0.786: 10.0786 ms
    prefill, decode = dynamo_v1.corrections(PROFILE, seen, 180.0)
    assert prefill == pytest.approx(5.0)
    assert decode == pytest.approx(0.014 / 0.0100786)
    # 1800 requests of 100 + 50 tokens in 180 s: prefill 1000 tokens/s * min(1, 5) over 5000 tokens/s
    # decode 500 tokens/s; ITL 0.0175/1.25 = 14 ms holds 40 sequences: 2857 tokens/s
    needs = dynamo_v1.needed(PROFILE, 1800.0, 100.0, 50.0, 180.0, 0.0175, (5.0, 1.25))
    assert needs == (pytest.approx(0.2), pytest.approx(500 / (40 / 0.014)))
    assert dynamo_v1.needed(PROFILE, 1800.0, 100.0, 50.0, 180.0, 0.0175, (0.5, 1.25))[0] == pytest.approx(0.1)
    assert dynamo_v1.needed(PROFILE, 1800.0, 100.0, 50.0, 180.0, 0.0175, (1.0, 2.0))[1] == math.inf
    assert dynamo_v1.needed(PROFILE, 0.0, 100.0, 50.0, 180.0, 0.05, (1.0, 1.0)) == (0.0, 0.0)


def totals(requests: float) -> Totals:
    """So many requests of 100 + 50 tokens, each with 0.02 s to the first token and 12 ms between."""
    return Totals(requests, requests, 100 * requests, 50 * requests, 0, 0.02 * requests, requests,
                  0.012 * 49 * requests, 49 * requests)  # fmt: skip


def test_v1_decides_every_180_s_and_a_silent_interval_changes_nothing() -> None:
    policy = create_policy("dynamo_v1", {"itl_s": 0.0145})
    state = policy.new_state()
    assert policy.period_s == 180.0
    assert policy.propose(fleet(loaded(1.0, 0.1, totals=totals(0))), state, 0.0).replicas[KEY].replicas == 2
    # 18,000 requests in 180 s: prefill 10,000/5,000 = 2. conc = 9000/180 * (0.02 + 49 * 0.012) = 30.4: 13.04 ms,
    # c_d = 0.012/0.01304 = 0.92; 14.5/0.92 = 15.76 ms holds the 50 sequences: 5,000/(50/0.015) = 1.5. In all 3.5: 4.
    proposal = policy.propose(fleet(loaded(1.0, 0.1, totals=totals(18_000))), state, 180.0).replicas[KEY]
    assert proposal.replicas == 4
    assert "18000 requests expected in 180 s: 2.00 engines of prefill, 1.50 of decode" in proposal.terms[0].why
    quiet = policy.propose(fleet(loaded(1.0, 0.1, totals=totals(18_000))), state, 360.0).replicas[KEY]
    assert (quiet.replicas, quiet.terms[0].name) == (2, "unknown")


# ---------------------------------------------------------------- v2


PROMISE = dynamo_v2.Promise(ttft_s=0.1, itl_s=0.015)


def test_v2_estimates_by_hand() -> None:
    # behind 3 waiting of 100: 400 tokens beside 20 sequences: 10 + 2 + 40 ms; alone 10 + 2 + 10 ms; ITL of 23
    behind, own, itl, kv = dynamo_v2.estimates(PROFILE, EngineLoad(20.0, 4000.0, 3.0), 100.0)
    assert (behind, own, itl, kv) == (
        pytest.approx(0.052), pytest.approx(0.022), pytest.approx(0.0123), 4000.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("loads", "replicas", "expected"),
    [
        ([EngineLoad(20.0, 4000.0, 9.0)] * 2, 2, 3),  # 1000 tokens: 10 + 2 + 100 = 112 ms > 100 on both
        ([EngineLoad(20.0, 4000.0, 9.0), EngineLoad(20.0, 4000.0, 0.0)], 2, 2),  # one of two is not all
        ([EngineLoad(49.0, 4000.0, 2.0)] * 2, 2, 3),  # ITL of 51 sequences 15.1 ms
        # down: 10 sequences each become 20 (12 ms = 0.8 * 15 ms is not below): refused
        ([EngineLoad(10.0, 1000.0, 0.0)] * 2, 2, 2),
        ([EngineLoad(9.0, 1000.0, 0.0)] * 2, 2, 1),  # 18: 11.8 ms
        ([EngineLoad(9.0, 5100.0, 0.0)] * 2, 2, 2),  # 10,200 tokens would not fit the cache
        ([EngineLoad(9.0, 1000.0, 4.0)] * 2, 2, 2),  # queue of 8: 80 ms > 0.8 * (100 - 21.8)
        ([EngineLoad(9.0, 1000.0, 0.0)], 1, 1),  # never below one
    ],
)
def test_v2_one_more_or_fewer(loads: list[EngineLoad], replicas: int, expected: int) -> None:
    assert dynamo_v2.step(PROFILE, PROMISE, loads, 100.0, replicas) == expected


def test_v2_floor_by_hand() -> None:
    # a step takes 10 + n * (50 * 0.1 + 100 * 0.1) = 10 + 15 n ms; ITL of 25 ms: n = 1, 1 / 0.025 = 40 req/s,
    # but no more than 1000/150 = 6.67 a step and max_num_seqs 50/50 = 1 a step
    assert dynamo_v2.floor(PROFILE, dynamo_v2.Promise(10.0, 0.025), 100.0, TokenMix(100.0, 50.0)) == 3
    assert dynamo_v2.floor(PROFILE, dynamo_v2.Promise(10.0, 0.025), 80.0, TokenMix(100.0, 50.0)) == 2
    # half of the prompt found in the cache: 10 + n * 10 ms at n = 1: 50 req/s
    assert dynamo_v2.floor(PROFILE, dynamo_v2.Promise(10.0, 0.025), 100.0, TokenMix(100.0, 50.0, 50.0)) == 2
    # out of reach: at its best rate of 40
    assert dynamo_v2.floor(PROFILE, dynamo_v2.Promise(10.0, 0.001), 100.0, TokenMix(100.0, 50.0)) == 3


def test_v2_the_floor_holds_against_the_load_loop_and_moves_every_180_s() -> None:
    policy = create_policy("dynamo_v2", {"load_predictor": "constant", "itl_s": 0.025, "ttft_s": 10})
    state = policy.new_state()
    counts = []
    for i in range(37):  # 80 req/s: two engines by the floor, although one would hold the load that is shown
        d = loaded(1.0, 0.01, totals=totals(80.0 * 5 * i))
        counts.append(policy.propose(fleet(d), state, 5.0 * i).replicas[KEY].replicas)
    assert counts[:5] == [2, 2, 2, 2, 1], "four looks only teach; the fifth takes one away, no floor being known yet"
    assert counts[36] == 2
    assert state.deployments[KEY.full].floor == 2


def test_v2_only_watches_while_replicas_start() -> None:
    policy = create_policy("dynamo_v2", {"min_observations": 1, "ttft_s": 0.1, "itl_s": 0.015})
    state = policy.new_state()
    crowded = loaded(20.0, 0.4, waiting=9.0)
    assert policy.propose(fleet(crowded), state, 0.0).replicas[KEY].replicas == 3
    assert policy.propose(fleet(loaded(20.0, 0.4, waiting=9.0, target=3)), state, 5.0).replicas[KEY].replicas == 3


# ---------------------------------------------------------------- easy


@pytest.mark.parametrize(
    ("target", "utilizations", "replicas", "expected"),
    [
        ("throughput", [1.01, 0.2], 2, 3),  # any above
        ("throughput", [1.0, 1.0], 2, 2),
        ("throughput", [0.59, 0.59], 2, 1),  # all below
        ("throughput", [0.59, 0.6], 2, 2),
        ("throughput", [0.0], 1, 1),
        ("latency", [0.41, 0.0], 2, 3),
        ("latency", [0.09, 0.09], 2, 1),
        ("latency", [0.1, 0.05], 2, 2),
    ],
)
def test_easy_thresholds(target: Any, utilizations: list[float], replicas: int, expected: int) -> None:
    assert dynamo_easy.step(target, utilizations, replicas) == expected


def test_easy_utilization_counts_prompts_that_wait() -> None:
    assert dynamo_easy.utilization(EngineLoad(10.0, 6000.0, 50.0), 100.0, 10_000.0) == pytest.approx(1.1)
    policy = create_policy("dynamo_easy", {})
    crowded = loaded(10.0, 0.6, waiting=50.0)
    assert policy.propose(fleet(crowded), policy.new_state(), 0.0).replicas[KEY].replicas == 3
    starting = loaded(10.0, 0.6, waiting=50.0, target=3)
    assert policy.propose(fleet(starting), policy.new_state(), 0.0).replicas[KEY].replicas == 3
    calm = loaded(10.0, 0.5)
    assert policy.propose(fleet(calm), policy.new_state(), 0.0).replicas[KEY].replicas == 1
