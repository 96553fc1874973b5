"""What is learned of pools: times of nodes and workers, refusals, and preemptions. Pure.

No API marks a pool as spot or says why a node went. A scale-down removes the replicas first, then the worker, then the
node, in separate observations. So a node that had replicas at one observation and is gone or on its way out at the next
was taken away.
"""

from __future__ import annotations

from collections.abc import Sequence

from autoscaler.core.state import ControllerState, LossMemory, NodeMemory, ZoneMemory
from autoscaler.core.types import NodeSignal, PoolSignals
from policies.capacity.lead_times import StageBook, image_pull_key, provision_key, worker_start_key

TAKEN_AWAY = "was taken away with replicas on it"
"""End of the notice about such a node."""
_HALF_LIFE_S = 3 * 86400.0
_LONGEST_GAP_S = 120.0
"""After a longer gap (s) a node may have been emptied and deleted unobserved."""
_CALM_NODE_HOURS = 10.0
"""Prior: this many node-hours without a loss, so that one loss in the first hour is not a rate of one an hour."""
_ONE_EVENT_S = 60.0
_SINGLE_EVENTS = 2.0
"""Prior: this many events of one node each."""


def learn_losses(state: ControllerState, pool: PoolSignals) -> list[str]:
    """Count nodes that were taken away since the last observation; returns notices."""
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
    """Whether replicas are on the node and it has no known end that is near."""
    return node.state == "ready" and bool(node.gpus_used) and not node.ends_within(_LONGEST_GAP_S, at_s)


def _fade(memory: LossMemory, seconds: float) -> None:
    kept = 0.5 ** (seconds / _HALF_LIFE_S)
    memory.node_hours *= kept
    memory.taken *= kept
    memory.events *= kept


def taken_per_node_hour(memory: LossMemory) -> float:
    """Rate at which nodes with replicas are taken away, per node-hour; 0 as long as none was."""
    return memory.taken / (memory.node_hours + _CALM_NODE_HOURS)


def taken_at_once(memory: LossMemory) -> float:
    """Mean number of nodes that one such event takes, at least 1."""
    return max(1.0, (memory.taken + _SINGLE_EVENTS) / (memory.events + _SINGLE_EVENTS))


_ZONE_HALF_LIFE_S = 86400.0
_MOST_ZONES = 64
_ONE_REFUSAL_S = 240.0
"""Reported again within this time (s) it is the same refusal: an autoscaler asks again after five minutes or more."""


def learn_pool(state: ControllerState, pool: PoolSignals, now_s: float) -> list[str]:
    """Learn from a pool's nodes, worker pods and refusals; returns notices."""
    learners = (learn_nodes, learn_workers, learn_refusals)
    return [words for learn in learners for words in learn(state, pool, now_s)] + learn_losses(state, pool)


def learn_nodes(state: ControllerState, pool: PoolSignals, now_s: float) -> list[str]:
    """Learn the time from request to Ready of nodes that became Ready; returns notices."""
    memory = state.pools.setdefault(pool.name, NodeMemory())
    words = []
    names = []
    waits_s = [now_s - n.requested_at_s for n in pool.nodes if n.state == "starting" and n.requested_at_s is not None]
    for node in pool.nodes:
        names.append(node.name)
        if node.name in memory.learned or node.ready_at_s is None or node.requested_at_s is None:
            continue
        memory.learned.append(node.name)
        seconds = node.ready_at_s - node.requested_at_s
        if seconds > 0:
            _zone(memory, node.zone, now_s).came += 1.0
            state.book.observe(provision_key(pool.name), seconds, now_s)
            words.append(f"node {node.name} of pool {pool.name} was Ready {seconds:.0f} s after it was asked for")
    memory.learned = [name for name in memory.learned if name in names]
    learn_waits(state.book, provision_key(pool.name), waits_s, now_s)
    return words


def learn_workers(state: ControllerState, pool: PoolSignals, now_s: float) -> list[str]:
    """Learn the stages of Ray workers that came up, from their pods and Events; returns notices.

    The time from scheduled to up is the image's pull plus the worker's own start. The pull is a stage of its own if an
    Event reported it.
    """
    memory = state.pools.setdefault(pool.name, NodeMemory())
    words = []
    for worker in pool.workers:
        if worker.name in memory.workers or worker.scheduled_at_s is None or worker.up_at_s is None:
            continue
        memory.workers.append(worker.name)
        seconds = worker.up_at_s - worker.scheduled_at_s
        if worker.pull_s is None or seconds <= worker.pull_s:
            continue
        if worker.pull_s > 0:
            state.book.observe(image_pull_key(pool.name), worker.pull_s, now_s)
        state.book.observe(worker_start_key(pool.name), seconds - worker.pull_s, now_s)
        words.append(
            f"worker {worker.name} was up {seconds:.0f} s after it had a node, {worker.pull_s:.0f} s of it pull"
        )
    names = {worker.name for worker in pool.workers}
    memory.workers = [name for name in memory.workers if name in names]
    return words


def learn_refusals(state: ControllerState, pool: PoolSignals, now_s: float) -> list[str]:
    """Count refused requests by zone, a lasting one once; returns notices of the new ones."""
    memory = state.pools.setdefault(pool.name, NodeMemory())
    words = []
    for one in pool.refusals:
        zone = _zone(memory, one.zone, now_s)
        if one.at_s <= zone.refused_at_s:
            continue
        lasts = one.kind == zone.kind and one.at_s - zone.refused_at_s < _ONE_REFUSAL_S
        zone.kind, zone.refused_at_s = one.kind, one.at_s
        if lasts:
            continue
        zone.refused += 1.0
        where = f" in {one.zone}" if one.zone else ""
        words.append(f"pool {pool.name}: nodes were refused{where} ({one.kind})")
    return words


def _zone(memory: NodeMemory, name: str, now_s: float) -> ZoneMemory:
    """The zone's memory, faded to now with a half-life of a day."""
    zone = memory.zones.setdefault(name, ZoneMemory(seen_s=now_s))
    if len(memory.zones) > _MOST_ZONES:  # their names come from the words of Events
        del memory.zones[min((n for n in memory.zones if n != name), key=lambda n: memory.zones[n].seen_s)]
    kept = 0.5 ** (max(0.0, now_s - zone.seen_s) / _ZONE_HALF_LIFE_S)
    zone.came, zone.refused, zone.seen_s = zone.came * kept, zone.refused * kept, now_s
    return zone


def refused_share(zone: ZoneMemory) -> float:
    """Share of refused requests for nodes; one in eleven before any request was observed."""
    return (zone.refused + 0.1) / (zone.came + zone.refused + 1.1)


def learn_waits(book: StageBook, stage_key: str, waits_s: Sequence[float], now_s: float) -> None:
    if waits_s:
        book.observe_censored(stage_key, max(waits_s), now_s)
    else:
        book.none_under_way(stage_key)
