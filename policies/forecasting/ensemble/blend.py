"""From members to one distribution: quantiles of their scaled errors, weights by loss, and a last correction.

- Windows: the last errors of each column (member x calibration), divided by their expected size; order statistics at
  rank (n + 1) * level (split conformal). A few columns are sorted anew at each step.
- Weights: (least loss / loss) ** power, of the faded pinball loss at the upper levels (quantile averaging); two sets,
  one for when the profile rises, so that members which know the season get their due exactly then.
- Stretch: each quantile's distance from the median is widened after a miss, narrowed after a hit, so that coverage
  comes out right in the long run (adaptive conformal inference, Gibbs and Candes 2021); by hour of the day, by five
  minutes of the hour, and by how wide the band is, so that it also comes out right in each of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from policies.forecasting.base import Floats
from policies.forecasting.ensemble.grid import DAY_S, LEVELS, MEDIAN, SCORES, UPPER, Grid, Ints
from policies.forecasting.ensemble.serialization import Rows, Shared, numbers_of

WINDOW = 720
_THIN_S = 240.0
"""Once the window is full, one error in this time enters it: it spans two days."""
_FEW, _SOME = 20, 200
"""Errors needed for order statistics; up to how many all columns are sorted at each step."""
_CHUNK = 5
_SORT_EVERY = 4
_FAR = 6e4
_POWER = 20.0
_HALF_LIFE_S = DAY_S / 2
_SETTLE = 30
_OTHER_SHARE = 0.03
"""How much an outcome counts in the set of weights that it does not belong to."""
_STRETCH_STEP = 0.014
_STRETCH_MOST = 0.7
"""Largest logarithm of each of the three stretches."""
_HOURS, _FIVES, _WIDTHS = 24, 12, 8
_WIDTH_HALF_LIFE_S = 2 * DAY_S
_HASH = 2654435761
"""Knuth's multiplicative hash: which steps enter a full window is the same for all series, and in no rhythm."""


_UPPER_LEVELS = LEVELS[UPPER]
_Q95 = UPPER.start + 1


@dataclass(frozen=True, slots=True)
class Context:
    """What forecasts were made in: `rising` (rows; 0 or 1), and rows of the stretch: hour, five minutes, width."""

    rising: Ints
    hour: int
    five: int
    width: Ints


class Blend(Shared):
    """`columns` = how many members with a scale there are. For `slots` forecasters; a row is a horizon of one."""

    axes: ClassVar = {
        "errors": 0,
        "dates": 0,
        "filled": 0,
        "quantiles": 0,
        "loss": 1,
        "judged": 1,
        "weights": 1,
        "stretch": 1,
        "widths": 1,
    }
    numbers = ("cursor", "turn")

    def __init__(self, grid: Grid, columns: int, slots: int = 1) -> None:
        self.slots = slots
        rows = slots * grid.size
        self._grid = grid
        self._columns = columns
        self.errors = np.zeros((rows, columns, WINDOW), dtype=np.float16)
        self.dates = np.full((rows, WINDOW), -1, dtype=np.int64)
        """The step of each error's origin."""
        self.filled = np.zeros(rows, dtype=np.int64)
        self.quantiles: Floats = np.tile(SCORES, (rows, columns, 1))
        self.loss: Floats = np.zeros((2, rows, columns))
        """Faded loss of each column: at all times but mostly calm ones, and mostly while the profile rises."""
        self.judged: Floats = np.zeros((2, rows))
        self.weights: Floats = np.full((2, rows, columns), 1.0 / columns)
        self.stretch: Floats = np.zeros((_HOURS + _FIVES + _WIDTHS, rows, len(LEVELS)))
        """Logarithms; the three rows of a context add up."""
        self.widths: Floats = np.zeros((3, rows))
        """Mean and variance of the logarithm of the band's width, and how many were seen."""
        self.cursor = np.zeros(slots, dtype=np.int64)
        self.turn = np.zeros(slots, dtype=np.int64)
        """By slot."""
        self._thin = 2**32 // max(1, round(_THIN_S / grid.step_s))
        self._fresh = 1 - 0.5 ** (grid.step_s / _HALF_LIFE_S)
        self._fresh_width = 1 - 0.5 ** (grid.step_s / _WIDTH_HALF_LIFE_S)
        outward = np.where(LEVELS == 0.5, 0.0, np.where(LEVELS > 0.5, _STRETCH_STEP, -_STRETCH_STEP))
        self._after_hit = outward * (LEVELS - 1.0)
        self._after_miss = outward * LEVELS

    def mix(
        self, rows: Rows, step: int, points: Floats, scales: Floats, rising: Ints, unit: Floats
    ) -> tuple[Floats, Floats, Context, Floats]:
        """Column quantiles (rows, columns, levels), blended ones (rows, levels), context, width's logarithm.

        `rows`: all of some forecasters, made at one step; `unit` of each row.
        """
        at = numbers_of(rows)
        each = scales[:, :, None] * self.quantiles[rows]
        each += points[:, :, None]
        np.maximum(each, 0.0, out=each)
        mixed = np.matmul(self.weights[rising, at][:, None, :], each)[:, 0]
        middle = mixed[:, MEDIAN : MEDIAN + 1].copy()
        mixed -= middle
        width = np.log(mixed[:, _Q95] / unit + 1e-6)
        widths = self.widths[:, rows]
        score = (width - widths[0]) / np.sqrt(widths[1] + 1e-12)
        level = np.minimum(np.maximum(2 * score + _WIDTHS / 2, 0.0), _WIDTHS - 1.0).astype(np.int64)
        grid = self._grid
        five = _HOURS + grid.hour_slot(step) * _FIVES // grid.hour_slots
        context = Context(rising, grid.season_slot(step) * _HOURS // grid.season_slots, five, level + _HOURS + _FIVES)
        stretch = self.stretch[context.hour][rows] + self.stretch[context.five][rows]
        stretch += self.stretch[context.width, at]
        mixed *= np.exp(stretch)
        mixed += middle
        np.maximum(mixed, 0.0, out=mixed)
        np.maximum.accumulate(mixed, axis=1, out=mixed)
        by_horizon = mixed.reshape(-1, grid.size, len(LEVELS))
        np.maximum.accumulate(by_horizon, axis=1, out=by_horizon)
        return each, mixed, context, width

    def settle(self, rows: Rows, width: Floats) -> None:
        """A step's band widths enter their mean and variance."""
        mean, variance, seen = self.widths[:, rows]
        seen = seen + 1.0
        fresh = np.maximum(self._fresh_width, 1.0 / seen)
        away = width - mean
        self.widths[0, rows] = mean + fresh * away
        self.widths[1, rows] = variance + fresh * (away * away - variance)
        self.widths[2, rows] = seen

    def learn(
        self,
        rows: Rows,
        origins: Ints,
        actual: Floats,
        scaled: Floats,
        upper: Floats,
        mixed: Floats,
        contexts: Ints,
    ) -> None:
        """Outcomes of `rows`: scaled errors and upper quantiles of columns, quantiles of the blend.

        `contexts`: for each of them rising, hour, five minutes and width, as `Context` has them.
        """
        at = np.arange(len(self.filled))[rows]
        owners = at // self._grid.size
        self._enter(at, origins, scaled)
        touched = np.zeros(self.slots, dtype=np.bool_)
        touched[owners] = True
        self._sort(np.flatnonzero(touched))
        miss = actual[:, None, None] - upper
        loss = np.matmul(miss, _UPPER_LEVELS) - np.add.reduce(np.minimum(miss, 0.0), axis=2)
        share = np.full((2, len(at)), _OTHER_SHARE)
        share[contexts[:, 0], np.arange(len(at))] = 1.0
        judged = self.judged[:, rows] + share
        self.judged[:, rows] = judged
        age = judged - _SETTLE
        youngest = np.full(self.slots, np.inf)
        np.minimum.at(youngest, owners, age[0])
        settled = youngest[owners] >= 1.0  # all horizons of a forecaster that learn now
        fresh = share * np.maximum(self._fresh, 1.0 / np.maximum(age, 1.0))
        fresh *= settled | (age > 0)
        kept = self.loss[:, rows]
        kept = kept + fresh[:, :, None] * (loss - kept)
        self.loss[:, rows] = kept
        if not settled.all():
            if not settled.any():
                return
            at, kept, age = at[settled], kept[:, settled], age[:, settled]
            actual, mixed, contexts = actual[settled], mixed[settled], contexts[settled]
        kept[1] = np.where(age[1, :, None] > 0, kept[1], kept[0])
        kept += 1e-300
        weights = (np.minimum.reduce(kept, axis=2)[:, :, None] / kept) ** _POWER
        self.weights[:, at] = weights / np.add.reduce(weights, axis=2)[:, :, None]
        push = np.where(actual[:, None] <= mixed, self._after_hit, self._after_miss)
        places = contexts[:, 1:].T
        stretch = self.stretch[places, at] + push
        self.stretch[places, at] = np.minimum(np.maximum(stretch, -_STRETCH_MOST), _STRETCH_MOST)

    def _enter(self, at: Ints, origins: Ints, scaled: Floats) -> None:
        """Errors enter their windows: all while a window fills, then some, chosen by the step alone."""
        filled = self.filled[at]
        chosen = (filled < WINDOW) | ((origins * _HASH) % 2**32 < self._thin)
        if chosen.any():
            at, place = at[chosen], filled[chosen] % WINDOW
            self.errors[at, :, place] = np.minimum(np.maximum(scaled[chosen], -_FAR), _FAR)
            self.dates[at, place] = origins[chosen]
            self.filled[at] += 1

    def _sort(self, slots: Ints) -> None:
        """Order statistics of the next few columns in turn; of all while there are few errors."""
        size = self._grid.size
        filled = self.filled.reshape(-1, size)[slots]
        at = slots[:, None] * size + np.arange(size)
        for n in sorted(set(filled[(filled >= _FEW) & (filled < _SOME)].tolist())):
            few = at[filled == n]
            self.quantiles[few] = order_statistics(self.errors[few, :, :n])
        self.turn[slots] += 1
        due = slots[self.turn[slots] % _SORT_EVERY == 0]
        if not len(due):
            return
        horizon, first = np.divmod(self.cursor[due], self._columns)
        end = np.minimum(first + _CHUNK, self._columns)
        of = np.minimum(self.filled[due * size + horizon], WINDOW)
        for n in sorted(set(of[of >= _SOME].tolist())):
            places = [
                (s * size + h, c)
                for s, h, a, b in zip(*(v[of == n].tolist() for v in (due, horizon, first, end)), strict=True)
                for c in range(a, b)
            ]
            which, column = np.array(places).T
            self.quantiles[which, column] = order_statistics(self.errors[which, column, :n])
        self.cursor[due] = (self.cursor[due] + end - first) % (self._columns * size)


def order_statistics(errors: NDArray[np.float16]) -> Floats:
    """Quantiles at LEVELS of each row, by rank (n + 1) * level."""
    ordered = np.sort(errors.astype(np.float32), axis=-1)
    low, high, part = _ranks(ordered.shape[-1])
    below = ordered[..., low]
    return np.asarray(below + part * (ordered[..., high] - below), dtype=np.float64)


@lru_cache(maxsize=1024)
def _ranks(n: int) -> tuple[Ints, Ints, Floats]:
    """Of n ordered errors: the two between which each level lies, and how far."""
    rank = np.minimum(np.maximum(LEVELS * (n + 1) - 1.0, 0.0), n - 1.0)
    low = rank.astype(np.int64)
    return low, np.minimum(low + 1, n - 1), rank - low
