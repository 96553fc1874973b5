"""Conditions that every decision must satisfy, for any input and any policy. Pure; checked at every tick.

Live, a deployment whose decision violates one keeps its level; the violation is logged and counted. A violation is a
bug in leadtime or in a policy, since the guards alone should prevent it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf

from autoscaler.core.supply.inventory import gpus_per_replica
from autoscaler.core.types import (
    Breach,
    ControllerConfig,
    DeploymentPlan,
    DeploymentSettings,
    Observation,
    Plan,
    Signals,
)
from policies.base import DeploymentKey

BOUNDS = "within_bounds"
BUDGET = "within_budget"
UNKNOWN = "no_down_on_unknown"
FINITE = "finite_numbers"
EXPLAINED = "plan_explained"
WHOLE_GANGS = "whole_gangs"
NAMES = (BOUNDS, BUDGET, UNKNOWN, FINITE, EXPLAINED, WHOLE_GANGS)


def breaches(
    signals: Signals,
    plan: Plan,
    config: ControllerConfig,
    full: bool = True,
    allowances: Mapping[DeploymentKey, int] | None = None,
) -> tuple[Breach, ...]:
    """All violations in `plan`. `full`: every guard is in force, as in a live cluster.

    `allowances`: as in `over_budget`.
    """
    observations = {one.key: one for one in plan.observations}
    found: list[Breach] = []
    for one in plan.deployments:
        seen = observations.get(one.key)
        found += of_deployment(one, seen, config.settings_for(one.key), plan.capacities_rps.get(one.key), full)
    return (*found, *over_budget(signals, plan.deployments, config, allowances))


def of_deployment(
    plan: DeploymentPlan,
    seen: Observation | None,
    settings: DeploymentSettings | None,
    capacity_rps: float | None,
    full: bool,
) -> Sequence[Breach]:
    """Violations of one deployment on its own."""
    target, shown = plan.target, plan.observed_target
    found: list[Breach] = []
    if seen is not None and not _finite(seen, capacity_rps):
        found.append(Breach(FINITE, plan.key, "a number that is seen or learned of it is negative or no number"))
    if target is None:
        return found
    if settings is None:
        found.append(Breach(BOUNDS, plan.key, f"{target} replicas are planned, and no setting covers it"))
    else:
        least = settings.min_replicas if shown is None else min(settings.min_replicas, shown)
        if settings.follows is None and not 0 <= target <= settings.max_replicas:
            found.append(Breach(BOUNDS, plan.key, f"{target} replicas; at most {settings.max_replicas} are allowed"))
        elif full and target < least and settings.insists_on is None:
            found.append(Breach(BOUNDS, plan.key, f"{target} replicas; at least {settings.min_replicas} are to be"))
    if full and shown is not None and target < shown and seen is not None and not seen.fresh:
        found.append(Breach(UNKNOWN, plan.key, f"{shown} → {target} although {seen.why_stale}"))
    if plan.gang_size > 1 and target % plan.gang_size:
        why = f"{target} replicas are no whole number of gangs of {plan.gang_size}"
        found.append(Breach(WHOLE_GANGS, plan.key, why))
    if not plan.sentence or not (plan.terms or plan.guards):
        found.append(Breach(EXPLAINED, plan.key, f"nothing says why it is {target}"))
    return found


def over_budget(
    signals: Signals,
    plans: Sequence[DeploymentPlan],
    config: ControllerConfig,
    allowances: Mapping[DeploymentKey, int] | None = None,
) -> Iterable[Breach]:
    """Violation: a level is raised while the levels of a kind of GPU exceed its budget together.

    A level that is not raised counts up to what was granted lately (`allowances`): it is the figure of a dashboard, and
    what it claims beyond that must not take GPUs from others. None: each level counts in full.
    """
    if not config.gpu_budget:
        return []
    inventories = {one.key: one.inventory for one in signals.deployments}
    kinds: dict[str, list[tuple[DeploymentPlan, int]]] = {}
    pools = {pool.name: pool.gpu for pool in config.pools}
    for plan in plans:
        settings = config.settings_for(plan.key)
        kind = None if settings is None or settings.follows is not None else _kind(settings, pools)
        if kind is not None and kind in config.gpu_budget:
            gpus = max(1, gpus_per_replica(settings, inventories.get(plan.key)))
            kinds.setdefault(kind, []).append((plan, gpus))
    found: list[Breach] = []
    for kind, of_kind in kinds.items():
        budget = config.gpu_budget[kind]
        held = sum(gpus * _held(plan, allowances) for plan, gpus in of_kind)
        if held <= budget:
            continue
        for plan, _ in of_kind:
            if plan.target is not None and plan.target > _level(plan.observed_target):
                why = f"{_level(plan.observed_target)} → {plan.target} makes {held} of {budget} {kind} GPUs"
                found.append(Breach(BUDGET, plan.key, why))
    return found


def _held(plan: DeploymentPlan, allowances: Mapping[DeploymentKey, int] | None) -> int:
    """Replicas of a level that count against its budget."""
    shown = _level(plan.observed_target)
    level = shown if plan.target is None else plan.target
    return level if allowances is None or level > shown else min(level, allowances.get(plan.key, level))


def _level(replicas: int | None) -> int:
    return 0 if replicas is None else replicas


def _kind(settings: DeploymentSettings, pools: Mapping[str, str]) -> str:
    if settings.profile is not None:
        return settings.profile.gpu
    return next((pools[name] for name in settings.node_pools if name in pools), settings.gpu)


def _finite(seen: Observation, capacity_rps: float | None) -> bool:
    for one in (seen.rate_rps, seen.waiting, seen.ongoing, seen.kv_usage_fraction, seen.error_rate_rps, capacity_rps):
        if one is not None and not 0.0 <= one < inf:  # nor is NaN
            return False
    mix = seen.mix
    return mix is None or (0.0 <= mix.prompt_tokens < inf and 0.0 <= mix.output_tokens < inf)


def keys(found: Iterable[Breach]) -> set[DeploymentKey]:
    """Deployments that the violations are about."""
    return {one.deployment for one in found}
