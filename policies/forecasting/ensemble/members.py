"""The members' point forecasts of the largest bin ahead, and the direct regression that draws on all of them.

Members: last value, largest of 10 minutes, Holt, ARIMA(1,1,1), Holt-Winters by time of day, profile plus today's
difference, profile times today's ratio, and `stack`: least squares with forgetting on the others, on recent means and
maxima, on the profile and on the shape of the hour (minute by minute, the last day). Not for their errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.forecasting.base import Floats
from policies.forecasting.ensemble.grid import DAY_S, Grid
from policies.forecasting.ensemble.memory import SeriesMemory, latest, places_of
from policies.forecasting.ensemble.recursions import Recursions, largest_by_season, largest_by_trend
from policies.forecasting.ensemble.regression import Regressions
from policies.forecasting.ensemble.serialization import Kept, Rows

MEMBERS = ("last", "max10", "holt", "arima", "holt_winters", "profile_shift", "profile_scale", "stack")
STACK = MEMBERS.index("stack")
SEASONAL = tuple(MEMBERS.index(m) for m in ("holt_winters", "profile_shift", "profile_scale"))
STACK_INPUTS = 13
RISE_TO, RISE_FROM = 7, 8
"""Inputs that hold the profile's largest value ahead and its value now."""
_HALF_LIFE_S = DAY_S
_MOST_TIMES_SEEN = 4.0
_KEEP_HOUR_SHAPE = 0.93
_LEAST_RATIO, _MOST_RATIO = 0.2, 8.0


class HourShape(Kept):
    """How each minute of the hour compares with its hour, faded by 7 % an hour; known half an hour later."""

    arrays = ("sums", "weights", "ratios")

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        slots = grid.hour_slots
        self.sums = [0.0] * slots
        self.weights = [0.0] * slots
        self.ratios: Floats = np.ones(slots)

    def learn(self, slot: int, ratio: float) -> None:
        """A step in this part of the hour was so many times the mean of the hour about it."""
        total = self.sums[slot] = _KEEP_HOUR_SHAPE * self.sums[slot] + ratio
        weight = self.weights[slot] = _KEEP_HOUR_SHAPE * self.weights[slot] + 1.0
        self.ratios[slot] = min(max(total / weight, _LEAST_RATIO), _MOST_RATIO)


def learn_shapes(series: Sequence[Own]) -> None:
    """The step in the middle of the last hour, of each; all are of one grid and at the same step."""
    grid, step = series[0].shape.grid, series[0].memory.step
    slots = grid.hour_slots
    old = [one for one in series if one.memory.steps >= slots]
    if slots < 4 or not old:
        return
    places = places_of(step - slots + 1, slots, old[0].memory.span)
    hours = np.array([one.memory.history.take(places) for one in old], dtype=np.float64)
    means = (np.add.reduce(hours, axis=1) / slots).tolist()
    slot = grid.hour_slot(step - slots // 2)
    for one, here, mean in zip(old, hours[:, slots - 1 - slots // 2].tolist(), means, strict=True):
        if here == here and mean > 0:
            one.shape.learn(slot, here / mean)


def highest_ratios(shapes: Sequence[HourShape], step: int) -> Floats:
    """Largest ratio of the next steps of several of one grid, (series, horizons); 1 where unknown."""
    grid = shapes[0].grid
    slots = places_of(grid.hour_slot(step) + 1, grid.farthest, grid.hour_slots)
    ratios = np.array([shape.ratios for shape in shapes]).take(slots, axis=1)
    return np.maximum.accumulate(ratios, axis=1).take(grid.reach - 1, axis=1)


@dataclass(frozen=True, slots=True)
class Own:
    """What the members know of one series: its bins and profile, its recursions, the shape of its hour."""

    memory: SeriesMemory
    recursions: Recursions
    shape: HourShape


@dataclass(frozen=True, slots=True)
class Steady:
    """What the steps that closed last say of several series: stays the same until a next one closes.

    Arrays (series, horizons), or one number each; NaN where there is no such thing.
    """

    mean: Floats
    started: NDArray[np.bool_]
    holt: Floats
    arima: Floats
    shape: Floats
    seasonal: NDArray[np.bool_]
    """Whether the profile is known; `highest`, `now`, `near` are of it."""
    highest: Floats
    now: Floats
    near: Floats
    holt_winters: Floats


class Members:
    """`points` gives (rows, members) and what `stack` learns from; a row is a horizon of one of `slots` series."""

    def __init__(self, grid: Grid, slots: int = 1) -> None:
        self._grid = grid
        self.stack = Regressions(slots * grid.size, STACK_INPUTS, 1.0, 1000.0, slots)
        self._keep = 0.5 ** (grid.step_s / _HALF_LIFE_S)
        self._last = grid.reach - 1
        self._five = max(1, round(300.0 / grid.step_s))

    def steady(self, series: Sequence[Own]) -> Steady:
        """What stays the same until the next step closes, of each; all are at the same step."""
        step, count = series[0].memory.step, len(series)
        numbers, arrays = np.empty((3, count)), np.empty((5, count, self._grid.size))
        numbers.fill(np.nan)
        arrays.fill(np.nan)
        flags = np.zeros((2, count), dtype=np.bool_)
        numbers[0] = [one.memory.unit for one in series]
        arrays[0] = highest_ratios([one.shape for one in series], step)
        started = [i for i, one in enumerate(series) if one.recursions.started]
        seasonal = [i for i, one in enumerate(series) if one.memory.seasonal]
        flags[0, started] = flags[1, seasonal] = True
        if started:
            arrays[1, started], arrays[2, started] = largest_by_trend([series[i].recursions for i in started])
        if seasonal:
            memories = [series[i].memory for i in seasonal]
            profiles = np.array([memory.profile for memory in memories])
            behind = profiles.take(memories[0].places_behind(), axis=1)
            recent = behind[:, -self._five :]
            numbers[1, seasonal] = np.add.reduce(behind, axis=1) / behind.shape[1]
            numbers[2, seasonal] = np.add.reduce(recent, axis=1) / recent.shape[1]
            ahead = profiles.take(memories[0].places_ahead(), axis=1)
            arrays[3, seasonal] = np.fmax.accumulate(ahead, axis=1).take(self._last, axis=1)
            known = [i for i in seasonal if series[i].recursions.has_season]
            if known:
                arrays[4, known] = largest_by_season([series[i].recursions for i in known], step)
        (mean, now, near), (shape, holt, arima, highest, holt_winters) = numbers, arrays
        return Steady(mean, flags[0], holt, arima, shape, flags[1], highest, now, near, holt_winters)

    def points(self, rows: Rows, steady: Steady, memories: Sequence[SeriesMemory]) -> tuple[Floats, Floats, Floats]:
        """Point forecasts, inputs of `stack` (rows, inputs), and each series' last value.

        Where the profile or what is made of it is unknown, the mean of the last quarter of an hour stands for it.
        """
        lately = _lately(memories)[:, :, None]
        x, m5, m15, _, max10, max30 = lately
        mean = steady.mean[:, None]
        points = np.empty((len(MEMBERS), len(memories), self._grid.size))
        inputs = np.empty((STACK_INPUTS, len(memories), self._grid.size))
        points[0] = x
        points[1] = max10
        points[2] = np.where(steady.started[:, None], steady.holt, x)
        points[3] = np.where(steady.started[:, None], steady.arima, x)
        inputs[:5] = lately[1:]
        highest = _known(steady.highest, m15)
        now, near = _known(steady.now[:, None], m15), _known(steady.near[:, None], m15)
        points[4] = _known(steady.holt_winters, m15)
        np.add(highest, m5 - near, out=points[5])
        ratio = np.minimum(np.maximum(m15 / np.maximum(now, 0.02 * mean), 0.2), 5.0)
        np.multiply(highest, ratio, out=points[6])
        if not steady.seasonal.all():
            points[4:7, ~steady.seasonal] = m15[~steady.seasonal]
        inputs[7] = highest
        inputs[8] = now
        inputs[5:7] = points[2:4]
        inputs[9:11] = points[4:6]
        np.multiply(steady.shape, m15, out=inputs[11])
        inputs -= x
        with np.errstate(over="ignore"):  # next to nothing came; bounded below
            inputs /= mean
        inputs[12] = 1.0
        np.minimum(np.maximum(inputs, -_FAR, out=inputs), _FAR, out=inputs)
        given = inputs.reshape(STACK_INPUTS, -1).T.copy()
        most = _MOST_TIMES_SEEN * np.maximum(max30, np.maximum.reduce(points[:STACK], axis=(0, 2))[:, None])
        stacked = self.stack.predict(rows, given).reshape(len(memories), -1)
        np.minimum(x + mean * stacked, most, out=points[STACK])
        np.maximum(points, 0.0, out=points)
        return points.reshape(len(MEMBERS), -1).T.copy(), given, x[:, 0]

    def learn(self, rows: Rows, inputs: Floats, change: Floats, most: Floats) -> None:
        """`change` = (outcome - last value at the origin) / mean; `most` = error that counts in full."""
        self.stack.update(rows, inputs, change, self._keep, most)


def _lately(memories: Sequence[SeriesMemory]) -> Floats:
    """Of each series the last bin, means of 5, 15 and 60 minutes, maxima of 10 and 30: (6, series)."""
    windows = memories[0].windows
    hour = latest(memories, windows[60])
    if hour is None:
        return np.concatenate([_lately([memory]) for memory in memories], axis=1)
    half = hour[:, -windows[30] :]
    ten, quarter, five = half[:, -windows[10] :], half[:, -windows[15] :], half[:, -windows[5] :]
    means = [np.add.reduce(window, axis=1) / window.shape[1] for window in (five, quarter, hour)]
    maxima = [np.maximum.reduce(window, axis=1) for window in (ten, half)]
    return np.array([hour[:, -1], *means, *maxima])


def _known(values: Floats, otherwise: Floats) -> Floats:
    return np.asarray(np.where(values == values, values, otherwise))


_FAR = 50.0
"""Inputs further than this many means from the last value are cut: after weeks of silence the unit is tiny."""
