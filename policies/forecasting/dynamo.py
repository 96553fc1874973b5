"""Load predictors as NVIDIA Dynamo's planner has them: ARIMA and a Kalman filter on counts of 180 s.

- ARIMA: differences by KPSS tests, orders by AIC, once; afterwards only updated (parameters every two days).
- Kalman: local linear trend, level noise 1, trend noise 0.1, measurement noise 10, in requests per interval squared.

One interval ahead is what the planner looks; here the same model goes on for as many intervals as the horizon needs.
statsmodels is imported only when something is estimated. Rivals; not used by the mixture.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from itertools import product
from typing import ClassVar

import numpy as np

from policies.forecasting.base import Floats
from policies.forecasting.classic_rules import Rule
from policies.forecasting.ensemble.grid import DAY_S, Grid
from policies.forecasting.ensemble.memory import SeriesMemory

_INTERVAL_S = 180.0
_MOST_ORDER = 2
_MOST_LAG = 3
_FIRST_POINTS = 100
_MOST_POINTS = 480
_EVERY_S = 2 * DAY_S
_GRACE = 3
_KEPT = _MOST_POINTS + _GRACE + 1
_LEVEL_NOISE, _TREND_NOISE, _COUNT_NOISE = 1.0, 0.1, 10.0


class _Intervals(Rule):
    """Counts per interval of about 180 s (a bin where bins are wider); nothing is said between two ends."""

    numbers: ClassVar[tuple[str, ...]] = ("total", "seen", "intervals")

    def __init__(self, grid: Grid) -> None:
        super().__init__(grid)
        self._bins = max(1, round(_INTERVAL_S / grid.bin_s))
        self._interval_s = self._bins * grid.bin_s
        self._ahead = -(-grid.widths // self._bins) - 1
        self.total = 0.0
        self.seen = 0
        self.intervals = 0

    def bin(self, index: int, value: float, memory: SeriesMemory) -> None:
        if value == value:
            self.total += value
            self.seen += 1
        if index % self._bins == 0:
            if self.seen:
                self.count(self.total / self.seen * self._interval_s)
                self.intervals += 1
            self.total, self.seen = 0.0, 0

    def points(self, memory: SeriesMemory) -> Floats:
        if not self.intervals:
            return np.full(self.grid.size, memory.last(1)[-1])
        path = self.expected(int(self._ahead[-1]) + 1) / self._interval_s
        return np.maximum(np.maximum.accumulate(path)[self._ahead], 0.0)

    def count(self, requests: float) -> None:
        """An interval's requests."""
        raise NotImplementedError

    def expected(self, intervals: int) -> Floats:
        """Requests of the next intervals."""
        raise NotImplementedError


class DynamoKalman(_Intervals):
    """Local linear trend, default noise."""

    arrays = ("mean", "covariance")

    def __init__(self, grid: Grid) -> None:
        super().__init__(grid)
        self.mean: Floats = np.zeros(2)
        self.covariance: Floats = np.eye(2) * 1000.0

    def count(self, requests: float) -> None:
        level, trend = self.mean.tolist()
        (a, b), (_, d) = self.covariance.tolist()
        # predict: level + trend, then correct by the measured count
        level, a, b, d = level + trend, a + 2 * b + d + _LEVEL_NOISE, b + d, d + _TREND_NOISE
        gain_level, gain_trend = a / (a + _COUNT_NOISE), b / (a + _COUNT_NOISE)
        error = requests - level
        self.mean[:] = (level + gain_level * error, trend + gain_trend * error)
        off = (1 - gain_level) * b
        self.covariance[:] = (((1 - gain_level) * a, off), (off, d - gain_trend * b))

    def expected(self, intervals: int) -> Floats:
        return np.asarray(self.mean[0] + self.mean[1] * np.arange(1, intervals + 1))


class DynamoArima(_Intervals):
    """ARIMA(p, d, q), filtered by its own recursion between fits."""

    arrays = ("counts", "ar", "ma", "changes", "innovations")
    numbers = (*_Intervals.numbers, "kept", "differences", "drift", "due", "apply")

    def __init__(self, grid: Grid) -> None:
        super().__init__(grid)
        self.counts: Floats = np.zeros(_KEPT)
        self.kept = 0
        self.differences = 1
        self.drift = 0.0
        self.ar: Floats = np.zeros(0)
        self.ma: Floats = np.zeros(0)
        self.changes: Floats = np.zeros(_MOST_LAG)
        """The last differenced counts, newest first."""
        self.innovations: Floats = np.zeros(_MOST_LAG)
        self.due = _FIRST_POINTS
        self.apply = -1
        self._job: Callable[[], _Fitted | None] | None = None
        self._done: _Fitted | None = None

    def count(self, requests: float) -> None:
        if self.kept == _KEPT:
            self.counts[:-1] = self.counts[1:]
            self.kept -= 1
        self.counts[self.kept] = requests
        self.kept += 1
        self._filter()
        self._plan()

    def _filter(self) -> None:
        """One step of the recursion: the innovation is what the model did not expect of the newest change."""
        known = self.counts[: self.kept]
        if len(known) <= self.differences:
            return
        change = float(np.diff(known[-1 - self.differences :], self.differences)[-1])
        innovation = change - self._next_change(self.changes, self.innovations)
        self.changes[:] = (change, *self.changes[:-1])
        self.innovations[:] = (innovation, *self.innovations[:-1])

    def _next_change(self, changes: Floats, innovations: Floats) -> float:
        ar = float(self.ar @ (changes[: len(self.ar)] - self.drift)) if len(self.ar) else 0.0
        ma = float(self.ma @ innovations[: len(self.ma)]) if len(self.ma) else 0.0
        return self.drift + ar + ma

    def expected(self, intervals: int) -> Floats:
        changes, innovations = self.changes.copy(), self.innovations.copy()
        ends = [float(np.diff(self.counts[: self.kept], k)[-1]) for k in range(min(self.differences, self.kept))]
        path = np.empty(intervals)
        for i in range(intervals):
            change = self._next_change(changes, innovations)
            changes[:] = (change, *changes[:-1])
            innovations[:] = (0.0, *innovations[:-1])
            for k in reversed(range(len(ends))):
                change = ends[k] = ends[k] + change
            path[i] = change
        return path

    # ------------------------------------------------------------ estimation

    def _plan(self) -> None:
        now = self.intervals + 1
        if now == self.apply:
            self.refit()
            if self._done is not None:
                self._adopt(self._done)
            self._job, self._done, self.apply = None, None, -1
        if now >= self.due and self.apply < 0:
            self.apply = now + _GRACE
            self.due = now + max(_GRACE + 1, round(_EVERY_S / self._interval_s))
        if self.apply >= 0 and self._job is None:
            known = self.counts[: self.kept - (now - (self.apply - _GRACE))]
            values = known[-_MOST_POINTS:].copy()
            order = (len(self.ar), self.differences, len(self.ma)) if self.ar.size + self.ma.size else None
            self._job = lambda: _fit(values, order)

    def needs_refit(self) -> bool:
        return self._job is not None and self._done is None

    def refit(self) -> None:
        if self._job is not None and self._done is None:
            self._done = self._job()

    def _adopt(self, fitted: _Fitted) -> None:
        """New parameters: run the recursion through the counts that are kept."""
        self.differences, self.ar, self.ma, self.drift = fitted
        counts, kept = self.counts.copy(), self.kept
        self.changes[:], self.innovations[:] = 0.0, 0.0
        for n in range(self.differences + 1, kept + 1):
            self.kept = n
            self._filter()
        self.counts, self.kept = counts, kept


_Fitted = tuple[int, Floats, Floats, float]
"""Differences, AR and MA coefficients, mean of the differenced counts."""


def _fit(values: Floats, order: tuple[int, int, int] | None) -> _Fitted | None:
    """The best order by AIC (when none is given) and its parameters; None where nothing can be estimated."""
    spread = float(values.std()) if len(values) else 0.0
    if not spread > 0 or not math.isfinite(spread):
        return None
    scaled = values / spread
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        orders = [order] if order else _orders(scaled)
        found = [fitted for o in orders if (fitted := _estimate(scaled, o)) is not None]
    if not found:
        return None
    _, (_, d, _), ar, ma, mean = min(found, key=lambda f: f[0])
    return d, ar, ma, mean * spread


def _orders(scaled: Floats) -> list[tuple[int, int, int]]:
    from statsmodels.tsa.stattools import kpss

    d, x = 0, scaled
    while d < _MOST_ORDER and len(np.unique(x)) > 2 and kpss(x, nlags="auto")[1] < 0.05:
        d, x = d + 1, np.diff(x)
    return [(p, d, q) for p, q in product(range(_MOST_ORDER + 1), repeat=2)]


def _estimate(
    scaled: Floats, order: tuple[int, int, int]
) -> tuple[float, tuple[int, int, int], Floats, Floats, float] | None:
    from statsmodels.tsa.arima.model import ARIMA

    p, d, q = order
    try:
        result = ARIMA(scaled, order=order, trend="c" if d == 0 else "n").fit()
    except (ValueError, np.linalg.LinAlgError):
        return None
    values = np.asarray(result.params, dtype=np.float64)
    mean = float(values[0]) if d == 0 else 0.0
    rest = values[1:] if d == 0 else values
    aic = float(result.aic)
    if not math.isfinite(aic) or not np.isfinite(rest).all():
        return None
    return aic, order, rest[:p].copy(), rest[p : p + q].copy(), mean
