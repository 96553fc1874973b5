"""Parameters for the recursions, estimated from the past: slow (tens of milliseconds), therefore off the tick.

Holt and Holt-Winters: the best of a grid by squared one-step errors. ARIMA(1,1,1): maximum likelihood by statsmodels,
imported only when a fit is made. Pure functions of the values given: a thread may run them.
"""

from __future__ import annotations

import warnings
from dataclasses import astuple, dataclass, replace
from itertools import product

import numpy as np

from policies.forecasting.base import Floats
from policies.forecasting.ensemble.grid import DAY_S, HOUR_S

SEASONAL_DAMPING = 0.95
_ARIMA_WINDOW_S = 8 * HOUR_S
_HOLT_WINDOW_S = DAY_S
_SEASONS = 3
_LEAST_STEPS = 30


@dataclass(frozen=True, slots=True)
class Parameters:
    """Of Holt (three), ARIMA(1,1,1) (two) and Holt-Winters (three); the defaults serve until the first fit."""

    alpha: float = 0.5
    beta: float = 0.05
    damping: float = 0.9
    ar: float = 0.0
    ma: float = 0.0
    season_alpha: float = 0.6
    season_beta: float = 0.01
    season_gamma: float = 0.3

    def packed(self) -> Floats:
        return np.array(astuple(self))


def fit(past: Floats, season_steps: int, step_s: float, before: Parameters, only: str | None = None) -> Parameters:
    """Parameters for a past (oldest first, NaN = missing); what cannot be estimated stays as it was.

    `only`: one of `holt`, `arima`, `holt_winters`, to spare the work of the others.
    """
    found = before
    if only in (None, "holt"):
        found = _with_holt(found, past, step_s)
    if only in (None, "arima"):
        estimated = arima_111(_filled(past[-max(_LEAST_STEPS, round(_ARIMA_WINDOW_S / step_s)) :]))
        if estimated is not None:
            found = replace(found, ar=estimated[0], ma=estimated[1])
    if only in (None, "holt_winters"):
        found = _with_season(found, past, season_steps)
    return found


def _with_holt(found: Parameters, past: Floats, step_s: float) -> Parameters:
    holt = _filled(past[-max(_LEAST_STEPS, round(_HOLT_WINDOW_S / step_s)) :])
    if len(holt) >= _LEAST_STEPS and np.ptp(holt) > 0:
        alpha, beta, damping = _best_holt(holt)
        found = replace(found, alpha=alpha, beta=beta, damping=damping)
    return found


def _with_season(found: Parameters, past: Floats, season_steps: int) -> Parameters:
    seasons = _filled(past[-_SEASONS * season_steps :])
    if season_steps >= 2 and len(seasons) >= 2 * season_steps and np.ptp(seasons) > 0:
        alpha, beta, gamma = _best_seasonal(seasons, season_steps)
        found = replace(found, season_alpha=alpha, season_beta=beta, season_gamma=gamma)
    return found


def arima_111(values: Floats) -> tuple[float, float] | None:
    """AR and MA coefficient of an ARIMA(1,1,1); None where the values say nothing (too few, constant, no fit)."""
    spread = float(values.std()) if len(values) else 0.0
    if len(values) < _LEAST_STEPS or not spread > 0:
        return None
    from statsmodels.tsa.arima.model import ARIMA

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ar, ma, _ = ARIMA(values / spread, order=(1, 1, 1)).fit().params
        except (ValueError, np.linalg.LinAlgError):
            return None
    if not (np.isfinite(ar) and np.isfinite(ma)):
        return None
    return min(max(float(ar), -0.99), 0.99), min(max(float(ma), -0.99), 0.99)


def _filled(values: Floats) -> Floats:
    """Missing values carried on; leading ones dropped."""
    known = np.flatnonzero(values == values)
    if not len(known):
        return np.zeros(0)
    values = values[known[0] :]
    index = np.where(values == values, np.arange(len(values)), 0)
    return np.asarray(values[np.maximum.accumulate(index)])


def _best_holt(x: Floats) -> tuple[float, float, float]:
    grid = np.array(list(product((0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9), (0.01, 0.05, 0.15), (0.8, 0.95))))
    alpha, beta, damping = grid.T
    level, trend, squares = np.full(len(grid), x[0]), np.zeros(len(grid)), np.zeros(len(grid))
    for value in x[1:].tolist():
        faded = damping * trend
        expected = level + faded
        error = value - expected
        squares += error * error
        new = expected + alpha * error
        trend = faded + beta * (new - level - faded)
        level = new
    a, b, d = grid[int(np.argmin(squares))].tolist()
    return a, b, d


def _best_seasonal(x: Floats, season_steps: int) -> tuple[float, float, float]:
    grid = np.array(list(product((0.02, 0.1, 0.3, 0.6, 0.9), (0.001, 0.05), (0.1, 0.3, 0.6))))
    alpha, beta, gamma = grid.T
    first = np.convolve(x[:season_steps], np.ones(9) / 9, "same")
    season = np.tile((first - first.mean())[:, None], (1, len(grid)))
    level, trend, squares = np.full(len(grid), first.mean()), np.zeros(len(grid)), np.zeros(len(grid))
    for i, value in enumerate(x[season_steps:].tolist()):
        here = season[i % season_steps]
        faded = SEASONAL_DAMPING * trend
        expected = level + faded
        error = value - here - expected
        squares += error * error
        new = expected + alpha * error
        trend = faded + beta * (new - level - faded)
        here += gamma * (value - new - here)
        level = new
    a, b, g = grid[int(np.argmin(squares))].tolist()
    return a, b, g
