"""What is expected of each deployment: the forecast, and hints in it. The second stage of Controller.step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from autoscaler.core import forecast_verification, scheduled_load
from autoscaler.core.observe import DeploymentTick, problem_text
from autoscaler.core.supply.capacity import ASSUMED_MIX, rounded
from autoscaler.core.types import (
    ControllerConfig,
    Hint,
)
from policies.base import (
    Forecast,
    Forecaster,
    Forecasting,
    ForecastSpec,
    TokenMix,
)
from policies.capacity import EngineProfile, capacity

_PLANNED_LEAD = 0.9
"""The quantile of the lead time that the forecaster's record looks ahead."""


def forecast_demand(
    fleet: Sequence[DeploymentTick],
    config: ControllerConfig,
    spec: ForecastSpec | None,
    forecasting: Forecasting,
    announced: Sequence[Hint],
    now_s: float,
) -> None:
    """The forecast of every deployment, and hints in it. Forecasters see what closed and are asked all at once."""
    if spec is None:
        return
    closed = [(d.forecaster, d.bins) for d in fleet if d.forecaster is not None and d.bins]
    forecasting.observe(closed)
    covered = []
    for d in fleet:
        if d.settings is not None and not d.failed:
            farthest_s = _farthest_s(d, config)
            covered.append((d, farthest_s, _ladder(spec.bin_s, farthest_s)))
    forecasting.ask(
        [(d.forecaster, horizons_s) for d, _, horizons_s in covered if d.forecaster is not None], spec.levels
    )
    for d, farthest_s, horizons_s in covered:
        try:
            d.forecast = _forecast(spec, d.forecaster, horizons_s, now_s)
            if d.forecast is not None:
                _record(d, config, spec, d.forecast)
            if announced or d.memory.hints:
                _scheduled_loads(d, config, announced, farthest_s, now_s)
        except Exception as error:  # one deployment's trouble is that deployment's
            d.failed = problem_text("its forecast", error)


def _farthest_s(d: DeploymentTick, config: ControllerConfig) -> float:
    """How far ahead anybody looks: a new node's lead time, and what a replica given up would take to pay off."""
    return d.times.new_node.quantile(0.95) + 2 * d.times.new_node.median_s + config.tick_s


def _record(d: DeploymentTick, config: ControllerConfig, spec: ForecastSpec, forecast: Forecast) -> None:
    """What the forecast says of the next lead time goes on record."""
    last_s = None if d.forecaster is None else d.forecaster.last_time_s
    if last_s is not None and not forecast_verification.too_soon(d.memory.coverage, last_s, spec.bin_s):
        horizon_s = d.times.path(d.path).quantile(_PLANNED_LEAD) + config.tick_s
        forecast_verification.promise(d.memory.coverage, forecast, last_s, spec.bin_s, horizon_s)


def _scheduled_loads(
    d: DeploymentTick, config: ControllerConfig, announced: Sequence[Hint], farthest_s: float, now_s: float
) -> None:
    """Hints that count, in the forecast."""
    d.scheduled = scheduled_load.scheduled_loads(
        d.memory.hints, announced, d.key, now_s, farthest_s, config.hint_max_rps, d.observation.rate_rps, d.forecast,
        lambda hint: _weight(d, hint),
    )  # fmt: skip
    if not d.scheduled:
        return
    if d.forecast is not None:
        d.forecast = scheduled_load.merge(d.forecast, d.scheduled)
    if d.capacity_rps is None and d.settings is not None and d.settings.profile is not None:
        first = capacity(d.settings.profile, rounded(_mix_of(d, d.scheduled[0].hint)), d.settings.slo)
        d.capacity_rps, d.capacity_batch = (first.rps, first.batch) if first.rps else (None, None)


def _forecast(
    spec: ForecastSpec, forecaster: Forecaster | None, horizons_s: tuple[float, ...], now_s: float
) -> Forecast | None:
    if forecaster is None or forecaster.last_time_s is None:
        return None
    quantiles = forecaster.quantiles(horizons_s, spec.levels)
    return Forecast(spec.forecaster, now_s, horizons_s, spec.levels, quantiles, forecaster.calibrated, forecaster.why)


@lru_cache(maxsize=1024)
def _ladder(bin_s: float, farthest_s: float) -> tuple[float, ...]:
    """Horizons that do not move with every learned second: the bin's width times powers of two, past the farthest."""
    horizons = [bin_s]
    while horizons[-1] < farthest_s:
        horizons.append(horizons[-1] * 2)
    return tuple(horizons)


def _weight(d: DeploymentTick, hint: Hint) -> float:
    """Requests of today's mix that carry as much work as one announced request."""
    profile: EngineProfile | None = d.settings.profile if d.settings is not None else None
    if profile is None or d.capacity_rps is None or (hint.prompt_tokens is None and hint.output_tokens is None):
        return 1.0
    assert d.settings is not None
    announced = capacity(profile, rounded(_mix_of(d, hint)), d.settings.slo).rps
    return d.capacity_rps / announced if announced else 1.0


def _mix_of(d: DeploymentTick, hint: Hint) -> TokenMix:
    mix = d.observation.mix or ASSUMED_MIX
    if hint.prompt_tokens is not None:
        share = mix.cached_prompt_tokens / mix.prompt_tokens
        mix = replace(mix, prompt_tokens=hint.prompt_tokens, cached_prompt_tokens=share * hint.prompt_tokens)
    return mix if hint.output_tokens is None else replace(mix, output_tokens=hint.output_tokens)
