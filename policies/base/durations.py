"""Durations of things that take minutes and spread: log-normal by median and spread.

For priors of cold-start stages, for learned lead times and for the simulator's draws. Not for request latencies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

_NORMAL = NormalDist()
_Z99 = _NORMAL.inv_cdf(0.99)
_MAX_SIGMA = 20.0
"""A p99 of 1e20 medians; beyond some 26 the variance is no longer a number."""


@dataclass(frozen=True, slots=True)
class Duration:
    """A log-normal duration in seconds; `sigma` is the standard deviation of its logarithm (0 = a constant).

    A median of 0 is the constant 0. Errors: ValueError for a negative or non-finite value, or a sigma
    over 20.
    """

    median_s: float
    sigma: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.median_s) and self.median_s >= 0):
            raise ValueError(f"a duration's median must be a finite number of seconds >= 0, not {self.median_s!r}")
        if not 0 <= self.sigma <= _MAX_SIGMA:
            raise ValueError(f"a duration's sigma must be a number from 0 to {_MAX_SIGMA:g}, not {self.sigma!r}")

    @classmethod
    def from_median_p99(cls, median_s: float, p99_s: float) -> Duration:
        """The log-normal with this median and 99th percentile (p99 >= median), as scenario files state it."""
        if not (math.isfinite(p99_s) and p99_s >= median_s):
            raise ValueError(f"p99 ({p99_s!r}) must not be below the median ({median_s!r})")
        sigma = math.log(p99_s / median_s) / _Z99 if median_s > 0 else 0.0
        return cls(median_s, sigma)

    @classmethod
    def from_moments(cls, mean_s: float, variance_s2: float) -> Duration:
        """The log-normal with this mean and variance (both >= 0)."""
        if mean_s <= 0:
            return cls(0.0)
        sigma2 = math.log1p(variance_s2 / mean_s**2)
        return cls(mean_s / math.exp(sigma2 / 2), math.sqrt(sigma2))

    @property
    def mean_s(self) -> float:
        return self.median_s * math.exp(self.sigma**2 / 2)

    @property
    def variance_s2(self) -> float:
        return self.mean_s**2 * math.expm1(self.sigma**2)

    def quantile(self, level: float) -> float:
        """Seconds that the duration does not exceed with probability `level` (0 < level < 1)."""
        if self.sigma == 0.0:
            return self.median_s
        return self.median_s * math.exp(self.sigma * _score(level))

    def remaining(self, elapsed_s: float, level: float) -> float:
        """Quantile of what is left, given that `elapsed_s` have passed and it is not over yet.

        Conditional log-normal; a constant that is overdue has 0 left (it may end at any moment).
        """
        if elapsed_s <= 0:
            return self.quantile(level)
        if self.sigma == 0.0 or self.median_s == 0.0:
            return max(0.0, self.median_s - elapsed_s)
        passed = _NORMAL.cdf((math.log(elapsed_s) - math.log(self.median_s)) / self.sigma)
        p = min(passed + level * (1.0 - passed), 1.0 - 1e-12)
        return max(0.0, self.quantile(max(p, 1e-12)) - elapsed_s)

    @staticmethod
    def total(parts: list[Duration]) -> Duration:
        """The sum of independent durations, as the log-normal with the sum's mean and variance (Fenton-Wilkinson)."""
        return parts[0] if len(parts) == 1 else _total(tuple(parts))


_score = lru_cache(maxsize=1024)(_NORMAL.inv_cdf)
"""Kept: the same few levels are asked for at every tick."""


@lru_cache(maxsize=4096)
def _total(parts: tuple[Duration, ...]) -> Duration:
    """Kept: the same stages are added up for every deployment at every tick."""
    return Duration.from_moments(sum(p.mean_s for p in parts), sum(p.variance_s2 for p in parts))
