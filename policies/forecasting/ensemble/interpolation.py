"""From the learned grid to any horizon and level: interpolation, and a cautious reach beyond the longest horizon.

Levels are interpolated linearly on the scale of normal scores (exact for a normal distribution), and go on at the last
slope beyond the ends. Horizons are interpolated linearly; shorter ones than the shortest take its quantiles (a window
within a window: never too low). Beyond the longest, the season lifts all and the spread grows with the fourth root.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from policies.forecasting.base import Floats
from policies.forecasting.ensemble.grid import MEDIAN, SCORES, Grid

_NORMAL = NormalDist()
_BEYOND_POWER = 0.25
_MOST_KEPT = 64


class Answers:
    """Keeps the interpolation weights of the horizons and levels that were asked for."""

    def __init__(self, grid: Grid) -> None:
        self._horizons_s = grid.widths * grid.bin_s
        self._by_levels: dict[tuple[float, ...], Floats] = {}
        self._by_horizons: dict[tuple[float, ...], tuple[Floats, tuple[int, ...]]] = {}

    def table(
        self,
        rows: Floats,
        horizons_s: tuple[float, ...],
        levels: tuple[float, ...],
        rise_beyond: Callable[[float], float],
    ) -> Floats:
        """(horizons asked, levels asked), never falling with either. `rise_beyond(h)` = how the season lifts h."""
        return np.asarray(self.tables(rows[None], horizons_s, levels, lambda h: np.array([rise_beyond(h)]))[0])

    def tables(
        self,
        rows: Floats,
        horizons_s: tuple[float, ...],
        levels: tuple[float, ...],
        rises: Callable[[float], Floats],
    ) -> Floats:
        """The same for several series: `rows` (series, horizons, LEVELS) gives (series, horizons asked, levels).

        `rises(h)` = how the season lifts h, of each series.
        """
        near, beyond = self._between(horizons_s)
        wanted = np.matmul(near, rows)
        for i in beyond:
            times = horizons_s[i] / float(self._horizons_s[-1])
            wanted[:, i] = _beyond(rows[:, -1], times, rises(horizons_s[i])[:, None])
        table = np.matmul(wanted, self._weights(levels))
        np.maximum(table, 0.0, out=table)
        np.maximum.accumulate(table, axis=2, out=table)
        return np.asarray(np.maximum.accumulate(table, axis=1))

    def _between(self, horizons_s: tuple[float, ...]) -> tuple[Floats, tuple[int, ...]]:
        """(horizons asked, learned horizons): row i gives horizon i; and which of them lie beyond the longest."""
        found = self._by_horizons.get(horizons_s)
        if found is None:
            known = self._horizons_s
            weights = np.zeros((len(horizons_s), len(known)))
            for i, horizon_s in enumerate(horizons_s):
                j = min(int(np.searchsorted(known, horizon_s - 1e-6)), len(known) - 1)
                share = 1.0
                if j > 0:
                    share = min((horizon_s - known[j - 1]) / (known[j] - known[j - 1]), 1.0)
                    weights[i, j - 1] = 1.0 - share
                weights[i, j] = share
            beyond = tuple(i for i, horizon_s in enumerate(horizons_s) if horizon_s > known[-1] + 1e-6)
            if len(self._by_horizons) >= _MOST_KEPT:
                self._by_horizons.clear()
            found = self._by_horizons[horizons_s] = (weights, beyond)
        return found

    def _weights(self, levels: tuple[float, ...]) -> Floats:
        """(LEVELS, levels asked): column j gives level j from the learned ones."""
        found = self._by_levels.get(levels)
        if found is None:
            if len(self._by_levels) >= _MOST_KEPT:
                self._by_levels.clear()
            found = np.stack([_level_weights(level) for level in levels], axis=1)
            self._by_levels[levels] = found
        return found


def _beyond(rows: Floats, times: float, rise: Floats) -> Floats:
    middle = rows[:, MEDIAN : MEDIAN + 1]
    spread = np.where(rows > middle, times**_BEYOND_POWER, 1.0)
    return np.asarray((middle + (rows - middle) * spread) * rise)


def _level_weights(level: float) -> Floats:
    score = _NORMAL.inv_cdf(min(max(level, 1e-5), 1 - 1e-5))
    j = min(max(int(np.searchsorted(SCORES, score - 1e-9)), 1), len(SCORES) - 1)
    share = (score - SCORES[j - 1]) / (SCORES[j] - SCORES[j - 1])
    weights = np.zeros(len(SCORES))
    weights[j - 1], weights[j] = 1.0 - share, share
    return weights


def at_scores(row: Floats, scores: Floats) -> Floats:
    """Values of a distribution with quantiles `row` at LEVELS, at these normal scores; >= 0."""
    j = np.clip(np.searchsorted(SCORES, scores), 1, len(SCORES) - 1)
    share = (scores - SCORES[j - 1]) / (SCORES[j] - SCORES[j - 1])
    return np.asarray(np.maximum(row[j - 1] + share * (row[j] - row[j - 1]), 0.0))
