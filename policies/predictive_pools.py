"""Nodes that `predictive` wants warm: the GPUs that all deployments of a pool may need one node lead time from now.

First version: the sum of the deployments' quantiles, packed on nodes; more than the quantile of the sum would need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policies.base import DeploymentKey, DeploymentView, FleetView, PoolProposal, PoolView, Term


@dataclass(frozen=True, slots=True)
class Claim:
    """Replicas of one deployment that a pool must hold: now, one node lead time from now, and to be kept."""

    gpus_per_replica: int
    now: int
    soon: int
    keep: int
    horizon_s: float


def pool_proposals(fleet: FleetView, claims: Mapping[DeploymentKey, Claim]) -> dict[str, PoolProposal]:
    """For every pool some deployment prefers: nodes within [min, max], never fewer than what is placed or asked for."""
    preferred: dict[str, list[Claim]] = {}
    for d in fleet.deployments:
        pool = preferred_pool(fleet, d)
        if pool is not None and d.key in claims:
            preferred.setdefault(pool.name, []).append(claims[d.key])
    return {p.name: _propose(p, preferred[p.name]) for p in fleet.pools if p.name in preferred}


def preferred_pool(fleet: FleetView, d: DeploymentView) -> PoolView | None:
    """The first of its pools that is not refused; when all are, the first."""
    pools = [p for p in (fleet.pool(name) for name in d.node_pools) if p is not None]
    return next((p for p in pools if not p.refused), pools[0] if pools else None)


def nodes_for(sizes: Sequence[int], gpus_per_node: int) -> int:
    """Nodes that replicas of these sizes (GPUs) fill, first fit decreasing; larger than a node: whole nodes."""
    whole = 0
    free: list[int] = []
    for size in sorted(sizes, reverse=True):
        if size > gpus_per_node:
            whole += -(-size // gpus_per_node)
            continue
        place = next((i for i, left in enumerate(free) if left >= size), None)
        if place is None:
            free.append(gpus_per_node - size)
        else:
            free[place] -= size
    return whole + len(free)


def _propose(pool: PoolView, claims: Sequence[Claim]) -> PoolProposal:
    def nodes(counts: Sequence[int]) -> int:
        sizes = [c.gpus_per_replica for c, count in zip(claims, counts, strict=True) for _ in range(count)]
        return nodes_for(sizes, pool.gpus_per_node)

    now = nodes([c.now for c in claims])
    soon = nodes([max(c.now, c.soon) for c in claims])
    terms = [
        Term("forecast", soon, f"replicas expected within {max(c.horizon_s for c in claims):.0f} s fill {soon} nodes"),
        Term("placed", now, f"replicas wanted now fill {now} nodes"),
    ]
    if pool.nodes_ready is not None:
        there = pool.nodes_ready + (pool.nodes_starting or 0)
        kept = min(there, nodes([max(c.now, c.keep) for c in claims]))
        terms.append(Term("keep", kept, f"{kept} of {there} nodes may be wanted back before giving them up pays"))
    terms.append(Term("min_nodes", pool.min_nodes, f"the pool keeps {pool.min_nodes}"))
    terms.sort(key=lambda t: -t.wants)
    count = terms[0].wants
    if pool.max_nodes is not None and count > pool.max_nodes:
        terms.insert(0, Term("max_nodes", pool.max_nodes, f"{count} wanted, the pool has {pool.max_nodes} at most"))
        count = pool.max_nodes
    return PoolProposal(count, tuple(terms))
