"""The past of one series in equal bins, and its seasonal profile; both can be read as they were known at any bin.

`profile` at a bin is what earlier seasons say of that bin, known one season ahead: recent seasons weigh more. Missing
bins are NaN and leave the profile as it was. Not for forecasting itself.
"""

from __future__ import annotations

import numpy as np

from policies.forecasting.base import Floats

_NEW_SEASON = 0.4
"""Weight of the newest season in the profile; the one before has 0.6 of that, and so on."""


class SeasonalHistory:
    """Rolling buffers of `memory` bins of values, and of the profile of those bins and of the season to come.

    `season` and `memory` in bins; `smooth` = bins on either side over which a season is averaged into the profile.
    """

    def __init__(self, season: int, memory: int, smooth: int) -> None:
        self.season, self.memory, self.smooth = season, memory, smooth
        self._size = 2 * memory + season
        self._x = np.full(self._size, np.nan)
        self._p = np.full(self._size + season, np.nan)
        self._end = 0
        self.count = 0
        """Bins seen since the beginning, missing ones included."""
        self.known = 0
        """Bins seen that had a value."""

    def extend(self, values: Floats) -> None:
        """Append bins in order; any number of them."""
        step = max(1, self.season - 2 * self.smooth - 1)
        for start in range(0, len(values), step):
            self._append(values[start : start + step])

    def skip(self, bins: int) -> None:
        """Append missing bins; more of them than the buffers hold keep only the phase of the season."""
        most = self.memory + self.season
        if bins > most:
            bins = most + (bins - most) % self.season
        self.extend(np.full(bins, np.nan))

    def values(self, bins: int, back: int = 0) -> Floats:
        """The last `bins` values that end `back` bins before the newest (fewer where history is shorter): a view."""
        end = self._end - back
        return self._x[max(0, end - bins) : max(0, end)]

    def profile(self, bins: int, ahead: int = 0, back: int = 0) -> Floats:
        """The profile of those bins and of `ahead` more: a view (NaN where no earlier season knew the bin)."""
        end = self._end - back
        return self._p[max(0, end - bins) : max(0, end + ahead)]

    @property
    def reach(self) -> int:
        """How many bins ahead of the newest one the profile can be known."""
        return self.season - self.smooth

    def dump(self) -> tuple[Floats, Floats]:
        """Values and profile that must be kept, oldest first."""
        return self.values(self.memory).copy(), self.profile(self.memory, self.season).copy()

    def load(self, values: Floats, profile: Floats, count: int, known: int) -> None:
        """The inverse of `dump`."""
        self._x[:], self._p[:] = np.nan, np.nan
        self._end = len(values)
        self._x[: self._end] = values
        self._p[: len(profile)] = profile
        self.count, self.known = count, known

    def _append(self, values: Floats) -> None:
        added = len(values)
        if self._end + added > self._size:
            self._shift()
        first = self._end
        self._x[first : first + added] = values
        self._end += added
        self.count += added
        self.known += int(np.count_nonzero(values == values))
        self._learn(max(self.smooth, first - self.smooth), self._end - self.smooth)

    def _learn(self, first: int, end: int) -> None:
        """Fold the smoothed bins [first, end) into the profile of the next season."""
        if end <= first:
            return
        if end == first + 1:
            self._learn_one(first)
            return
        smoothed = _centred_mean(self._x[first - self.smooth : end + self.smooth], self.smooth)
        old = self._p[first:end]
        age = self.count - self._end + np.arange(first, end)
        weight = np.maximum(_NEW_SEASON, 1.0 / (age // self.season + 1.0))
        mixed = np.where(old == old, old + weight * (smoothed - old), smoothed)
        self._p[first + self.season : end + self.season] = np.where(smoothed == smoothed, mixed, old)

    def _learn_one(self, at: int) -> None:
        """The same for one bin, in plain numbers: what one new bin costs."""
        total, seen = 0.0, 0
        for value in self._x[at - self.smooth : at + self.smooth + 1].tolist():
            if value == value:
                total += value
                seen += 1
        old = float(self._p[at])
        mixed = old
        if seen:
            mixed = smoothed = total / seen
            if old == old:
                age = self.count - self._end + at
                mixed = old + max(_NEW_SEASON, 1.0 / (age // self.season + 1.0)) * (smoothed - old)
        self._p[at + self.season] = mixed

    def _shift(self) -> None:
        keep = min(self.memory + 2 * self.smooth, self._end)
        drop = self._end - keep
        self._x[:keep] = self._x[drop : self._end].copy()
        self._x[keep:] = np.nan
        tail = self._p[drop:].copy()
        self._p[: len(tail)] = tail
        self._p[len(tail) :] = np.nan
        self._end = keep


def _centred_mean(values: Floats, half: int) -> Floats:
    """Means of `2 * half + 1` neighbours, missing ones left out; length len - 2 * half; sums in order."""
    known = values == values
    filled = values if known.all() else np.where(known, values, 0.0)
    count = len(values) - 2 * half
    total, seen = filled[:count].copy(), known[:count].astype(np.float64)
    for shift in range(1, 2 * half + 1):
        total += filled[shift : shift + count]
        seen += known[shift : shift + count]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / seen, dtype=np.float64)
