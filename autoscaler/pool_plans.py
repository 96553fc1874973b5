"""What is planned for the pools of nodes: how many there should be, how many are busy, and for whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autoscaler.controller_state import ControllerState
from autoscaler.model import DeploymentPlan, NodeSignal, PoolPlan, PoolSignals, ServiceGpus
from autoscaler.outlook import Outlook
from policies.base import FleetProposal, FleetView, PoolView

_LEAD_LEVEL = 0.9
"""Of a new node's lead time: what ends sooner has to be replaced by now."""


def pool_plans(
    state: ControllerState,
    view: FleetView,
    proposal: FleetProposal,
    seen: Mapping[str, PoolSignals],
    deployments: Sequence[DeploymentPlan],
    fleet: Sequence[Outlook],
    paused: bool,
) -> tuple[PoolPlan, ...]:
    """Nodes that each pool should have, by the policy's word or its last one; none is planned while paused."""
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
    """Workers are on it or wait for it, and it does not end before another one could be there."""
    lead_s = 0.0 if pool.node_lead_time is None else pool.node_lead_time.quantile(_LEAD_LEVEL)
    return node.busy and node.state != "deleting" and not node.ends_within(lead_s, now_s)


def _gpus_by_pool(plans: Sequence[DeploymentPlan], fleet: Sequence[Outlook]) -> dict[str, tuple[ServiceGpus, ...]]:
    """GPUs that the planned replicas of each service need, in the first pool of each deployment's list.

    `plans` and `fleet` are of the same deployments, in the same order.
    """
    found: dict[str, dict[tuple[str, str], int]] = {}
    for plan, look in zip(plans, fleet, strict=True):
        names = look.settings.node_pools if look.settings is not None else ()
        level = plan.target if plan.target is not None else plan.observed_target
        if names and level is not None:
            pool = look.pool_name or names[0]
            services = found.setdefault(pool, {})
            place = (plan.key.namespace, plan.key.service)
            services[place] = services.get(place, 0) + level * look.gpus
    return {pool: tuple(ServiceGpus(*place, gpus) for place, gpus in sorted(by.items())) for pool, by in found.items()}
