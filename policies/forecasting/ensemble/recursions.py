"""Holt, ARIMA(1,1,1) and Holt-Winters by their own recursions: a few operations a step, whatever their past.

Point forecasts of the largest of the next steps, for every horizon. Parameters come from fits.py, now and then. Models
as in Hyndman and Athanasopoulos, Forecasting (damped trend ETS(A,Ad,N), its additive seasonal form, ARIMA).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies.forecasting.base import Floats
from policies.forecasting.ensemble.fits import SEASONAL_DAMPING, Parameters
from policies.forecasting.ensemble.grid import Grid
from policies.forecasting.ensemble.memory import places_of
from policies.forecasting.ensemble.serialization import Kept

_SMOOTH_STEPS = 9


class Recursions(Kept):
    """State of the three; `feed` once a step, then `holt()`, `arima()`, `seasonal(step)`, alone or of several."""

    arrays = ("level", "change", "season_level", "season", "constants")
    numbers = ("started", "has_season")

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self.level = [0.0, 0.0]
        """Holt: level, trend."""
        self.change = [0.0, 0.0, 0.0]
        """ARIMA: last value, last change, last innovation."""
        self.season_level = [0.0, 0.0]
        """Holt-Winters: the same two."""
        self.season: Floats = np.zeros(grid.season_steps)
        self.constants: list[float] = Parameters().packed().tolist()
        self.started = False
        self.has_season = False
        self._last = grid.reach - 1
        self._ahead = np.arange(1, grid.farthest + 1)
        self._seasonal_damping = np.cumsum(SEASONAL_DAMPING**self._ahead)
        self._sums: tuple[tuple[float, float], Floats] | None = None

    def adopt(self, parameters: Parameters) -> None:
        """Go on with new parameters from here."""
        self.constants = parameters.packed().tolist()
        self._sums = None

    def forget(self) -> None:
        """A memory was taken in: what was derived from the constants is derived anew."""
        self._sums = None

    def begin_season(self, past: Floats, step: int) -> None:
        """`past`: one season of steps that ends with `step`; its smoothed shape is where Holt-Winters begins."""
        known = past == past
        if not known.any():
            return
        filled = np.where(known, past, past[known].mean())
        width = min(_SMOOTH_STEPS, len(filled))
        padded = np.concatenate((filled[-(width // 2) :], filled, filled[: width // 2])) if width > 1 else filled
        smooth = np.convolve(padded, np.ones(width) / width, "valid")[: len(filled)]
        slots = [self._grid.season_step(s) for s in range(step - len(past) + 1, step + 1)]
        self.season[slots] = smooth - smooth.mean()
        self.season_level = [float(filled[-1] - self.season[slots[-1]]), 0.0]
        self.has_season = True

    def feed(self, step: int, value: float, odd: bool) -> None:
        """A step's value (NaN = missing: trends fade, nothing is learned); an odd one does not change the season."""
        if value != value:
            if self.started:
                faded = self.constants[2] * self.level[1]
                self.level = [self.level[0] + faded, faded]
                self.change = [self.change[0], 0.0, 0.0]
                self.season_level[1] *= SEASONAL_DAMPING
            return
        alpha, beta, damping, ar, ma, s_alpha, s_beta, s_gamma = self.constants
        if not self.started:
            self.level[0] = self.change[0] = value
            self.started = True
        else:
            level, trend = self.level
            expected = level + damping * trend
            new = expected + alpha * (value - expected)
            self.level = [new, beta * (new - level) + (1 - beta) * damping * trend]
            before, change, innovation = self.change
            moved = value - before
            self.change = [value, moved, moved - (ar * change + ma * innovation)]
        if self.has_season:
            slot = self._grid.season_step(step)
            level, trend = self.season_level
            season = float(self.season[slot])
            expected = level + SEASONAL_DAMPING * trend
            new = expected + s_alpha * (value - season - expected)
            self.season_level = [new, s_beta * (new - level) + (1 - s_beta) * SEASONAL_DAMPING * trend]
            if not odd:
                self.season[slot] = season + s_gamma * (value - new - season)

    def holt(self) -> Floats:
        """Largest of the next steps, each horizon."""
        return np.asarray(largest_by_trend([self])[0][0])

    def arima(self) -> Floats:
        """The same by ARIMA(1,1,1)."""
        return np.asarray(largest_by_trend([self])[1][0])

    def seasonal(self, step: int) -> Floats:
        """The same by Holt-Winters; only when `has_season`."""
        return np.asarray(largest_by_season([self], step)[0])

    def sums(self) -> Floats:
        """Of powers up to each horizon, (4, horizons): the damping's, its first alone, the AR coefficient's largest
        and smallest partial sums.
        """
        key = (self.constants[2], self.constants[3])
        if self._sums is None or self._sums[0] != key:
            damped, partial = np.cumsum(key[0] ** self._ahead), np.cumsum(key[1] ** (self._ahead - 1.0))
            highest, lowest = np.maximum.accumulate(partial), np.minimum.accumulate(partial)
            found = [damped[self._last], np.full(len(self._last), damped[0]), highest[self._last], lowest[self._last]]
            self._sums = key, np.array(found)
        return self._sums[1]


def largest_by_trend(series: Sequence[Recursions]) -> tuple[Floats, Floats]:
    """`holt` and `arima` of several of one grid: (series, horizons) each."""
    each = [(one.level, one.change, one.constants, one.sums()) for one in series]
    levels, changes, constants, sums = map(np.array, zip(*each, strict=True))
    level, trend = levels.T[:, :, None]
    holt = level + trend * np.where(trend > 0, sums[:, 0], sums[:, 1])
    value, change, innovation = changes.T[:, :, None]
    ar, ma = constants.T[3:5, :, None]
    first = ar * change + ma * innovation
    return holt, value + first * np.where(first > 0, sums[:, 2], sums[:, 3])


def largest_by_season(series: Sequence[Recursions], step: int) -> Floats:
    """`seasonal` of several of one grid: (series, horizons)."""
    grid = series[0]._grid
    slots = places_of(grid.season_step(step) + 1, grid.farthest, grid.season_steps)
    level, trend = np.array([one.season_level for one in series]).T[:, :, None]
    path = level + trend * series[0]._seasonal_damping + np.array([one.season.take(slots) for one in series])
    return np.maximum.accumulate(path, axis=1).take(grid.reach - 1, axis=1)
