"""Second stage of Controller.step: the forecast of each deployment, with hints merged in.

A forecaster takes most of a deployment's memory (0.8 MB). Where tenants control the number of deployments, each
namespace has a limited number of forecasters (`reading.namespace_forecasters`). The busiest deployments get them; the
others are decided without a forecast, with the reason. Deployments that the settings name in full have one besides.
Without that limit every deployment has one (docs/decisions/0043-forecasters-by-namespace.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from autoscaler.core import forecast_verification, scheduled_load
from autoscaler.core.observe import DeploymentTick, problem_text
from autoscaler.core.state import ControllerState
from autoscaler.core.supply.capacity import ASSUMED_MIX, rounded
from autoscaler.core.types import (
    ControllerConfig,
    Hint,
)
from policies.base import (
    DeploymentKey,
    Forecast,
    Forecaster,
    Forecasting,
    ForecastSpec,
    TokenMix,
)
from policies.capacity import EngineProfile, capacity

_PLANNED_LEAD = 0.9
"""Quantile of the lead time whose window forecasts are verified over."""
_HALF_LIFE_S = 86400.0
"""Half-life (s) of a deployment's mean arrivals: a quiet night must not cost it its forecaster, a quiet week must."""
_LONGEST_LOOK_S = 300.0
"""Longest time (s) that one observation of the rate counts for."""
_BUSIER = 2.0
"""A deployment takes another's forecaster only if it is this many times as busy, so that two do not alternate."""


def forecast_demand(
    fleet: Sequence[DeploymentTick],
    config: ControllerConfig,
    spec: ForecastSpec | None,
    forecasting: Forecasting,
    announced: Sequence[Hint],
    now_s: float,
) -> None:
    """Set the forecast of every deployment, hints included. Forecasters receive the closed bins and are queried
    together.
    """
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
            if announced or d.memory.hints or (d.settings is not None and d.settings.schedule):
                _scheduled_loads(d, config, announced, farthest_s, now_s)
        except Exception as error:  # an error in one forecaster affects only its deployment
            d.failed = problem_text("its forecast", error)


def _farthest_s(d: DeploymentTick, config: ControllerConfig) -> float:
    """Farthest horizon (s) that is needed: a new node's lead time, plus the time after which a replica given up now has
    paid off.
    """
    return d.times.new_node.quantile(0.95) + 2 * d.times.new_node.median_s + config.tick_s


def _record(d: DeploymentTick, config: ControllerConfig, spec: ForecastSpec, forecast: Forecast) -> None:
    """Record the forecast of the next lead time, to be verified later."""
    last_s = None if d.forecaster is None else d.forecaster.last_time_s
    if last_s is not None and not forecast_verification.too_soon(d.memory.coverage, last_s, spec.bin_s):
        horizon_s = d.times.path(d.path).quantile(_PLANNED_LEAD) + config.tick_s
        forecast_verification.record(d.memory.coverage, forecast, last_s, spec.bin_s, horizon_s)


def _scheduled_loads(
    d: DeploymentTick, config: ControllerConfig, announced: Sequence[Hint], farthest_s: float, now_s: float
) -> None:
    """Merge active hints into the forecast."""
    schedule = () if d.settings is None else d.settings.schedule
    d.scheduled = scheduled_load.scheduled_loads(
        d.memory.hints, announced, d.key, now_s, farthest_s, config.hint_max_rps, d.observation.rate_rps, d.forecast,
        lambda hint: _weight(d, hint), scheduled_load.recurring_hints(schedule, d.key, now_s, farthest_s),
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
    """Horizons (s): bin width times powers of two up to beyond the farthest, so that they do not move with every
    learned second.
    """
    horizons = [bin_s]
    while horizons[-1] < farthest_s:
        horizons.append(horizons[-1] * 2)
    return tuple(horizons)


def _weight(d: DeploymentTick, hint: Hint) -> float:
    """Requests of today's mix that are as much work as one announced request."""
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


# ---------------------------------------------------------------- who has a forecaster


def give_forecasters(
    state: ControllerState,
    config: ControllerConfig,
    spec: ForecastSpec | None,
    forecasting: Forecasting,
    fleet: Sequence[DeploymentTick],
    now_s: float,
) -> None:
    """Give every deployment of the tick its forecaster, or the reason why it has none."""
    if spec is None:
        return
    most = config.namespace_forecasters
    there = [d for d in fleet if not d.failed]
    chosen: Collection[str] = ()
    if most is not None:
        for d in there:
            _note_busy(d, now_s)
        chosen = _choose(state, config, most, [d.key for d in there], now_s)
    for d in there:
        if most is None or d.key.full in chosen:
            d.forecaster = forecaster_of(state, forecasting, spec, d.key.full)
        else:
            d.no_forecast = (
                f"the {most} forecasters of namespace {d.key.namespace} are with busier deployments: "
                "reading.namespace_forecasters"
            )


def forecaster_of(
    state: ControllerState, forecasting: Forecasting, spec: ForecastSpec | None, full_key: str
) -> Forecaster | None:
    """The deployment's forecaster, created at first use; None if the policy wants no forecast."""
    if spec is None:
        return None
    found = state.forecasters.get(full_key)
    if found is None:
        found = state.forecasters[full_key] = forecasting.create(spec)
    return found


def within_budget(
    state: ControllerState, config: ControllerConfig, keys: Iterable[DeploymentKey]
) -> set[DeploymentKey]:
    """Those of `keys`, in order, that have a forecaster or would get a free one now."""
    most = config.namespace_forecasters
    if most is None:
        return set(keys)
    named = _named_in_full(config)
    held = _holders(state, named)
    found = set()
    for key in keys:
        places = held.setdefault(key.namespace, [])
        if key.full not in state.forecasters and key.full not in named:
            if len(places) >= most:
                continue
            places.append(key.full)
        found.add(key)
    return found


def _note_busy(d: DeploymentTick, now_s: float) -> None:
    """Update the deployment's mean arrivals over about a day; an unknown rate changes nothing."""
    memory, rate_rps = d.memory, d.observation.rate_rps
    if rate_rps is not None:
        faded = _faded(min(_LONGEST_LOOK_S, now_s - (now_s if memory.busy_at_s is None else memory.busy_at_s)))
        memory.busy_rps = faded * memory.busy_rps + (1.0 - faded) * rate_rps
        memory.busy_at_s = now_s


def _faded(after_s: float) -> float:
    return float(0.5 ** (max(0.0, after_s) / _HALF_LIFE_S))


def _choose(
    state: ControllerState, config: ControllerConfig, most: int, keys: Sequence[DeploymentKey], now_s: float
) -> set[str]:
    """Full keys of the deployments that have a forecaster from now on. A deployment that loses its forecaster loses
    what it learned.
    """
    named = _named_in_full(config)
    held = _holders(state, named)
    chosen = {key.full for key in keys if key.full in state.forecasters or key.full in named}
    waiting: dict[str, list[str]] = {}
    for key in keys:
        if key.full not in chosen:
            waiting.setdefault(key.namespace, []).append(key.full)

    def busy(full_key: str) -> float:
        memory = state.deployments.get(full_key)
        if memory is None or memory.busy_at_s is None:
            return 0.0
        return memory.busy_rps * _faded(now_s - memory.busy_at_s)

    for namespace in held.keys() | waiting.keys():
        if namespace not in waiting and len(held[namespace]) <= most:
            continue  # every deployment there has one, and there are free ones
        holders = sorted(held.get(namespace, ()), key=lambda one: (-busy(one), one))
        others = sorted(waiting.get(namespace, ()), key=lambda one: (-busy(one), one))
        lost, holders = holders[most:], holders[:most]
        room = max(0, most - len(holders))
        won, others = others[:room], others[room:]
        for one in others:
            if not holders or busy(one) <= _BUSIER * busy(holders[-1]):
                break
            lost.append(holders.pop())
            won.append(one)
        for one in lost:
            state.forecasters.pop(one, None)
            chosen.discard(one)
        chosen.update(won)
    return chosen


def _holders(state: ControllerState, named: Collection[str]) -> dict[str, list[str]]:
    """Full keys of deployments with a forecaster, by namespace, without those that the settings name in full."""
    found: dict[str, list[str]] = {}
    for full_key in state.forecasters:
        if full_key not in named:
            found.setdefault(full_key.partition("/")[0], []).append(full_key)
    return found


def _named_in_full(config: ControllerConfig) -> set[str]:
    """Full keys that the file's entries match in four parts without a wildcard: a tenant cannot create
    more of these.
    """
    matches = {entry.entry or entry.match for entry in config.deployments if not entry.unlisted}
    return {match for match in matches if match.count("/") == 3 and not set("*?[") & set(match)}
