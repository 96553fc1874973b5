"""Deployments that follow another one (CPU-only ingresses, not decided by the policy), and levels of nodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from autoscaler.core import explain, guards
from autoscaler.core.observe import DeploymentTick
from autoscaler.core.state import ControllerState
from autoscaler.core.types import (
    ControllerConfig,
    DeploymentPlan,
    GuardRecord,
    NodeSignal,
    PoolPlan,
    PoolSignals,
    ServiceGpus,
)
from policies.base import DeploymentKey, FleetProposal, FleetView, PoolView, Term, whole_up


def follow(
    config: ControllerConfig, plans: Sequence[DeploymentPlan], fleet: Sequence[DeploymentTick]
) -> list[DeploymentPlan]:
    """Scale CPU-only deployments in proportion to the one they follow, never to 0 or above their maximum.

    A paused one stays as it is; one with unknown data gives nothing up. `fleet`: in the order of `plans`.
    """
    if not any(entry.follows for entry in config.deployments):
        return list(plans)
    result = []
    for plan, d in zip(plans, fleet, strict=True):
        settings = d.settings
        if settings is None or settings.follows is None or plan.observed_target is None or _paused(plan) or d.no_gang:
            result.append(plan)
            continue
        follows = settings.follows
        leader = _leader(plan.key, follows.deployment, plans)
        if leader is None or leader.target is None:
            why = f"left alone: {follows.deployment}, which it follows, is not there"
            if leader is not None:
                why = f"left alone, like {leader.key} which it follows"
            result.append(replace(plan, target=None, guards=(), sentence=why))
            continue
        wanted = max(1, follows.min_replicas, math.ceil(follows.ratio * leader.target - 1e-9))
        term = Term("follows", wanted, f"{follows.ratio:g} x {leader.target} replicas of {follows.deployment}")
        level, records = _bounded(wanted, plan, d, max(1, settings.max_replicas))
        text = explain.sentence(plan.observed_target, level, (term,), records, plan.blocked, config.dry_run)
        made = replace(plan, target=level, proposed=wanted, terms=(term,), guards=tuple(records), sentence=text)
        result.append(made)
    return result


def _paused(plan: DeploymentPlan) -> bool:
    return any(record.name == guards.PAUSED for record in plan.guards)


def _bounded(wanted: int, plan: DeploymentPlan, d: DeploymentTick, most: int) -> tuple[int, list[GuardRecord]]:
    """The wanted number within the deployment's bounds, and the guards that changed it."""
    records, level, shown = [], whole_up(wanted, d.gang_size), plan.observed_target
    if shown is not None:
        shown = whole_up(shown, d.gang_size)
    if level > most:
        records.append(GuardRecord(guards.MAXIMUM, plan.key, level, most, f"replicas.max is {most}"))
        level = most
    if shown is not None and level < shown <= most:
        seen = d.observation
        if not seen.fresh:
            why = f"no scale-down on what is not known: {seen.why_stale}"
            records.append(GuardRecord(guards.UNKNOWN, plan.key, level, shown, why))
            level = shown
        elif seen.failing:
            why = f"{seen.failing}: failing is not idleness"
            records.append(GuardRecord(guards.FAILING, plan.key, level, shown, why))
            level = shown
    return level, records


def _leader(key: DeploymentKey, pattern: str, plans: Sequence[DeploymentPlan]) -> DeploymentPlan | None:
    """The deployment to follow: of the same service, else one that the pattern names in full. So a deployment of the
    same name in another namespace is never followed by accident.
    """
    found = [plan for plan in plans if plan.key.matches(pattern)]
    own = [plan for plan in found if plan.key[:2] == key[:2]]
    place = pattern.split("/")[:-2]
    named = [plan for plan in found if [*plan.key[:2]] == place]
    return next(iter([*own, *named]), None)


_LEAD_LEVEL = 0.9
"""Quantile of a new node's lead time: a node that ends sooner has to be replaced now."""


def pool_plans(
    state: ControllerState,
    view: FleetView,
    proposal: FleetProposal,
    seen: Mapping[str, PoolSignals],
    deployments: Sequence[DeploymentPlan],
    fleet: Sequence[DeploymentTick],
    paused: bool,
) -> tuple[PoolPlan, ...]:
    """Nodes that each pool should have, from the policy's proposal or its last one; none is planned while paused."""
    plans = []
    needs = _gpus_by_pool(deployments, fleet)
    for pool in view.pools:
        own = proposal.pools.get(pool.name)
        nodes = own.nodes if own else state.pool_nodes.get(pool.name)
        if nodes is not None:
            nodes = max(pool.min_nodes, nodes if pool.max_nodes is None else min(nodes, pool.max_nodes))
            state.pool_nodes[pool.name] = nodes
        there = busy = None
        if pool.nodes_ready is not None:
            there = pool.nodes_ready + (pool.nodes_starting or 0)
            busy = sum(1 for node in seen[pool.name].nodes if _stays_busy(node, pool, view.now_s))
        terms = own.terms if own else ()
        wanted = None if paused else nodes
        gpus = needs.get(pool.name, ())
        plans.append(PoolPlan(pool.name, wanted, there, terms, busy, gpus, pool.taken_per_node_hour))
    return tuple(plans)


def _stays_busy(node: NodeSignal, pool: PoolView, now_s: float) -> bool:
    """Whether workers are on the node or wait for it, and it does not end before a replacement could be there."""
    lead_s = 0.0 if pool.node_lead_time is None else pool.node_lead_time.quantile(_LEAD_LEVEL)
    return node.busy and node.state != "deleting" and not node.ends_within(lead_s, now_s)


def _gpus_by_pool(
    plans: Sequence[DeploymentPlan], fleet: Sequence[DeploymentTick]
) -> dict[str, tuple[ServiceGpus, ...]]:
    """GPUs that the planned replicas of each service need, in the first pool of each deployment's list.

    `plans` and `fleet` are of the same deployments, in the same order.
    """
    found: dict[str, dict[tuple[str, str], int]] = {}
    for plan, one in zip(plans, fleet, strict=True):
        names = one.settings.node_pools if one.settings is not None else ()
        level = plan.target if plan.target is not None else plan.observed_target
        if names and level is not None:
            pool = one.pool_name or names[0]
            services = found.setdefault(pool, {})
            place = (plan.key.namespace, plan.key.service)
            services[place] = services.get(place, 0) + level * one.gpus
    return {pool: tuple(ServiceGpus(*place, gpus) for place, gpus in sorted(by.items())) for pool, by in found.items()}
