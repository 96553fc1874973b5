"""Nodes that `predictive` wants warm: the GPUs that all deployments of a pool may need one node lead time from now.

First version: the sum of the deployments' quantiles, packed on nodes; more than the quantile of the sum would need.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from policies.base import DeploymentView, PoolProposal, PoolView, Term
from policies.base.record import record


@record(frozen=True, slots=True)
class Claim:
    """Replicas of one deployment that need GPUs: now, one node lead time from now, and those to be kept."""

    gpus_per_replica: int
    now: int
    soon: int
    keep: int
    horizon_s: float


def pool_proposals(
    pools: Mapping[str, PoolView], claims: Iterable[tuple[DeploymentView, Claim]]
) -> dict[str, PoolProposal]:
    """For every pool that a deployment prefers: nodes within [min, max], enough for what is wanted now."""
    parts: dict[str, list[Claim]] = {}
    for d, claim in claims:
        for name, part in _spread(claim, [pools[name] for name in d.node_pools if name in pools]).items():
            parts.setdefault(name, []).append(part)
    return {name: _propose(pool, parts[name]) for name, pool in pools.items() if name in parts}


def _spread(claim: Claim, pools: Sequence[PoolView]) -> dict[str, Claim]:
    """The claim split over its pools in order of preference: what one cannot hold goes to the next, the rest to the
    last.

    A pool that refused holds what is there. Other deployments of a pool are not considered here; its maximum is.
    """
    if len(pools) == 1:
        if claim.now <= min(claim.soon, claim.keep):
            return {pools[0].name: claim}
        soon, keep = max(claim.now, claim.soon), max(claim.now, claim.keep)
        return {pools[0].name: Claim(claim.gpus_per_replica, claim.now, soon, keep, claim.horizon_s)}
    counts = [claim.now, max(claim.now, claim.soon), max(claim.now, claim.keep)]
    parts: dict[str, Claim] = {}
    for i, pool in enumerate(pools):
        nodes = (pool.nodes_ready or 0) + (pool.nodes_starting or 0) if pool.refused else pool.max_nodes
        if nodes is None or i == len(pools) - 1:
            taken = counts
        else:
            taken = [min(count, replicas_on(nodes, pool.gpus_per_node, claim.gpus_per_replica)) for count in counts]
        now, soon, keep = taken
        parts[pool.name] = Claim(claim.gpus_per_replica, now, soon, keep, claim.horizon_s)
        counts = [count - part for count, part in zip(counts, taken, strict=True)]
        if not any(counts):
            break
    return parts


def replicas_on(nodes: int, gpus_per_node: int, size: int) -> int:
    """Replicas of `size` GPUs that fit empty nodes."""
    if size > gpus_per_node:
        return nodes // -(-size // gpus_per_node)
    return nodes * (gpus_per_node // max(size, 1))


_Run = tuple[int, int]
"""Runs of nodes opened one after another with equally many GPUs left: (GPUs left on each, nodes)."""


def nodes_for(replicas: Iterable[tuple[int, int]], gpus_per_node: int) -> int:
    """Nodes that replicas fill, first fit decreasing; larger than a node: whole nodes.

    `replicas`: (GPUs of each, how many). The work grows with the number of sizes, not with that of replicas.
    """
    counts: dict[int, int] = {}
    for size, count in replicas:
        counts[size] = counts.get(size, 0) + count
    whole, opened = 0, list[_Run]()
    for size, count in sorted(counts.items(), reverse=True):
        if size > gpus_per_node:
            whole += count * -(-size // gpus_per_node)
        elif count:
            opened = _with(opened, size, count, gpus_per_node)
    return whole + sum(nodes for _, nodes in opened)


def _with(opened: Sequence[_Run], size: int, count: int, gpus_per_node: int) -> list[_Run]:
    """The runs of nodes, in the order in which they were opened, after `count` replicas of this size were added."""
    if size == 0:
        return list(opened) or [(gpus_per_node, 1)]
    after: list[_Run] = []
    for run in opened:
        parts, count = _filled(run, size, count)
        after += parts
    new = gpus_per_node, -(-count // (gpus_per_node // size))
    return after + _filled(new, size, count)[0]


def _filled(run: _Run, size: int, count: int) -> tuple[list[_Run], int]:
    """Fill one run with up to `count` replicas, node by node; returns what it becomes and how many are left over."""
    left, nodes = run
    each = left // size
    if not each:
        return [run], count
    full = min(nodes, count // each)
    over = count - full * each
    begun = 1 if over and full < nodes else 0
    runs = [(left - each * size, full), (left - over * size, begun), (left, nodes - full - begun)]
    return [one for one in runs if one[1]], 0 if begun else over


def _propose(pool: PoolView, claims: Sequence[Claim]) -> PoolProposal:
    sizes = [c.gpus_per_replica for c in claims]
    known: list[tuple[list[int], int]] = []

    def nodes(counts: list[int]) -> int:
        """Computed once for equal claims: with a rule, the claims of now and later are the same."""
        for others, found in known:
            if others == counts:
                return found
        known.append((counts, nodes_for(zip(sizes, counts, strict=True), pool.gpus_per_node)))
        return known[-1][1]

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
