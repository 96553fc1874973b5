"""Distribution of demand in the last days: a fading histogram, for rules that hold one level.

Weighted by demand rather than by time: what lies above a level is what a fleet of that level would have missed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from policies.predictive.rules.family import Floats

BUCKETS = 160
_LEAST, _RATIO = 0.05, 1.07
_HALF_LIFE_S = 86400.0
_EDGES = _LEAST * _RATIO ** np.arange(BUCKETS)
"""Upper edges, in replicas, from a twentieth to 2,000; the last bucket takes all beyond."""


def remember(past: NDArray[np.float32], demand: Floats, bin_s: float) -> None:
    """Add a closed bin: its demand counts at its own size; older counts fade.

    `past`: (deployments, BUCKETS), changed in place; `demand`: (deployments,), in replicas.
    """
    past *= np.float32(0.5 ** (bin_s / _HALF_LIFE_S))
    past[np.arange(len(past)), np.minimum(np.searchsorted(_EDGES, demand), BUCKETS - 1)] += demand.astype(np.float32)


def levels_of(past: NDArray[np.float32], shares: Sequence[float]) -> Floats:
    """For each share the least level, in replicas, above which no more than this share of all demand came.

    `past`: (deployments, BUCKETS); returns (deployments, shares), 0 where nothing came.
    """
    above = np.cumsum(past[:, ::-1], axis=1, dtype=np.float64)[:, ::-1]
    total = above[:, :1].copy()
    above[:, :-1] = above[:, 1:]
    above[:, -1] = 0.0
    few = above[:, None] <= (np.maximum(np.array(shares), 1e-4) * total)[:, :, None]
    return np.where(total > 0.0, _EDGES[np.argmax(few, axis=2)], 0.0)
