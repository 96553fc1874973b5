"""What was seen: recent bins, two weeks in learning steps, and the seasonal profile they give.

The profile at a step is a weighted mean of that time in earlier seasons: the last one 1, the same weekday 2, others
0.5. What was out of all proportion to the profile (an outage, a flash crowd) enters it cut down, until it has lasted
for the better part of a day: then it is the new level. Missing bins are NaN here and carried on by the profile (or
the last value) for those who need a number. Not for errors.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from policies.forecasting.base import Floats
from policies.forecasting.mixture.grid import DAY_S, Grid, Ints
from policies.forecasting.mixture.kept import Kept

_SEASONS = 7
_WEIGHTS = (1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 2.0)
_KEPT_SEASONS = 14
_MEAN_HALF_LIFE_S = 3 * DAY_S
_ODD_FACTOR = 4.0
"""Further than this from the profile (at today's level) is odd."""
_LEVEL_E_FOLD_S = DAY_S / 2
"""How fast "today's level" follows what is odd: by a factor e in this time."""
_LEAST_RPS = 1e-9
_HOLIDAY_WEIGHT = 2.0
_OTHER_DAY_WEIGHT = 0.1


class SeriesMemory(Kept):
    """Feed with `add` and `close_step`; `widths` = bins of the recent windows."""

    arrays = ("recent", "history", "profile", "totals")
    numbers = ("end", "count", "known", "since_known", "missing", "mean", "steps", "step", "ratio", "today", "odd")

    def __init__(self, grid: Grid, holidays: frozenset[int] = frozenset()) -> None:
        self.grid = grid
        self._holidays = holidays
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
        self.steps = 0
        """Steps closed since the beginning."""
        self.step = 0
        """The step that closed last, counted from the epoch."""
        self.ratio = 1.0
        """The last quarter of an hour over its profile."""
        self.today = 1.0
        """The same, slowly: today's level."""
        self.odd = 0.0
        self._lags = [max(1, round(k * grid.season_s / grid.step_s)) for k in range(1, _SEASONS + 1)]
        self.span = _KEPT_SEASONS * self._lags[0] + grid.farthest + 64
        self.history = np.full(self.span, np.nan, dtype=np.float32)
        self._ahead = min(grid.farthest, self._lags[0])
        self.quarter = max(1, round(900.0 / grid.step_s))
        self.profile: Floats = np.full(self.quarter + self._ahead + 1, np.nan)
        """Profile of the last quarter of an hour and of the steps ahead; a ring by step."""
        self.totals: Floats = np.zeros(2)
        """Sum and number of known bins of the step that is open."""
        self._weights: tuple[int, Floats, float] = (-1, np.array(_WEIGHTS), sum(_WEIGHTS))

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
        if self.steps > self._lags[0] and expected == expected and self.since_known > 1:
            return expected * self.ratio
        return float(self.recent[self.end - 1]) if self.end else 0.0

    # ------------------------------------------------------------ steps

    def close_step(self, step: int) -> float:
        """The open step is over: its mean (NaN where all is missing) enters history and the profile moves on."""
        total, bins = self.totals.tolist()
        value = total / bins if bins else math.nan
        self.totals[:] = 0.0
        self.step = step
        self.odd = 0.0
        if bins:
            fresh = max(1 - 0.5 ** (self.grid.step_s / _MEAN_HALF_LIFE_S), 1.0 / (self.steps + 1.0))
            self.mean += fresh * (value - self.mean)
            self.history[step % self.span] = self._plausible(step, value)
        else:
            self.history[step % self.span] = math.nan
        self.steps += 1
        self._extend_profile(step)
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
        return self.steps > self._lags[0] + self.quarter and self.profile[self.step % len(self.profile)] > -1.0

    def ahead(self) -> Floats:
        """The profile of the next steps, as far as the longest horizon; the season repeats where that is farther."""
        return self.profile.take(self.places_ahead())

    def behind(self) -> Floats:
        """The profile of the last quarter of an hour."""
        return self.profile.take(self.places_behind())

    def places_ahead(self) -> Ints:
        """Where in `profile` that of `ahead` lies; the same for all of one grid at one step."""
        return places_of(self.step + 1, self.grid.farthest, len(self.profile), self._ahead)

    def places_behind(self) -> Ints:
        """The same of `behind`."""
        return places_of(self.step - self.quarter + 1, self.quarter, len(self.profile))

    def rise_within(self, steps: int) -> float:
        """How much higher (1 to 5 times) the season before went within so many steps than the profile of `ahead`."""
        if not self.seasonal:
            return 1.0
        past = self.history[places_of(self.step + 1 - self.grid.season_steps, steps, self.span)].astype(np.float64)
        near, far = float(np.fmax.reduce(self.ahead())), float(np.fmax.reduce(past))
        if far != far or not near > 0.05 * self.mean:
            return 1.0
        return min(max(far / near, 1.0), 5.0)

    def past(self, steps: int) -> Floats:
        """The last steps of history, oldest first, NaN where missing."""
        places = places_of if steps <= _SHORT else _places
        return self.history[places(self.step - steps + 1, steps, self.span)].astype(np.float64)

    def at(self, steps: Ints) -> Floats:
        """History at these steps (counted from the epoch), all within memory."""
        return self.history[steps % self.span].astype(np.float64)

    def _extend_profile(self, step: int) -> None:
        if self.steps < self._lags[0]:
            return
        size = len(self.profile)
        first = step + self._ahead
        if self.steps == self._lags[0]:
            first = step + 1 - self.quarter
        for s in range(first, step + self._ahead + 1):
            self.profile[s % size] = self._profile_at(s)

    def _profile_at(self, step: int) -> float:
        seen = self.history[[(step - lag) % self.span for lag in self._lags]]
        weights, all_ = self._day_weights(step)
        value = float(np.dot(weights, seen)) / all_
        if value == value:  # as nearly always: nothing is missing
            return value
        weights = weights * (seen == seen)
        total = float(np.add.reduce(weights))
        if total <= 0.0:
            return math.nan
        return float(np.dot(weights, np.where(seen == seen, seen, 0.0))) / total

    def _day_weights(self, step: int) -> tuple[Floats, float]:
        """Weights of the earlier seasons, and their sum; on and after holidays, like days count."""
        day = int(step * self.grid.step_s // DAY_S)
        if self._weights[0] != day:
            weights = np.array(_WEIGHTS)
            if self._holidays and self.grid.season_s == DAY_S:
                for k in range(_SEASONS):
                    off = day - k - 1 in self._holidays or (day - k - 1) % 7 in _WEEKEND
                    if day in self._holidays:
                        weights[k] = _HOLIDAY_WEIGHT if off else _OTHER_DAY_WEIGHT
                    elif day - k - 1 in self._holidays:
                        weights[k] = _OTHER_DAY_WEIGHT
            self._weights = (day, weights, float(np.add.reduce(weights)))
        return self._weights[1:]

    def _plausible(self, step: int, value: float) -> float:
        """The value as the profile may remember it."""
        slack = 0.05 * self.mean
        if not self.seasonal:
            before = self.last(self.windows[15] + self.grid.bins_per_step)[: -self.grid.bins_per_step]
            if len(before) < self.windows[15]:
                return value
            # nothing says yet whether this is of every day
            return min(value, _ODD_FACTOR * (float(np.add.reduce(before)) / len(before) + slack))
        profile = float(np.add.reduce(self.behind())) / self.quarter
        recent = self.last(self.windows[15])
        now = (float(np.add.reduce(recent)) / len(recent) + slack) / (profile + slack)
        if not now > 0.0:
            return value
        self.ratio = min(max((now * (profile + slack) - slack) / max(profile, 1e-3 * self.mean, 1e-300), 0.0), 10.0)
        drift = math.exp(self.grid.step_s / _LEVEL_E_FOLD_S)
        self.today *= drift if now > self.today else 1.0 / drift
        excess = now / self.today
        if 1 / _ODD_FACTOR <= excess <= _ODD_FACTOR:
            return value
        self.odd = 1.0
        expected = float(self.profile[step % len(self.profile)]) * self.today
        if not expected >= 0.0:
            return value
        return min(value, _ODD_FACTOR * expected) if excess > 1 else max(value, expected / _ODD_FACTOR)


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


_WEEKEND = (2, 3)
"""Days since the epoch modulo 7 that are Saturday and Sunday (1970-01-01 was a Thursday)."""
