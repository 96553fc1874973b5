"""What is known of each deployment at one tick: demand, supply, lead times, capacity.

The first stage of Controller.step. It learns on the way (rates, lead times, capacities) and decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from autoscaler.core import demand, forecast_verification, scheduled_load
from autoscaler.core.demand.knowledge import engine_gauges
from autoscaler.core.state import ControllerState, DeploymentMemory
from autoscaler.core.supply import inventory as supply
from autoscaler.core.supply import lead_times, placement
from autoscaler.core.supply.capacity import replica_capacity
from autoscaler.core.supply.placement import PoolPlacement
from autoscaler.core.types import (
    ControllerConfig,
    DeploymentSettings,
    DeploymentSignals,
    EndedStart,
    GuardRecord,
    Observation,
)
from policies.base import (
    DeploymentKey,
    DeploymentView,
    Forecast,
    Forecaster,
    ForecastSpec,
    LeadPath,
    LeadTimes,
    ReplicaProposal,
    Slo,
)
from policies.base.forecast import Announcement
from policies.base.record import open_form

_OpenView = open_form(DeploymentView)


@dataclass(slots=True)
class DeploymentTick:
    """Everything of one deployment on its way through one step."""

    key: DeploymentKey
    settings: DeploymentSettings | None
    signals: DeploymentSignals
    memory: DeploymentMemory
    observation: Observation
    times: LeadTimes
    path: LeadPath
    gpus: int
    gang_size: int = 1
    """Replicas that Serve starts and stops together."""
    max_ongoing: int | None = None
    """Requests that Serve sends to one replica at a time."""
    pool_name: str | None = None
    """The first pool of its list that anybody can see."""
    forecaster: Forecaster | None = None
    no_forecast: str = ""
    """Why it has no forecaster; empty: it has, or the policy wants no forecast."""
    capacity_rps: float | None = None
    capacity_batch: float | None = None
    forecast: Forecast | None = None
    scheduled: tuple[scheduled_load.ScheduledLoad, ...] = ()
    current: int | None = None
    """The level in force."""
    remainder: int | None = None
    """Serve's level where that is no whole number of gangs; `current` is one."""
    no_gang: str = ""
    """Why its bounds allow no whole number of gangs; its level stays."""
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
            no_forecast=self.no_forecast,
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
            gang_size=self.gang_size,
        )
        view.__class__ = DeploymentView
        return view


def problem_text(what: str, error: Exception) -> str:
    """A failure that is a bug of ours, in one line for people and the journal."""
    return f"{what} could not be worked out: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _announced(scheduled: Sequence[scheduled_load.ScheduledLoad]) -> tuple[Announcement, ...]:
    return tuple(one.announcement for one in scheduled if one.announcement is not None)


def observe(
    config: ControllerConfig,
    spec: ForecastSpec | None,
    state: ControllerState,
    signals: DeploymentSignals,
    pools: Mapping[str, PoolPlacement],
    now_s: float,
) -> tuple[DeploymentTick, list[str]]:
    """One deployment at `now_s`, and in words what was learned; `spec`: the forecast that the policy wants.

    Its forecaster, and what is expected of it, come from forecast.py.
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
    gang_size = 1 if inventory is None else inventory.gang_size
    if pool is not None and gang_size > 1:
        path, room = pool.way_of_gang(gpus, gang_size)
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
    found = DeploymentTick(key, settings, signals, memory, observation, times, path, gpus, gang_size)
    found.max_ongoing = inventory.max_ongoing_requests if inventory is not None else None
    found.pool_name, found.bins, found.ended = pool_name, bins, tuple(ended)
    found.capacity_rps, found.capacity_batch = replica_capacity(
        settings, observation, found.max_ongoing, memory.supply, now_s
    )
    return found, learned


def unobservable(
    config: ControllerConfig, state: ControllerState, signals: DeploymentSignals, why: str
) -> DeploymentTick:
    """A deployment whose signals could not be worked on: nothing is known of it but what Serve lists."""
    key, full_key = signals.key, signals.key.full
    settings = config.settings_for(key)
    there = supply.supply_of(signals.inventory, ())
    observation = Observation(
        key, fresh=False, why_stale=why, running=there.running, draining=there.draining, target=there.target
    )
    times = lead_times.lead_time_estimate(config, settings, None, full_key).lead_times(state.book)
    gpus = supply.gpus_per_replica(settings, signals.inventory)
    found = DeploymentTick(key, settings, signals, state.memory(full_key), observation, times, "new_node", gpus)
    if signals.inventory is not None:
        found.gang_size = signals.inventory.gang_size
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
        forecast_verification.evaluate(memory.coverage, closed, bin_s)
    return tuple(closed)


@lru_cache(maxsize=64)
def _window_s(bin_s: float, tick_s: float) -> float:
    """Over which rates are measured."""
    return max(min(3 * bin_s, 90.0), bin_s, 3 * tick_s, 6.0)
