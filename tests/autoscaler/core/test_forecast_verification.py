"""The forecaster's record: windows as long as the lead time, under each quantile or not."""

from __future__ import annotations

import numpy as np
import pytest

from autoscaler.core import forecast_verification
from autoscaler.core.build import new_controller
from autoscaler.core.state import CoverageMemory
from policies.base import Forecast, ForecastSpec
from tests.autoscaler.build import KEY, Says, config, inventory, metrics, signals

LEVELS = (0.5, 0.9, 0.95, 0.99)
BIN_S = 10.0


def promised(*bounds: float) -> Forecast:
    return Forecast("test", 0.0, (10.0, 1000.0), LEVELS, (bounds, bounds), True)


def test_a_window_is_judged_when_its_last_bin_closes() -> None:
    memory = CoverageMemory()
    forecast_verification.record(memory, promised(10.0, 20.0, 30.0, 40.0), 0.0, BIN_S, 40.0)
    for end_s, rate_rps in ((10.0, 5.0), (20.0, 25.0), (30.0, 5.0)):
        forecast_verification.evaluate(memory, [(end_s, rate_rps)], BIN_S)
        assert forecast_verification.shares(memory) == ()
    forecast_verification.evaluate(memory, [(40.0, 5.0)], BIN_S)
    assert forecast_verification.shares(memory) == ((0.5, 0.0), (0.9, 0.0), (0.95, 1.0), (0.99, 1.0))


def test_bins_before_and_after_the_window_do_not_count() -> None:
    memory = CoverageMemory()
    forecast_verification.record(memory, promised(10.0, 20.0, 30.0, 40.0), 100.0, BIN_S, 20.0)
    forecast_verification.evaluate(memory, [(110.0, 1.0), (120.0, 1.0), (130.0, 99.0)], BIN_S)
    assert forecast_verification.shares(memory) == ((0.5, 1.0), (0.9, 1.0), (0.95, 1.0), (0.99, 1.0))


def test_a_window_that_was_hardly_seen_is_not_judged() -> None:
    memory = CoverageMemory()
    forecast_verification.record(memory, promised(10.0, 20.0, 30.0, 40.0), 0.0, BIN_S, 100.0)
    forecast_verification.evaluate(memory, [(BIN_S * i, None if i % 2 else 1.0) for i in range(1, 12)], BIN_S)
    assert forecast_verification.shares(memory) == ()
    assert memory.promises == []


def test_so_many_windows_are_open_at_once_and_no_more() -> None:
    memory = CoverageMemory()
    for i in range(1, 500):
        forecast_verification.evaluate(memory, [(BIN_S * i, 1.0)], BIN_S)
        forecast_verification.record(memory, promised(1.0, 2.0, 3.0, 4.0), BIN_S * i, BIN_S, 300.0)
        forecast_verification.record(memory, promised(1.0, 2.0, 3.0, 4.0), BIN_S * i, BIN_S, 300.0)
    assert len(memory.promises) <= 9
    assert memory.windows > 50


def test_shares_of_a_perfect_forecast_are_its_levels() -> None:
    rng = np.random.default_rng(3)
    highest = np.max(rng.uniform(size=(20_000, 4)), axis=1)
    bounds = tuple(float(np.quantile(highest, level)) for level in LEVELS)
    memory = CoverageMemory()
    for i, rate in enumerate(rng.uniform(size=8000), start=1):
        forecast_verification.evaluate(memory, [(BIN_S * i, float(rate))], BIN_S)
        forecast_verification.record(memory, promised(*bounds), BIN_S * i, BIN_S, 40.0)
    for level, share in forecast_verification.shares(memory):
        assert share == pytest.approx(level, abs=0.09)


def test_the_plan_carries_the_record_of_every_level() -> None:
    controller = new_controller(config(), policy=Says(1, forecast=ForecastSpec("last", bin_s=10.0)))
    rng = np.random.default_rng(1)
    arrivals = 0.0
    for tick in range(400):
        now_s = 5.0 * tick
        arrivals += rng.poisson(50.0)
        plan = controller.step(signals(inventory(now_s), metrics(now_s, arrivals=arrivals)), now_s)
    shares = dict(plan.coverages[KEY])
    assert tuple(shares) == LEVELS
    assert shares[0.5] < shares[0.99]
    assert 0.7 < shares[0.95] <= 1.0


def test_a_hint_is_no_promise_of_the_forecaster() -> None:
    from autoscaler.core.types import Hint

    plain, hinted = (
        new_controller(config(), policy=Says(1, forecast=ForecastSpec("last", bin_s=10.0))) for _ in range(2)
    )
    for tick in range(200):
        now_s = 5.0 * tick
        given = inventory(now_s), metrics(now_s, arrivals=50.0 * tick + (tick % 3))
        plain.step(signals(*given), now_s)
        hinted.step(signals(*given, hints=(Hint("x", KEY, 0.0, 1e6, 1000.0),)), now_s)
    memories = [c.state.memory(KEY.full).coverage for c in (plain, hinted)]
    assert memories[0] == memories[1]
