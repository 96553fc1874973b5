"""Point forecasts of the largest bin in a window, from a few features of the moment it is made at.

The same formulas serve one moment (numbers) and every remembered moment (arrays): what is replayed is what was issued.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from policies.forecasting.base import Floats
from policies.forecasting.conformal import trailing_mean, window_max

POINTS = ("last", "minute", "short", "peak", "profile", "shift")
PROFILE_FROM = 4
"""The points from here on need a season of history."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Widths in bins over which the recent level is read."""

    minute: int
    short: int
    peak: int
    level: int

    @classmethod
    def of(cls, bin_s: float, season_s: float) -> Windows:
        """A minute, 5 and 10 minutes, a quarter of an hour; shorter where the season is shorter than a day."""

        def bins(seconds: float, share: float) -> int:
            return max(1, round(min(seconds, season_s * share) / bin_s))

        return cls(bins(60.0, 1 / 90), bins(300.0, 1 / 30), bins(600.0, 1 / 15), max(3, bins(900.0, 1 / 10)))


@dataclass(frozen=True, slots=True)
class Features:
    """Last value, means and maximum of the last bins, and the profile's mean over the `level` bins; NaN = unknown.

    Each an array over moments, shape (moments,).
    """

    last: Floats
    minute: Floats
    short: Floats
    peak: Floats
    level: Floats
    profile_level: Floats

    def at(self, moments: NDArrayInt) -> Features:
        """Those moments only."""
        return Features(
            self.last[moments],
            self.minute[moments],
            self.short[moments],
            self.peak[moments],
            self.level[moments],
            self.profile_level[moments],
        )


NDArrayInt = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def past_features(x: Floats, profile: Floats, windows: Windows) -> Features:
    """Features of every moment of the past: `x` and `profile` of the same bins, oldest first."""
    newest_known = np.maximum.accumulate(np.where(x == x, np.arange(len(x)), -1))
    both = (x == x) & (profile == profile)
    padded = np.concatenate((np.full(windows.peak - 1, np.nan), x))
    return Features(
        last=np.where(newest_known >= 0, x[newest_known], np.nan),
        minute=trailing_mean(x, windows.minute),
        short=trailing_mean(x, windows.short),
        peak=window_max(padded, windows.peak),
        level=trailing_mean(np.where(both, x, np.nan), windows.level),
        profile_level=trailing_mean(np.where(both, profile, np.nan), windows.level),
    )


def present_features(x: Floats, profile: Floats, windows: Windows) -> Features:
    """Features of the end of `x` alone, shape (1,): the last of `past_features`, without the work for all others."""
    last = x[-1]
    if last != last:
        known = x[x == x]
        last = known[-1] if len(known) else math.nan
    peak = np.fmax.reduce(x[-windows.peak :])
    level, shape = x[-windows.level :], profile[-windows.level :]
    both = (level == level) & (shape == shape)
    if not both.all():
        level, shape = level[both], shape[both]
    numbers = (last, _mean(x[-windows.minute :]), _mean(x[-windows.short :]), peak, _mean(level), _mean(shape))
    return Features(*np.array(numbers)[:, None])


def points(at: Features, highest: Floats) -> Floats:
    """The point forecasts, shape (POINTS, windows); `highest` = the profile's maximum in each window.

    The ratio of level to profile is drawn to 1 at low levels, where it is all noise. Not finite = cannot be made.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        ease = 0.1 * highest
        ratio = np.clip((at.level + ease) / (at.profile_level + ease), 0.2, 5.0)
        out = np.empty((len(POINTS), len(highest)))
        out[0], out[1], out[2], out[3] = at.last, at.minute, at.short, at.peak
        out[4] = highest * ratio
        out[5] = np.maximum(0.0, highest + at.level - at.profile_level)
        return out


def error_scale(made: Floats, mean: float) -> Floats:
    """Size of errors to expect: between constant and proportional, as counts have it; never 0."""
    return np.asarray(np.sqrt(np.maximum(made, 0.0) * mean) + 0.05 * mean + 1e-9, dtype=np.float64)


def _mean(values: Floats) -> float:
    total = float(np.add.reduce(values)) if len(values) else math.nan
    if total == total:
        return total / len(values)
    known = values[values == values]
    return float(known.mean()) if len(known) else math.nan
