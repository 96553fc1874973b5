"""The part of a forecast that is chance scatter of counts, which replicas do not notice.

The largest rate of a few bins is the largest of as many counts, and counts scatter; replicas carry a mean over minutes,
since requests stay. For independent arrivals the difference is known: a count's variance is its mean, and an
exponential mean in which each bin weighs w keeps w / (2 - w) of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from policies.predictive.rules.family import Floats

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class OccupancySmoother:
    """How requests of several deployments are felt, shape (deployments,) each.

    `per_rps`: replicas that one a second takes up; `share`: what a bin weighs in the mean that is felt (1: requests are
    felt as they come); `levels`: those of the forecast's quantiles, which they have in common.
    """

    per_rps: Floats
    share: Floats
    bin_s: float
    levels: Floats

    def about(self, rows: Floats, horizon_s: Floats) -> tuple[Floats, Floats]:
        """The demand about which counts lie, and the standard deviation of one, by the forecast of the nearest bins.

        `rows`: (deployments, levels), in replicas; `horizon_s`: (deployments,), or (1,) where it is the same for all;
        returns (deployments,) each.
        """
        median = rows[:, int(np.searchsorted(self.levels, 0.5))]
        noise = _root(median * self.per_rps / self.bin_s)
        scores = np.array([_median_score(max(1, round(one / self.bin_s))) for one in horizon_s.tolist()])
        return np.maximum(0.0, median - noise * scores), noise

    def quantiles(self, counted: Floats, middle: Floats, noise: Floats, reach_s: Floats) -> Floats:
        """Of the largest demand that is felt until `reach_s`, from those of the largest count; all in replicas.

        What else is uncertain than counts stays: variances about the `middle` are taken apart. Never more than counted.
        `counted`: (reaches, deployments, levels), and so is what is returned; `reach_s`: (reaches, deployments).
        """
        bins, levels = reach_s / self.bin_s, self.levels.tobytes()
        kept = _root(self.share / (2.0 - self.share))
        of_counts = noise[:, None] * _scores_of(levels, bins)
        of_means = (noise * kept)[:, None] * _scores_of(levels, bins * self.share)
        away = counted - middle[:, None]
        rest = np.maximum(away * away - of_counts * of_counts, 0.0)
        calm = middle[:, None] + np.sign(away) * np.sqrt(rest + of_means * of_means)
        effective = np.minimum(np.maximum.accumulate(np.maximum(calm, 0.0), axis=-1), counted)
        return np.where(((self.share >= 1.0) | (noise <= 0.0))[:, None], counted, effective)


def _root(values: Floats) -> Floats:
    """Power computed as `**` does for single numbers: numpy's differs in the last digit of one in a thousand."""
    return np.array([value**0.5 for value in values.tolist()])


@lru_cache(maxsize=256)
def _median_score(bins: int) -> float:
    """The median of the largest of so many independent standard normals."""
    return _NORMAL.inv_cdf(0.5 ** (1.0 / bins))


def _scores_of(levels: bytes, bins: Floats) -> Floats:
    """`_scores` for whole numbers of bins, at least one: shape (*bins.shape, levels)."""
    whole = np.maximum(1, np.rint(bins)).astype(np.int64)
    asked = np.flatnonzero(np.bincount(whole.ravel()))
    table = np.empty((asked[-1] + 1, len(levels) // 8))
    table[asked] = [_scores(levels, one) for one in asked.tolist()]
    return table[whole]


@lru_cache(maxsize=256)
def _scores(levels: bytes, bins: int) -> Floats:
    """Quantiles of the largest of so many independent standard normals, by level (float64)."""
    return np.array([_NORMAL.inv_cdf(min(level ** (1.0 / bins), 1.0 - 1e-12)) for level in np.frombuffer(levels)])
