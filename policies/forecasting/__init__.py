"""Forecasts of demand: quantiles of the largest rate up to a horizon, and sample paths. Forecasters by name."""

from __future__ import annotations

from policies.base import ForecastSpec, PolicyError
from policies.forecasting.base import Forecaster, ForecasterState
from policies.options import nearest

__all__ = ["Forecaster", "ForecasterState", "create", "forecaster_names"]

_NAMES = ("seasonal", "last")


def forecaster_names() -> tuple[str, ...]:
    """Every forecaster that `create` knows, the default first."""
    return _NAMES


def create(spec: ForecastSpec) -> Forecaster:
    """A forecaster without a memory. Errors: PolicyError for an unknown name or impossible widths."""
    if not (0 < spec.bin_s <= spec.season_s):
        raise PolicyError(f"forecast: bin_s {spec.bin_s:g}, season_s {spec.season_s:g}; allowed: 0 < bin_s <= season_s")
    from policies.forecasting.seasonal import LastForecaster, SeasonalForecaster

    if spec.forecaster == "seasonal":
        return SeasonalForecaster(spec)
    if spec.forecaster == "last":
        return LastForecaster(spec)
    hint = nearest(spec.forecaster, _NAMES)
    raise PolicyError(f"forecaster {spec.forecaster!r}: unknown{hint} (allowed: {', '.join(_NAMES)})")
