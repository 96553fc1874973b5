"""From members to one distribution: quantiles of their scaled errors, weights by loss, and a last correction.

- Windows: the last errors of each column (member x calibration), divided by their expected size; order statistics at
  rank (n + 1) * level (split conformal). A few columns are sorted anew at each step.
- Weights: (least loss / loss) ** power, of the faded pinball loss at the upper levels (quantile averaging).
- Stretch: each quantile's distance from the median is widened after a miss, narrowed after a hit, so that coverage
  comes out right in the long run (adaptive conformal inference, Gibbs and Candes 2021).
"""

from __future__ import annotations

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
_STRETCH_STEP = 0.01
_STRETCH_MOST = 2.0
_HASH = 2654435761
"""Knuth's multiplicative hash: which steps enter a full window is the same for all series, and in no rhythm."""


_UPPER_LEVELS = LEVELS[UPPER]


class Blend(Kept):
    """`columns` = for each: the member's index and the kind of scale (0 learned, 1 level, 2 last hour)."""

    arrays = ("errors", "dates", "filled", "quantiles", "loss", "judged", "weights", "stretch")
    numbers = ("cursor", "turn")

    def __init__(self, grid: Grid, columns: int) -> None:
        horizons = grid.size
        self._columns = columns
        self.errors = np.zeros((horizons, columns, WINDOW), dtype=np.float16)
        self.dates = np.full((horizons, WINDOW), -1, dtype=np.int64)
        """The step of each error's origin."""
        self.filled = np.zeros(horizons, dtype=np.int64)
        self.quantiles: Floats = np.tile(SCORES, (horizons, columns, 1))
        self.loss: Floats = np.zeros((horizons, columns))
        self.judged: Floats = np.zeros(horizons)
        self.weights: Floats = np.full((horizons, columns), 1.0 / columns)
        self.stretch: Floats = np.ones((horizons, len(LEVELS)))
        self.cursor = 0
        self.turn = 0
        self._thin = 2**32 // max(1, round(_THIN_S / grid.step_s))
        self._fresh = 1 - 0.5 ** (grid.step_s / _HALF_LIFE_S)
        self._chunk = _CHUNK
        self._horizons = np.arange(horizons)
        outward = np.where(LEVELS == 0.5, 0.0, np.where(LEVELS > 0.5, _STRETCH_STEP, -_STRETCH_STEP))
        self._after_hit = np.exp(outward * (LEVELS - 1.0))
        self._after_miss = np.exp(outward * LEVELS)

    def mix(self, points: Floats, scales: Floats) -> tuple[Floats, Floats]:
        """Column quantiles (horizons, columns, levels) and the blended ones (horizons, levels), in order."""
        each = points[:, :, None] + scales[:, :, None] * self.quantiles
        np.maximum(each, 0.0, out=each)
        mixed = np.matmul(self.weights[:, None, :], each)[:, 0]
        middle = mixed[:, MEDIAN : MEDIAN + 1]
        mixed = middle + (mixed - middle) * self.stretch
        np.maximum(mixed, 0.0, out=mixed)
        np.maximum.accumulate(mixed, axis=1, out=mixed)
        return each, np.maximum.accumulate(mixed, axis=0, out=mixed)

    def learn(
        self, rows: Ints | slice, origins: Ints, actual: Floats, scaled: Floats, upper: Floats, mixed: Floats
    ) -> None:
        """Outcomes of horizons `rows`: scaled errors and upper quantiles of columns, quantiles of the blend."""
        self._enter(self._horizons[rows].tolist(), origins.tolist(), scaled)
        self._sort()
        miss = actual[:, None, None] - upper
        loss = np.matmul(miss, _UPPER_LEVELS) - np.add.reduce(np.minimum(miss, 0.0), axis=2)
        self.judged[rows] += 1.0
        age = self.judged[rows] - _SETTLE
        if float(np.minimum.reduce(age)) < 1.0:
            self._learn_young(rows, loss, age)
            return
        fresh = np.maximum(self._fresh, 1.0 / age)[:, None]
        kept = self.loss[rows]
        kept = kept + fresh * (loss - kept)
        self.loss[rows] = kept
        weights = kept + 1e-300
        weights = (np.minimum.reduce(weights, axis=1)[:, None] / weights) ** _POWER
        self.weights[rows] = weights / np.add.reduce(weights, axis=1)[:, None]
        stretch = self.stretch[rows] * np.where(actual[:, None] <= mixed, self._after_hit, self._after_miss)
        self.stretch[rows] = np.minimum(np.maximum(stretch, 1 / _STRETCH_MOST), _STRETCH_MOST)

    def _learn_young(self, rows: Ints | slice, loss: Floats, age: Floats) -> None:
        """Before columns have settled they are weighed alike; the first losses are not held against them."""
        fresh = np.where(age > 0, np.maximum(self._fresh, 1.0 / np.maximum(age, 1.0)), 0.0)[:, None]
        self.loss[rows] += fresh * (loss - self.loss[rows])

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
