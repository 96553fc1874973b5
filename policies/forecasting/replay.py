"""How the point forecasts would have done: replay over the past, error quantiles and weights of each.

Split-conformal: the points have nothing fitted, so that past errors are exchangeable with the next one as far as the
past is like the future. Windows of neighbouring moments overlap; what counts as much is the number of independent ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from policies.forecasting.base import Floats
from policies.forecasting.conformal import conformal, default_spread, pinball, window_max
from policies.forecasting.points import POINTS, PROFILE_FROM, Features, error_scale, points

_POWER = 8
"""How sharply weights follow the loss: (best loss / loss) ** power."""
_ORIGINS = 1200
"""Past moments from which a window is replayed, at most about."""
_FEWEST = 5
"""Past windows below which a point is not judged."""
ENOUGH_WINDOWS = 10.0
"""Independent past windows from which errors alone are trusted; with fewer the default spread is mixed in."""
_PROFILE_SIGMA = 0.2
"""Default spread about a seasonal point: the season has told most of it."""


@dataclass(frozen=True, slots=True)
class Past:
    """Values, profile and features of the remembered bins, oldest first, as of bin `index`."""

    index: int
    x: Floats
    profile: Floats
    features: Features


@dataclass(frozen=True, slots=True)
class Limits:
    """Points that may be used, the season, the bins to replay, and how far the profile reaches ahead, in bins."""

    allowed: tuple[int, ...]
    season: int
    span: int
    reach: int


@dataclass(frozen=True, slots=True)
class Fit:
    """Of each window width: weights (widths, POINTS), scaled errors (widths, POINTS, levels); and the mean rate."""

    weights: Floats
    errors: Floats
    mean: float


def replay(past: Past, width: int, levels: tuple[float, ...], limits: Limits) -> Fit:
    """Weights and error quantiles of each point for windows of `width` bins."""
    mean = float(np.nanmean(past.x)) if np.isfinite(past.x).any() else 0.0
    spreads = (default_spread(default_sigma(width, limits.season), levels), default_spread(_PROFILE_SIGMA, levels))
    errors = np.stack([spreads[c >= PROFILE_FROM] for c in range(len(POINTS))])
    step = max(1, limits.span // _ORIGINS)
    newest = len(past.x) - 1 - width
    origins = np.arange(newest, max(-1, newest - limits.span), -step)
    losses = np.full(len(POINTS), math.inf)
    if len(origins) >= _FEWEST:
        actual = window_max(past.x, width)[origins + 1]
        highest = window_max(past.profile, min(width, limits.reach))[origins + 1]
        made = points(past.features.at(origins), highest)
        usable = np.isfinite(made) & np.isfinite(actual)
        used = [c for c in limits.allowed if np.count_nonzero(usable[c]) >= _FEWEST]
        common = usable[used].all(axis=0)
        for c in used:
            seen = usable[c]
            scaled = (actual[seen] - made[c][seen]) / error_scale(made[c][seen], mean)
            trust = min(1.0, len(scaled) * step / width / ENOUGH_WINDOWS)
            errors[c] = trust * conformal(scaled, levels) + (1.0 - trust) * errors[c]
            losses[c] = _loss(actual[common], made[c][common], errors[c], levels, mean)
    return Fit(_weights(losses, limits.allowed)[None], errors[None], mean)


def default_sigma(width: int, season: int) -> float:
    """Spread of a window's largest bin about the last value when nothing is known: grows with the window's length."""
    return 0.5 * math.sqrt(min(4.0, width / (season / 24.0)))


def _weights(losses: Floats, allowed: tuple[int, ...]) -> Floats:
    """The lower the loss the more; before any was measured: the last bins and, where one is known, the profile."""
    if not np.isfinite(losses).any():
        weights = np.array([float(c in allowed and c in (0, 1, PROFILE_FROM)) for c in range(len(POINTS))])
    else:
        weights = ((losses.min() + 1e-12) / (losses + 1e-12)) ** _POWER
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _loss(actual: Floats, made: Floats, errors: Floats, levels: tuple[float, ...], mean: float) -> float:
    """Mean pinball loss over the upper levels (all of them when none is upper)."""
    if not len(actual):
        return 0.0
    upper = [j for j, level in enumerate(levels) if level >= 0.75] or range(len(levels))
    scale = error_scale(made, mean)
    return sum(pinball(actual, np.maximum(0.0, made + scale * errors[j]), levels[j]) for j in upper) / len(upper)
