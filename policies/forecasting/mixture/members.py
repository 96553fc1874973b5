"""The members' point forecasts of the largest bin ahead, and the direct regression that draws on all of them.

Members: last value, largest of 10 minutes, Holt, ARIMA(1,1,1), Holt-Winters by time of day, profile plus today's
difference, profile times today's ratio, and `stack`: least squares with forgetting on the others, on recent means and
maxima, on the profile and on the shape of the hour (minute by minute, the last day). Not for their errors.
"""

from __future__ import annotations

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


class Members:
    """`points` gives (horizons, members) and what `stack` learns from; `learn` its outcome."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self.stack = Regressions(grid.size, STACK_INPUTS, 1.0, 1000.0)
        self._keep = 0.5 ** (grid.step_s / _HALF_LIFE_S)
        self._last = grid.reach - 1
        self._five = max(1, round(300.0 / grid.step_s))

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
        points = np.empty((len(MEMBERS), self._grid.size))
        inputs = np.empty((STACK_INPUTS, self._grid.size))
        points[0] = x
        points[1] = max10
        if recursions.started:
            points[2] = recursions.holt()
            points[3] = recursions.arima()
        else:
            points[2:4] = x
        inputs[:5] = ((m5,), (m15,), (m60,), (max10,), (max30,))
        self._seasonal(memory, recursions, points, inputs, m5, m15)
        inputs[5:7] = points[2:4]
        inputs[9:11] = points[4:6]
        np.multiply(shape.highest(memory.step), m15, out=inputs[11])
        inputs -= x
        inputs /= mean
        inputs[12] = 1.0
        np.minimum(np.maximum(inputs, -_FAR, out=inputs), _FAR, out=inputs)
        given = inputs.T.copy()
        most = _MOST_TIMES_SEEN * max(max30, float(points[:STACK].max()))
        np.minimum(x + mean * self.stack.predict(given), most, out=points[STACK])
        return np.maximum(points, 0.0, out=points).T.copy(), given, x

    def learn(self, rows: Ints | slice, inputs: Floats, change: Floats, most: Floats) -> None:
        """`change` = (outcome - last value at the origin) / mean; `most` = error that counts in full."""
        self.stack.update(rows, inputs, change, self._keep, most)

    def _seasonal(
        self, memory: SeriesMemory, recursions: Recursions, points: Floats, inputs: Floats, m5: float, m15: float
    ) -> None:
        """The three that know the season, and the profile itself; before there is one, the level of 15 minutes."""
        if not memory.seasonal:
            points[4:7] = m15
            inputs[7:9] = m15
            return
        ahead = memory.ahead()
        behind = memory.behind()
        now = float(np.add.reduce(behind)) / len(behind)
        near = behind[-self._five :]
        five = float(np.add.reduce(near)) / len(near)
        if not (now == now and float(np.add.reduce(ahead)) >= 0.0):
            ahead = np.where(ahead == ahead, ahead, m15)
            now, five = (now, five) if now == now else (m15, m5)
        highest = np.maximum.accumulate(ahead)[self._last]
        ratio = min(max(m15 / max(now, 0.02 * memory.mean, 1e-300), 0.2), 5.0)
        points[4] = recursions.seasonal(memory.step) if recursions.has_season else m15
        points[5] = highest + (m5 - five)
        points[6] = highest * ratio
        inputs[7] = highest
        inputs[8] = now


_FAR = 50.0
"""Inputs further than this many means from the last value are cut: after weeks of silence the unit is tiny."""
