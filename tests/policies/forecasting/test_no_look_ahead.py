"""No forecaster knows anything of what comes after: the future may be anything and forecasts made before it stay."""

from __future__ import annotations

from functools import cache

import msgspec
import numpy as np
import pytest

from policies.base import ForecastSpec
from policies.forecasting import Forecaster, ForecasterState, create, forecaster_names
from simulator.experiments import backtest

HORIZONS_S = (120.0, 300.0, 600.0)
LEVELS = (0.5, 0.9, 0.95, 0.99)
BINS, TURN = 560, 460
"""Minutes of a series, and when the future begins: first refits (six hours) are over by then."""
FUTURES = ("nothing", "a thousand times more", "backwards")
QUICK = tuple(name for name in forecaster_names() if name != "dynamo_arima")
"""That one tries dozens of orders at each refit; the backtest below covers it."""

Said = list[tuple[tuple[float, ...], ...]]


def series(future: str | None = None) -> np.ndarray:
    rng = np.random.default_rng(11)
    minute = np.arange(BINS)
    values = (20 + 8 * np.sin(minute / 90) + 15 * (minute % 60 == 2)) * rng.gamma(50, 0.02, BINS)
    if future == "nothing":
        values[TURN:] = 0.0
    elif future == "a thousand times more":
        values[TURN:] *= 1000.0
    elif future == "backwards":
        values[TURN:] = values[TURN:][::-1].copy()
    return values


def new(name: str) -> Forecaster:
    return create(ForecastSpec(name, 60.0, 7200.0, LEVELS))  # a season of two hours: seasonal members take part


def show(forecaster: Forecaster, values: np.ndarray, start: int, end: int, said: Said) -> None:
    for i in range(start, end):
        forecaster.observe((i + 1) * 60.0, float(values[i]))
        said.append(forecaster.quantiles(HORIZONS_S, LEVELS))


@cache
def alone(name: str) -> Said:
    """What it says, bin by bin, when it sees the series from beginning to end."""
    said: Said = []
    show(new(name), series(), 0, BINS, said)
    return said


@pytest.mark.parametrize(
    ("name", "future"), [*((name, FUTURES[1]) for name in forecaster_names()), *(("mixture", f) for f in FUTURES[::2])]
)
def test_a_backtest_says_the_same_before_the_turn_whatever_comes_after_it(name: str, future: str) -> None:
    given, other = (backtest.Series("s", 60.0, 0, values) for values in (series(), series(future)))
    course = backtest.course_of(given)
    before = course.origins < TURN
    assert 5 <= before.sum() < len(before) - 2
    one, two = (backtest.run(which, course, name) for which in (given, other))
    assert np.array_equal(one.quantiles[before], two.quantiles[before])
    assert not np.array_equal(one.quantiles[~before], two.quantiles[~before])


@pytest.mark.parametrize("name", QUICK)
def test_a_neighbour_with_another_future_changes_nothing(name: str) -> None:
    """Nothing is shared between forecasters of one process: one is ahead of the other by the whole future."""
    ahead, beside = new(name), new(name)
    said: Said = []
    show(ahead, series("a thousand times more"), 0, 100, [])
    for i in range(BINS):
        if i + 100 < BINS:
            show(ahead, series("a thousand times more"), i + 100, i + 101, [])
        show(beside, series(), i, i + 1, said)
    assert said == alone(name)


@pytest.mark.parametrize(
    ("name", "saved_at"), [*((n, TURN) for n in QUICK), ("mixture", 365), ("mixture", 371), ("arima", 365)]
)
def test_saved_before_the_future_it_goes_on_into_another_one_as_if_that_had_been_the_only_one(
    name: str, saved_at: int
) -> None:
    """Also while a refit is under way: it must not see what came between the moment it stands for and its own."""
    saved = new(name)
    said: Said = []
    show(saved, series(), 0, saved_at, [])
    text = msgspec.json.encode(saved.state())
    show(saved, series("a thousand times more"), saved_at, saved_at + 20, [])
    restored = new(name)
    restored.restore(msgspec.json.decode(text, type=ForecasterState))
    show(restored, series(), saved_at, BINS, said)
    assert said == alone(name)[saved_at:]


def test_a_refit_computed_late_or_early_beside_the_ticks_knows_only_the_moment_it_became_due() -> None:
    early, late = (new("mixture") for _ in range(2))
    waited = 0
    for i, value in enumerate(series().tolist()):
        for forecaster in (early, late):
            forecaster.observe((i + 1) * 60.0, value)
        if early.needs_refit():  # type: ignore[attr-defined]
            early.refit()  # type: ignore[attr-defined]
        waited = waited + 1 if late.needs_refit() else 0  # type: ignore[attr-defined]
        if waited == 9:
            late.refit()  # type: ignore[attr-defined]
        assert early.quantiles(HORIZONS_S, LEVELS) == late.quantiles(HORIZONS_S, LEVELS)
    assert msgspec.json.encode(early.state()) == msgspec.json.encode(late.state())
