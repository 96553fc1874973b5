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

import numpy as np
from numpy.typing import NDArray

from policies.forecasting.base import Floats
from policies.forecasting.mixture.grid import DAY_S, LEVELS, MEDIAN, SCORES, UPPER, Grid, Ints
from policies.forecasting.mixture.kept import Kept

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
    """What a forecast was made in: `rising` (horizons; 0 or 1), and rows of the stretch: hour, five minutes, width."""

    rising: Ints
    hour: int
    five: int
    width: Ints


class Blend(Kept):
    """`columns` = how many members with a scale there are."""

    arrays = ("errors", "dates", "filled", "quantiles", "loss", "judged", "weights", "stretch", "widths")
    numbers = ("cursor", "turn")

    def __init__(self, grid: Grid, columns: int) -> None:
        horizons = grid.size
        self._grid = grid
        self._columns = columns
        self.errors = np.zeros((horizons, columns, WINDOW), dtype=np.float16)
        self.dates = np.full((horizons, WINDOW), -1, dtype=np.int64)
        """The step of each error's origin."""
        self.filled = np.zeros(horizons, dtype=np.int64)
        self.quantiles: Floats = np.tile(SCORES, (horizons, columns, 1))
        self.loss: Floats = np.zeros((2, horizons, columns))
        """Faded loss of each column: at all times but mostly calm ones, and mostly while the profile rises."""
        self.judged: Floats = np.zeros((2, horizons))
        self.weights: Floats = np.full((2, horizons, columns), 1.0 / columns)
        self.stretch: Floats = np.zeros((_HOURS + _FIVES + _WIDTHS, horizons, len(LEVELS)))
        """Logarithms; the three rows of a context add up."""
        self.widths: Floats = np.zeros((3, horizons))
        """Mean and variance of the logarithm of the band's width, and how many were seen."""
        self.cursor = 0
        self.turn = 0
        self._thin = 2**32 // max(1, round(_THIN_S / grid.step_s))
        self._fresh = 1 - 0.5 ** (grid.step_s / _HALF_LIFE_S)
        self._fresh_width = 1 - 0.5 ** (grid.step_s / _WIDTH_HALF_LIFE_S)
        self._chunk = _CHUNK
        self._horizons = np.arange(horizons)
        outward = np.where(LEVELS == 0.5, 0.0, np.where(LEVELS > 0.5, _STRETCH_STEP, -_STRETCH_STEP))
        self._after_hit = outward * (LEVELS - 1.0)
        self._after_miss = outward * LEVELS

    def mix(
        self, step: int, points: Floats, scales: Floats, rising: Ints, unit: float
    ) -> tuple[Floats, Floats, Context, Floats]:
        """Column quantiles (horizons, columns, levels), blended ones (horizons, levels), context, width's logarithm."""
        each = points[:, :, None] + scales[:, :, None] * self.quantiles
        np.maximum(each, 0.0, out=each)
        mixed = np.matmul(self.weights[rising, self._horizons][:, None, :], each)[:, 0]
        middle = mixed[:, MEDIAN : MEDIAN + 1].copy()
        mixed -= middle
        width = np.log(mixed[:, _Q95] / unit + 1e-6)
        score = (width - self.widths[0]) / np.sqrt(self.widths[1] + 1e-12)
        level = np.minimum(np.maximum(2 * score + _WIDTHS / 2, 0.0), _WIDTHS - 1.0).astype(np.int64)
        grid = self._grid
        five = _HOURS + grid.hour_slot(step) * _FIVES // grid.hour_slots
        context = Context(rising, grid.season_slot(step) * _HOURS // grid.season_slots, five, level + _HOURS + _FIVES)
        stretch = self.stretch[context.hour] + self.stretch[context.five]
        stretch += self.stretch[context.width, self._horizons]
        mixed *= np.exp(stretch)
        mixed += middle
        np.maximum(mixed, 0.0, out=mixed)
        np.maximum.accumulate(mixed, axis=1, out=mixed)
        return each, np.maximum.accumulate(mixed, axis=0, out=mixed), context, width

    def settle(self, width: Floats) -> None:
        """A step's band widths enter their mean and variance."""
        seen = self.widths[2]
        seen += 1.0
        fresh = np.maximum(self._fresh_width, 1.0 / seen)
        away = width - self.widths[0]
        self.widths[0] += fresh * away
        self.widths[1] += fresh * (away * away - self.widths[1])

    def learn(
        self,
        rows: Ints | slice,
        origins: Ints,
        actual: Floats,
        scaled: Floats,
        upper: Floats,
        mixed: Floats,
        contexts: Ints,
    ) -> None:
        """Outcomes of horizons `rows`: scaled errors and upper quantiles of columns, quantiles of the blend.

        `contexts`: for each of them rising, hour, five minutes and width, as `Context` has them.
        """
        at = self._horizons[rows]
        self._enter(at.tolist(), origins.tolist(), scaled)
        self._sort()
        miss = actual[:, None, None] - upper
        loss = np.matmul(miss, _UPPER_LEVELS) - np.add.reduce(np.minimum(miss, 0.0), axis=2)
        share = np.full((2, len(at)), _OTHER_SHARE)
        share[contexts[:, 0], np.arange(len(at))] = 1.0
        self.judged[:, rows] += share
        age = self.judged[:, rows] - _SETTLE
        settled = float(np.minimum.reduce(age[0])) >= 1.0
        fresh = share * np.maximum(self._fresh, 1.0 / np.maximum(age, 1.0))
        if not settled:
            fresh *= age > 0
        kept = self.loss[:, rows]
        kept = kept + fresh[:, :, None] * (loss - kept)
        self.loss[:, rows] = kept
        if not settled:
            return
        kept[1] = np.where(age[1, :, None] > 0, kept[1], kept[0])
        kept += 1e-300
        weights = (np.minimum.reduce(kept, axis=2)[:, :, None] / kept) ** _POWER
        self.weights[:, rows] = weights / np.add.reduce(weights, axis=2)[:, :, None]
        push = np.where(actual[:, None] <= mixed, self._after_hit, self._after_miss)
        places = contexts[:, 1:].T
        stretch = self.stretch[places, at] + push
        self.stretch[places, at] = np.minimum(np.maximum(stretch, -_STRETCH_MOST), _STRETCH_MOST)

    def _enter(self, horizons: list[int], origins: list[int], scaled: Floats) -> None:
        """Errors enter their windows: all while a window fills, then some, chosen by the step alone."""
        filled = self.filled.tolist()
        for i, (h, origin) in enumerate(zip(horizons, origins, strict=True)):
            if filled[h] < WINDOW or (origin * _HASH) % 2**32 < self._thin:
                place = filled[h] % WINDOW
                self.errors[h, :, place] = np.minimum(np.maximum(scaled[i], -_FAR), _FAR)
                self.dates[h, place] = origin
                self.filled[h] += 1

    def _sort(self) -> None:
        """Order statistics of the next few columns in turn; of all while there are few errors."""
        filled = self.filled.tolist()
        for h, n in enumerate(filled):
            if _FEW <= n < _SOME:
                self.quantiles[h] = order_statistics(self.errors[h, :, :n])
        self.turn += 1
        if self.turn % _SORT_EVERY:
            return
        h, c = divmod(self.cursor, self._columns)
        end = min(c + self._chunk, self._columns)
        n = min(filled[h], WINDOW)
        if n >= _SOME:
            self.quantiles[h, c:end] = order_statistics(self.errors[h, c:end, :n])
        self.cursor = (self.cursor + end - c) % (self._columns * len(filled))


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
