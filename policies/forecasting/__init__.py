"""Forecasts of demand: quantiles of the largest rate up to a horizon. Forecasters by name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING

from policies.base import ForecastSpec, PolicyError
from policies.forecasting.base import Forecaster, ForecasterState
from policies.options import nearest

if TYPE_CHECKING:
    from policies.forecasting.classic_rules import Rule
    from policies.forecasting.ensemble.grid import Grid

__all__ = ["Forecaster", "ForecasterState", "check_spec", "create", "forecaster_names"]

_CLASSIC = (
    "last",
    "max10",
    "max30",
    "seasonal_naive",
    "holt",
    "holt_winters",
    "arima",
    "dynamo_arima",
    "dynamo_kalman",
)
_NAMES = ("mixture", "seasonal", *_CLASSIC)


def forecaster_names() -> tuple[str, ...]:
    """Every forecaster that `create` knows, the default first."""
    return _NAMES


def check_spec(spec: ForecastSpec) -> None:
    """Errors: PolicyError for an unknown name, impossible widths or a holiday that is no date."""
    if spec.forecaster not in _NAMES:
        hint = nearest(spec.forecaster, _NAMES)
        raise PolicyError(f"forecaster {spec.forecaster!r}: unknown{hint} (allowed: {', '.join(_NAMES)})")
    if not (0 < spec.bin_s <= spec.season_s):
        raise PolicyError(f"forecast: bin_s {spec.bin_s:g}, season_s {spec.season_s:g}; allowed: 0 < bin_s <= season_s")

    for day in spec.holidays:
        try:
            date.fromisoformat(day)
        except ValueError:
            raise PolicyError(f"forecast: holidays: {day!r}; allowed: a date like 2026-12-25") from None


def create(spec: ForecastSpec) -> Forecaster:
    """A forecaster without a memory. Errors: as `check_spec`."""
    check_spec(spec)
    if spec.forecaster == "mixture":
        from policies.forecasting.ensemble.forecaster import MixtureForecaster

        return MixtureForecaster(spec)
    if spec.forecaster in _CLASSIC:
        from policies.forecasting.classic import ClassicForecaster

        return ClassicForecaster(spec.forecaster, _rule(spec.forecaster), spec)
    from policies.forecasting.seasonal import SeasonalForecaster

    return SeasonalForecaster(spec)


def _rule(name: str) -> Callable[[Grid], Rule]:
    """The point forecast of a classic forecaster."""
    from policies.forecasting import classic_rules as rules
    from policies.forecasting import dynamo

    made: dict[str, Callable[[Grid], Rule]] = {
        "last": rules.LastValue,
        "max10": lambda grid: rules.MovingMaximum(grid, 10),
        "max30": lambda grid: rules.MovingMaximum(grid, 30),
        "seasonal_naive": rules.SeasonalNaive,
        "holt": lambda grid: rules.Smoothing(grid, "holt"),
        "holt_winters": lambda grid: rules.Smoothing(grid, "holt_winters"),
        "arima": lambda grid: rules.Smoothing(grid, "arima"),
        "dynamo_arima": dynamo.DynamoArima,
        "dynamo_kalman": dynamo.DynamoKalman,
    }
    return made[name]
