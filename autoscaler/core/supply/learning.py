"""What a pool's nodes, worker pods and refusals teach: how long its stages take, and where nodes were refused. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from autoscaler.core.state import ControllerState, NodeMemory, ZoneMemory
from autoscaler.core.supply.preemptions import learn_losses
from autoscaler.core.types import PoolSignals
from policies.capacity.lead_times import StageBook, image_pull_key, provision_key, worker_start_key

_ZONE_HALF_LIFE_S = 86400.0
_MOST_ZONES = 64
_ONE_REFUSAL_S = 240.0
"""Told again within this it is the same refusal, which lasts: an autoscaler asks again after five minutes or more."""


def learn_pool(state: ControllerState, pool: PoolSignals, now_s: float) -> list[str]:
    """Everything that a pool's nodes, worker pods and refusals teach; in words."""
    learners = (learn_nodes, learn_workers, learn_refusals)
    return [words for learn in learners for words in learn(state, pool, now_s)] + learn_losses(state, pool)


def learn_nodes(state: ControllerState, pool: PoolSignals, now_s: float) -> list[str]:
    """Learn the time from request to Ready of nodes that became Ready; what was learned, in words."""
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
    """Learn the stages of Ray workers that came up, from their pods and Events; what was learned, in words.

    Scheduled to up is the image's pull and the worker's own start; the pull is its own stage where somebody told of it.
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
    """Count refused requests by zone, one that lasts once; the new ones, in words."""
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
    """The zone's memory, faded to now: half of what it knows is forgotten in a day."""
    zone = memory.zones.setdefault(name, ZoneMemory(seen_s=now_s))
    if len(memory.zones) > _MOST_ZONES:  # their names come from the words of Events
        del memory.zones[min((n for n in memory.zones if n != name), key=lambda n: memory.zones[n].seen_s)]
    kept = 0.5 ** (max(0.0, now_s - zone.seen_s) / _ZONE_HALF_LIFE_S)
    zone.came, zone.refused, zone.seen_s = zone.came * kept, zone.refused * kept, now_s
    return zone


def refused_share(zone: ZoneMemory) -> float:
    """Share of the requests for nodes that are refused: one in eleven before any was seen."""
    return (zone.refused + 0.1) / (zone.came + zone.refused + 1.1)


def learn_waits(book: StageBook, stage_key: str, waits_s: Sequence[float], now_s: float) -> None:
    if waits_s:
        book.observe_censored(stage_key, max(waits_s), now_s)
    else:
        book.none_under_way(stage_key)
