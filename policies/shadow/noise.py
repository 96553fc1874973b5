"""What counts of requests add to a forecast that replicas do not feel.

The largest rate of a few bins is the largest of as many counts, and counts scatter; replicas feel a mean over minutes,
since requests stay. The difference is known where arrivals are independent: a count's variance is its mean, and of that
an exponential mean in which each bin weighs w keeps w / (2 - w).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from policies.shadow.rules import Floats

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Felt:
    """How requests are felt. `per_rps`: replicas that one a second takes up; `share`: what a bin weighs in the mean
    that is felt (1: requests are felt as they come); `levels`: those of the forecast's quantiles.
    """

    per_rps: float
    share: float
    bin_s: float
    levels: Floats

    def about(self, row: Floats, horizon_s: float) -> tuple[float, float]:
        """The demand about which counts lie, and the standard deviation of one, by the forecast of the nearest bins."""
        median = float(row[int(np.searchsorted(self.levels, 0.5))])
        noise = (median * self.per_rps / self.bin_s) ** 0.5
        return max(0.0, median - noise * _median_score(max(1, round(horizon_s / self.bin_s)))), noise

    def quantiles(self, counted: Floats, middle: float, noise: float, reach_s: float) -> Floats:
        """Of the largest demand that is felt until `reach_s`, from those of the largest count; all in replicas.

        What else is uncertain than counts stays: variances about the `middle` are taken apart. Never more than counted.
        """
        if self.share >= 1.0 or noise <= 0.0:
            return counted
        bins, levels = reach_s / self.bin_s, self.levels.tobytes()
        of_counts = noise * _scores(levels, max(1, round(bins)))
        of_means = noise * (self.share / (2.0 - self.share)) ** 0.5 * _scores(levels, max(1, round(bins * self.share)))
        away = counted - middle
        rest = np.maximum(away * away - of_counts * of_counts, 0.0)
        calm = middle + np.sign(away) * np.sqrt(rest + of_means * of_means)
        return np.asarray(np.minimum(np.maximum.accumulate(np.maximum(calm, 0.0)), counted))


@lru_cache(maxsize=256)
def _median_score(bins: int) -> float:
    """The median of the largest of so many independent standard normals."""
    return _NORMAL.inv_cdf(0.5 ** (1.0 / bins))


@lru_cache(maxsize=256)
def _scores(levels: bytes, bins: int) -> Floats:
    """Quantiles of the largest of so many independent standard normals, by level (float64)."""
    return np.array([_NORMAL.inv_cdf(min(level ** (1.0 / bins), 1.0 - 1e-12)) for level in np.frombuffer(levels)])
