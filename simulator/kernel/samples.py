"""Distributions of many values in bounded memory: exact up to two million, then a sketch of known error.

The sketch counts values in logarithmic bins 0.5 % wide, so a quantile is off by at most 0.25 % of itself; mean and
maximum stay exact. It depends on the values alone, not on the order or the size of the pieces they come in.
"""

from __future__ import annotations

import math

import numpy as np

from simulator.workload.traces import Floats

EXACT_UP_TO = 2_000_000
_GROWTH = 1.005
_SMALLEST_S = 1e-6
_BINS = int(math.log(1e6 / _SMALLEST_S) / math.log(_GROWTH)) + 2


class Samples:
    """Values >= 0 (seconds)."""

    def __init__(self, exact_up_to: int = EXACT_UP_TO) -> None:
        self._exact_up_to = exact_up_to
        self._parts: list[Floats] = []
        self._counts: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None
        self.count = 0
        self._sum = 0.0
        self._max = 0.0

    def add(self, values: Floats) -> None:
        if not len(values):
            return
        self.count += len(values)
        self._sum += float(values.sum())
        self._max = max(self._max, float(values.max()))
        if self._counts is None:
            self._parts.append(values)
            if self.count > self._exact_up_to:
                self._counts = np.zeros(_BINS, np.int64)
                for part in self._parts:
                    self._count(part)
                self._parts = []
        else:
            self._count(values)

    def _count(self, values: Floats) -> None:
        assert self._counts is not None
        bins = np.ceil(np.log(np.maximum(values, _SMALLEST_S) / _SMALLEST_S) / math.log(_GROWTH)).astype(np.int64)
        np.add.at(self._counts, np.minimum(bins, _BINS - 1), 1)

    @property
    def exact(self) -> bool:
        return self._counts is None

    @property
    def mean(self) -> float | None:
        return self._sum / self.count if self.count else None

    @property
    def max(self) -> float | None:
        return self._max if self.count else None

    def quantiles(self, levels: tuple[float, ...]) -> list[float | None]:
        """Values not exceeded by these shares (0..1), linear between neighbours; None without values."""
        if not self.count:
            return [None for _ in levels]
        if self._counts is None:
            everything = np.concatenate(self._parts)
            self._parts = [everything]
            return [float(q) for q in np.quantile(everything, levels)]
        cumulative = np.cumsum(self._counts)
        found: list[float | None] = []
        for level in levels:
            at = int(np.searchsorted(cumulative, level * (self.count - 1), side="right"))
            middle = _SMALLEST_S * _GROWTH ** (at - 0.5) if at > 0 else 0.0
            found.append(min(middle, self._max))
        return found

    def merge(self, other: Samples) -> None:
        """Takes in another one's values."""
        if other._counts is None:
            for part in other._parts:
                self.add(part)
            return
        if self._counts is None:
            self._counts = np.zeros(_BINS, np.int64)
            for part in self._parts:
                self._count(part)
            self._parts = []
        self._counts += other._counts
        self.count += other.count
        self._sum += other._sum
        self._max = max(self._max, other._max)
