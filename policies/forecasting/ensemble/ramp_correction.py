"""Steep rises: q0.95 is held more often just where a rise would be one of the steepest 5 %.

A quantile that is right 95 % of the time may have all its misses before the steepest rises, where they cost most. So at
horizons of ten minutes and more a share is aimed at for these alone (conformal inference given a label): how far the
largest bin ahead lay above today's level is remembered by size, faded over a week; the 95th percentile of that is
"steep". Where q0.95 lies above the level by so much (or almost), its distance from the median is stretched: more after
a steep rise that it missed, less after one that it held. All misses at such times are steep rises, so that covering
them takes the least of the other promise; where coverage as a whole comes near 0.97, it is stretched no further.
It only raises q0.95 (and what lies above it), and all else learns from what the blend said. Not for misses elsewhere.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from policies.forecasting.base import Floats, ForecasterState
from policies.forecasting.ensemble.grid import DAY_S, LEVELS, MEDIAN, Grid, Ints
from policies.forecasting.ensemble.serialization import Shared

Q95 = int(np.searchsorted(LEVELS, 0.95))
STEEP_SHARE = 0.05
_FROM_S = 600.0
"""Shorter horizons are left alone: there is less to gain, and the price is the same."""
_AIM = 0.7
"""Share of steep rises to be held; 0.6 is promised."""
_STEP = 0.05
_MOST = 1.5
"""The band above the median is stretched by a factor of 1 + this at most."""
_FULL, _NONE = 1.05, 1.15
"""Stretched in full where the threshold lies within so many times the band; beyond the second not at all."""
_COVERED_MOST = 0.969
_RELAX = 0.3
"""Where more of all windows are covered, the stretch grows no more and is taken back: by this share of a step each."""
_COVERED_HALF_LIFE_S = 14 * DAY_S
_COVERED_PRIOR_S = DAY_S / 2
_RISES_HALF_LIFE_S = 7 * DAY_S
_FEWEST = 60.0
_PER_OCTAVE = 8
_SIZES = 48 * _PER_OCTAVE
_SMALLEST_LOG2 = -16
"""Sizes of rises from 2^-16 to 2^32 req/s; what is smaller is no rise."""


class RampCorrection(Shared):
    """`raised` lifts quantiles, `say` keeps what was said at a step, `learn` takes in its outcomes.

    For `slots` forecasters side by side, and for each of the horizons served: `rises` (faded weight by size of the
    rise), `threshold` (the rise, in req/s, that is steep; infinite until known or where nothing rises), `held` (faded
    share of all windows that stayed under q0.95), `seen` (their number), `stretch`; by step `bounds` (q0.95 as it was
    said) and `levels` (what rises are measured from; NaN: nothing was said).
    """

    axes: ClassVar = dict.fromkeys(("rises", "threshold", "held", "seen", "stretch", "bounds", "levels"), 0)

    def __init__(self, grid: Grid, slots: int = 1) -> None:
        self.first = min(int(np.searchsorted(grid.widths * grid.bin_s, _FROM_S * (1 - 1e-9))), grid.size - 1)
        self.slots = slots
        size, self._ring = grid.size - self.first, grid.farthest + 1
        self.rises: Floats = np.zeros((slots, size, _SIZES))
        self.threshold: Floats = np.full((slots, size), np.inf)
        self.held: Floats = np.full((slots, size), LEVELS[Q95])
        self.seen: Floats = np.zeros((slots, size))
        self.stretch: Floats = np.zeros((slots, size))
        self.bounds: Floats = np.zeros((slots, self._ring, size))
        self.levels: Floats = np.full((slots, self._ring), np.nan)
        self._keep = 0.5 ** (grid.step_s / _RISES_HALF_LIFE_S)
        self._fresh = 1 - 0.5 ** (grid.step_s / _COVERED_HALF_LIFE_S)
        self._prior = _COVERED_PRIOR_S / grid.step_s

    def load_slot(self, state: ForecasterState, part: str, slot: int) -> None:
        """See Shared. A memory from before there was this one begins it anew."""
        if f"{part}.rises" in state.arrays:
            super().load_slot(state, part, slot)

    def raised(self, slots: Ints, rows: Floats, level: Floats) -> Floats:
        """Quantiles of these slots (slots, horizons, LEVELS), none of them lower, given today's levels (req/s).

        The same array where nothing is to be raised, else a new one.
        """
        far = rows[:, self.first :]
        middle = far[:, :, MEDIAN]
        band = far[:, :, Q95] - middle
        reach = _NONE * band - (level[:, None] + self.threshold[slots] - middle)
        room = np.minimum(np.maximum(reach, 0.0), (_NONE - _FULL) * band)
        extra = self.stretch[slots] * room / (_NONE - _FULL)
        if not extra.any():
            return rows
        lifted = rows.copy()
        far = lifted[:, self.first :]
        far[:, :, Q95] += extra
        np.maximum.accumulate(far, axis=2, out=far)
        np.maximum.accumulate(far, axis=1, out=far)
        return lifted

    def say(self, slots: Ints, step: int, rows: Floats, level: Floats) -> None:
        """`rows` and `level` as for `raised`: what was said when this step closed."""
        place = step % self._ring
        self.bounds[slots, place] = rows[:, self.first :, Q95]
        self.levels[slots, place] = level

    def learn(self, slots: Ints, horizons: Ints, origins: Ints, actual: Floats) -> None:
        """Outcomes: whose, of which horizon of the grid, forecast at which step, how large (each pair only once)."""
        at, places = horizons - self.first, origins % self._ring
        rise = actual - self.levels[slots, places]
        told = (at >= 0) & (rise == rise)
        if not told.all():
            slots, at, places, actual, rise = slots[told], at[told], places[told], actual[told], rise[told]
            if not len(at):
                return
        held = actual <= self.bounds[slots, places, at]
        rises = self.rises[slots, at] * self._keep
        rises[np.arange(len(at)), size_of(rise)] += 1.0
        self.rises[slots, at] = rises
        threshold = self.threshold[slots, at] = steep_from(rises)
        seen = self.seen[slots, at] = self.seen[slots, at] + 1.0
        covered = self.held[slots, at]
        covered += np.maximum(self._fresh, 1.0 / (seen + self._prior)) * (held - covered)
        self.held[slots, at] = covered
        push = np.where(held, _AIM - 1.0, np.where(covered < _COVERED_MOST, _AIM, 0.0))
        push *= rise >= threshold
        push -= _RELAX * (covered > _COVERED_MOST)
        self.stretch[slots, at] = np.minimum(np.maximum(self.stretch[slots, at] + _STEP * push, 0.0), _MOST)


def size_of(rise: Floats) -> Ints:
    """In which class of sizes a rise (req/s) falls; 0 holds all that is too small, none or a fall."""
    log2 = np.log2(np.maximum(rise, 2.0**_SMALLEST_LOG2))
    return np.asarray(np.minimum((log2 - _SMALLEST_LOG2) * _PER_OCTAVE, _SIZES - 1.0).astype(np.int64))


def steep_from(rises: Floats) -> Floats:
    """From faded weights by size (rows, sizes), the rise exceeded by 5 % of all: interpolated within a class, on a
    logarithmic scale. Infinite where fewer than 60 count, or fewer than 5 % are rises at all."""
    used = np.maximum.reduce(rises, axis=0).nonzero()[0]  # above the largest of these nothing ever was
    rises = rises[:, : used[-1] + 1 if used.size else 1]
    above = np.add.accumulate(rises[:, ::-1], axis=1)[:, ::-1]
    total = above[:, 0]
    needed = STEEP_SHARE * total
    found = np.maximum(np.add.reduce(above >= needed[:, None], axis=1) - 1, 0)
    row = np.arange(len(rises))
    part = (above[row, found] - needed) / np.maximum(rises[row, found], 1e-300)
    size = np.exp2((found + part) / _PER_OCTAVE + _SMALLEST_LOG2)
    return np.asarray(np.where((total >= _FEWEST) & (found > 0), size, np.inf))
