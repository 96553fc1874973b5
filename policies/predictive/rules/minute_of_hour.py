"""Demand one lead time from now by the same minute of earlier hours: for storms that follow the clock.

Crawlers, cron jobs and bots come at :02 or :32, the hour changing from day to day; a daily profile does not see that.
Stored are errors of the plainest forecast (the mean of the last five minutes) by minute of the hour, for three days.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from policies.predictive.rules.family import Floats, Ints

_HOURS = 72
_SLOT_S = 30.0
_LEVEL_S = 150.0
_ENOUGH = 30
_MEAN_S = 7 * 86400.0
_PENDING = 128
_NEIGHBOURS = np.array([-1, 0, 1])


@dataclass(slots=True)
class MinuteOfHourMemory:
    """Plain data; demand in replicas. The bytes may be views of arrays of several deployments (`SimulationMemory`)."""

    errors: bytearray = field(default_factory=bytearray)
    """float16 by slot of 30 s, over three days: error over the size to expect of it; NaN = not known."""
    origins: bytearray = field(default_factory=bytearray)
    """float64 (pending, 3): bin number, level and size of forecasts that wait for their outcome: a ring by bin."""
    mean: float = 0.0
    level: float = 0.0
    bins: int = 0

    def __post_init__(self) -> None:
        """A saved memory that was cut off is refused when it is read. Errors: ValueError."""
        if len(self.errors) % 2 or len(self.origins) not in (0, 8 * 3 * _PENDING):
            found = f"{len(self.errors)} bytes of errors, {len(self.origins)} of origins"
            raise ValueError(f"{found} are no clock's (two for each slot, {8 * 3 * _PENDING})")


class MinuteOfHourBank:
    """Those of several deployments, bins of one width; makes what is missing of their memories.

    The memories' bytes become views of the arrays here. Errors lie here once more by the minute: in a memory the same
    minute of each hour lies far from that of the next, and to fetch them takes longer than all that is done with them.
    """

    def __init__(self, memories: Sequence[MinuteOfHourMemory], bin_s: float) -> None:
        self._memories = memories
        self._bin_s = bin_s
        self._thin = max(1, round(_SLOT_S / bin_s))
        self._per_hour = max(1, round(3600.0 / bin_s / self._thin))
        for memory in memories:
            _begin(memory, _HOURS * self._per_hour)
        errors, origins = (bytearray().join([getattr(m, name) for m in memories]) for name in ("errors", "origins"))
        for memory, *own in zip(memories, _views(errors, len(memories)), _views(origins, len(memories)), strict=True):
            memory.errors, memory.origins = own  # type: ignore[assignment]
        self._own = [memory.errors for memory in memories]
        self._errors: NDArray[np.float16] = np.frombuffer(errors, dtype=np.float16).reshape(len(memories), -1)
        self._origins: Floats = np.frombuffer(origins, dtype=np.float64).reshape(len(memories), _PENDING, 3)
        by_hour = self._errors.reshape(len(memories), _HOURS, self._per_hour)
        self._by_minute: NDArray[np.float16] = np.ascontiguousarray(by_hour.transpose(0, 2, 1))
        self._each: Ints = np.arange(len(memories))[:, None]

    def holds(self, memories: Sequence[MinuteOfHourMemory], bin_s: float) -> bool:
        """These memories, and no other, are views of the arrays here."""
        if bin_s != self._bin_s or len(memories) != len(self._memories):
            return False
        return all(
            one is memory and memory.errors is own
            for one, memory, own in zip(memories, self._memories, self._own, strict=True)
        )

    def learn(self, numbers: Ints, demand: Floats, lead_bins: Ints) -> Floats:
        """These bins (clocks, bins; counted from the epoch, rising) closed, those of each clock within `_PENDING`.

        What was expected of each `lead_bins` (clocks,) before is judged. Level of demand then, and the size of errors
        to expect: shape (2, clocks, bins).
        """
        averages = [self._averages(one, row) for one, row in zip(self._memories, demand.tolist(), strict=True)]
        about = np.array(averages)
        origin = numbers - np.minimum(lead_bins, _PENDING - 1)[:, None]
        waiting = self._origins[self._each, origin % _PENDING]
        self._origins[self._each, numbers % _PENDING] = np.concatenate([numbers[:, :, None], about], axis=2)
        if numbers.shape[1] > 1:  # of an origin among these bins it was too early to ask
            own = origin >= numbers[:, :1]
            waiting = np.where(own[:, :, None], self._origins[self._each, origin % _PENDING], waiting)
        made, level, size = waiting.transpose(2, 0, 1)
        whose, bins = np.nonzero((made == origin) & (origin % self._thin == 0))
        error = np.minimum((demand[whose, bins] - level[whose, bins]) / size[whose, bins], 1e4)
        slot = origin[whose, bins] // self._thin % self._errors.shape[1]
        self._errors[whose, slot] = error
        self._by_minute[whose, slot % self._per_hour, slot // self._per_hour] = error
        return np.asarray(about.transpose(2, 0, 1))

    def _averages(self, memory: MinuteOfHourMemory, demand: Sequence[float]) -> list[tuple[float, float]]:
        """Level and size of errors after each of the next bins of one clock."""
        slow, quick = self._bin_s / _MEAN_S, min(self._bin_s / _LEVEL_S, 1.0)
        bins, mean, level = memory.bins, memory.mean, memory.level
        about = []
        for seen in demand:
            bins += 1
            share = 1.0 / bins
            mean += (slow if slow > share else share) * (seen - mean)
            level += (quick if quick > share else share) * (seen - level)
            usual = mean + 1e-9
            about.append((level, (level * usual) ** 0.5 + 0.05 * usual))
        memory.bins, memory.mean, memory.level = bins, mean, level
        return about

    def quantiles(self, numbers: Ints, demand: Floats, lead_bins: Ints, levels: Floats) -> Floats:
        """These bins (clocks, bins) closed, those of each clock within an hour: they are learned.

        Quantiles of demand `lead_bins` (clocks,) after each, shape (clocks, bins, levels); NaN while too little is
        known.
        """
        # A bin uses errors an hour old and more: that later ones are known already makes no difference.
        about = self.learn(numbers, demand, lead_bins)
        known = self._same_minute(numbers, 1 + (lead_bins + self._thin) // (self._per_hour * self._thin))
        known.sort(axis=2)  # what is not known comes last
        count = np.add.reduce(known == known, axis=2)[:, :, None]
        last = np.maximum(count - 1, 0)
        rank = np.minimum(np.maximum(levels * (count + 1) - 1.0, 0.0), last)
        low = rank.astype(np.int64)
        each, turn = self._each[:, :, None], np.arange(numbers.shape[1])[:, None]
        below = known[each, turn, low].astype(np.float64)
        above = known[each, turn, np.minimum(low + 1, last)].astype(np.float64)
        level, size = about[:, :, :, None]
        found = np.maximum(level + size * (below + (rank - low) * (above - below)), 0.0)
        return np.where(count >= _ENOUGH, found, np.nan)

    def _same_minute(self, numbers: Ints, first: Ints) -> NDArray[np.float32]:
        """Errors in the same slot of earlier hours and in its neighbours, shape (clocks, bins, errors), in no order.

        `first` (clocks,): that many hours ago the newest of them. What is not known, or too new, is NaN.
        """
        slots = (numbers[:, :, None] // self._thin - _NEIGHBOURS) % self._errors.shape[1]
        each = self._each[:, :, None]
        known = self._by_minute[each, slots % self._per_hour].astype(np.float32)  # sorted sooner than in doubles
        bins, neighbours, hour = np.arange(numbers.shape[1])[:, None], np.arange(3), slots // self._per_hour
        for back in range(int(first.max())):
            newer = first > back
            known[each[newer], bins, neighbours, (hour[newer] - back) % _HOURS] = np.nan
        return np.asarray(known.reshape(*numbers.shape, -1))


def _begin(memory: MinuteOfHourMemory, slots: int) -> None:
    """Make what is missing of a memory, or all of it where its bins were of another width."""
    if len(memory.errors) == 2 * slots and memory.origins:
        return
    memory.errors = bytearray(np.full(slots, np.nan, dtype=np.float16).tobytes())
    memory.origins = bytearray(np.full((_PENDING, 3), np.nan).tobytes())
    memory.mean = memory.level = 0.0
    memory.bins = 0


def _views(joined: bytearray, count: int) -> list[memoryview]:
    """The bytes of each of so many, one after the other."""
    whole, width = memoryview(joined), len(joined) // count
    return [whole[at : at + width] for at in range(0, len(joined), width)]
