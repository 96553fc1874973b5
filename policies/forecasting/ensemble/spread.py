"""How large an error to expect of each member now: learned from recent errors and from errors by the clock.

For every horizon and member a regression that forgets predicts the logarithm of the next error's size (errors above
count fully, those below by 0.3) from: faded sizes of 20 min, 1 h, 4 h; sizes at this minute of the hour over the last
day, at this time of earlier days; the level; how far the members disagree. So a band is narrow in calm hours and wide
before the storm that comes at :02 of each second hour. Not for the shape of errors (blend.py).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from policies.forecasting.base import Floats
from policies.forecasting.ensemble.grid import DAY_S, Grid, Ints
from policies.forecasting.ensemble.regression import Regressions
from policies.forecasting.ensemble.serialization import Rows, Shared, numbers_of

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


class Spread(Shared):
    """`sizes(...)` at a moment gives scales and the inputs to learn from; `learn(...)` when the outcome is known.

    For `slots` forecasters; a row is a horizon of one of them.
    """

    axes: ClassVar = {"faded": 1, "seen": 0, "table": 2, "table_weights": 1}
    numbers = ("begun",)

    def __init__(self, grid: Grid, members: int, slots: int = 1) -> None:
        self._grid = grid
        self._members = members
        self.slots = slots
        rows, clock = slots * grid.size, grid.hour_slots + grid.season_slots
        self.faded: Floats = np.zeros((len(_FADES_S), rows, members))
        self.seen: Floats = np.ones(rows)
        self.begun = np.zeros(slots, dtype=np.bool_)
        """By slot."""
        self.table = np.zeros((clock, 2, rows, members), dtype=np.float32)
        """By slot of the hour, then of the season: faded sums of sizes, and of sizes above."""
        self.table_weights = np.zeros((clock, rows), dtype=np.float32)
        self.regressions = Regressions(rows * members, INPUTS, _PRIOR_VARIANCE, 100.0, slots)
        self._fresh = 1 - 0.5 ** (grid.step_s / np.array(_FADES_S))[:, None, None]
        self._keep = 0.5 ** (grid.step_s / _HALF_LIFE_S)
        slot_steps = max(1, round(grid.season_s / grid.season_slots / grid.step_s))
        self._keep_rows = np.array([[_KEEP_HOUR], [_KEEP_SEASON ** (1 / slot_steps)]], dtype=np.float32)
        self._wide = min(round(_WIDE_S / (grid.season_s / grid.season_slots)), (grid.season_slots - 1) // 2)
        self._near = 1 if grid.hour_slots >= 30 else 0
        prior = np.array(_CLOCK_PRIORS, dtype=np.float32)
        self._prior_weight = prior[:, None]
        self._prior_size = (np.array([1.0, 0.5])[:, None] * prior)[:, :, None, None]

    def begin(self, slot: int, mean: float) -> None:
        """The first value: before any error was seen, half of it is what to expect."""
        size = self._grid.size
        self.faded[:, slot * size : (slot + 1) * size] = _PRIOR_SIZE * mean
        self.begun[slot] = True

    def steady(self, rows: Rows, step: int, mean: Floats) -> tuple[Floats, Floats]:
        """The day's size, and logarithms of the inputs that only a step or an outcome changes, relative to it.

        `mean` for each row. Shapes (rows, members), (10, rows, members).
        """
        tiny = (_TINY * mean)[:, None]
        faded = self.faded[:, rows]
        base = faded[_DAY] + tiny
        logs = np.empty((10, *base.shape))
        logs[:4] = faded[:4]
        logs[4:] = self._by_clock(rows, step, faded[_DAY])
        logs += tiny
        logs /= base
        return base, np.log(logs, out=logs)

    def sizes(
        self, rows: Rows, steady: tuple[Floats, Floats], points: Floats, mean: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """For point forecasts (rows, members) and means of the rows: learned scale, size of the last hour, inputs.

        Inputs are (rows x members, INPUTS).
        """
        count, members = points.shape
        base, logs = steady
        inputs = np.empty((INPUTS, count, members))
        inputs[:10] = logs
        changing = inputs[10:12]
        np.multiply(points, mean[:, None], out=changing[0])
        changing[0] += (0.05 * mean * mean)[:, None]
        np.sqrt(changing[0], out=changing[0])
        centred = points - (np.add.reduce(points, axis=1) / members)[:, None]
        apart = np.sqrt(np.einsum("hm,hm->h", centred, centred) / members)
        np.add(apart[:, None], 0.05 * base, out=changing[1])
        changing /= base
        np.log(changing, out=changing)
        inputs[12] = 1.0
        given = inputs.reshape(INPUTS, -1).T.copy()
        log_size = self.regressions.predict(_each(rows, members), given).reshape(count, members)
        np.minimum(np.maximum(log_size, -_MOST_LOG, out=log_size), _MOST_LOG, out=log_size)
        hour = self.faded[1, rows] + (20 * (_TINY * mean))[:, None]
        return base * np.exp(log_size), hour, given

    def learn(self, rows: Rows, origins: Ints, errors: Floats, base: Floats, inputs: Floats) -> None:
        """Outcomes of `rows`, forecast at steps `origins`; arrays have a row for each of them."""
        members = self._members
        sizes = np.empty((len(_FADES_S), len(errors), members))
        np.abs(errors, out=sizes[0])
        sizes[1:] = sizes[0]
        above = np.maximum(errors, 0.0, out=sizes[_ABOVE])
        actual = np.log(np.maximum(errors, -_BELOW * errors) / base + _FLOOR).reshape(-1)
        most = np.full(len(actual), _MOST_ERROR)
        self.regressions.update(_each(rows, members), inputs, actual, self._keep, most)
        self.seen[rows] += 1.0
        fresh = np.maximum(self._fresh, (1.0 / self.seen[rows])[:, None])
        self.faded[:, rows] += fresh * (sizes - self.faded[:, rows])
        self._learn_clock(numbers_of(rows), origins, sizes[0], above)

    def _learn_clock(self, at: Ints, origins: Ints, sizes: Floats, above: Floats) -> None:
        """Steps come again and again: a horizon's is the same for all forecasters."""
        grid, steps = self._grid, origins.tolist()
        of = {s: (grid.hour_slot(s), grid.hour_slots + grid.season_slot(s)) for s in set(steps)}
        slots = np.array([of[s] for s in steps], dtype=np.int64).T
        new = self.table[slots, :, at]
        new *= self._keep_rows[:, :, None, None]
        new[:, :, 0] += sizes
        new[:, :, 1] += above
        self.table[slots, :, at] = new
        self.table_weights[slots, at] = self._keep_rows * self.table_weights[slots, at] + 1.0

    def _by_clock(self, rows: Rows, step: int, day: Floats) -> Floats:
        """Mean sizes by the clock (6, rows, members), drawn to the day's size where few were seen.

        Of all: this minute and its neighbours, a wide time of day, this minute, this time of day. Of those above: the
        first two.
        """
        grid = self._grid
        hour, season = grid.hour_slot(step), grid.season_slot(step)
        near = [(hour + i) % grid.hour_slots for i in range(-self._near, self._near + 1)]
        wide = [grid.hour_slots + (season + i) % grid.season_slots for i in range(-self._wide, self._wide + 1)]
        slots, split = np.array(near + wide), len(near)
        sums = _by_kind(self.table[slots][..., rows, :], split)
        weights = _by_kind(self.table_weights[slots][..., rows], split)
        weights += self._prior_weight
        both = self._prior_size * day
        both += sums.transpose(1, 0, 2, 3)
        both /= weights[:, :, None]
        return np.asarray(both.reshape(8, *day.shape)[:6])


def _by_kind(slots: NDArray[np.float32], split: int) -> NDArray[np.float32]:
    """Sums over the slots of the hour, of the season, and the one in the middle of each.

    In C order, for the order of additions follows from the layout: alone and in company it is to be the same.
    """
    slots = np.ascontiguousarray(slots)
    hour, season = slots[:split], slots[split:]
    sums = np.empty((4, *slots.shape[1:]), dtype=np.float32)
    np.add.reduce(hour, axis=0, out=sums[0])
    np.add.reduce(season, axis=0, out=sums[1])
    sums[2], sums[3] = hour[split // 2], season[len(season) // 2]
    return sums


def _each(rows: Rows, members: int) -> Rows:
    """Rows of the regressions: one for each row and member."""
    if isinstance(rows, slice):
        return slice(rows.start * members, rows.stop * members)
    return np.asarray((rows[:, None] * members + np.arange(members)).reshape(-1))


def level_size(points: Floats, mean: Floats) -> Floats:
    """The size of an error by the level alone, `mean` of each row: counting noise grows with the square root."""
    return np.asarray(np.sqrt(points * mean[:, None] + (0.05 * mean * mean)[:, None]))
