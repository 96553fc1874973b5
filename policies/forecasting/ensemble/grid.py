"""The grid on which the mixture learns: horizons, quantile levels, learning steps, and the clock's slots.

A learning step is a minute (one bin where bins are wider): bins of seconds are averaged into it, so that two weeks of
any series are of the same size. Not for values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

LEVELS = np.array([0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.998])
"""Quantile levels that are learned; others are interpolated on the scale of normal scores."""
MEDIAN = 3
UPPER = slice(5, 8)
"""The levels whose loss decides the weights: 0.9, 0.95, 0.99."""
SCORES = np.array([NormalDist().inv_cdf(float(level)) for level in LEVELS])

HORIZONS_S = (60.0, 120.0, 300.0, 600.0, 1200.0)
"""Horizons that are learned; between them quantiles are interpolated, beyond them extrapolated."""
HOUR_S = 3600.0
DAY_S = 86400.0
_STEP_S = 60.0
_SLOT_S = 300.0
"""Width of the slots of the season in which sizes of errors are remembered."""


@dataclass(frozen=True, slots=True)
class Grid:
    """`widths` bins and `reach` steps of each horizon (ascending); slots of the hour and of the season."""

    bin_s: float
    season_s: float
    bins_per_step: int
    step_s: float
    widths: Ints
    reach: Ints
    season_steps: int
    hour_slots: int
    season_slots: int

    @classmethod
    def of(cls, bin_s: float, season_s: float, horizons_s: tuple[float, ...] = HORIZONS_S) -> Grid:
        """Horizons shorter than a bin are left out; where all are, the bin itself and two of them remain."""
        per_step = max(1, min(round(_STEP_S / bin_s), int(season_s / (4 * bin_s))))
        step_s = per_step * bin_s
        chosen = [h for h in horizons_s if h >= bin_s * (1 - 1e-9)] or [bin_s, 2 * bin_s]
        widths = np.array(sorted({max(1, math.ceil(h / bin_s - 1e-9)) for h in chosen}), dtype=np.int64)
        return cls(
            bin_s,
            season_s,
            per_step,
            step_s,
            widths,
            -(-widths // per_step),
            max(1, round(season_s / step_s)),
            max(1, round(HOUR_S / step_s)),
            max(1, round(season_s / max(_SLOT_S, step_s))),
        )

    @property
    def size(self) -> int:
        return self.widths.size

    @property
    def farthest(self) -> int:
        """Steps that the longest horizon reaches ahead."""
        return int(self.reach[-1])

    def hour_slot(self, step: int) -> int:
        """Which part of the hour a step (counted from the epoch) ends in."""
        return int((step * self.step_s) % HOUR_S * (self.hour_slots / HOUR_S) + 1e-6) % self.hour_slots

    def season_slot(self, step: int) -> int:
        """Which wide slot of the season."""
        slot = int((step * self.step_s) % self.season_s * (self.season_slots / self.season_s) + 1e-6)
        return slot % self.season_slots

    def season_step(self, step: int) -> int:
        """Which step of the season."""
        slot = int((step * self.step_s) % self.season_s * (self.season_steps / self.season_s) + 1e-6)
        return slot % self.season_steps
