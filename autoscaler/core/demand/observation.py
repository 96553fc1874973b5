"""What is known of a deployment now, and why it is not to be trusted where it is not."""

from __future__ import annotations

from autoscaler.core.demand.knowledge import NO_REPORTS, Reports, engine_gauges, failing, knowledge
from autoscaler.core.demand.rates import rates_rps
from autoscaler.core.demand.slo import attained_fraction, judged
from autoscaler.core.demand.token_mix import current_mix
from autoscaler.core.demand.witness import source_of
from autoscaler.core.state import DemandMemory
from autoscaler.core.types import (
    ALL_FRESH,
    NO_SUPPLY,
    DeploymentMetrics,
    DeploymentSignals,
    GuardSettings,
    Knowledge,
    Observation,
    QuantityStatus,
    Supply,
)


def observe(
    memory: DemandMemory,
    signals: DeploymentSignals,
    guards: GuardSettings,
    now_s: float,
    supply: Supply = NO_SUPPLY,
    reports: Reports = NO_REPORTS,
    replicas: str = "",
) -> Observation:
    """Everything that is known of a deployment at `now_s`; of its replicas core/supply/ tells.

    `replicas`: why their states are not known.
    """
    metrics, inventory = signals.metrics, signals.inventory
    young = metrics is not None and now_s - metrics.as_of_s <= guards.stale_after_s
    waiting, ongoing, kv_fraction = _gauges(metrics) if metrics is not None and young else (None, None, None)
    if waiting is None and young and memory.idle and "waiting" not in memory.known_at_s:
        waiting = 0.0  # a handle has no series before its first request
    rate_rps, error_rate_rps = rates_rps(memory)
    why, known = _why_stale(signals, guards, now_s), ALL_FRESH
    if why:
        old = QuantityStatus("unknown", why)
        known = Knowledge(old, old, old, old, old, old)
    elif metrics is not None:
        known = knowledge(memory, metrics, reports, replicas, kv_fraction)
        why = "" if known is ALL_FRESH else known.unknown()
    missing, running = reports.missing, reports.running
    return Observation(
        key=signals.key,
        rate_rps=rate_rps if young else None,
        mix=current_mix(memory),
        waiting=waiting,
        ongoing=ongoing,
        kv_usage_fraction=kv_fraction,
        error_rate_rps=error_rate_rps,
        uncounted_rps=memory.uncounted_rps if young else 0.0,
        completeness_fraction=1.0 - len(missing) / running if running and young else None,
        attained_fraction=attained_fraction(memory),
        judged=judged(memory),
        inventory_as_of_s=inventory.as_of_s if inventory else None,
        metrics_as_of_s=metrics.as_of_s if metrics else None,
        fresh=not why,
        why_stale=why,
        knowledge=known,
        unseen_fraction=memory.unseen_fraction if young else 0.0,
        arrivals=source_of(memory.witness),
        failing=failing(memory, signals, now_s),
        running=supply.running,
        draining=supply.draining,
        target=supply.target,
        starting=supply.starting,
    )


def take_reports(memory: DemandMemory, signals: DeploymentSignals) -> Reports:
    """Running replicas, and those of them that reported and do not any more: what they hold is not seen.

    One that never reported misses nothing (it may have no metrics of its own, or none yet).
    """
    if signals.inventory is None or signals.metrics is None:
        return NO_REPORTS
    as_of_s = signals.metrics.as_of_s
    reporting = dict.fromkeys([r.replica_id for r in signals.metrics.replicas], as_of_s)
    states = {r.replica_id: r.state for r in signals.inventory.replicas}
    listed = states.keys()
    if reporting.keys() == memory.reporters.keys() and reporting.keys() <= listed:
        memory.reporters = reporting
        return Reports(list(states.values()).count("RUNNING"))
    running = {name for name, state in states.items() if state == "RUNNING"}
    kept = {name: at_s for name, at_s in memory.reporters.items() if name in listed}
    memory.reporters = {**kept, **dict.fromkeys(sorted(reporting.keys() & listed), as_of_s)}
    return Reports(len(running), sorted(memory.reporters.keys() & running - reporting.keys()))


def _gauges(metrics: DeploymentMetrics) -> tuple[float | None, float | None, float | None]:
    """Waiting (at handles and in engines), ongoing, and the fullest replica's KV share."""
    replicas = engine_gauges(metrics)
    in_engines = [r.waiting for r in replicas if r.waiting is not None]
    waiting = None
    if metrics.queued_at_handles is not None or in_engines:
        waiting = (metrics.queued_at_handles or 0.0) + sum(in_engines)
    kv = [r.kv_usage_fraction for r in replicas if r.kv_usage_fraction is not None]
    return waiting, metrics.ongoing, max(kv) if kv else None


def _why_stale(signals: DeploymentSignals, guards: GuardSettings, now_s: float) -> str:
    if signals.inventory is None:
        return signals.unreadable or "Ray's dashboard does not tell what runs"
    if signals.metrics is None:
        return "no metrics of this deployment"
    for what, as_of_s in (("replica list", signals.inventory.as_of_s), ("metrics", signals.metrics.as_of_s)):
        if now_s - as_of_s > guards.stale_after_s:
            return f"{what} {now_s - as_of_s:.0f} s old (limit {guards.stale_after_s:.0f} s)"
    return ""
