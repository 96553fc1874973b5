"""Demand one lead time from now by the same minute of earlier hours: for storms that keep to the clock.

Crawlers, cron jobs and bots come at :02 or :32, the hour moving from day to day; a daily profile does not see that.
Kept are errors of the plainest forecast (what the last five minutes were) by the minute of the hour, for three days.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_HOURS = 72
_SLOT_S = 30.0
_LEVEL_S = 150.0
_ENOUGH = 30
_MEAN_S = 7 * 86400.0
_PENDING = 128


@dataclass(slots=True)
class ClockMemory:
    """Plain data; demand in replicas."""

    errors: bytearray = field(default_factory=bytearray)
    """float16 by slot of 30 s, over three days: error over the size to expect of it; NaN = not known."""
    origins: bytearray = field(default_factory=bytearray)
    """float32 (pending, 3): bin number, level and size of forecasts that wait for their outcome: a ring by bin."""
    mean: float = 0.0
    level: float = 0.0
    bins: int = 0


class Clock:
    """Views into a memory; makes what is missing of it."""

    def __init__(self, memory: ClockMemory, bin_s: float) -> None:
        self.memory = memory
        self._thin = max(1, round(_SLOT_S / bin_s))
        self._per_hour = max(1, round(3600.0 / bin_s / self._thin))
        self._bin_s = bin_s
        length = _HOURS * self._per_hour
        if len(memory.errors) != 2 * length:
            memory.errors = bytearray(np.full(length, np.nan, dtype=np.float16).tobytes())
            memory.origins = bytearray(np.full((_PENDING, 3), np.nan).tobytes())
            memory.mean = memory.level = 0.0
            memory.bins = 0
        self._errors: NDArray[np.float16] = np.frombuffer(memory.errors, dtype=np.float16)
        self._origins: Floats = np.frombuffer(memory.origins, dtype=np.float64).reshape(_PENDING, 3)

    def learn(self, number: int, demand: float, lead_bins: int) -> None:
        """The bin of this number (counted from the epoch) closed; what was expected of it a lead time ago is judged."""
        memory = self.memory
        memory.bins += 1
        memory.mean += max(self._bin_s / _MEAN_S, 1.0 / memory.bins) * (demand - memory.mean)
        memory.level += min(max(self._bin_s / _LEVEL_S, 1.0 / memory.bins), 1.0) * (demand - memory.level)
        mean = memory.mean + 1e-9
        self._origins[number % _PENDING] = number, memory.level, (memory.level * mean) ** 0.5 + 0.05 * mean
        origin = number - min(lead_bins, _PENDING - 1)
        made, level, size = self._origins[origin % _PENDING].tolist()
        if made == origin and origin % self._thin == 0:
            error = min((demand - level) / size, 1e4)
            self._errors[origin // self._thin % len(self._errors)] = error

    def quantiles(self, number: int, lead_bins: int, levels: Floats) -> Floats | None:
        """Of demand `lead_bins` after this bin; None while too little is known."""
        first = 1 + (lead_bins + self._thin) // (self._per_hour * self._thin)
        slots = (number // self._thin - _offsets(self._per_hour, first)) % len(self._errors)
        known = self._errors[slots].astype(np.float64)
        known = known[known == known]
        if len(known) < _ENOUGH:
            return None
        known.sort()
        rank = np.minimum(np.maximum(levels * (len(known) + 1) - 1.0, 0.0), len(known) - 1.0)
        low = rank.astype(np.int64)
        below = known[low]
        at = below + (rank - low) * (known[np.minimum(low + 1, len(known) - 1)] - below)
        _, level, size = self._origins[number % _PENDING].tolist()
        return np.asarray(np.maximum(level + size * at, 0.0))


@lru_cache(maxsize=64)
def _offsets(per_hour: int, first: int) -> Ints:
    """How many slots back lie the same minute of each earlier hour, and its neighbours."""
    hours = np.arange(first, _HOURS)[:, None] * per_hour
    return np.asarray((hours + np.array([-1, 0, 1])).reshape(-1))
