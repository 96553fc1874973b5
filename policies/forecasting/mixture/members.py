"""The members' point forecasts of the largest bin ahead, and the direct regression that draws on all of them.

Members: last value, largest of 10 minutes, Holt, ARIMA(1,1,1), Holt-Winters by time of day, profile plus today's
difference, profile times today's ratio, and `stack`: least squares with forgetting on the others, on recent means and
maxima, on the profile and on the shape of the hour (minute by minute, the last day). Not for their errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policies.forecasting.base import Floats
from policies.forecasting.mixture.grid import DAY_S, Grid, Ints
from policies.forecasting.mixture.kept import Kept
from policies.forecasting.mixture.memory import SeriesMemory
from policies.forecasting.mixture.recursions import Recursions
from policies.forecasting.mixture.regression import Regressions

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
        self._grid = grid
        slots = grid.hour_slots
        self.sums: Floats = np.zeros(slots)
        self.weights: Floats = np.zeros(slots)
        self.ratios: Floats = np.ones(slots)
        self._ahead = np.arange(1, grid.farthest + 1)
        self._last = grid.reach - 1

    def learn(self, memory: SeriesMemory) -> None:
        """The step in the middle of the last hour."""
        slots = self._grid.hour_slots
        if slots < 4 or memory.steps < slots:
            return
        hour = memory.past(slots)
        here = float(hour[slots - 1 - slots // 2])
        mean = float(np.add.reduce(hour)) / slots
        if here == here and mean > 0:
            slot = self._grid.hour_slot(memory.step - slots // 2)
            self.sums[slot] = _KEEP_HOUR_SHAPE * self.sums[slot] + here / mean
            self.weights[slot] = _KEEP_HOUR_SHAPE * self.weights[slot] + 1.0
            self.ratios[slot] = min(max(self.sums[slot] / self.weights[slot], _LEAST_RATIO), _MOST_RATIO)

    def highest(self, step: int) -> Floats:
        """Largest ratio of the next steps, for every horizon; 1 where unknown."""
        slots = (self._grid.hour_slot(step) + self._ahead) % self._grid.hour_slots
        return np.asarray(np.maximum.accumulate(self.ratios[slots])[self._last])


@dataclass(frozen=True, slots=True)
class _Steady:
    """What the step that closed last says: recursions (2, horizons), shape of the hour, profile ahead and behind."""

    steps: int
    recursions: Floats | None
    shape: Floats
    highest: Floats | None = None
    now: float = 0.0
    near: float = 0.0
    seasonal: Floats | None = None
    patchy: bool = False


class Members:
    """`points` gives (horizons, members) and what `stack` learns from; `learn` its outcome."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self.stack = Regressions(grid.size, STACK_INPUTS, 1.0, 1000.0)
        self._keep = 0.5 ** (grid.step_s / _HALF_LIFE_S)
        self._last = grid.reach - 1
        self._five = max(1, round(300.0 / grid.step_s))
        self._steady: _Steady | None = None

    def points(self, memory: SeriesMemory, recursions: Recursions, shape: HourShape) -> tuple[Floats, Floats, float]:
        """Point forecasts, inputs of `stack` (horizons, inputs), the last value."""
        mean = memory.unit
        windows = memory.windows
        hour = memory.last(windows[60])
        x = float(hour[-1])
        half = hour[-windows[30] :]
        ten, quarter, five = half[-windows[10] :], half[-windows[15] :], half[-windows[5] :]
        m5 = float(np.add.reduce(five)) / len(five)
        m15 = float(np.add.reduce(quarter)) / len(quarter)
        m60 = float(np.add.reduce(hour)) / len(hour)
        max10 = float(np.maximum.reduce(ten))
        max30 = float(np.maximum.reduce(half))
        if self._steady is None or self._steady.steps != memory.steps:
            self._steady = self._of_step(memory, recursions, shape)
        steady = self._steady
        points = np.empty((len(MEMBERS), self._grid.size))
        inputs = np.empty((STACK_INPUTS, self._grid.size))
        points[0] = x
        points[1] = max10
        points[2:4] = steady.recursions if steady.recursions is not None else x
        inputs[:5] = ((m5,), (m15,), (m60,), (max10,), (max30,))
        if steady.highest is None:
            points[4:7] = inputs[7:9] = m15
        else:
            highest, now, near = steady.highest, *(v if v == v else m15 for v in (steady.now, steady.near))
            if steady.patchy:
                highest = np.where(highest == highest, highest, m15)
            points[4] = steady.seasonal if steady.seasonal is not None else m15
            np.add(highest, m5 - near, out=points[5])
            np.multiply(highest, min(max(m15 / max(now, 0.02 * mean), 0.2), 5.0), out=points[6])
            inputs[7] = highest
            inputs[8] = now
        inputs[5:7] = points[2:4]
        inputs[9:11] = points[4:6]
        np.multiply(steady.shape, m15, out=inputs[11])
        inputs -= x
        inputs /= mean
        inputs[12] = 1.0
        np.minimum(np.maximum(inputs, -_FAR, out=inputs), _FAR, out=inputs)
        given = inputs.T.copy()
        most = _MOST_TIMES_SEEN * max(max30, float(np.maximum.reduce(points[:STACK], axis=None)))
        np.minimum(x + mean * self.stack.predict(given), most, out=points[STACK])
        return np.maximum(points, 0.0, out=points).T.copy(), given, x

    def forget(self) -> None:
        """A memory was taken in: what was derived is derived anew."""
        self._steady = None

    def _of_step(self, memory: SeriesMemory, recursions: Recursions, shape: HourShape) -> _Steady:
        """What stays the same until the next step closes."""
        both = np.empty((2, self._grid.size)) if recursions.started else None
        if both is not None:
            both[0], both[1] = recursions.holt(), recursions.arima()
        ratios = shape.highest(memory.step)
        if not memory.seasonal:
            return _Steady(memory.steps, both, ratios)
        behind = memory.behind()
        now = float(np.add.reduce(behind)) / len(behind)
        recent = behind[-self._five :]
        near = float(np.add.reduce(recent)) / len(recent)
        highest = np.fmax.accumulate(memory.ahead())[self._last]
        seasonal = recursions.seasonal(memory.step) if recursions.has_season else None
        patchy = not float(np.add.reduce(highest)) >= 0.0
        return _Steady(memory.steps, both, ratios, highest, now, near, seasonal, patchy)

    def learn(self, rows: Ints | slice, inputs: Floats, change: Floats, most: Floats) -> None:
        """`change` = (outcome - last value at the origin) / mean; `most` = error that counts in full."""
        self.stack.update(rows, inputs, change, self._keep, most)


_FAR = 50.0
"""Inputs further than this many means from the last value are cut: after weeks of silence the unit is tiny."""
