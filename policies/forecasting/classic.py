"""The forecasters that others use, made comparable: a point forecast each, with quantiles of its own past errors.

`last max10 max30 seasonal_naive holt holt_winters arima dynamo_arima dynamo_kalman`. Every one of them forecasts the
largest bin ahead by its own means (classic_rules.py, dynamo.py); its errors of the trailing day, divided by the square
root of the forecast's level, give the quantiles (split conformal). Rivals to measure against; not the default.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from policies.base import ForecastSpec
from policies.forecasting.base import Floats, ForecasterState, known_rate
from policies.forecasting.check import CoverageCheck
from policies.forecasting.classic_rules import Rule
from policies.forecasting.conformal import conformal
from policies.forecasting.ensemble.grid import DAY_S, HORIZONS_S, LEVELS, SCORES, Grid
from policies.forecasting.ensemble.interpolation import Answers
from policies.forecasting.ensemble.memory import SeriesMemory
from policies.forecasting.ensemble.profile import close_steps
from policies.forecasting.ensemble.serialization import Kept

_REFRESH_S = 300.0
_FEW = 20
_ENOUGH = 60
_BLIND_S = 300.0
_KNOWN_SHARE = 0.8
_UPPER = 5
_CHECK_HORIZON_S = 300.0


class ClassicForecaster(Kept):
    """One rule with the quantiles of its own errors; `Forecaster` says what the methods promise."""

    arrays = ("made", "errors", "table")
    numbers = ("index", "judged", "sorted_at")

    def __init__(
        self,
        name: str,
        rule: Callable[[Grid], Rule],
        spec: ForecastSpec,
        horizons_s: tuple[float, ...] = HORIZONS_S,
    ) -> None:
        self.name = name
        self.grid = grid = Grid.of(spec.bin_s, spec.season_s, horizons_s)
        self.memory = SeriesMemory(grid)
        self.rule = rule(grid)
        self.check = CoverageCheck()
        self.index = -1
        self._window = max(2 * _ENOUGH, round(DAY_S / grid.bin_s))
        self._ring = int(grid.widths[-1]) + 1
        self.made: Floats = np.full((self._ring, grid.size + 2), np.nan)
        """Point forecasts that wait for their outcome, with the mean and the missing bins at that time."""
        self.errors = np.full((self._window, grid.size), np.nan, dtype=np.float32)
        self.judged = 0
        self.table: Floats = np.tile(SCORES, (grid.size, 1))
        """Quantiles of the scaled errors (horizons, LEVELS)."""
        self.sorted_at = 0
        self._refresh = max(1, round(_REFRESH_S / grid.bin_s))
        self._answers = Answers(grid)
        self._check_row = int(np.argmin(np.abs(grid.widths * grid.bin_s - _CHECK_HORIZON_S)))

    # ------------------------------------------------------------ feeding

    @property
    def last_time_s(self) -> float | None:
        if not self.memory.known or self.memory.since_known >= self.memory.span * self.grid.bins_per_step:
            return None
        return self.index * self.grid.bin_s

    def observe(self, time_s: float, value: float | None) -> None:
        """See Forecaster.observe."""
        index = round(time_s / self.grid.bin_s)
        if index <= self.index:
            return
        rate = known_rate(value)
        if self.memory.known:
            first = max(self.index + 1, index - self.memory.span * self.grid.bins_per_step)
            for _ in range(first, index):
                self._add(first, None)
        if rate is not None or self.memory.known:
            self._add(index, rate)
        self.index = index
        if rate is not None and not self.check.waiting and self.memory.known >= 2:
            bound = float(self._rows()[self._check_row, _UPPER])
            self.check.expect(bound, int(self.grid.widths[self._check_row]), float(LEVELS[_UPPER]))

    def observe_many(self, times_s: Sequence[float] | Floats, values: Sequence[float] | Floats) -> None:
        """See Forecaster.observe_many: the same as bin by bin."""
        for time_s, value in zip(times_s, values, strict=True):
            self.observe(float(time_s), float(value))

    def _add(self, index: int, value: float | None) -> None:
        self.index = index
        self.memory.add(value)
        if value is not None:
            self.check.observe(value)
        self.rule.bin(index, math.nan if value is None else value, self.memory)
        if index % self.grid.bins_per_step == 0:
            step = index // self.grid.bins_per_step
            self.rule.step(step, close_steps([self.memory], step)[0], self.memory)
        self._judge()
        row = self.made[self.memory.count % self._ring]
        row[:-2] = self.rule.points(self.memory) if value is not None else math.nan
        row[-2:] = (self.memory.unit, self.memory.missing)

    def _judge(self) -> None:
        """Errors of the forecasts whose window ends with this bin."""
        widths = self.grid.widths
        highest = np.maximum.accumulate(self.memory.last(int(widths[-1]))[::-1])
        actual = highest[np.minimum(widths, len(highest)) - 1]
        rows = self.made[(self.memory.count - widths) % self._ring]
        points, mean, lost = rows[np.arange(len(widths)), np.arange(len(widths))], rows[:, -2], rows[:, -1]
        counted = self.memory.missing - lost <= (1 - _KNOWN_SHARE) * widths
        error = (actual - points) / _size(points, mean)
        self.errors[self.judged % self._window] = np.where(counted, error, math.nan)
        self.judged += 1

    # ------------------------------------------------------------ answering

    def quantiles(self, horizons_s: Sequence[float], levels: Sequence[float]) -> tuple[tuple[float, ...], ...]:
        """See Forecaster.quantiles; interpolated between horizons of a grid and between levels."""
        if self.last_time_s is None or not len(horizons_s) or not len(levels):
            return ()
        table = self._answers.table(self._rows(), tuple(horizons_s), tuple(levels), lambda _: 1.0)
        return tuple(tuple(row) for row in table.tolist())

    def _rows(self) -> Floats:
        points = self.rule.points(self.memory)
        if self.judged < 10 * _FEW or self.judged - self.sorted_at >= self._refresh:
            self._sort()
        rows = points[:, None] + _size(points, self.memory.unit)[:, None] * self.table
        rows = np.maximum.accumulate(np.maximum(rows, 0.0), axis=1)
        return np.asarray(np.maximum.accumulate(rows, axis=0))

    def _sort(self) -> None:
        self.sorted_at = self.judged
        for h in range(self.grid.size):
            errors = self.errors[: self.judged, h]
            known = errors[errors == errors].astype(np.float64)
            if len(known) >= _FEW:
                self.table[h] = conformal(known, LEVELS.tolist())

    # ------------------------------------------------------------ refits

    def needs_refit(self) -> bool:
        """The rule's parameters are due and nobody estimated them yet."""
        return self.rule.needs_refit()

    def refit(self) -> None:
        """Estimate them now (tens of milliseconds); they take effect at their own step."""
        self.rule.refit()

    # ------------------------------------------------------------ what it can say of itself

    @property
    def calibrated(self) -> bool:
        return self._enough() and not self._blind() and not self.check.off

    @property
    def why(self) -> str:
        if not self._enough():
            return f"only {self.memory.known} bins of history"
        if self._blind():
            return f"no value in the last {_BLIND_S:g} s"
        if self.check.off:
            return self.check.words()
        return f"errors of the last {min(self.judged, self._window) * self.grid.bin_s / 3600:.3g} h of history"

    def _enough(self) -> bool:
        return self.memory.known >= _ENOUGH + int(self.grid.widths[self._check_row])

    def _blind(self) -> bool:
        return self.memory.since_known * self.grid.bin_s >= max(_BLIND_S, 2 * self.grid.bin_s)

    # ------------------------------------------------------------ memory

    def state(self) -> ForecasterState:
        """See Forecaster.state."""
        state = ForecasterState(self.name)
        state.numbers |= {"bin_s": self.grid.bin_s, "season_s": self.grid.season_s, "horizons": float(self.grid.size)}
        state.numbers |= self.check.numbers()
        self.dump(state, "classic")
        self.memory.dump(state, "memory")
        self.rule.dump(state, "rule")
        return state

    def restore(self, state: ForecasterState) -> None:
        """See Forecaster.restore."""
        numbers = state.numbers
        state.must_be_of(self.name, self.grid.bin_s, self.grid.season_s, self.grid.size)
        self.load(state, "classic")
        self.memory.load(state, "memory")
        self.rule.load(state, "rule")
        self.check = CoverageCheck.of(numbers)


def _size(points: Floats, mean: Floats | float) -> Floats:
    """What errors are divided by: the root of the level, with 5 % of the mean so that zero has a size too."""
    return np.asarray(np.sqrt(np.maximum(points, 0.0) * mean + 0.05 * mean * mean))
