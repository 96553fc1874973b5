"""Point forecasts of the largest bin ahead: last value, moving maxima, the season before, Holt, Holt-Winters, ARIMA.

A rule sees every bin and every step (minute) and answers for each width of the grid. Names and meaning follow the
textbook forms (Hyndman and Athanasopoulos, Forecasting: Principles and Practice). Not for quantiles (classic.py).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from policies.forecasting.base import Floats, ForecasterState
from policies.forecasting.ensemble.grid import Grid
from policies.forecasting.ensemble.memory import SeriesMemory
from policies.forecasting.ensemble.recursions import Recursions
from policies.forecasting.ensemble.refits import RefitPlan
from policies.forecasting.ensemble.serialization import Kept


class Rule(Kept):
    """A point forecaster; what a rule does not need it leaves as it is here."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def bin(self, index: int, value: float, memory: SeriesMemory) -> None:
        """A bin ended; NaN = missing."""

    def step(self, step: int, value: float, memory: SeriesMemory) -> None:
        """A step closed; NaN = all of it is missing."""

    def points(self, memory: SeriesMemory) -> Floats:
        """Largest bin expected within each width of the grid."""
        raise NotImplementedError

    def needs_refit(self) -> bool:
        return False

    def refit(self) -> None:
        """Nothing to estimate."""


class LastValue(Rule):
    """The newest bin goes on."""

    def points(self, memory: SeriesMemory) -> Floats:
        return np.full(self.grid.size, memory.last(1)[-1])


class MovingMaximum(Rule):
    """The largest bin of the last minutes comes again."""

    def __init__(self, grid: Grid, minutes: int) -> None:
        super().__init__(grid)
        self._minutes = minutes

    def points(self, memory: SeriesMemory) -> Floats:
        return np.full(self.grid.size, memory.last(memory.windows[self._minutes]).max())


class SeasonalNaive(Rule):
    """What came at this time of the last season comes again; before there was one, the last value."""

    arrays = ("ring",)
    numbers = ("newest", "seen")

    def __init__(self, grid: Grid) -> None:
        super().__init__(grid)
        self._season = max(1, round(grid.season_s / grid.bin_s))
        self.ring: Floats = np.full(self._season, math.nan)
        self.newest = 0
        self.seen = 0

    def bin(self, index: int, value: float, memory: SeriesMemory) -> None:
        self.ring[index % self._season] = value
        self.newest = index
        self.seen += 1

    def points(self, memory: SeriesMemory) -> Floats:
        last = float(memory.last(1)[-1])
        if self.seen < self._season:
            return np.full(self.grid.size, last)
        ahead = self.ring[(self.newest + 1 + np.arange(int(self.grid.widths[-1]))) % self._season]
        ahead = np.where(ahead == ahead, ahead, last)
        return np.asarray(np.maximum.accumulate(ahead)[self.grid.widths - 1])


class Smoothing(Rule):
    """Holt, Holt-Winters or ARIMA(1,1,1) by the recursions of the mixture, parameters estimated anew every day."""

    arrays = ()

    def __init__(self, grid: Grid, kind: Literal["holt", "holt_winters", "arima"]) -> None:
        super().__init__(grid)
        self._kind = kind
        self.recursions = Recursions(grid)
        self.refits = RefitPlan(grid.step_s, kind)

    def step(self, step: int, value: float, memory: SeriesMemory) -> None:
        self.recursions.feed(step, value, False)
        if not self.recursions.has_season and memory.steps >= self.grid.season_steps:
            self.recursions.begin_season(memory.past(self.grid.season_steps), step)
        adopted = self.refits.tick(memory, self.recursions.constants)
        if adopted is not None:
            self.recursions.adopt(adopted)

    def points(self, memory: SeriesMemory) -> Floats:
        if not self.recursions.started:
            return np.full(self.grid.size, memory.last(1)[-1])
        if self._kind == "arima":
            points = self.recursions.arima()
        elif self._kind == "holt_winters" and self.recursions.has_season:
            points = self.recursions.seasonal(memory.step)
        else:
            points = self.recursions.holt()
        return np.maximum(np.broadcast_to(points, (self.grid.size,)), 0.0)

    def needs_refit(self) -> bool:
        return self.refits.needs

    def refit(self) -> None:
        self.refits.compute()

    def dump(self, into: ForecasterState, part: str) -> None:
        self.recursions.dump(into, f"{part}.recursions")
        self.refits.dump(into, f"{part}.refits")

    def load(self, state: ForecasterState, part: str) -> None:
        self.recursions.load(state, f"{part}.recursions")
        self.refits.load(state, f"{part}.refits")
        self.recursions.forget()
