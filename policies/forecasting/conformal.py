"""Quantiles that hold what they promise: window maxima, split-conformal quantiles of past errors, pinball loss.

Sources: Vovk et al. (split conformal: the ceil((n+1)q)-th smallest error), Koenker and Bassett (pinball loss).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from policies.forecasting.base import Floats

_NORMAL = NormalDist()


def window_max(values: Floats, width: int) -> Floats:
    """`out[i]` = largest of `values[i : i + width]`, NaN ignored (-inf where all are); length len - width + 1."""
    best = np.where(values == values, values, -np.inf)
    have = 1
    while have < width:
        step = min(have, width - have)
        best = np.maximum(best[:-step], best[step:])
        have += step
    return best


def trailing_mean(values: Floats, width: int) -> Floats:
    """`out[i]` = mean of the known among `values[max(0, i - width + 1) : i + 1]`; NaN where none is known."""
    known = values == values
    total = np.concatenate(([0.0], np.cumsum(np.where(known, values, 0.0))))
    seen = np.concatenate(([0], np.cumsum(known)))
    end = np.arange(1, len(values) + 1)
    start = np.maximum(0, end - width)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((total[end] - total[start]) / (seen[end] - seen[start]), dtype=np.float64)


def conformal(errors: Floats, levels: Sequence[float]) -> Floats:
    """The error that the next one does not exceed with probability >= level, for exchangeable errors.

    Interpolated between the neighbours of rank (n + 1) * level; the largest error where n is too small for the level.
    """
    ordered = np.sort(errors)
    rank = np.clip(np.asarray(levels) * (len(ordered) + 1) - 1.0, 0.0, len(ordered) - 1.0)
    low = np.floor(rank).astype(np.int64)
    high = np.minimum(low + 1, len(ordered) - 1)
    return np.asarray(ordered[low] + (rank - low) * (ordered[high] - ordered[low]), dtype=np.float64)


def pinball(actual: Floats, forecast: Floats, level: float) -> float:
    """Mean pinball loss of a quantile forecast."""
    error = actual - forecast
    return float(np.mean(np.maximum(level * error, (level - 1.0) * error)))


def default_spread(sigma: float, levels: Sequence[float]) -> Floats:
    """Relative errors of a log-normal with this sigma: what to believe before errors were seen."""
    return np.array([np.exp(sigma * _NORMAL.inv_cdf(min(max(level, 1e-6), 1 - 1e-6))) - 1.0 for level in levels])
