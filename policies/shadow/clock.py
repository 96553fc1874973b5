"""Demand one lead time from now by the same minute of earlier hours: for storms that keep to the clock.

Crawlers, cron jobs and bots come at :02 or :32, the hour moving from day to day; a daily profile does not see that.
Kept are errors of the plainest forecast (what the last five minutes were) by the minute of the hour, for three days.
"""

from __future__ import annotations

from collections.abc import Sequence
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

    def learn(self, number: int, demand: float, lead_bins: int) -> tuple[float, float]:
        """The bin of this number (counted from the epoch) closed; what was expected of it a lead time ago is judged.

        Level of demand, and the size of errors to expect.
        """
        memory = self.memory
        memory.bins += 1
        memory.mean += max(self._bin_s / _MEAN_S, 1.0 / memory.bins) * (demand - memory.mean)
        memory.level += min(max(self._bin_s / _LEVEL_S, 1.0 / memory.bins), 1.0) * (demand - memory.level)
        mean = memory.mean + 1e-9
        about = memory.level, (memory.level * mean) ** 0.5 + 0.05 * mean
        self._origins[number % _PENDING] = number, *about
        origin = number - min(lead_bins, _PENDING - 1)
        made, level, size = self._origins[origin % _PENDING].tolist()
        if made == origin and origin % self._thin == 0:
            error = min((demand - level) / size, 1e4)
            self._errors[origin // self._thin % len(self._errors)] = error
        return about

    @staticmethod
    def quantiles(
        clocks: Sequence[Clock], numbers: Ints, demand: Floats, lead_bins: Ints, levels: Floats
    ) -> Floats:  # fmt: skip
        """These bins (clocks, bins) closed, all of one width, those of each clock within an hour: they are learned.

        Quantiles of demand `lead_bins` (clocks,) after each, shape (clocks, bins, levels); NaN while too little is
        known.
        """
        # What a bin asks for is an hour old and more: that those after it are known already makes no difference.
        about = [
            [clock.learn(number, seen, lead) for number, seen in zip(*rows, strict=True)]
            for clock, lead, *rows in zip(clocks, lead_bins.tolist(), numbers.tolist(), demand.tolist(), strict=True)
        ]
        one = clocks[0]
        hours, offsets = _offsets(one._per_hour)
        slots = (numbers[:, :, None] // one._thin - offsets) % len(one._errors)
        errors = np.array([clock._errors[row] for clock, row in zip(clocks, slots, strict=True)])
        known = errors.astype(np.float32)  # sorted sooner than in doubles
        first = 1 + (lead_bins + one._thin) // (one._per_hour * one._thin)
        if first.max() > 1:
            known[np.broadcast_to(hours < first[:, None, None], known.shape)] = np.nan
        known.sort(axis=2)  # what is not known comes last
        count = np.add.reduce(known == known, axis=2)[:, :, None]
        last = np.maximum(count - 1, 0)
        rank = np.minimum(np.maximum(levels * (count + 1) - 1.0, 0.0), last)
        low = rank.astype(np.int64)
        each, turn = np.arange(len(clocks))[:, None, None], np.arange(numbers.shape[1])[:, None]
        below = known[each, turn, low].astype(np.float64)
        above = known[each, turn, np.minimum(low + 1, last)].astype(np.float64)
        level, size = np.array(about).transpose(2, 0, 1)[:, :, :, None]
        found = np.maximum(level + size * (below + (rank - low) * (above - below)), 0.0)
        return np.where(count >= _ENOUGH, found, np.nan)


@lru_cache(maxsize=64)
def _offsets(per_hour: int) -> tuple[Ints, Ints]:
    """Earlier hours, and how many slots back lie the same minute of each and its neighbours."""
    hours = np.repeat(np.arange(1, _HOURS), 3)
    return hours, hours * per_hour + np.tile(np.array([-1, 0, 1]), _HOURS - 1)
