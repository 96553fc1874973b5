"""The load predictors of NVIDIA Dynamo's planner: the next value of a series, one interval ahead, as plain data.

`constant` is the last value; `kalman` a local linear trend with fixed noise; `arima` an automatic ARIMA whose order is
chosen once, at five points. Upstream takes pmdarima for the last; here the order with the least AIC is chosen among
small ones, by conditional least squares, and parameters are estimated again only whenever the series has doubled
(upstream nudges them at every point). Prophet is not built in. Not forecasters of ours: no quantiles, no horizon.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

Predictor = Literal["constant", "arima", "kalman"]

_LEAST_POINTS = 5
_MOST_POINTS = 480
"""A day of intervals of 180 s: what the filter looks back on."""
_ORDERS = ((0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (2, 1), (1, 2), (2, 2))


@dataclass(slots=True)
class Arima:
    """A fitted model: order (p, d, q), on logarithms or not, parameters, and at how many points they were estimated."""

    order: tuple[int, int, int]
    on_log: bool
    mean: float
    ar: list[float]
    ma: list[float]
    fitted_at: int


@dataclass(slots=True)
class Series:
    """One series: its values since the first that was not 0 (bounded), how many there were, and the ARIMA if any."""

    values: list[float] = field(default_factory=list)
    count: int = 0
    arima: Arima | None = None
    level: float = 0.0
    trend: float = 0.0
    covariance: list[float] = field(default_factory=lambda: [1000.0, 0.0, 0.0, 1000.0])
    """Of level and trend, by rows."""


@dataclass(frozen=True, slots=True)
class Noise:
    """The Kalman filter's: of level, of trend, of what is measured (variances, in the series' own units)."""

    level: float = 1.0
    trend: float = 0.1
    measured: float = 10.0


def observe(series: Series, value: float, noise: Noise | None = None) -> None:
    """Take in the value of the interval that ended: leading zeros are left out, what is not finite is 0."""
    value = value if math.isfinite(value) else 0.0
    if value == 0.0 and series.count == 0:
        return
    series.values = [*series.values, value][-_MOST_POINTS:]
    series.count += 1
    _filter(series, value, noise or Noise())


def predict(series: Series, kind: Predictor) -> float:
    """The next value; the last one while there are fewer than five, 0 before any."""
    if not series.values:
        return 0.0
    if kind == "constant" or series.count < _LEAST_POINTS:
        return series.values[-1]
    if kind == "kalman":
        return series.level + series.trend
    return _arima(series)


# ---------------------------------------------------------------- kalman


def _filter(series: Series, value: float, noise: Noise) -> None:
    """One step of the local linear trend: predict with F = [[1, 1], [0, 1]], correct with H = [1, 0]."""
    a, b, c, d = series.covariance
    level, trend = series.level + series.trend, series.trend
    a, b, c, d = a + b + c + d + noise.level, b + d, c + d, d + noise.trend
    gain_level, gain_trend = a / (a + noise.measured), c / (a + noise.measured)
    surprise = value - level
    series.level, series.trend = level + gain_level * surprise, trend + gain_trend * surprise
    series.covariance = [(1 - gain_level) * a, (1 - gain_level) * b, c - gain_trend * a, d - gain_trend * b]


# ---------------------------------------------------------------- arima


def _arima(series: Series) -> float:
    """>= 0. A constant series stays itself; whatever fails gives the last value."""
    last = series.values[-1]
    if all(v == last for v in series.values):
        return last
    try:
        if series.arima is None:
            series.arima = _choose(series.values, series.count)
        elif series.count >= 2 * series.arima.fitted_at:
            series.arima = _fit(series.values, series.arima.order, series.arima.on_log, series.count)[1]
        value = one_step(series.arima, series.values)
    except Exception:  # an estimate that does not converge, in any of the ways that it cannot
        return last
    return max(0.0, value) if math.isfinite(value) else last


def one_step(model: Arima, values: Sequence[float]) -> float:
    """The model's next value: difference, filter the errors from 0, predict, integrate."""
    xs = [math.log1p(max(v, 0.0)) if model.on_log else v for v in values]
    tails = []
    for _ in range(model.order[1]):
        tails.append(xs[-1])
        xs = [b - a for a, b in pairwise(xs)]
    xs = [x - model.mean for x in xs]
    errors: list[float] = []
    for t in range(len(xs)):
        errors.append(xs[t] - _expected(model, xs, errors, t))
    value = model.mean + _expected(model, xs, errors, len(xs)) + sum(tails)
    return math.expm1(value) if model.on_log else value


def _expected(model: Arima, xs: Sequence[float], errors: Sequence[float], t: int) -> float:
    own = sum(c * xs[t - 1 - i] for i, c in enumerate(model.ar) if t - 1 - i >= 0)
    return own + sum(c * errors[t - 1 - i] for i, c in enumerate(model.ma) if t - 1 - i >= 0)


def _choose(values: Sequence[float], count: int) -> Arima:
    """The order of least AIC; where that is no model at all, (0, d, 0), once more on logarithms."""
    best = _best(values, count, on_log=False)
    if best.order[0] == 0 and best.order[2] == 0:
        return _best(values, count, on_log=True)
    return best


def _best(values: Sequence[float], count: int, on_log: bool) -> Arima:
    d = _differences(values)
    fits = []
    for p, q in _ORDERS:
        if p + q + 2 < len(values) - d:
            try:
                fits.append(_fit(values, (p, d, q), on_log, count))
            except Exception:  # such an order cannot be estimated here
                continue
    return min(fits, key=lambda f: f[0])[1]


def _differences(values: Sequence[float]) -> int:
    """1 unless values swing about a level: differences of what is drawn about one vary twice as much as it does.

    In doubt 1: five points tell little, and a level that was fixed by them would be kept for good.
    """
    steps = [b - a for a, b in pairwise(values)]
    return int(_variance(steps) < 2.0 * _variance(values))


def _variance(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((v - mean) ** 2 for v in values) / len(values)


def _fit(values: Sequence[float], order: tuple[int, int, int], on_log: bool, count: int) -> tuple[float, Arima]:
    """AIC and the model, by conditional least squares (errors from 0): plain numbers, no linear algebra to wait for.

    AR and MA parts are sought as partial autocorrelations within (-1, 1): stationary and invertible by construction.
    """
    from scipy.optimize import minimize

    p, d, q = order
    xs = [math.log1p(max(v, 0.0)) if on_log else v for v in values]
    for _ in range(d):
        xs = [b - a for a, b in pairwise(xs)]
    centre, width = sum(xs) / len(xs), math.sqrt(_variance(xs)) or 1.0

    def model(at: Sequence[float]) -> Arima:
        mean = centre + width * at[p + q] if d == 0 else 0.0
        return Arima(order, on_log, mean, _coefficients(at[:p]), [-c for c in _coefficients(at[p : p + q])], count)

    def loss(at: Sequence[float]) -> float:
        return _squares(model(at), xs) / width**2

    start = [0.1] * (p + q) + ([0.0] if d == 0 else [])
    best = minimize(loss, start, method="Nelder-Mead", options={"maxiter": 60 * len(start)}).x if start else []
    found = model([float(v) for v in best])
    n, k = len(xs), len(start) + 1
    error = max(_squares(found, xs) / n, 1e-12 * width**2)
    return n * math.log(error) + 2 * k, found


def _coefficients(free: Sequence[float]) -> list[float]:
    """Lag coefficients (one or two) from unbounded numbers, through partial autocorrelations."""
    partial = [math.tanh(v) for v in free]
    return partial if len(partial) < 2 else [partial[0] * (1.0 - partial[1]), partial[1]]


def _squares(model: Arima, xs: Sequence[float]) -> float:
    centred = [x - model.mean for x in xs]
    errors: list[float] = []
    for t in range(len(centred)):
        errors.append(centred[t] - _expected(model, centred, errors, t))
    return sum(e * e for e in errors)
