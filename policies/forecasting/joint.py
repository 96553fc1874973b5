"""Sample paths of several deployments at once, so that those that move together still do: for sums over a node pool.

Mixture forecasters that learn in steps of one width draw the errors of the same past dates; what happened to all of
them at once then happens to all of them in one path. Others are sampled on their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies.forecasting.base import Floats, Forecaster
from policies.forecasting.mixture.forecaster import MixtureForecaster

_FEW = 20


def joint_paths(forecasters: Sequence[Forecaster], horizon_s: float, n: int, seed: int) -> list[Floats]:
    """For each forecaster `n` paths (n, its bins up to the horizon); path i of one belongs to path i of the others."""
    learned = [f for f in forecasters if isinstance(f, MixtureForecaster) and f.last_time_s is not None]
    steps = None
    if len({f.grid.step_s for f in learned}) == 1:
        for one in learned:
            own = one.dates().steps
            if len(own) >= _FEW:
                steps = own if steps is None else np.intersect1d(steps, own)
    chosen = None
    if steps is not None and len(steps) >= _FEW:
        chosen = steps[np.random.default_rng(seed).integers(0, len(steps), n)]
    paths = []
    for i, f in enumerate(forecasters):
        if isinstance(f, MixtureForecaster):
            paths.append(f.paths(horizon_s, n, seed + i, dates=chosen))
        else:
            paths.append(f.paths(horizon_s, n, seed + i))
    return paths
