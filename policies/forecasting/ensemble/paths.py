"""Sample paths that agree with the quantiles: what happened after a past moment, moved to today's distribution.

For each path one past date is drawn. Its error ranks (one per horizon) say how lucky or unlucky that moment was; the
path's running maximum takes today's quantile at the same rank at every learned horizon (ensemble copula coupling,
Schefzik et al. 2013), so the quantiles hold by construction and horizons move together as they did. The shape between
is that of the bins which followed the date.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from policies.forecasting.base import Floats
from policies.forecasting.ensemble.grid import Ints
from policies.forecasting.ensemble.interpolation import at_scores
from policies.forecasting.ensemble.memory import SeriesMemory

_FEW = 20
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Dates:
    """Past steps, ascending, and for each the rank of its error among all of them, 0..1 (horizons, dates)."""

    steps: Ints
    ranks: Floats

    @classmethod
    def common(cls, dates: Ints, errors: NDArray[np.float16], filled: Ints) -> Dates:
        """Dates whose outcome is known at every horizon; `dates` and `errors` are (horizons, window)."""
        steps = dates[0, : filled[0]]
        for h in range(1, len(dates)):
            steps = np.intersect1d(steps, dates[h, : filled[h]])
        steps = np.sort(steps)
        ranks = np.empty((len(dates), len(steps)))
        for h in range(len(dates)):
            own = dates[h, : filled[h]]
            order = np.argsort(own, kind="stable")
            there = order[np.searchsorted(own[order], steps)]
            values = errors[h, there].astype(np.float64)
            ranks[h, np.argsort(values, kind="stable")] = (np.arange(len(steps)) + 0.5) / max(len(steps), 1)
        return cls(steps, ranks)


def sample_paths(
    memory: SeriesMemory, known: Dates, largest: Callable[[Sequence[int]], Floats], bins: int, n: int, seed: int
) -> Floats:
    """`n` paths of the next `bins` bins, shape (n, bins).

    `largest`: for numbers of bins ahead, ascending, the quantiles of the largest one within: (numbers, LEVELS).
    """
    rng = np.random.default_rng(seed)
    grid = memory.grid
    ends = [int(w) for w in grid.widths if w < bins] + [bins]
    rows = [min(int(np.searchsorted(grid.widths, end)), grid.size - 1) for end in ends]
    quantiles = largest(ends)
    if len(known.steps) < _FEW:
        ranks = np.tile(rng.random(n), (len(ends), 1))
        template = np.ones((n, bins))
    else:
        picked = rng.integers(0, len(known.steps), n)
        within = (rng.random(n) - 0.5) / len(known.steps)
        ranks = known.ranks[rows][:, picked] + within
        template = _followed(memory, known.steps[picked], bins)
    return _moved(template, ends, quantiles, ranks)


def _followed(memory: SeriesMemory, dates: Ints, bins: int) -> Floats:
    """The bins that followed each date, as far as they are known (history is in steps); the season before where not."""
    per_step = memory.grid.bins_per_step
    steps = -(-bins // per_step)
    ahead = dates[:, None] + 1 + np.arange(steps)
    while (late := ahead > memory.step).any():
        ahead = np.where(late, ahead - memory.grid.season_steps, ahead)
    values = memory.at(ahead)
    values = np.where(values == values, values, max(memory.mean, 1e-300))
    return np.repeat(values, per_step, axis=1)[:, :bins]


def _moved(template: Floats, ends: list[int], quantiles: Floats, ranks: Floats) -> Floats:
    """Scale each stretch of the template so that the running maximum has today's quantile at the path's rank."""
    paths = np.zeros_like(template)
    n = len(template)
    begin, before = 0, np.zeros(n)
    seen = np.full(n, 1e-300)
    for i, end in enumerate(ends):
        scores = np.array([_NORMAL.inv_cdf(min(max(u, 1e-4), 1 - 1e-4)) for u in ranks[i].tolist()])
        target = np.maximum(at_scores(quantiles[i], scores), before)
        part = template[:, begin:end]
        highest = np.maximum(part.max(axis=1), 1e-300)
        lower = np.minimum(highest / np.maximum(seen, highest) * before, target)
        peak = np.where(target > before * (1 + 1e-9), target, lower)
        paths[:, begin:end] = part / highest[:, None] * peak[:, None]
        seen = np.maximum(seen, highest)
        begin, before = end, target
    return np.where(np.isfinite(paths), paths, 0.0)
