"""Forecasters: honest about what they know, right in coverage, deterministic, restorable."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.base import ForecastSpec, PolicyError
from policies.forecasting import Forecaster, ForecasterState, create, forecaster_names
from policies.forecasting.check import CoverageCheck
from policies.forecasting.conformal import conformal, pinball, trailing_mean, window_max
from tests.policies.calls import calls_of

LEVELS = (0.5, 0.75, 0.9, 0.95, 0.99)
RATES = Path(__file__).parents[4] / "shared" / "traces" / "rates"
SHORT = ForecastSpec("seasonal", 10.0, 3600.0)


def daily(bins: int, season: int, seed: int, noise: float = 0.1) -> np.ndarray:
    """A day with one hump and multiplicative noise."""
    phase = np.arange(bins) % season / season
    shape = 2.0 + 10.0 * np.exp(-(((phase - 0.5) / 0.12) ** 2))
    return shape * np.exp(np.random.default_rng(seed).normal(0.0, noise, bins))


def feed(forecaster: Forecaster, values: np.ndarray, bin_s: float = 10.0, start: int = 0) -> None:
    for i, value in enumerate(values):
        forecaster.observe((start + i + 1) * bin_s, None if np.isnan(value) else float(value))


# ---------------------------------------------------------------- building blocks


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40), st.integers(1, 40))
def test_a_window_maximum_is_the_largest_of_each_window(values: list[float], width: int) -> None:
    width = min(width, len(values))
    expected = [max(values[i : i + width]) for i in range(len(values) - width + 1)]
    assert window_max(np.array(values), width).tolist() == expected


def test_means_and_maxima_leave_out_what_is_missing() -> None:
    values = np.array([1.0, np.nan, 5.0])
    assert trailing_mean(values, 2).tolist() == [1.0, 1.0, 5.0]
    assert window_max(values, 2).tolist() == [1.0, 5.0]


def test_a_conformal_quantile_is_the_ranked_error_of_n_plus_1() -> None:
    errors = np.arange(1.0, 20.0)  # 19 errors: level 0.95 is rank 19 of 20
    assert conformal(errors, (0.5, 0.95, 0.999)).tolist() == [10.0, 19.0, 19.0]


def test_pinball_loss_weighs_misses_above_by_the_level() -> None:
    assert pinball(np.array([3.0]), np.array([1.0]), 0.9) == pytest.approx(1.8)
    assert pinball(np.array([1.0]), np.array([3.0]), 0.9) == pytest.approx(0.2)


def test_a_forecaster_that_breaks_its_promises_is_found_out_and_a_good_one_is_not() -> None:
    good, bad = CoverageCheck(), CoverageCheck()
    for i in range(40):
        for check, breaks in ((good, i % 10 == 0), (bad, i % 2 == 0)):
            check.expect(5.0, 2, 0.9)
            check.observe(1.0)
            check.observe(6.0 if breaks else 2.0)
    assert not good.off
    assert bad.off
    assert "of recent windows stayed under" in bad.words()


# ---------------------------------------------------------------- what it says of itself


def test_unknown_names_and_impossible_widths_are_refused_with_what_is_allowed() -> None:
    with pytest.raises(
        PolicyError, match=r"'seasnal': unknown; did you mean 'seasonal'\? \(allowed: mixture, seasonal, "
    ):
        create(ForecastSpec("seasnal"))
    with pytest.raises(PolicyError, match="bin_s 20, season_s 10"):
        create(ForecastSpec("seasonal", 20.0, 10.0))


@pytest.mark.parametrize("name", forecaster_names())
def test_nothing_observed_is_nothing_to_forecast(name: str) -> None:
    forecaster = create(ForecastSpec(name, 10.0, 3600.0))
    assert forecaster.last_time_s is None
    assert forecaster.quantiles((60.0,), LEVELS) == ()
    assert not forecaster.calibrated
    forecaster.observe(10.0, None)
    assert forecaster.last_time_s is None
    assert forecaster.quantiles((60.0,), LEVELS) == ()


@pytest.mark.parametrize("name", forecaster_names())
def test_a_single_bin_gives_the_last_value_with_a_wide_spread_and_no_calibration(name: str) -> None:
    forecaster = create(ForecastSpec(name, 10.0, 86400.0))
    forecaster.observe(10.0, 8.0)
    (row,) = forecaster.quantiles((600.0,), LEVELS)
    assert row[0] == pytest.approx(8.0)
    assert row[-1] > 1.3 * 8.0
    assert not forecaster.calibrated
    assert "history" in forecaster.why


def test_before_a_season_is_over_it_says_that_only_recent_values_speak() -> None:
    forecaster = create(SHORT)
    forecaster.quantiles((60.0,), LEVELS)
    feed(forecaster, np.random.default_rng(1).normal(10.0, 1.0, 200))
    assert forecaster.calibrated
    assert "less than a season" in forecaster.why


def test_a_rise_that_it_did_not_foresee_ends_the_calibration() -> None:
    forecaster = create(SHORT)
    forecaster.quantiles((60.0,), LEVELS)
    feed(forecaster, np.concatenate((np.full(150, 2.0), 2.0 * 1.02 ** np.arange(100))))
    assert not forecaster.calibrated
    assert "of recent windows stayed under the forecast's 90% level" in forecaster.why


def test_values_that_stop_coming_end_the_calibration() -> None:
    forecaster = create(SHORT)
    feed(forecaster, np.concatenate((daily(1000, 360, 1), np.full(40, np.nan))))
    assert not forecaster.calibrated
    assert "no value in the last" in forecaster.why


def test_when_all_that_was_known_is_forgotten_there_is_nothing_to_forecast() -> None:
    forecaster = create(SHORT)
    forecaster.observe(10.0, 5.0)
    forecaster.observe(10.0 * 1000, None)
    assert forecaster.last_time_s == 10_000.0
    assert forecaster.quantiles((60.0,), LEVELS) != ()
    forecaster.observe(10.0 * 100_000, None)
    assert forecaster.last_time_s is None
    assert forecaster.quantiles((60.0,), LEVELS) == ()


def test_a_bin_that_is_not_newer_is_ignored_and_a_skipped_one_is_missing() -> None:
    values = daily(500, 360, 2)
    straight, twice, skipping, missing = (create(SHORT) for _ in range(4))
    feed(straight, values)
    for i, value in enumerate(values):
        twice.observe((i + 1) * 10.0, float(value))
        twice.observe((i + 1) * 10.0, 1e6)
        twice.observe(i * 10.0, 1e6)
        if i % 7 != 3:
            skipping.observe((i + 1) * 10.0, float(value))
        missing.observe((i + 1) * 10.0, float(value) if i % 7 != 3 else None)
    horizons = (60.0, 300.0)
    assert twice.quantiles(horizons, LEVELS) == straight.quantiles(horizons, LEVELS)
    skipping.observe(5010.0, 3.0)
    missing.observe(5010.0, 3.0)
    assert skipping.quantiles(horizons, LEVELS) == missing.quantiles(horizons, LEVELS)


# ---------------------------------------------------------------- what it forecasts


def test_a_rise_that_comes_each_season_is_expected_before_it_begins() -> None:
    forecaster = create(SHORT)
    values = daily(360 * 6 + 130, 360, 3)  # 130 of 360: the rise to 12 has hardly begun
    feed(forecaster, values)
    median = forecaster.quantiles((600.0,), LEVELS)[0][0]
    assert values[-1] < 7.0
    assert 10.0 < median < 16.0
    assert forecaster.calibrated


def test_last_knows_nothing_of_the_season() -> None:
    forecaster = create(ForecastSpec("last", 10.0, 3600.0))
    feed(forecaster, daily(360 * 6 + 130, 360, 3))
    assert forecaster.quantiles((600.0,), LEVELS)[0][0] < 9.0


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.floats(0, 1e4)), min_size=1, max_size=120),
    st.sampled_from(forecaster_names()),
)
def test_quantiles_never_fall_with_level_or_horizon_nor_below_zero(values: list[float | None], name: str) -> None:
    forecaster = create(ForecastSpec(name, 10.0, 300.0))
    for i, value in enumerate(values):
        forecaster.observe((i + 1) * 10.0, value)
    rows = forecaster.quantiles((10.0, 25.0, 60.0, 200.0, 1000.0), LEVELS)
    if any(value is not None for value in values):
        table = np.array(rows)
        assert np.isfinite(table).all()
        assert (table >= 0).all()
        assert (np.diff(table, axis=0) >= 0).all()
        assert (np.diff(table, axis=1) >= 0).all()


@pytest.mark.parametrize("seed", [1, 2])
def test_the_stated_share_of_windows_stays_under_each_level(seed: int) -> None:
    forecaster = create(SHORT)
    values = daily(360 * 16, 360, seed, noise=0.15)
    forecaster.observe_many((np.arange(1440) + 1) * 10.0, values[:1440])
    kept = []
    for i in range(1440, len(values) - 30):
        forecaster.observe((i + 1) * 10.0, float(values[i]))
        if i % 7 == 0:
            row = np.array(forecaster.quantiles((300.0,), LEVELS)[0])
            kept.append(values[i + 1 : i + 31].max() <= row)
    coverage = np.mean(kept, axis=0)
    assert coverage[2] == pytest.approx(0.9, abs=0.06)
    assert coverage[3] == pytest.approx(0.95, abs=0.03)


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize("name", forecaster_names())
@pytest.mark.parametrize("bins", [0, 1, 7, 150, 1600])
def test_a_restored_forecaster_goes_on_exactly_like_the_saved_one(name: str, bins: int) -> None:
    spec = ForecastSpec(name, 10.0, 3600.0)
    values = daily(bins + 120, 360, 5)
    original = create(spec)
    feed(original, values[:bins])
    original.quantiles((60.0, 300.0), LEVELS)
    text = msgspec.json.encode(original.state())
    restored = create(spec)
    restored.restore(msgspec.json.decode(text, type=ForecasterState))
    assert msgspec.json.encode(restored.state()) == text
    for i in range(bins, bins + 120):
        for forecaster in (original, restored):
            forecaster.observe((i + 1) * 10.0, float(values[i]))
        assert restored.quantiles((60.0, 300.0), LEVELS) == original.quantiles((60.0, 300.0), LEVELS)
        assert (restored.calibrated, restored.why) == (original.calibrated, original.why)


def test_a_memory_of_another_season_is_refused() -> None:
    state = create(SHORT).state()
    with pytest.raises(PolicyError, match="season 3600 s"):
        create(ForecastSpec("seasonal", 10.0, 7200.0)).restore(state)
    with pytest.raises(PolicyError, match="does not fit"):
        create(ForecastSpec("last", 10.0, 3600.0)).restore(state)


def test_history_in_bulk_says_the_same_as_bin_by_bin() -> None:
    values = daily(360 * 5 + 77, 360, 6)
    values[700:760] = np.nan
    single, bulk = create(SHORT), create(SHORT)
    feed(single, values)
    times = (np.arange(len(values)) + 1) * 10.0
    known = ~np.isnan(values)
    bulk.observe_many(times[known], values[known])
    a, b = single.quantiles((60.0, 600.0), LEVELS), bulk.quantiles((60.0, 600.0), LEVELS)
    assert np.allclose(a, b, rtol=1e-9)
    bulk.observe_many(times, values)  # all of it is old news
    assert bulk.quantiles((60.0, 600.0), LEVELS) == b


def test_an_outage_of_weeks_keeps_the_phase_of_the_season() -> None:
    forecaster = create(SHORT)
    values = daily(360 * 4, 360, 7, noise=0.01)
    feed(forecaster, values)
    gap = 360 * 40 + 100
    for i in range(40):
        forecaster.observe((len(values) + gap + i + 1) * 10.0, float(daily(360, 360, 7, noise=0.01)[100 + i]))
    assert forecaster.quantiles((600.0,), (0.5,))[0][0] > 7.0  # 6.2 now; the hump is 40 bins ahead


def test_two_weeks_of_history_are_seeded_season_by_season_and_not_bin_by_bin() -> None:
    forecaster = create(ForecastSpec("seasonal", 10.0, 86400.0))
    values = daily(14 * 8640, 8640, 8)
    times_s = (np.arange(len(values)) + 1) * 10.0
    assert calls_of(lambda: forecaster.observe_many(times_s, values)) < len(values) / 100


@pytest.mark.parametrize("name", ["twitter2021_30s", "azure2024_code_10s", "crane_input0_60s"])
def test_on_real_traffic_it_beats_the_last_value_and_covers_what_it_says(name: str) -> None:
    file = RATES / f"{name}.csv.gz"
    if not file.exists():
        pytest.skip("development traces are not here")
    with gzip.open(file, "rt") as handle:
        rows = [(float(r[0]), float(r[1])) for r in list(csv.reader(handle))[1:]]
    width = max(1, round(60.0 / (rows[1][0] - rows[0][0])))
    raw = np.array([rate for _, rate in rows])
    values = raw[: len(raw) // width * width].reshape(-1, width).mean(axis=1)[: 6 * 1440]
    losses = {}
    for forecaster_name in ("seasonal", "last"):
        forecaster = create(ForecastSpec(forecaster_name, 60.0, 86400.0))
        forecaster.observe_many((np.arange(4320) + 1) * 60.0, values[:4320])
        loss, kept = [], []
        for i in range(4320, len(values) - 11):
            forecaster.observe((i + 1) * 60.0, float(values[i]))
            if i % 7 == 0:
                actual, row = values[i + 1 : i + 11].max(), forecaster.quantiles((600.0,), LEVELS)[0]
                loss.append([pinball(np.array([actual]), np.array([row[j]]), LEVELS[j]) for j in (2, 3, 4)])
                kept.append(actual <= row[3])
        losses[forecaster_name] = float(np.mean(loss))
    assert losses["seasonal"] < 0.95 * losses["last"]
    assert 0.9 <= float(np.mean(kept)) <= 0.98
