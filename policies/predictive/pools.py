"""Nodes that `predictive` wants warm: the GPUs that all deployments of a pool may need one node lead time from now.

First version: the sum of the deployments' quantiles, packed on nodes; more than the quantile of the sum would need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policies.base import DeploymentKey, FleetView, PoolProposal, PoolView, Term


@dataclass(frozen=True, slots=True)
class Claim:
    """Replicas of one deployment that need GPUs: now, one node lead time from now, and those to be kept."""

    gpus_per_replica: int
    now: int
    soon: int
    keep: int
    horizon_s: float


def pool_proposals(fleet: FleetView, claims: Mapping[DeploymentKey, Claim]) -> dict[str, PoolProposal]:
    """For every pool that some deployment prefers: nodes within [min, max], enough for what is wanted now."""
    parts: dict[str, list[Claim]] = {}
    pools = {p.name: p for p in fleet.pools}
    for d in fleet.deployments:
        claim = claims.get(d.key)
        if claim is not None:
            for name, part in _spread(claim, [pools[name] for name in d.node_pools if name in pools]).items():
                parts.setdefault(name, []).append(part)
    return {p.name: _propose(p, parts[p.name]) for p in fleet.pools if p.name in parts}


def _spread(claim: Claim, pools: Sequence[PoolView]) -> dict[str, Claim]:
    """The claim over its pools in order of preference: what one cannot hold falls to the next, the rest to the last.

    A pool that refused holds what is there. Other deployments of a pool are not looked at here; its maximum is.
    """
    if len(pools) == 1:
        soon, keep = max(claim.now, claim.soon), max(claim.now, claim.keep)
        return {pools[0].name: Claim(claim.gpus_per_replica, claim.now, soon, keep, claim.horizon_s)}
    counts = [claim.now, max(claim.now, claim.soon), max(claim.now, claim.keep)]
    parts: dict[str, Claim] = {}
    for i, pool in enumerate(pools):
        nodes = (pool.nodes_ready or 0) + (pool.nodes_starting or 0) if pool.refused else pool.max_nodes
        if nodes is None or i == len(pools) - 1:
            taken = counts
        else:
            taken = [min(count, _replicas_on(nodes, pool.gpus_per_node, claim.gpus_per_replica)) for count in counts]
        now, soon, keep = taken
        parts[pool.name] = Claim(claim.gpus_per_replica, now, soon, keep, claim.horizon_s)
        counts = [count - part for count, part in zip(counts, taken, strict=True)]
        if not any(counts):
            break
    return parts


def _replicas_on(nodes: int, gpus_per_node: int, size: int) -> int:
    if size > gpus_per_node:
        return nodes // -(-size // gpus_per_node)
    return nodes * (gpus_per_node // max(size, 1))


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

    now, soon = nodes([c.now for c in claims]), nodes([c.soon for c in claims])
    horizon_s = max(c.horizon_s for c in claims)
    terms = [
        Term("placed", now, f"replicas wanted now fill {_nodes(now)}"),
        Term("forecast", soon, f"replicas expected within {horizon_s:.0f} s fill {_nodes(soon)}"),
        Term("min_nodes", pool.min_nodes, f"the pool keeps {_nodes(pool.min_nodes)}"),
    ]
    if pool.nodes_ready is not None:
        there = pool.nodes_ready + (pool.nodes_starting or 0)
        kept = min(there, nodes([c.keep for c in claims]))
        terms.append(Term("keep", kept, f"{kept} of {_nodes(there)} may be wanted back before giving them up pays"))
    terms.sort(key=lambda t: -t.wants)
    count = terms[0].wants
    if pool.max_nodes is not None and count > pool.max_nodes:
        count = pool.max_nodes
        terms.insert(0, Term("max_nodes", count, f"{terms[0].wants} wanted; the pool has {_nodes(count)} at most"))
    return PoolProposal(count, tuple(terms))


def _nodes(count: int) -> str:
    return f"{count} node{'' if count == 1 else 's'}"
