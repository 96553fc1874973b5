"""How large an error to expect of each member now: learned from recent errors and from errors by the clock.

For every horizon and member a regression that forgets predicts the logarithm of the next error's size (errors above
count fully, those below by 0.3) from: faded sizes of 20 min, 1 h, 4 h; sizes at this minute of the hour over the last
day, at this time of earlier days; the level; how far the members disagree. So a band is narrow in calm hours and wide
before the storm that comes at :02 of each second hour. Not for the shape of errors (blend.py).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policies.forecasting.base import Floats
from policies.forecasting.mixture.grid import DAY_S, Grid, Ints
from policies.forecasting.mixture.kept import Kept
from policies.forecasting.mixture.regression import Regressions

INPUTS = 13
_FADES_S = (1200.0, 3600.0, 4 * 3600.0, 3600.0, DAY_S)
"""Half-lives of the faded sizes; the fourth is of errors above only, the last is the unit of the others."""
_ABOVE, _DAY = 3, 4
_TINY = 0.001
"""Smallest size that counts, as a share of the mean: keeps logarithms finite on series without noise."""
_BELOW = 0.3
_FLOOR = 0.015
_HALF_LIFE_S = 2 * DAY_S
_PRIOR_SIZE = 0.5
_PRIOR_VARIANCE = 0.05
_KEEP_HOUR = 0.5 ** (1 / 24)
_KEEP_SEASON = 0.6
_WIDE_S = 1200.0
_MOST_LOG = 5.0
_MOST_ERROR = 8.0
_CLOCK_PRIORS = (1.0, 0.2, 1.0, 0.2)
"""Weight of the day's size in: minute and neighbours, wide time of day, this minute, this time of day."""


class Spread(Kept):
    """`sizes(...)` at a moment gives scales and the inputs to learn from; `learn(...)` when the outcome is known."""

    arrays = ("faded", "seen", "table", "table_weights")
    numbers = ("begun",)

    def __init__(self, grid: Grid, members: int) -> None:
        self._grid = grid
        self._members = members
        horizons, slots = grid.size, grid.hour_slots + grid.season_slots
        self.faded: Floats = np.zeros((len(_FADES_S), horizons, members))
        self.seen: Floats = np.ones(horizons)
        self.begun = False
        self.table = np.zeros((slots, 2, horizons, members), dtype=np.float32)
        """By slot of the hour, then of the season: faded sums of sizes, and of sizes above."""
        self.table_weights = np.zeros((slots, horizons), dtype=np.float32)
        self.regressions = Regressions(horizons * members, INPUTS, _PRIOR_VARIANCE, 100.0)
        self._fresh = 1 - 0.5 ** (grid.step_s / np.array(_FADES_S))[:, None, None]
        self._keep = 0.5 ** (grid.step_s / _HALF_LIFE_S)
        slot_steps = max(1, round(grid.season_s / grid.season_slots / grid.step_s))
        self._keep_rows = np.array([[_KEEP_HOUR], [_KEEP_SEASON ** (1 / slot_steps)]], dtype=np.float32)
        self._wide = min(round(_WIDE_S / (grid.season_s / grid.season_slots)), (grid.season_slots - 1) // 2)
        self._near = 1 if grid.hour_slots >= 30 else 0
        self._pick = self._selection()
        prior = np.array(_CLOCK_PRIORS, dtype=np.float32)
        self._prior_weight = prior[:, None]
        self._prior_size = (np.array([1.0, 0.5])[:, None] * prior)[:, :, None, None]
        self._horizons = np.arange(horizons)
        self._most = np.full(horizons * members, _MOST_ERROR)
        self._fixed: tuple[tuple[int, int], Floats, Floats] | None = None

    def _selection(self) -> NDArray[np.float32]:
        """Which gathered slots are summed into: minute and neighbours, wide time of day, minute, time of day."""
        hours, seasons = 2 * self._near + 1, 2 * self._wide + 1
        pick = np.zeros((4, hours + seasons), dtype=np.float32)
        pick[0, :hours] = 1.0
        pick[1, hours:] = 1.0
        pick[2, self._near] = 1.0
        pick[3, hours + self._wide] = 1.0
        return pick

    def begin(self, mean: float) -> None:
        """The first value: before any error was seen, half of it is what to expect."""
        self.faded[:] = _PRIOR_SIZE * mean
        self.begun = True

    def sizes(self, step: int, points: Floats, mean: float) -> tuple[Floats, Floats, Floats, Floats]:
        """For point forecasts (horizons, members): learned scale, faded size of the last hour, of the day, inputs.

        Inputs are (horizons x members, INPUTS).
        """
        horizons, members = points.shape
        tiny = _TINY * mean
        if self._fixed is None or self._fixed[0] != (step, self.regressions.updates):
            self._fixed = ((step, self.regressions.updates), *self._of_step(step, tiny))
        _, base, logs = self._fixed
        inputs = np.empty((INPUTS, horizons, members))
        inputs[:10] = logs
        changing = inputs[10:12]
        np.multiply(points, mean, out=changing[0])
        changing[0] += 0.05 * mean * mean
        np.sqrt(changing[0], out=changing[0])
        centred = points - (np.add.reduce(points, axis=1) / members)[:, None]
        apart = np.sqrt(np.einsum("hm,hm->h", centred, centred) / members)
        np.add(apart[:, None], 0.05 * base, out=changing[1])
        changing /= base
        np.log(changing, out=changing)
        inputs[12] = 1.0
        given = inputs.reshape(INPUTS, -1).T.copy()
        log_size = self.regressions.predict(given).reshape(horizons, members)
        np.minimum(np.maximum(log_size, -_MOST_LOG, out=log_size), _MOST_LOG, out=log_size)
        return base * np.exp(log_size), self.faded[1] + 20 * tiny, base, given

    def forget(self) -> None:
        """A memory was taken in: what was derived is derived anew."""
        self._fixed = None

    def _of_step(self, step: int, tiny: float) -> tuple[Floats, Floats]:
        """The day's size, and logarithms of the inputs that only a step changes, relative to it."""
        base = self.faded[_DAY] + tiny
        logs = np.empty((10, *base.shape))
        logs[:4] = self.faded[:4]
        logs[4:] = self._by_clock(step)
        logs += tiny
        logs /= base
        return base, np.log(logs, out=logs)

    def learn(self, rows: Ints | slice, origins: Ints, errors: Floats, base: Floats, inputs: Floats) -> None:
        """Outcomes of horizons `rows`, forecast at steps `origins`; arrays have a row for each of them."""
        members = self._members
        sizes = np.empty((len(_FADES_S), len(errors), members))
        np.abs(errors, out=sizes[0])
        sizes[1:] = sizes[0]
        above = np.maximum(errors, 0.0, out=sizes[_ABOVE])
        actual = np.log(np.maximum(errors, -_BELOW * errors) / base + _FLOOR).reshape(-1)
        which: Ints | slice = rows
        if not isinstance(rows, slice):
            which = (rows[:, None] * members + np.arange(members)).reshape(-1)
        self.regressions.update(which, inputs, actual, self._keep, self._most[: len(actual)])
        self.seen[rows] += 1.0
        fresh = np.maximum(self._fresh, (1.0 / self.seen[rows])[:, None])
        self.faded[:, rows] += fresh * (sizes - self.faded[:, rows])
        self._learn_clock(rows, origins, sizes[0], above)

    def _learn_clock(self, rows: Ints | slice, origins: Ints, sizes: Floats, above: Floats) -> None:
        grid = self._grid
        steps = origins.tolist()
        slots = np.array(
            [[grid.hour_slot(s) for s in steps], [grid.hour_slots + grid.season_slot(s) for s in steps]], dtype=np.int64
        )
        at = self._horizons[rows]
        new = self.table[slots, :, at]
        new *= self._keep_rows[:, :, None, None]
        new[:, :, 0] += sizes
        new[:, :, 1] += above
        self.table[slots, :, at] = new
        self.table_weights[slots, at] = self._keep_rows * self.table_weights[slots, at] + 1.0

    def _by_clock(self, step: int) -> Floats:
        """Mean sizes by the clock (6, horizons, members), drawn to the day's size where few were seen."""
        grid = self._grid
        hour, season = grid.hour_slot(step), grid.season_slot(step)
        slots = [(hour + i) % grid.hour_slots for i in range(-self._near, self._near + 1)]
        slots += [grid.hour_slots + (season + i) % grid.season_slots for i in range(-self._wide, self._wide + 1)]
        count = len(slots)
        index = np.array(slots)
        sums = self._pick @ self.table.take(index, axis=0).reshape(count, -1)
        weights = self._pick @ self.table_weights.take(index, axis=0)
        weights += self._prior_weight
        both = self._prior_size * self.faded[_DAY]
        both += sums.reshape(4, 2, grid.size, -1).transpose(1, 0, 2, 3)
        both /= weights[:, :, None]
        return np.asarray(both.reshape(8, grid.size, -1)[:6])


def level_size(points: Floats, mean: float) -> Floats:
    """The size of an error by the level alone: counting noise grows with the square root."""
    return np.asarray(np.sqrt(points * mean + 0.05 * mean * mean))
