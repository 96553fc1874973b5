"""Steep rises: what is steep, which quantiles are raised and when, what is learned, what is kept."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.base import ForecastSpec
from policies.forecasting import ForecasterState, create
from policies.forecasting.ensemble.forecaster import MixtureForecaster
from policies.forecasting.ensemble.grid import LEVELS, Grid
from policies.forecasting.ensemble.ramp_correction import Q95, RampCorrection, size_of, steep_from

GRID = Grid.of(60.0, 86400.0)
TEN_MINUTES = int(np.flatnonzero(GRID.widths == 10)[0])
MINUTES = ForecastSpec("mixture", 60.0)


def bands(middle: float, distance: float) -> np.ndarray:
    """Quantiles around a median, of the same width at every horizon: q0.95 is `distance` above it."""
    return np.tile(middle + distance * (LEVELS - 0.5) / 0.45, (GRID.size, 1))


ONE = np.array([0])
EVERY = np.arange(GRID.size)


def raised(steep: RampCorrection, rows: np.ndarray, level: float) -> np.ndarray:
    return np.asarray(steep.raised(ONE, rows[None], np.array([level]))[0])


def lived(steep: RampCorrection, step: int, rows: np.ndarray, came: float, slot: int = 0) -> None:
    """At a level of 10 these quantiles were said, and `came` was the largest bin at every horizon."""
    steep.say(np.array([slot]), step, rows[None], np.array([10.0]))
    steep.learn(np.full(GRID.size, slot), EVERY, np.full(GRID.size, step), np.full(GRID.size, came))


def taught(rounds: int, often: int, rise: float, distance: float) -> RampCorrection:
    """Level 10, q0.95 `distance` above; every `often`-th window rises by `rise` at every horizon, the others by 1."""
    steep = RampCorrection(GRID)
    rows = bands(10.0, distance)
    for step in range(rounds):
        lived(steep, step, raised(steep, rows, 10.0), 10.0 + (rise if step % often == 0 else 1.0))
    return steep


# ---------------------------------------------------------------- what is steep


@given(st.lists(st.floats(1e-3, 1e5), min_size=100, max_size=200))
def test_the_steep_rise_is_the_95th_percentile_within_a_class_of_sizes(rises: list[float]) -> None:
    weights = np.zeros((1, 384))
    np.add.at(weights[0], size_of(np.array(rises)), 1.0)
    found = float(steep_from(weights)[0])
    exact = np.sort(rises)[::-1]
    rank = 0.05 * len(rises)
    assert exact[int(np.ceil(rank))] / 2 ** (1 / 8) <= found * (1 + 1e-9)
    assert found <= exact[int(np.ceil(rank)) - 1] * 2 ** (1 / 8) * (1 + 1e-9)


def test_too_few_windows_or_hardly_any_rise_leave_it_open() -> None:
    weights = np.zeros((3, 384))
    weights[0, 200] = 59.0
    weights[1, 0], weights[1, 200] = 1000.0, 40.0
    weights[2, 0], weights[2, 200] = 1000.0, 60.0
    assert np.isinf(steep_from(weights)[:2]).all()
    assert np.isfinite(steep_from(weights)[2])


def test_falls_and_absurd_rises_have_a_class_as_well() -> None:
    assert size_of(np.array([-5.0, 0.0, 1e-9, 1e300, np.inf])).tolist() == [0, 0, 0, 383, 383]


# ---------------------------------------------------------------- what is raised


@given(
    st.lists(st.floats(0, 1e6), min_size=9 * GRID.size, max_size=9 * GRID.size),
    st.lists(st.floats(0, 1.5), min_size=2, max_size=2),
    st.lists(st.sampled_from([0.0, 1e-3, 1.0, 40.0, 1e5, np.inf]), min_size=2, max_size=2),
    st.floats(0, 1e6),
)
def test_no_quantile_is_lowered_and_all_stay_in_order(
    values: list[float], stretch: list[float], threshold: list[float], level: float
) -> None:
    rows = np.maximum.accumulate(np.sort(np.array(values).reshape(GRID.size, 9), axis=1), axis=0)
    before = rows.copy()
    steep = RampCorrection(GRID)
    steep.stretch[0], steep.threshold[0] = stretch, threshold
    said = raised(steep, rows, level)
    assert np.array_equal(rows, before)
    assert np.isfinite(said).all()
    assert (said >= rows).all()
    assert np.array_equal(said[:, :Q95], rows[:, :Q95])
    assert np.array_equal(said[:TEN_MINUTES], rows[:TEN_MINUTES])
    assert (np.diff(said, axis=0) >= 0).all()
    assert (np.diff(said, axis=1) >= 0).all()


def test_the_band_is_stretched_only_where_a_steep_rise_is_within_its_reach() -> None:
    steep = RampCorrection(GRID)
    steep.stretch[:], steep.threshold[:] = 0.5, 20.0
    for distance, expected in ((10.0, 10.0), (17.0, 17.0), (20.0, 30.0), (40.0, 60.0)):
        assert raised(steep, bands(10.0, distance), 10.0)[TEN_MINUTES, Q95] == pytest.approx(10.0 + expected)
    between = raised(steep, bands(10.0, 20.0 / 1.1), 10.0)[TEN_MINUTES, Q95] - 10.0
    assert between == pytest.approx(20.0 / 1.1 * 1.25)


# ---------------------------------------------------------------- what is learned


def test_steep_rises_that_were_missed_stretch_the_band_until_it_holds_them() -> None:
    steep = taught(600, 12, 40.0, 35.0)
    assert steep.threshold[0] == pytest.approx([40.0, 40.0], rel=0.1)
    assert raised(steep, bands(10.0, 35.0), 10.0)[TEN_MINUTES, Q95] > 45.0
    assert (steep.stretch < 0.7).all()


def test_steep_rises_that_the_band_holds_anyway_leave_it_as_it_is() -> None:
    steep = taught(600, 12, 40.0, 50.0)
    assert np.isfinite(steep.threshold).all()
    assert (steep.stretch == 0).all()


def test_a_rise_out_of_reach_costs_nothing() -> None:
    steep = taught(600, 12, 1000.0, 35.0)
    rows = bands(10.0, 35.0)[None]
    assert steep.raised(ONE, rows, np.array([10.0])) is rows


def test_it_stretches_no_further_where_coverage_as_a_whole_nears_0_97() -> None:
    free, full = (taught(600, 12, 40.0, 35.0) for _ in range(2))
    full.held[:] = 0.9999
    for steep in (free, full):
        before = steep.stretch.copy()
        for step in range(600, 620):
            lived(steep, step, bands(10.0, 35.0), 55.0)
        assert (steep.stretch > before).all() == (steep is free)
    assert (full.stretch < free.stretch).all()


def test_some_horizons_can_learn_while_others_wait() -> None:
    steep = RampCorrection(GRID)
    steep.say(ONE, 0, bands(10.0, 5.0)[None], np.array([10.0]))
    for horizons in (np.array([0, TEN_MINUTES]), np.array([0, 1])):
        steep.learn(np.zeros(2, dtype=np.int64), horizons, np.zeros(2, dtype=np.int64), np.array([11.0, 12.0]))
    assert steep.seen.tolist() == [[1.0, 0.0]]


def test_forecasters_side_by_side_learn_as_each_alone() -> None:
    together, alone = RampCorrection(GRID, 3), [RampCorrection(GRID) for _ in range(3)]
    rng, both = np.random.default_rng(1), np.array([0, 2])
    for step in range(800):
        rows = np.stack([bands(10.0, distance) for distance in rng.uniform(20.0, 50.0, 2)])
        levels, came = rng.uniform(9.0, 11.0, 2), 10.0 + rng.exponential(12.0, (2, GRID.size))
        said = together.raised(both, rows, levels)
        together.say(both, step, said, levels)
        together.learn(np.repeat(both, GRID.size), np.tile(EVERY, 2), np.full(2 * GRID.size, step), came.reshape(-1))
        for i, slot in enumerate(both.tolist()):
            one = alone[slot]
            own = one.raised(ONE, rows[i : i + 1], levels[i : i + 1])
            one.say(ONE, step, own, levels[i : i + 1])
            one.learn(np.zeros(GRID.size, dtype=np.int64), EVERY, np.full(GRID.size, step), came[i])
            assert np.array_equal(own[0], said[i])
    assert (together.stretch[both] > 0).any()
    for slot, one in enumerate(alone):
        for name in RampCorrection.axes:
            assert np.array_equal(getattr(together, name)[slot], getattr(one, name)[0], equal_nan=True)


# ---------------------------------------------------------------- in the mixture


def bursts(days: float, seed: int) -> np.ndarray:
    """Minutes of 10 req/s with bursts that come at no time in particular, more of them in the afternoon."""
    rng = np.random.default_rng(seed)
    minutes = round(days * 1440)
    chance = np.where(np.arange(minutes) % 1440 > 720, 0.02, 0.004)
    burst = (rng.random(minutes) < chance) * rng.exponential(30.0, minutes)
    return np.asarray(rng.gamma(50, 0.2, minutes) + burst)


def steep_and_covered(values: np.ndarray, plain: bool) -> tuple[float, float]:
    """Share of the steepest 5 % of rises within ten minutes that q0.95 held, and its coverage, from day 3 on."""
    forecaster = MixtureForecaster(MINUTES)
    if plain:
        forecaster.bank.steep.raised = lambda slots, rows, level: rows  # type: ignore[method-assign]
    rises, held = [], []
    for i, value in enumerate(values[:-10].tolist()):
        forecaster.observe((i + 1) * 60.0, value)
        if i >= 3 * 1440 and i % 3 == 0:
            came = values[i + 1 : i + 11].max()
            rises.append(came - values[i - 4 : i + 1].mean())
            held.append(came <= forecaster.quantiles((600.0,), (0.95,))[0][0])
    steep = np.array(rises) >= np.quantile(rises, 0.95)
    return float(np.array(held)[steep].mean()), float(np.mean(held))


def test_more_of_the_steepest_rises_are_held_for_little_more_coverage() -> None:
    values = bursts(8, 1)
    before, plain = steep_and_covered(values, plain=True)
    held, covered = steep_and_covered(values, plain=False)
    assert before < 0.35
    assert held > 0.5
    assert plain < covered < plain + 0.025


def test_a_memory_goes_on_alike_and_an_older_one_without_steep_rises_begins_to_learn_them() -> None:
    values = bursts(1.5, 2)
    first = create(MINUTES)
    for i, value in enumerate(values[:2000].tolist()):
        first.observe((i + 1) * 60.0, value)
    state = msgspec.json.decode(msgspec.json.encode(first.state()), type=ForecasterState)
    second, third = MixtureForecaster(MINUTES), MixtureForecaster(MINUTES)
    second.restore(state)
    third.restore(
        ForecasterState(
            state.forecaster, state.numbers, {k: v for k, v in state.arrays.items() if not k.startswith("steep.")}
        )
    )
    for i, value in enumerate(values[2000:].tolist(), start=2000):
        for forecaster in (first, second, third):
            forecaster.observe((i + 1) * 60.0, value)
        assert first.quantiles((600.0,), (0.95,)) == second.quantiles((600.0,), (0.95,))
    assert msgspec.json.encode(first.state()) == msgspec.json.encode(second.state())
    assert third.bank.steep.seen.tolist() == [[150.0, 140.0]]
