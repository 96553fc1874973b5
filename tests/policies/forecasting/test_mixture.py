"""The mixture: its rooms one by one, what it learns, what must not mislead it, what it keeps and costs."""

from __future__ import annotations

import threading

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.base import ForecastSpec, PolicyError
from policies.forecasting import ForecasterState, create
from policies.forecasting.base import Floats
from policies.forecasting.ensemble import fits
from policies.forecasting.ensemble.blend import Blend, order_statistics
from policies.forecasting.ensemble.forecaster import MixtureForecaster
from policies.forecasting.ensemble.grid import LEVELS, SCORES, Grid
from policies.forecasting.ensemble.interpolation import Answers, at_scores
from policies.forecasting.ensemble.memory import SeriesMemory
from policies.forecasting.ensemble.profile import close_steps
from policies.forecasting.ensemble.recursions import Recursions
from policies.forecasting.ensemble.regression import Regressions
from tests.cli.helpers import python
from tests.policies.calls import calls_of

ASKED = (0.5, 0.75, 0.9, 0.95, 0.99)
MINUTES = ForecastSpec("mixture", 60.0)
DAY = 1440


def humps(days: float, seed: int = 1, noise: float = 0.05) -> np.ndarray:
    """Minutes of days with a hump at noon, 2 to 12 req/s."""
    phase = np.arange(round(days * DAY)) % DAY / DAY
    shape = 2.0 + 10.0 * np.exp(-(((phase - 0.5) / 0.1) ** 2))
    return shape * np.exp(np.random.default_rng(seed).normal(0.0, noise, len(phase)))


def fed(values: np.ndarray, spec: ForecastSpec = MINUTES, start: int = 0) -> MixtureForecaster:
    forecaster = MixtureForecaster(spec)
    feed(forecaster, values, start)
    return forecaster


def feed(forecaster: MixtureForecaster, values: np.ndarray, start: int = 0) -> None:
    bin_s = forecaster.grid.bin_s
    for i, value in enumerate(values.tolist()):
        forecaster.observe((start + i + 1) * bin_s, None if value != value else value)


def ends(bins: int, bin_s: float) -> Floats:
    return np.arange(1, bins + 1, dtype=np.float64) * bin_s


def median(forecaster: MixtureForecaster, horizon_s: float) -> float:
    return forecaster.quantiles((horizon_s,), (0.5,))[0][0]


# ---------------------------------------------------------------- rooms


def test_a_regression_finds_coefficients_and_follows_when_they_change() -> None:
    rng = np.random.default_rng(1)
    found = Regressions(2, 3, 1.0, 1000.0)
    for truth in (np.array([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]]), np.array([[0.0, 1.0, 2.0], [1.0, 1.0, 1.0]])):
        for _ in range(600):
            x = rng.normal(size=(2, 3))
            found.update(slice(None), x, (truth * x).sum(axis=1), 0.98, np.full(2, np.inf))
        assert np.allclose(found.coefficients, truth, atol=1e-3)


def test_an_absurd_outcome_is_cut_and_silence_does_not_blow_up_a_regression() -> None:
    found = Regressions(1, 2, 1.0, 100.0)
    for _ in range(5000):
        found.update(slice(None), np.array([[1.0, 0.0]]), np.array([1.0]), 0.99, np.array([1.0]))
    assert np.trace(found.covariance[0]) <= 2 * 100.0 / 0.99**16
    before = found.coefficients.copy()
    found.update(slice(None), np.array([[1.0, 0.0]]), np.array([1e9]), 0.99, np.array([1.0]))
    assert abs(found.coefficients - before).max() < 0.1


def test_some_rows_can_learn_while_others_wait() -> None:
    both, one = (Regressions(3, 2, 1.0, 100.0) for _ in range(2))
    x, y = np.array([[1.0, 2.0], [0.5, 1.0], [2.0, 0.0]]), np.array([1.0, 2.0, 3.0])
    both.update(slice(None), x, y, 0.9, np.full(3, np.inf))
    one.update(np.array([0, 2]), x[[0, 2]], y[[0, 2]], 0.9, np.full(2, np.inf))
    assert np.array_equal(one.coefficients[[0, 2]], both.coefficients[[0, 2]])
    assert (one.coefficients[1] == 0).all()
    assert np.array_equal(one.covariance[1], np.eye(2))


def test_order_statistics_are_ranks_of_n_plus_1() -> None:
    errors = np.arange(1.0, 100.0, dtype=np.float16)[None, ::-1]  # 99 errors: level q is rank 100 q
    assert order_statistics(errors)[0] == pytest.approx([2, 10, 25, 50, 75, 90, 95, 99, 99])


def context(grid: Grid, rising: int = 0, hour: int = 5) -> np.ndarray:
    """Rising, rows of the stretch for the hour, the first five minutes, and a middling width."""
    return np.tile(np.array([rising, hour, 24, 40]), (grid.size, 1))


def test_a_column_that_loses_less_gets_the_weight() -> None:
    grid = Grid.of(60.0, 86400.0)
    blend = Blend(grid, 2)
    rng = np.random.default_rng(2)
    for step in range(200):
        actual = rng.normal(10.0, 1.0, grid.size)
        upper = np.repeat(np.array([[11.3, 11.6, 12.3], [18.0, 20.0, 25.0]])[None], grid.size, axis=0)
        scaled = rng.normal(size=(grid.size, 2))
        mixed = np.full((grid.size, len(LEVELS)), 11.6)
        origins = np.full(grid.size, step)
        blend.learn(slice(None), origins, actual, scaled, upper, mixed, context(grid))
    assert (blend.weights[0, :, 0] > 0.99).all()
    assert blend.weights.sum(axis=2) == pytest.approx(1.0)


def test_a_column_that_is_good_while_the_profile_rises_gets_the_weight_then() -> None:
    grid = Grid.of(60.0, 86400.0)
    blend = Blend(grid, 2)
    for step in range(2000):
        rising = int(step % 5 == 0)
        close, far = [10.1] * 3, [14.0] * 3
        upper = np.repeat(np.array([far, close] if rising else [close, far])[None], grid.size, axis=0)
        mixed = np.full((grid.size, len(LEVELS)), 12.0)
        actual, scaled, origins = np.full(grid.size, 10.0), np.zeros((grid.size, 2)), np.full(grid.size, step)
        blend.learn(slice(None), origins, actual, scaled, upper, mixed, context(grid, rising))
    assert (blend.weights[0, :, 0] > 0.9).all()
    assert (blend.weights[1, :, 1] > 0.9).all()


def test_a_band_that_is_missed_is_stretched_at_its_hour_and_one_that_is_never_missed_shrinks() -> None:
    grid = Grid.of(60.0, 86400.0)
    blend = Blend(grid, 1)
    for step in range(300):
        for hour, actual in ((5, 0.0), (6, 100.0)):
            y = np.full(grid.size, actual)
            upper, mixed = np.full((grid.size, 1, 3), 50.0), np.full((grid.size, len(LEVELS)), 50.0)
            scaled, origins = np.zeros((grid.size, 1)), np.full(grid.size, step)
            blend.learn(slice(None), origins, y, scaled, upper, mixed, context(grid, 0, hour))
    assert (blend.stretch[5, :, 6] < 0).all()
    assert (blend.stretch[6, :, 6] > 0.5).all()
    assert (blend.stretch[7] == 0).all()


@given(st.lists(st.floats(0, 100), min_size=9, max_size=9), st.lists(st.floats(1.0, 5000.0), min_size=1, max_size=6))
def test_any_horizon_and_level_is_answered_in_order(row: list[float], horizons: list[float]) -> None:
    grid = Grid.of(60.0, 86400.0)
    rows = np.maximum.accumulate(np.sort(np.array(row))[None, :] + np.arange(grid.size)[:, None], axis=0)
    table = Answers(grid).table(rows, tuple(sorted(horizons)), (0.001, 0.3, 0.5, 0.97, 0.9999), lambda _: 1.0)
    assert (table >= 0).all()
    assert (np.diff(table, axis=0) >= 0).all()
    assert (np.diff(table, axis=1) >= 0).all()


def test_learned_levels_and_horizons_are_answered_as_they_are() -> None:
    grid = Grid.of(60.0, 86400.0)
    rows = np.cumsum(np.random.default_rng(3).random((grid.size, len(LEVELS))), axis=1)
    rows = np.maximum.accumulate(rows, axis=0)
    table = Answers(grid).table(rows, tuple((grid.widths * 60.0).tolist()), tuple(LEVELS.tolist()), lambda _: 1.0)
    assert np.allclose(table, rows)
    assert np.allclose(at_scores(rows[0], SCORES), rows[0])


def test_arima_by_its_own_recursion_forecasts_what_statsmodels_forecasts() -> None:
    from statsmodels.tsa.arima.model import ARIMA

    rng = np.random.default_rng(4)
    noise = rng.normal(size=401)
    changes = np.zeros(400)
    for i in range(1, 400):
        changes[i] = 0.6 * changes[i - 1] + noise[i] - 0.4 * noise[i - 1]
    x = 100 + np.cumsum(changes)
    fitted = ARIMA(x, order=(1, 1, 1)).fit()
    ar, ma, _ = fitted.params
    grid = Grid.of(60.0, 86400.0)
    recursions = Recursions(grid)
    recursions.adopt(fits.Parameters(ar=float(ar), ma=float(ma)))
    for i, value in enumerate(x.tolist()):
        recursions.feed(i, value, False)
    expected = np.maximum.accumulate(fitted.forecast(grid.farthest))[grid.reach - 1]
    assert recursions.arima() == pytest.approx(expected, rel=1e-4)


def test_holt_follows_a_ramp_and_holt_winters_a_season() -> None:
    grid = Grid.of(60.0, 3600.0)
    recursions = Recursions(grid)
    season = 10 + 5 * np.sin(2 * np.pi * np.arange(60) / 60)
    recursions.begin_season(season, 59)
    for i in range(60, 600):
        recursions.feed(i, float(season[i % 60]), False)
    ahead = [season[(600 + np.arange(reach)) % 60].max() for reach in grid.reach.tolist()]
    assert recursions.seasonal(599) == pytest.approx(ahead, rel=0.02)
    ramp = Recursions(grid)
    ramp.adopt(fits.Parameters(damping=0.98))
    for i in range(300):
        ramp.feed(i, float(i), False)
    assert 300.0 < ramp.holt()[1] < 301.5


def test_parameters_of_smoothing_suit_the_series() -> None:
    rng = np.random.default_rng(5)
    noise = 100 + rng.normal(size=2 * DAY)
    walk = 100 + np.cumsum(rng.normal(size=2 * DAY))
    calm, wild = (fits.fit(x, DAY, 60.0, fits.Parameters(), only="holt") for x in (noise, walk))
    assert calm.alpha <= 0.1
    assert wild.alpha >= 0.7
    assert fits.fit(np.full(2 * DAY, 5.0), DAY, 60.0, fits.Parameters()) == fits.Parameters()


# ---------------------------------------------------------------- memory of the season


def remembered(values: np.ndarray, holidays: frozenset[int] = frozenset()) -> SeriesMemory:
    memory = SeriesMemory(Grid.of(60.0, 86400.0), holidays)
    for i, value in enumerate(values.tolist()):
        memory.add(None if value != value else value)
        close_steps([memory], i + 1)
    return memory


def test_the_profile_weighs_yesterday_and_the_same_weekday_most() -> None:
    days = np.repeat(np.array([2.0, 4.0, 3.0, 3.0, 3.0, 3.0, 3.0, 5.0]), DAY)  # the last day is "today"
    memory = remembered(days[: 7 * DAY])
    expected = (1.0 * 3 + 0.5 * (3 + 3 + 3 + 3 + 4) + 2.0 * 2) / 5.5
    assert memory.ahead()[0] == pytest.approx(expected)


def test_a_missing_day_leaves_the_profile_to_the_others() -> None:
    days = np.repeat(np.array([4.0, 6.0, np.nan]), DAY)
    assert remembered(days).ahead()[0] == pytest.approx((0.5 * 6 + 0.5 * 4) / 1.0)


def test_on_a_holiday_the_profile_is_that_of_days_off() -> None:
    # 1970-01-01 is a Thursday: days 2 and 3 are a weekend; day 7 is a Thursday that is a holiday
    days = np.repeat(np.array([9.0, 9.0, 1.0, 1.0, 9.0, 9.0, 9.0]), DAY)
    usual, holiday = remembered(days).ahead()[0], remembered(days, frozenset({7})).ahead()[0]
    assert usual > 6.0
    assert holiday < 2.0


@pytest.mark.parametrize(("factor", "least", "most"), [(0.0, 0.1, 1.0), (30.0, 1.0, 5.0)])
def test_an_outage_or_flash_crowd_enters_the_profile_cut_down(factor: float, least: float, most: float) -> None:
    values = humps(3, noise=0.0)
    values[2 * DAY + 600 : 2 * DAY + 720] *= factor
    profile = remembered(values).history[(2 * DAY + 660) % remembered(values).span] / values[DAY + 659]
    assert least < profile < most


def test_a_level_that_stays_becomes_the_profile() -> None:
    values = humps(5, noise=0.0)
    values[2 * DAY :] *= 8.0
    memory = remembered(values)
    assert memory.history[(5 * DAY) % memory.span] == pytest.approx(values[-1], rel=1e-5)


def test_a_weekend_is_remembered_as_a_weekend() -> None:
    # Two weeks from a Thursday on: 9 req/s on weekdays, 2 at weekends. What is expected is the day after.
    days = np.array([2.0 if day % 7 in (2, 3) else 9.0 for day in range(15)])
    saturday, sunday, monday = (remembered(np.repeat(days[:n], DAY)).ahead()[0] for n in (9, 10, 11))
    assert saturday < 6.0 < monday
    assert sunday < saturday


# ---------------------------------------------------------------- what it learns


@pytest.fixture(scope="module")
def grown() -> MixtureForecaster:
    """Six days of humps, until six in the morning: not to be fed any further."""
    return fed(humps(6.3))


def test_tomorrows_hump_is_expected_and_the_band_is_narrow(grown: MixtureForecaster) -> None:
    values = humps(6.4)
    (row,) = grown.quantiles((600.0,), ASKED)
    came = values[len(humps(6.3)) :][:10].max()
    assert row[0] == pytest.approx(came, rel=0.1)
    assert row[4] < 1.35 * came
    assert grown.calibrated
    assert "6.3 d of history" in grown.why


def test_beyond_the_longest_horizon_the_season_goes_on(grown: MixtureForecaster) -> None:
    near, far = median(grown, 1200.0), median(grown, 4 * 3600.0)
    assert near < 6.0
    assert far > 1.3 * near


def test_a_storm_at_two_minutes_past_each_hour_widens_the_band_only_before_it() -> None:
    rng = np.random.default_rng(6)
    minute = np.arange(4 * DAY) % 60
    values = rng.gamma(100, 0.1, len(minute)) * np.where((minute == 2) & (rng.random(len(minute)) < 0.4), 4.0, 1.0)
    forecaster = fed(values[: -60 + 1])  # the next bin is minute 1
    before = forecaster.quantiles((120.0,), (0.95,))[0][0]
    feed(forecaster, values[-59:-40], len(values) - 59)
    after = forecaster.quantiles((120.0,), (0.95,))[0][0]
    assert before > 25.0
    assert after < 16.0


def test_the_stated_share_of_windows_stays_under_each_level() -> None:
    values = humps(8, seed=7, noise=0.2)
    forecaster = fed(values[: 3 * DAY])
    kept = []
    for i in range(3 * DAY, len(values) - 10):
        if i % 7 == 0:
            row = np.array(forecaster.quantiles((300.0,), ASKED)[0])
            kept.append(values[i : i + 5].max() <= row)
        forecaster.observe((i + 1) * 60.0, float(values[i]))
    coverage = np.mean(kept, axis=0)
    assert coverage[2] == pytest.approx(0.9, abs=0.025)
    assert coverage[3] == pytest.approx(0.95, abs=0.02)
    assert coverage[4] == pytest.approx(0.99, abs=0.01)


# ---------------------------------------------------------------- what must not mislead it


@pytest.mark.parametrize("factor", [0.0, 20.0])
def test_yesterdays_outage_or_flash_crowd_is_not_expected_again(factor: float) -> None:
    values = humps(6.45)
    values[round(5.4 * DAY) : round(5.5 * DAY)] *= factor
    calm = fed(humps(6.45))
    shaken = fed(values)
    for horizon_s in (600.0, 1200.0):
        assert median(shaken, horizon_s) == pytest.approx(median(calm, horizon_s), rel=0.25)


def test_a_spike_on_the_very_first_day_is_remembered_cut_down() -> None:
    values = np.full(DAY + 700, 10.0) * np.random.default_rng(9).normal(1.0, 0.03, DAY + 700)
    values[700] = 100.0
    forecaster = fed(values[: DAY + 699])
    assert forecaster.memory.history[701] == pytest.approx(40.0, rel=0.1)
    assert median(forecaster, 600.0) < 50.0
    feed(forecaster, values[DAY + 699 :], DAY + 699)
    assert median(forecaster, 60.0) < 12.0


def test_a_ramp_on_the_first_day_is_remembered_within_minutes() -> None:
    memory = remembered(np.concatenate((np.full(60, 1.0), np.full(30, 10.0))))
    assert memory.history[61] == pytest.approx(4.0, rel=0.2)
    assert memory.history[66:90] == pytest.approx(10.0)


@pytest.mark.parametrize("absurd", [1e300, 1e13, np.inf, -np.inf, np.nan])
def test_an_absurd_rate_teaches_nothing(absurd: float) -> None:
    values = humps(0.3)
    values[200] = np.nan
    missing, one_by_one, at_once = fed(values), MixtureForecaster(MINUTES), MixtureForecaster(MINUTES)
    values[200] = absurd
    for i, value in enumerate(values.tolist()):
        one_by_one.observe((i + 1) * 60.0, value)
    at_once.observe_many(ends(len(values), 60.0), values)
    expected = missing.quantiles((60.0, 600.0), ASKED)
    if absurd < 0:  # a rate below zero is none
        values[200] = 0.0
        expected = fed(values).quantiles((60.0, 600.0), ASKED)
    assert one_by_one.quantiles((60.0, 600.0), ASKED) == expected
    assert at_once.quantiles((60.0, 600.0), ASKED) == expected


def test_a_new_level_is_followed_within_the_hour_and_the_bands_hold_again_within_two() -> None:
    values = humps(5.5, noise=0.03)
    at = 5 * DAY
    values[at:] *= 3.0
    forecaster = fed(values[: at + 60])
    assert median(forecaster, 300.0) == pytest.approx(values[at + 60 : at + 65].max(), rel=0.2)
    kept = []
    for i in range(at + 60, at + 360):
        if i >= at + 120:
            kept.append(values[i : i + 5].max() <= forecaster.quantiles((300.0,), (0.95,))[0][0])
        forecaster.observe((i + 1) * 60.0, float(values[i]))
    assert np.mean(kept) > 0.85


def test_an_hour_of_daylight_saving_is_made_up_for_by_the_level() -> None:
    """The clock of the season is UTC: on the day of the change, people come an hour earlier than the profile says."""
    values = humps(4.6)
    values[4 * DAY :] = np.roll(humps(5)[4 * DAY :], -60)[: len(values) - 4 * DAY]
    forecaster = fed(values[: 4 * DAY])
    kept, ratios = [], []
    for i in range(4 * DAY, len(values) - 10):
        if i % 7 == 0:
            middle, high = forecaster.quantiles((600.0,), (0.5, 0.95))[0]
            came = values[i : i + 10].max()
            kept.append(came <= high)
            ratios.append(middle / came)
        forecaster.observe((i + 1) * 60.0, float(values[i]))
    assert np.mean(kept) > 0.8
    assert 0.7 < np.median(ratios) < 1.2
    assert min(ratios) > 0.4


def test_days_of_zero_are_forecast_as_zero_and_the_return_is_no_catastrophe() -> None:
    values = np.concatenate((humps(3), np.zeros(3 * DAY), humps(0.2)))
    forecaster = fed(values[: 6 * DAY])
    assert forecaster.quantiles((600.0,), (0.9,))[0][0] < 0.5
    feed(forecaster, values[6 * DAY :], 6 * DAY)
    (row,) = forecaster.quantiles((300.0,), ASKED)
    assert row[0] == pytest.approx(values[-1], rel=0.6)
    assert np.isfinite(row).all()
    assert row[4] < 20 * values[-1]


@pytest.mark.parametrize("lost", [0.05, 0.15])
def test_missing_bins_cost_little(lost: float) -> None:
    values = humps(4.45)
    holes = values.copy()
    holes[np.random.default_rng(8).random(len(holes)) < lost] = np.nan
    holes[-1] = values[-1]
    whole, holed = fed(values), fed(holes)
    assert holed.calibrated
    for level in (0.5, 0.95):
        a, b = (f.quantiles((600.0,), (level,))[0][0] for f in (whole, holed))
        assert b == pytest.approx(a, rel=0.15)


def test_a_silent_source_is_carried_on_by_the_season_and_said_to_be_silent() -> None:
    values = humps(5.45)
    forecaster = fed(values[: round(5.4 * DAY)])
    assert forecaster.calibrated
    feed(forecaster, np.full(60, np.nan), start=round(5.4 * DAY))
    assert not forecaster.calibrated
    assert "no value in the last" in forecaster.why
    assert median(forecaster, 300.0) == pytest.approx(values[round(5.4 * DAY) + 60], rel=0.25)


def test_who_nobody_ever_asked_for_longer_than_a_season_is_forecast_to_stay_idle() -> None:
    forecaster = fed(np.zeros(300), ForecastSpec("mixture", 60.0, 9000.0))
    assert np.max(forecaster.quantiles((60.0, 6000.0), (0.5, 0.9))) < 1e-6


def test_without_a_history_it_is_wide_and_says_so() -> None:
    forecaster = fed(np.array([10.0, 11.0, 9.0]))
    (row,) = forecaster.quantiles((300.0,), ASKED)
    assert row[0] == pytest.approx(10.0, rel=0.35)
    assert row[3] > 15.0
    assert not forecaster.calibrated
    assert "history" in forecaster.why


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([0.0, 1e-9, 1e6]), st.integers(5, 60), st.integers(0, 100))
def test_constant_series_of_any_size_stay_finite(level: float, zeros: int, spike_at: int) -> None:
    values = np.full(300, level)
    values[:zeros] = 0.0
    values[100 + spike_at] = 1e5
    forecaster = fed(values)
    assert np.isfinite(forecaster.quantiles((60.0, 600.0, 7200.0), ASKED)).all()


# ---------------------------------------------------------------- refits, memory, cost


def test_a_refit_in_a_thread_and_one_at_its_step_give_the_same_forecasts() -> None:
    values = humps(1.2)
    threaded, inline = MixtureForecaster(MINUTES), MixtureForecaster(MINUTES)
    refitted = 0
    for i, value in enumerate(values.tolist()):
        for forecaster in (threaded, inline):
            forecaster.observe((i + 1) * 60.0, value)
        if threaded.needs_refit():
            worker = threading.Thread(target=threaded.refit)
            worker.start()
            worker.join()
            refitted += 1
    assert refitted == 2  # after six hours and after a day
    assert not np.array_equal(threaded.recursions.constants, fits.Parameters().packed())
    assert threaded.quantiles((120.0, 600.0), ASKED) == inline.quantiles((120.0, 600.0), ASKED)
    assert msgspec.json.encode(threaded.state()) == msgspec.json.encode(inline.state())


def test_series_refit_at_minutes_of_their_own() -> None:
    due = {fed(np.array([rate])).refits.due for rate in np.linspace(1.0, 9.0, 40)}
    assert len(due) > 15
    assert all(360 <= steps < 390 for steps in due)


@pytest.mark.parametrize("extra", [0, 4, 9])
def test_a_memory_saved_while_a_refit_is_under_way_goes_on_alike(extra: int) -> None:
    values = humps(0.4)
    original = fed(values[:30])
    bins = original.refits.due + extra
    feed(original, values[30:bins], 30)
    assert original.refits.apply > 0
    text = msgspec.json.encode(original.state())
    restored = MixtureForecaster(MINUTES)
    restored.restore(msgspec.json.decode(text, type=ForecasterState))
    for forecaster in (original, restored):
        feed(forecaster, values[bins : bins + 20], bins)
    assert msgspec.json.encode(restored.state()) == msgspec.json.encode(original.state())
    assert restored.refits.apply == -1


def test_the_memory_of_two_weeks_is_a_few_hundred_kilobytes() -> None:
    forecaster = MixtureForecaster(ForecastSpec("mixture", 10.0))
    values = np.repeat(humps(14), 6)
    forecaster.observe_many(ends(len(values), 10.0), values)
    assert len(msgspec.json.encode(forecaster.state())) < 700_000
    assert forecaster.calibrated


def test_a_bin_costs_the_same_few_hundred_calls_however_much_is_remembered() -> None:
    values = humps(2.1)
    calls = []
    for days in (1, 2):
        forecaster = fed(values[: days * DAY])
        later = values[days * DAY : days * DAY + 120]
        calls.append(calls_of(lambda f=forecaster, v=later, d=days: feed(f, v, d * DAY)) / len(later))  # type: ignore[misc]
    assert calls[1] < 1.2 * calls[0]
    assert calls[1] < 700  # alone; what one more costs in company is held in test_forecasting_together.py


def test_neither_numba_nor_statsmodels_is_loaded_to_forecast() -> None:
    code = (
        "import sys; from policies.base import ForecastSpec; from policies.forecasting import create\n"
        "f = create(ForecastSpec('mixture')); [f.observe(10.0 * (i + 1), 5.0) for i in range(100)]\n"
        "f.quantiles((60.0,), (0.9,)); print({'numba', 'statsmodels', 'scipy'} & set(sys.modules))"
    )
    assert python(code).out.strip() == "set()"


def test_holidays_are_dates() -> None:
    assert isinstance(create(ForecastSpec("mixture", holidays=("2026-12-25",))), MixtureForecaster)
    with pytest.raises(PolicyError, match="holidays: 'Christmas'; allowed: a date like 2026-12-25"):
        create(ForecastSpec("mixture", holidays=("Christmas",)))


@pytest.mark.parametrize("days_before", [2, 14])
def test_bins_before_time_zero_count_like_any_others(days_before: int) -> None:
    values = humps(2, noise=0.0)
    after, before = fed(values, start=0), fed(values, start=-days_before * DAY)
    assert before.last_time_s == (2 - days_before) * 86400.0
    for horizon_s in (60.0, 600.0, 3600.0):
        assert median(before, horizon_s) == pytest.approx(median(after, horizon_s), rel=1e-2)


def test_a_demonstrations_day_of_minutes_is_learned_like_a_day() -> None:
    day = 30  # bins of five seconds
    phase = np.arange(8 * day) % day / day
    values = 2.0 + 10.0 * np.exp(-(((phase - 0.5) / 0.15) ** 2))
    forecaster = MixtureForecaster(ForecastSpec("mixture", 5.0, 150.0))
    forecaster.observe_many(ends(7 * day + 8, 5.0), values[: 7 * day + 8])
    (soon,), (later,) = forecaster.quantiles((5.0, 25.0), (0.5,))
    assert soon == pytest.approx(values[7 * day + 8], rel=0.3)
    assert later > 1.5 * values[7 * day + 7]
    assert forecaster.last_time_s == (7 * day + 8) * 5.0
