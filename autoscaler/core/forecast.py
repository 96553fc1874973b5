"""What is known and expected of each deployment at one tick: demand, supply, lead times, capacity, forecast, hints.

The first half of Controller.step. It learns on the way (rates, lead times, capacities, the forecaster) and decides
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from autoscaler.core import demand, forecast_verification, scheduled_load
from autoscaler.core.demand.absent_gauges import engine_gauges
from autoscaler.core.state import ControllerState, DeploymentMemory
from autoscaler.core.supply import inventory as supply
from autoscaler.core.supply import lead_times, placement
from autoscaler.core.supply.placement import PoolPlacement
from autoscaler.core.types import (
    ControllerConfig,
    DeploymentSettings,
    DeploymentSignals,
    EndedStart,
    GuardRecord,
    Hint,
    Observation,
)
from policies.base import (
    DeploymentKey,
    DeploymentView,
    Forecast,
    ForecastSpec,
    LeadPath,
    LeadTimes,
    ReplicaProposal,
    Slo,
    TokenMix,
)
from policies.base.announced import Announcement
from policies.base.record import open_form
from policies.capacity import EngineProfile, capacity
from policies.forecasting import Forecaster, create
from policies.forecasting.batch import BatchedEnsemble

_LEARNED_SHARE_OF_SLOTS = 0.7
"""Without a profile a replica carries this share of its max_ongoing_requests."""
_UNBOUNDED_SLOTS = 100_000
_ASSUMED_SLOTS = 64
"""serve.llm sets max_ongoing_requests to 1e9: then this many requests in flight count as full."""
_ASSUMED_MIX = TokenMix(1000.0, 250.0)
"""Of requests to come, where neither a hint nor any request seen tells how long they are."""
_PLANNED_LEAD = 0.9
"""The quantile of the lead time that the forecaster's record looks ahead."""
_OpenView = open_form(DeploymentView)


@dataclass(slots=True)
class Outlook:
    """Everything of one deployment on its way through one step."""

    key: DeploymentKey
    settings: DeploymentSettings | None
    signals: DeploymentSignals
    memory: DeploymentMemory
    observation: Observation
    times: LeadTimes
    path: LeadPath
    gpus: int
    max_ongoing: int | None = None
    """Requests that Serve sends to one replica at a time."""
    pool_name: str | None = None
    """The first pool of its list that anybody can see."""
    forecaster: Forecaster | None = None
    capacity_rps: float | None = None
    capacity_batch: float | None = None
    forecast: Forecast | None = None
    scheduled: tuple[scheduled_load.ScheduledLoad, ...] = ()
    current: int | None = None
    """The level in force."""
    ended: tuple[EndedStart, ...] = ()
    bins: tuple[demand.Bin, ...] = ()
    """Closed since the last tick."""
    proposed: ReplicaProposal | None = None
    """The policy's word."""
    notes: list[GuardRecord] = field(default_factory=list)
    failed: str = ""
    """Why nothing can be decided of it at this tick; its level stays."""

    def view(self) -> DeploymentView:
        """What a policy may see of it; only of deployments that a setting covers."""
        assert self.settings is not None
        s, o, metrics, demand_memory = self.settings, self.observation, self.signals.metrics, self.memory.demand
        view = _OpenView(
            key=self.key,
            rate_rps=o.rate_rps,
            mix=o.mix,
            waiting=o.waiting,
            ongoing=o.ongoing,
            kv_usage_fraction=o.kv_usage_fraction,
            metrics_as_of_s=o.metrics_as_of_s,
            replica_metrics=engine_gauges(metrics) if metrics else (),
            handle_reports=metrics.handle_reports if metrics else (),
            forecast=self.forecast,
            announcements=_announced(self.scheduled) if self.scheduled else (),
            bins=self.bins,
            attained_fraction=o.attained_fraction,
            judged_requests=o.judged.requests if o.judged else 0.0,
            judged_missed=o.judged.missed if o.judged else 0.0,
            totals=demand_memory.totals if demand_memory.as_of_s is not None else None,
            target=self.current,
            running=o.running,
            starting=o.starting,
            draining=o.draining,
            capacity_rps=self.capacity_rps,
            capacity_batch=self.capacity_batch,
            profile=s.profile,
            max_ongoing_requests=self.max_ongoing,
            lead_times=self.times,
            next_path=self.path,
            slo=s.slo,
            min_replicas=s.min_replicas,
            max_replicas=s.max_replicas,
            weight=s.weight,
            priority=s.priority,
            guaranteed_gpus=s.guaranteed_gpus,
            gpus_per_replica=self.gpus,
            node_pools=s.node_pools,
        )
        view.__class__ = DeploymentView
        return view


def problem_text(what: str, error: Exception) -> str:
    """A failure that is a bug of ours, in one line for people and the journal."""
    return f"{what} could not be worked out: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _announced(scheduled: Sequence[scheduled_load.ScheduledLoad]) -> tuple[Announcement, ...]:
    return tuple(one.announcement for one in scheduled if one.announcement is not None)


def forecaster_of(state: ControllerState, spec: ForecastSpec | None, full_key: str) -> Forecaster | None:
    """The deployment's forecaster, made at first use; None where the policy wants no forecast."""
    if spec is None:
        return None
    found: Forecaster | None = state.forecasters.get(full_key)
    if found is None:
        found = state.forecasters[full_key] = create(spec)
    return found


def look(
    config: ControllerConfig,
    spec: ForecastSpec | None,
    state: ControllerState,
    signals: DeploymentSignals,
    pools: Mapping[str, PoolPlacement],
    now_s: float,
) -> tuple[Outlook, list[str]]:
    """One deployment at `now_s`, and in words what was learned; `spec`: the forecast that the policy wants.

    What is expected of it is added by `expect`.
    """
    key, inventory, full_key = signals.key, signals.inventory, signals.key.full
    settings, memory = config.settings_for(key), state.memory(full_key)
    memory.seen_at_s = now_s
    reports = demand.take_reports(memory.demand, signals)
    bins = _ingest_demand(config, spec, signals, settings, memory, reports)
    pool_name = placement.first_pool(settings, pools)
    gpus = supply.gpus_per_replica(settings, inventory)
    pool = pools[pool_name] if pool_name else None
    # Without any view of nodes: as on a running worker.
    path, room = pool.way(gpus) if pool is not None else ("free_gpu", ())
    believed = lead_times.lead_time_estimate(config, settings, pool_name, full_key)
    ended: list[EndedStart] = []
    learned: list[str] = []
    replicas = supply.why_unknown(memory.supply, inventory)
    if inventory is not None and inventory.as_of_s <= now_s and not replicas:
        stages = believed.stages
        gap_s = supply.longest_gap_s(config.tick_s)
        ended = supply.ingest_replicas(key, memory.supply, inventory, path, now_s, room, gap_s)
        shown = pool is not None and pool.shows_workers
        watched = [start for start in ended if start.runs and start.watched]
        learned = [supply.learn_replica(state.book, s, stages[s.path], now_s, shown) for s in watched]
        supply.learn_under_way(state.book, memory.supply, stages, pool is not None and pool.nodes_come, now_s)
    times = believed.lead_times(state.book)
    starts = supply.starts_under_way(memory.supply, times, now_s)
    there = supply.supply_of(inventory, starts, known=not replicas)
    observation = demand.observe(memory.demand, signals, config.guards, now_s, there, reports, replicas)
    forecaster = forecaster_of(state, spec, full_key)
    found = Outlook(key, settings, signals, memory, observation, times, path, gpus)
    found.max_ongoing = inventory.max_ongoing_requests if inventory is not None else None
    found.pool_name, found.forecaster, found.bins, found.ended = pool_name, forecaster, bins, tuple(ended)
    found.capacity_rps, found.capacity_batch = _capacity(found)
    return found, learned


def beyond_us(config: ControllerConfig, state: ControllerState, signals: DeploymentSignals, why: str) -> Outlook:
    """A deployment whose signals could not be worked on: nothing is known of it but what Serve lists."""
    key, full_key = signals.key, signals.key.full
    settings = config.settings_for(key)
    there = supply.supply_of(signals.inventory, ())
    observation = Observation(
        key, fresh=False, why_stale=why, running=there.running, draining=there.draining, target=there.target
    )
    times = lead_times.lead_time_estimate(config, settings, None, full_key).lead_times(state.book)
    gpus = supply.gpus_per_replica(settings, signals.inventory)
    found = Outlook(key, settings, signals, state.memory(full_key), observation, times, "new_node", gpus)
    found.current, found.failed = there.target, why
    return found


def _ingest_demand(
    config: ControllerConfig,
    spec: ForecastSpec | None,
    signals: DeploymentSignals,
    settings: DeploymentSettings | None,
    memory: DeploymentMemory,
    reports: demand.Reports,
) -> tuple[demand.Bin, ...]:
    """New metrics become rates; the bins that they close are what the forecaster is to see, and is judged by."""
    if signals.metrics is None:
        return ()
    bin_s = spec.bin_s if spec is not None else 10.0
    slo = settings.slo if settings else Slo()
    closed = demand.ingest(memory.demand, signals.metrics, slo, _window_s(bin_s, config.tick_s), bin_s, reports)
    if spec is not None and closed:
        forecast_verification.judge(memory.coverage, closed, bin_s)
    return tuple(closed)


@lru_cache(maxsize=64)
def _window_s(bin_s: float, tick_s: float) -> float:
    """Over which rates are measured."""
    return max(min(3 * bin_s, 90.0), bin_s, 3 * tick_s, 6.0)


# ---------------------------------------------------------------- what is expected


def expect(
    fleet: Sequence[Outlook],
    config: ControllerConfig,
    spec: ForecastSpec | None,
    together: BatchedEnsemble,
    announced: Sequence[Hint],
    now_s: float,
) -> None:
    """The forecast of every deployment, and hints in it. Forecasters see what closed and are asked all at once."""
    if spec is None:
        return
    closed = [(d.forecaster, d.bins) for d in fleet if d.forecaster is not None and d.bins]
    together.observe(closed)
    covered = []
    for d in fleet:
        if d.settings is not None and not d.failed:
            farthest_s = _farthest_s(d, config)
            covered.append((d, farthest_s, _ladder(spec.bin_s, farthest_s)))
    together.ask([(d.forecaster, horizons_s) for d, _, horizons_s in covered if d.forecaster is not None], spec.levels)
    for d, farthest_s, horizons_s in covered:
        try:
            d.forecast = _forecast(spec, d.forecaster, horizons_s, now_s)
            if d.forecast is not None:
                _promise(d, config, spec, d.forecast)
            if announced or d.memory.hints:
                _scheduled_loads(d, config, announced, farthest_s, now_s)
        except Exception as error:  # one deployment's trouble is that deployment's
            d.failed = problem_text("its forecast", error)


def _farthest_s(d: Outlook, config: ControllerConfig) -> float:
    """How far ahead anybody looks: a new node's lead time, and what a replica given up would take to pay off."""
    return d.times.new_node.quantile(0.95) + 2 * d.times.new_node.median_s + config.tick_s


def _promise(d: Outlook, config: ControllerConfig, spec: ForecastSpec, forecast: Forecast) -> None:
    """What the forecast says of the next lead time goes on record."""
    last_s = None if d.forecaster is None else d.forecaster.last_time_s
    if last_s is not None and not forecast_verification.too_soon(d.memory.coverage, last_s, spec.bin_s):
        horizon_s = d.times.path(d.path).quantile(_PLANNED_LEAD) + config.tick_s
        forecast_verification.promise(d.memory.coverage, forecast, last_s, spec.bin_s, horizon_s)


def _scheduled_loads(
    d: Outlook, config: ControllerConfig, announced: Sequence[Hint], farthest_s: float, now_s: float
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
        first = capacity(d.settings.profile, _rounded(_mix_of(d, d.scheduled[0].hint)), d.settings.slo)
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


# ---------------------------------------------------------------- what a replica carries


def _capacity(d: Outlook) -> tuple[float | None, float | None]:
    """Requests/s, and in flight at that rate: from the profile at today's mix (an assumed one until some requests have
    finished: a fleet at zero must be sized before the first); else learned from requests in flight (Little's law).
    """
    mix = d.observation.mix or _ASSUMED_MIX
    if d.settings is not None and d.settings.profile is not None:
        found = capacity(d.settings.profile, _rounded(mix), d.settings.slo)
        return (found.rps, found.batch) if found.rps else (None, None)
    rate, ongoing = d.observation.rate_rps, d.observation.ongoing
    memory = d.memory.supply
    if rate and ongoing and d.max_ongoing and d.observation.running:
        slots = d.max_ongoing if d.max_ongoing < _UNBOUNDED_SLOTS else _ASSUMED_SLOTS
        latency_s = ongoing / rate
        now_rps = _LEARNED_SHARE_OF_SLOTS * slots / latency_s
        before = memory.learned_capacity_rps
        memory.learned_capacity_rps = now_rps if before is None else 0.9 * before + 0.1 * now_rps
    return memory.learned_capacity_rps, None


def _weight(d: Outlook, hint: Hint) -> float:
    """Requests of today's mix that carry as much work as one announced request."""
    profile: EngineProfile | None = d.settings.profile if d.settings is not None else None
    if profile is None or d.capacity_rps is None or (hint.prompt_tokens is None and hint.output_tokens is None):
        return 1.0
    assert d.settings is not None
    announced = capacity(profile, _rounded(_mix_of(d, hint)), d.settings.slo).rps
    return d.capacity_rps / announced if announced else 1.0


def _mix_of(d: Outlook, hint: Hint) -> TokenMix:
    mix = d.observation.mix or _ASSUMED_MIX
    if hint.prompt_tokens is not None:
        share = mix.cached_prompt_tokens / mix.prompt_tokens
        mix = replace(mix, prompt_tokens=hint.prompt_tokens, cached_prompt_tokens=share * hint.prompt_tokens)
    return mix if hint.output_tokens is None else replace(mix, output_tokens=hint.output_tokens)


def _rounded(mix: TokenMix) -> TokenMix:
    """Three digits: a mix that trembles should not make capacity tremble."""
    prompt, output, cached = mix.prompt_tokens, mix.output_tokens, mix.cached_prompt_tokens
    return TokenMix(float(f"{prompt:.3g}"), float(f"{output:.3g}"), float(f"{cached:.3g}") if cached else 0.0)
