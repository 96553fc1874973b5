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
from policies.forecasting.mixture.grid import LEVELS, MEDIAN, SCORES, Grid

_NORMAL = NormalDist()
_BEYOND_POWER = 0.25
_MOST_KEPT = 64


class Answers:
    """Keeps the interpolation weights of the levels that were asked for."""

    def __init__(self, grid: Grid) -> None:
        self._horizons_s = grid.widths * grid.bin_s
        self._by_levels: dict[tuple[float, ...], Floats] = {}

    def table(
        self,
        rows: Floats,
        horizons_s: tuple[float, ...],
        levels: tuple[float, ...],
        rise_beyond: Callable[[float], float],
    ) -> Floats:
        """(horizons asked, levels asked), never falling with either. `rise_beyond(h)` = how the season lifts h."""
        known = self._horizons_s
        wanted = np.empty((len(horizons_s), len(LEVELS)))
        for i, horizon_s in enumerate(horizons_s):
            if horizon_s <= known[-1] + 1e-6:
                j = int(np.searchsorted(known, horizon_s - 1e-6))
                if j == 0:
                    wanted[i] = rows[0]
                else:
                    share = (horizon_s - known[j - 1]) / (known[j] - known[j - 1])
                    wanted[i] = rows[j - 1] + share * (rows[j] - rows[j - 1])
            else:
                wanted[i] = self._beyond(rows[-1], horizon_s / known[-1], rise_beyond(horizon_s))
        table = np.maximum(wanted @ self._weights(levels), 0.0)
        np.maximum.accumulate(table, axis=1, out=table)
        return np.asarray(np.maximum.accumulate(table, axis=0))

    @staticmethod
    def _beyond(row: Floats, times: float, rise: float) -> Floats:
        middle = row[MEDIAN]
        spread = np.where(row > middle, times**_BEYOND_POWER, 1.0)
        return np.asarray((middle + (row - middle) * spread) * rise)

    def _weights(self, levels: tuple[float, ...]) -> Floats:
        """(LEVELS, levels asked): column j gives level j from the learned ones."""
        found = self._by_levels.get(levels)
        if found is None:
            if len(self._by_levels) >= _MOST_KEPT:
                self._by_levels.clear()
            found = np.stack([_level_weights(level) for level in levels], axis=1)
            self._by_levels[levels] = found
        return found


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
