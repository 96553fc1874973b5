"""What was seen: recent bins, two weeks in learning steps, and the seasonal profile they give (profile.py).

Missing bins are NaN in history and carried on by the profile (or the last value) for those who need a number. Not for
errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from policies.forecasting.base import Floats
from policies.forecasting.ensemble.grid import DAY_S, Grid, Ints
from policies.forecasting.ensemble.serialization import Kept

SEASONS = 7
"""Before this one, that the profile is of."""
_KEPT_SEASONS = 14
_MEAN_HALF_LIFE_S = 3 * DAY_S
_LEAST_RPS = 1e-9


class SeriesMemory(Kept):
    """Feed with `add` and `close_steps` (profile.py); `widths` = bins of the recent windows."""

    arrays = ("recent", "history", "profile", "totals")
    numbers = ("end", "count", "known", "since_known", "missing", "mean", "steps", "step", "ratio", "today", "odd")

    def __init__(self, grid: Grid, holidays: frozenset[int] = frozenset()) -> None:
        self.grid = grid
        self.holidays = holidays
        minutes = (5, 10, 15, 30, 60)
        self.windows = {m: max(1, round(m * 60.0 / grid.bin_s)) for m in minutes}
        self._keep = max(self.windows[60], int(grid.widths[-1]) + grid.bins_per_step, 2 * grid.bins_per_step)
        self.recent: Floats = np.zeros(4 * self._keep)
        self.end = 0
        self.count = 0
        """Bins since the first that had a value."""
        self.known = 0
        self.since_known = 0
        self.missing = 0
        self.mean = 0.0
        """Slow mean, the unit in which everything else is measured."""
        self._fresh = 1 - 0.5 ** (grid.step_s / _MEAN_HALF_LIFE_S)
        self.steps = 0
        """Steps closed since the beginning."""
        self.step = 0
        """The step that closed last, counted from the epoch."""
        self.ratio = 1.0
        """The last quarter of an hour over its profile."""
        self.today = 1.0
        """The same, slowly: today's level."""
        self.odd = 0.0
        self.lags = [max(1, round(k * grid.season_s / grid.step_s)) for k in range(1, SEASONS + 1)]
        self.span = _KEPT_SEASONS * self.lags[0] + grid.farthest + 64
        self.history = np.full(self.span, np.nan, dtype=np.float32)
        self.reaches = min(grid.farthest, self.lags[0])
        self.quarter = max(1, round(900.0 / grid.step_s))
        self.profile: Floats = np.full(self.quarter + self.reaches + 1, np.nan)
        """Profile of the last quarter of an hour and of the steps ahead; a ring by step."""
        self.totals = [0.0, 0.0]
        """Sum and number of known bins of the step that is open."""

    # ------------------------------------------------------------ bins

    def add(self, value: float | None) -> None:
        """The next bin's value, None where it is missing."""
        self.count += 1
        if value is None:
            self.missing += 1
            self.since_known += 1
            filled = self._carried()
        else:
            self.known += 1
            self.since_known = 0
            filled = value
            self.totals[0] += value
            self.totals[1] += 1.0
            if self.known == 1:
                self.mean = value
        if self.end == len(self.recent):
            self.recent[: self._keep] = self.recent[-self._keep :].copy()
            self.end = self._keep
        self.recent[self.end] = filled
        self.end += 1

    def last(self, bins: int) -> Floats:
        """The newest bins, carried on where missing: a view; fewer where there are not so many yet."""
        return self.recent[max(0, self.end - bins, self.end - self.count) : self.end]

    def _carried(self) -> float:
        """What to put where a bin is missing: the profile at the level before the gap, else the last value."""
        expected = float(self.profile[(self.step + 1) % len(self.profile)])
        if self.steps > self.lags[0] and expected == expected and self.since_known > 1:
            return expected * self.ratio
        return float(self.recent[self.end - 1]) if self.end else 0.0

    # ------------------------------------------------------------ steps

    def open_next(self, step: int) -> float:
        """The mean of the step that was open (NaN where all is missing); to close it is `profile.close_steps`."""
        total, bins = self.totals
        self.totals = [0.0, 0.0]
        self.step = step
        self.odd = 0.0
        if not bins:
            return math.nan
        value = total / bins
        self.mean += max(self._fresh, 1.0 / (self.steps + 1.0)) * (value - self.mean)
        return value

    def forget(self, step: int) -> None:
        """Nothing was known for longer than memory goes back."""
        self.history[:] = math.nan
        self.profile[:] = math.nan
        self.step = step

    @property
    def unit(self) -> float:
        """The mean as a unit: never zero."""
        return max(self.mean, _LEAST_RPS)

    @property
    def seasonal(self) -> bool:
        """The profile covers the steps ahead."""
        return self.steps > self.lags[0] + self.quarter and self.profile[self.step % len(self.profile)] > -1.0

    def ahead(self) -> Floats:
        """The profile of the next steps, as far as the longest horizon; the season repeats where that is farther."""
        return self.profile.take(self.places_ahead())

    def behind(self) -> Floats:
        """The profile of the last quarter of an hour."""
        return self.profile.take(self.places_behind())

    def places_ahead(self) -> Ints:
        """Where in `profile` that of `ahead` lies; the same for all of one grid at one step."""
        return places_of(self.step + 1, self.grid.farthest, len(self.profile), self.reaches)

    def places_behind(self) -> Ints:
        """The same of `behind`."""
        return places_of(self.step - self.quarter + 1, self.quarter, len(self.profile))

    def past(self, steps: int) -> Floats:
        """The last steps of history, oldest first, NaN where missing."""
        places = places_of if steps <= _SHORT else _places
        return self.history[places(self.step - steps + 1, steps, self.span)].astype(np.float64)

    def at(self, steps: Ints) -> Floats:
        """History at these steps (counted from the epoch), all within memory."""
        return self.history[steps % self.span].astype(np.float64)


def latest(memories: Sequence[SeriesMemory], bins: int) -> Floats | None:
    """`last` of several, (series, bins); None where some have fewer of them than others."""
    found = [memory.last(bins) for memory in memories]
    return np.array(found) if len(set(map(len, found))) == 1 else None


def largest(memories: Sequence[SeriesMemory]) -> Floats:
    """For each series and horizon the largest bin of its window, which began `reach` steps ago."""
    grid = memories[0].grid
    bins = grid.reach * grid.bins_per_step
    recent = latest(memories, int(bins[-1]))
    if recent is None:
        return np.concatenate([largest([memory]) for memory in memories])
    windows = zip(np.maximum(recent.shape[1] - bins, 0).tolist(), grid.widths.tolist(), strict=True)
    return np.stack([np.maximum.reduce(recent[:, first : first + width], axis=1) for first, width in windows], axis=1)


_SHORT = 240
"""Steps. Longer stretches are for refits, each of its own: their places are not worth keeping."""


def _places(first: int, count: int, size: int, period: int | None = None) -> Ints:
    """Where so many steps, from this one on, lie in a ring by step of this size; after each `period` they repeat."""
    steps = np.arange(count) if period is None else np.arange(count) % period
    places = (first + steps) % size
    places.flags.writeable = False
    return places


places_of = lru_cache(maxsize=64)(_places)
"""Kept: series that close a step together ask for the same few of them."""
