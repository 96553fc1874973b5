"""Forecasts of demand: quantiles of the largest rate up to a horizon, and sample paths. Forecasters by name."""

from __future__ import annotations

from policies.base import ForecastSpec, PolicyError
from policies.forecasting.base import Forecaster, ForecasterState
from policies.options import nearest

__all__ = ["Forecaster", "ForecasterState", "check_spec", "create", "forecaster_names"]

_NAMES = ("seasonal", "last")


def forecaster_names() -> tuple[str, ...]:
    """Every forecaster that `create` knows, the default first."""
    return _NAMES


def check_spec(spec: ForecastSpec) -> None:
    """Errors: PolicyError for an unknown name or impossible widths."""
    if spec.forecaster not in _NAMES:
        hint = nearest(spec.forecaster, _NAMES)
        raise PolicyError(f"forecaster {spec.forecaster!r}: unknown{hint} (allowed: {', '.join(_NAMES)})")
    if not (0 < spec.bin_s <= spec.season_s):
        raise PolicyError(f"forecast: bin_s {spec.bin_s:g}, season_s {spec.season_s:g}; allowed: 0 < bin_s <= season_s")


def create(spec: ForecastSpec) -> Forecaster:
    """A forecaster without a memory. Errors: as `check_spec`."""
    check_spec(spec)
    from policies.forecasting.seasonal import LastForecaster, SeasonalForecaster

    return LastForecaster(spec) if spec.forecaster == "last" else SeasonalForecaster(spec)
