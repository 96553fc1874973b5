"""How often nodes of a pool are taken away, by the nodes that went with replicas on them. Pure.

Nobody has to say that a pool is spot, and nothing says why a node went: who scales down takes replicas first, then the
worker, then the node, each a look or more after the other. A node that replicas were on at one look and that is gone or
on its way out at the next one was not given up by anybody here.
"""

from __future__ import annotations

from autoscaler.core.state import ControllerState, LossMemory, NodeMemory
from autoscaler.core.types import NodeSignal, PoolSignals

TAKEN_AWAY = "was taken away with replicas on it"
"""How the words of such a node end."""
_HALF_LIFE_S = 3 * 86400.0
_LONGEST_GAP_S = 120.0
"""After a longer silence a node may have been emptied and deleted unseen."""
_CALM_NODE_HOURS = 10.0
"""Watched before the first one, in which none was taken: one loss in the first hour is no rate of one an hour."""
_ONE_EVENT_S = 60.0
_SINGLE_EVENTS = 2.0
"""Seen before the first one, of one node each."""


def learn_losses(state: ControllerState, pool: PoolSignals) -> list[str]:
    """Count nodes that were taken away since the last look; in words."""
    memory = state.pools.setdefault(pool.name, NodeMemory()).losses
    at_s, since_s = pool.as_of_s, memory.seen_at_s
    if since_s is not None and at_s <= since_s:
        return []
    before, memory.seen_at_s = memory.busy, at_s
    memory.busy = [node.name for node in pool.nodes if _stays_busy(node, at_s)]
    if since_s is None or at_s - since_s > _LONGEST_GAP_S or not (before or memory.node_hours):
        return []
    _fade(memory, at_s - since_s)
    memory.node_hours += len(before) * (at_s - since_s) / 3600.0
    if memory.busy == before:
        return []
    stays = {node.name for node in pool.nodes if node.state != "deleting"}
    taken = [name for name in before if name not in stays]
    if not taken:
        return []
    if memory.taken_at_s is None or at_s - memory.taken_at_s > _ONE_EVENT_S:
        memory.events += 1.0
    memory.taken += len(taken)
    memory.taken_at_s = at_s
    return [f"node {name} of pool {pool.name} {TAKEN_AWAY}" for name in taken]


def _stays_busy(node: NodeSignal, at_s: float) -> bool:
    """Replicas are on it, and it has no end that is known and near."""
    return node.state == "ready" and bool(node.gpus_used) and not node.ends_within(_LONGEST_GAP_S, at_s)


def _fade(memory: LossMemory, seconds: float) -> None:
    kept = 0.5 ** (seconds / _HALF_LIFE_S)
    memory.node_hours *= kept
    memory.taken *= kept
    memory.events *= kept


def taken_per_node_hour(memory: LossMemory) -> float:
    """How often a node is taken away while replicas are on it; 0 as long as none was."""
    return memory.taken / (memory.node_hours + _CALM_NODE_HOURS)


def taken_at_once(memory: LossMemory) -> float:
    """How many nodes one such event takes, at least 1."""
    return max(1.0, (memory.taken + _SINGLE_EVENTS) / (memory.events + _SINGLE_EVENTS))
