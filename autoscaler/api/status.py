"""The controller's JSON pages as plain data: status, plan, decisions. Pure; unknown is null.

The shapes are contracts (names stay, keys may be added). The HTTP is in `server`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoscaler.api.telemetry import Decision, Telemetry
from autoscaler.core.conditions import KINDS
from autoscaler.core.demand import ATTAINMENT_WINDOW_S
from autoscaler.core.guards import OBSERVED_ONLY, PAUSED
from autoscaler.core.types import (
    Condition,
    DeploymentPlan,
    Hint,
    Observation,
    Plan,
    PoolSignals,
    Signals,
    nodes_usd_per_hour,
)
from policies.base import DeploymentKey, Forecast, LeadPath, LeadTimes

VERSION = 1
_PATHS: tuple[LeadPath, ...] = ("free_gpu", "warm_node", "new_node")
_QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
_REFUSED_FOR_S = 300.0
"""As long as this after a refused request a pool counts as out of stock."""


def status_view(telemetry: Telemetry, now_s: float) -> dict[str, Any]:
    """`GET /api/v1/status`; before the first tick there are no deployments in it."""
    plan, signals = telemetry.plan, telemetry.signals
    observations = {one.key: one for one in plan.observations} if plan else {}
    return {
        "version": VERSION,
        "now_s": now_s,
        "tick": plan.tick if plan else None,
        "leader": plan.leader if plan else None,
        "dry_run": telemetry.config.dry_run,
        "paused": telemetry.pause.everything,
        "policy": telemetry.config.policy_name,
        "tick_s": telemetry.config.tick_s,
        "outages": [{"kind": one.kind, "since_s": one.since_s, "why": one.why} for one in telemetry.outages],
        "sources": _sources(signals, now_s),
        "conditions": [_condition(one) for one in telemetry.conditions],
        "deployments": {
            str(one.key): _deployment(telemetry, plan, one, observations.get(one.key), now_s)
            for one in (plan.deployments if plan else ())
            if plan is not None
        },
        "pools": {pool.name: _pool(telemetry, pool) for pool in (signals.pools if signals else ())},
        "hints": [_hint(hint) for hint in (signals.hints if signals else ())],
    }


def _condition(one: Condition) -> dict[str, Any]:
    kind = KINDS[one.name]
    return {
        "name": one.name,
        "deployment": str(one.deployment) if one.deployment else None,
        "since_s": one.since_s,
        "severity": kind.severity,
        "why": one.why,
        "mend": kind.mend,
    }


def plan_view(telemetry: Telemetry, namespaces: frozenset[str] | None = None) -> dict[str, Any] | None:
    """`GET /api/v1/plan`: what a policy inside Serve follows; None before the first tick.

    Only a leader that is not in dry run has targets to follow (`acts`); what it would have wanted otherwise is
    `withheld`. `held` are deployments that the settings name and that are left as they are: paused, or unknown now. A
    deployment in neither is none of leadtime's, or something is in the way. `paused` are those of the held ones that a
    person paused: a standby leaves them alone. `namespaces`: of these alone; None: of all.
    """
    plan = telemetry.plan
    if plan is None:
        return None
    shown = [d for d in plan.deployments if namespaces is None or d.key.namespace in namespaces]
    wanted = {str(d.key): d.target for d in shown if d.target is not None and d.blocked is None}
    held = [str(d.key) for d in shown if d.target is None and not _has(d, OBSERVED_ONLY)]
    may_write = plan.leader and not plan.dry_run
    return {
        "version": VERSION,
        "tick": plan.tick,
        "issued_at_s": plan.now_s,
        "period_s": telemetry.config.tick_s,
        "acts": may_write,
        "targets": wanted if may_write else {},
        "withheld": {} if may_write else wanted,
        "held": held if may_write else [],
        "paused": [str(d.key) for d in shown if _has(d, PAUSED)] if may_write else [],
    }


def _has(plan: DeploymentPlan, guard: str) -> bool:
    return any(record.name == guard for record in plan.guards)


def decisions_view(telemetry: Telemetry, key: DeploymentKey | None, limit: int) -> dict[str, Any]:
    """`GET /api/v1/decisions`: the newest first; of one deployment or of all."""
    of_keys = telemetry.decisions if key is None else {key: telemetry.decisions.get(key, ())}
    found = sorted((decision for kept in of_keys.values() for decision in kept), key=lambda d: (-d.tick, d.plan.key))
    return {"version": VERSION, "decisions": [_decision(decision) for decision in found[:limit]]}


def _sources(signals: Signals | None, now_s: float) -> dict[str, Any]:
    return {
        source.name: {
            "up": source.up,
            "age_s": None if source.as_of_s is None else max(0.0, now_s - source.as_of_s),
            "why": source.why,
        }
        for source in (signals.sources if signals else ())
    }


def _deployment(
    telemetry: Telemetry, plan: Plan, one: DeploymentPlan, seen: Observation | None, now_s: float
) -> dict[str, Any]:
    settings = telemetry.settings_for(one.key)
    decision = telemetry.last_decision(one.key)
    return {
        "signals": None if seen is None else _signals(seen, now_s),
        "forecast": _forecast(plan.forecasts.get(one.key), plan.coverages.get(one.key, ())),
        "lead_time_s": _lead_times(plan.lead_times.get(one.key)),
        "replicas": {
            "target": one.observed_target,
            "running": seen.running if seen else None,
            "starting": len(seen.starting) if seen and seen.running is not None else None,
            "draining": seen.draining if seen else None,
            "planned": one.target,
        },
        "starting": [
            {"expected_ready_at_s": start.expected_ready_at_s, "stage": start.stage, "path": start.path}
            for start in (seen.starting if seen else ())
        ],
        "capacity_rps": plan.capacities_rps.get(one.key),
        "slo": None if settings is None else {
            "ttft_s": settings.slo.ttft_s,
            "itl_s": settings.slo.itl_s,
            "target_fraction": settings.slo.target_fraction,
            "attained_fraction": seen.attained_fraction if seen else None,
            "window_s": ATTAINMENT_WINDOW_S,
        },
        "last_decision": None if decision is None else _decision(decision),
        "sentence": one.sentence,
        "blocked": one.blocked,
        "paused": telemetry.pause.covers(one.key),
        "gang_size": one.gang_size,
        "limits": None if settings is None else {
            "min_replicas": settings.min_replicas, "max_replicas": settings.max_replicas,
        },
    }  # fmt: skip


def _signals(seen: Observation, now_s: float) -> dict[str, Any]:
    def age(as_of_s: float | None) -> float | None:
        return None if as_of_s is None else max(0.0, now_s - as_of_s)

    return {
        "rate_rps": seen.rate_rps,
        "prompt_tokens": seen.mix.prompt_tokens if seen.mix else None,
        "output_tokens": seen.mix.output_tokens if seen.mix else None,
        "waiting": seen.waiting,
        "ongoing": seen.ongoing,
        "kv_usage_fraction": seen.kv_usage_fraction,
        "error_rate_rps": seen.error_rate_rps,
        "uncounted_rps": seen.uncounted_rps,
        "completeness_fraction": seen.completeness_fraction,
        "fresh": seen.fresh,
        "why_stale": seen.why_stale,
        "arrivals": {
            "source": seen.arrivals.source,
            "counted_rps": seen.arrivals.counted_rps,
            "witnessed_rps": seen.arrivals.witnessed_rps,
            "disagrees": seen.arrivals.disagrees or None,
        },
        "metrics_age_s": age(seen.metrics_as_of_s),
        "inventory_age_s": age(seen.inventory_as_of_s),
    }


def _forecast(forecast: Forecast | None, coverage: Sequence[tuple[float, float]]) -> dict[str, Any] | None:
    if forecast is None:
        return None
    return {
        "forecaster": forecast.forecaster,
        "horizons_s": list(forecast.horizons_s),
        "levels": list(forecast.levels),
        "values_rps": [list(row) for row in forecast.values_rps],
        "calibrated": forecast.calibrated,
        "why": forecast.why,
        "coverage": {str(level): share for level, share in coverage},
    }


def _lead_times(times: LeadTimes | None) -> dict[str, Any] | None:
    if times is None:
        return None
    return {path: {name: times.path(path).quantile(level) for name, level in _QUANTILES} for path in _PATHS}


def _pool(telemetry: Telemetry, pool: PoolSignals) -> dict[str, Any]:
    settings = next((p for p in telemetry.config.pools if p.name == pool.name), None)
    price = settings.price_usd_per_hour if settings else None
    plans = telemetry.plan.pools if telemetry.plan else ()
    plan = next((p for p in plans if p.name == pool.name), None)
    wanted = plan.nodes if plan else None
    counts = nodes_by_state(pool)
    refused = max(0, (wanted or 0) - len(pool.nodes)) if is_refused(pool, pool.as_of_s) else 0
    peak = settings.max_nodes if settings else None
    return {
        "nodes": {**counts, "refused": refused},
        "refusals": [
            {"at_s": one.at_s, "kind": one.kind, "zone": one.zone or None, "why": one.words} for one in pool.refusals
        ],
        "wanted": wanted,
        "taken_per_node_hour": plan.taken_per_node_hour if plan else 0.0,
        "cost_usd_per_hour": None if settings is None else nodes_usd_per_hour(settings, pool.nodes),
        "static_peak_usd_per_hour": None if price is None or peak is None else price * peak,
    }


def is_refused(pool: PoolSignals, now_s: float) -> bool:
    """Whether nodes of the pool were refused of late."""
    return pool.refused_at_s is not None and now_s - pool.refused_at_s < _REFUSED_FOR_S


def nodes_by_state(pool: PoolSignals) -> dict[str, int]:
    """Busy: a Ready node with work; prewarmed: Ready without; arriving: not Ready yet."""
    ready = [node for node in pool.nodes if node.state == "ready"]
    busy = sum(1 for node in ready if (node.gpus_used if node.gpus_used is not None else node.workers or 0) > 0)
    arriving = sum(1 for node in pool.nodes if node.state == "starting")
    return {"busy": busy, "prewarmed": len(ready) - busy, "arriving": arriving}


def _hint(hint: Hint) -> dict[str, Any]:
    return {
        "id": hint.id,
        "deployment": str(hint.key),
        "start_at_s": hint.start_at_s,
        "end_at_s": hint.end_at_s,
        "rps": hint.rps,
        "multiplier": hint.multiplier,
        "confidence_fraction": hint.confidence_fraction,
        "asked_by": hint.asked_by,
    }


def _decision(decision: Decision) -> Mapping[str, Any]:
    plan, applied = decision.plan, decision.applied
    return {
        "tick": decision.tick,
        "at_s": decision.now_s,
        "deployment": str(plan.key),
        "observed_target": plan.observed_target,
        "proposed": plan.proposed,
        "target": plan.target,
        "sentence": plan.sentence,
        "terms": [{"name": term.name, "wants": term.wants, "why": term.why} for term in plan.terms],
        "guards": [
            {"name": guard.name, "from": guard.before, "to": guard.after, "why": guard.why} for guard in plan.guards
        ],
        "blocked": plan.blocked,
        "applied": None if applied is None else {"outcome": applied.outcome, "why": applied.why},
    }
