"""Inventory: replicas by state, starts under way with their expected end, learned lead times, pools.

Pure; reads inventories and learns how long each stage of a cold start takes. Lead times by path are in lead_times.py,
the path of the next start in placement.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat

from autoscaler.core.state import LossMemory, StartMemory, SupplyMemory
from autoscaler.core.supply.learning import learn_waits, taken_at_once, taken_per_node_hour
from autoscaler.core.types import (
    NO_SUPPLY,
    DeploymentInventory,
    DeploymentSettings,
    EndedStart,
    PoolSettings,
    PoolSignals,
    Supply,
)
from policies.base import DeploymentKey, LeadPath, LeadTimes, PoolView, StartView
from policies.base.durations import Duration
from policies.capacity.lead_times import (
    PROVISION,
    StageBook,
    provision_key,
)

MOST_FAILED = 50
"""Most failed starts that are remembered."""
MOST_REPLICAS = 100_000
"""Targets above this are taken for a mistake; the wanted level is then unknown."""
_NOT_YET_RUNNING = ("STARTING",)
_ALIVE = ("RUNNING", "UPDATING", "RECOVERING", "PENDING_MIGRATION")
_RAISE_TO_START_S = 15.0
"""A replica that appears within this time (s) after leadtime raised the target is attributed to that raise."""
_LEAD_LEVEL = 0.9
"""Nodes that end within this quantile of a new node's lead time count as gone."""
LONGEST_GAP_S = 60.0
"""Longest gap (s) between two observations in which a start may end and still be learned from.

With an observation every 5 s an end is recorded 2.5 s late in the mean. An end inside a gap is recorded half the gap
late, and 30 s is the most by which a start of minutes may be misjudged; 60 s are also twelve failed observations. With
longer ticks the limit is two ticks (`longest_gap_s`).
"""
_OF_WORKERS = ("/image_pull", "/worker_start")
"""Suffixes of the keys of stages that are measured on worker pods."""


def longest_gap_s(tick_s: float) -> float:
    """Longest time (s) between two observations after which the interval is still known well enough to learn from."""
    return max(LONGEST_GAP_S, 2.0 * tick_s)


def gpus_per_replica(settings: DeploymentSettings | None, inventory: DeploymentInventory | None) -> int:
    """GPUs that one replica holds: setting, profile, Serve's own figure, else 1."""
    if settings is not None and settings.gpus_per_replica is not None:
        return settings.gpus_per_replica
    said = None if inventory is None else inventory.gpus_per_replica
    if settings is not None and settings.profile is not None:
        return max(settings.profile.gpus, said or 1) if settings.profile_by_tenant else settings.profile.gpus
    return 1 if said is None else said


def _paths(seen: Sequence[int], otherwise: LeadPath) -> Iterator[LeadPath]:
    """Paths of the first, second, ... start of several, from the room there was before them."""
    if not seen:
        yield from repeat(otherwise)
    free, warm = seen
    yield from repeat("free_gpu", free)
    yield from repeat("warm_node", warm)
    yield from repeat("new_node")


def ingest_replicas(
    key: DeploymentKey,
    memory: SupplyMemory,
    inventory: DeploymentInventory,
    path: LeadPath,
    now_s: float,
    now_room: Sequence[int] = (),
    most_gap_s: float = LONGEST_GAP_S,
) -> list[EndedStart]:
    """Follow replicas from STARTING to RUNNING; returns the starts that ended since the last inventory.

    A start takes the path that the room at the previous observation allows. (`now_room` is the room now, in which the
    GPUs of starting replicas may count as used.) Without node data every start takes `path`. After a gap of more than
    `most_gap_s` between inventories, or if the last one is unknown, ends are marked as not watched; so are beginnings,
    unless the replica's own start time is recent.
    """
    since_s = inventory.as_of_s - most_gap_s
    watched = memory.looked_at_s is not None and memory.looked_at_s >= since_s
    before, memory.room = memory.room if watched else [], list(now_room)
    memory.looked_at_s = inventory.as_of_s
    if not memory.starts and _all_known(memory, inventory):
        return []
    ended: list[EndedStart] = []
    paths = _paths(before or now_room, path)
    known = set(memory.known)
    alive = {r.replica_id: r for r in inventory.replicas}
    for replica in inventory.replicas:
        if replica.state in _NOT_YET_RUNNING and replica.replica_id not in memory.starts:
            memory.starts[replica.replica_id] = StartMemory(
                _asked_at_s(memory, replica.start_time_s, now_s),
                next(paths),
                now_s,
                watched or (replica.start_time_s is not None and replica.start_time_s >= since_s),
            )
        elif replica.state == "RUNNING" and replica.replica_id not in known and memory.raised_at_s is not None:
            # It ran before any inventory showed it STARTING.
            asked_at_s = _asked_at_s(memory, replica.start_time_s, now_s)
            if replica.replica_id not in memory.starts:
                memory.starts[replica.replica_id] = StartMemory(asked_at_s, next(paths), now_s, watched)
    for replica_id, start in list(memory.starts.items()):
        seen = alive.get(replica_id)
        if seen is not None and seen.state in _NOT_YET_RUNNING:
            continue
        del memory.starts[replica_id]
        runs = seen is not None and seen.state == "RUNNING"
        seen_whole = watched and start.watched
        ended.append(EndedStart(key, start.asked_at_s, inventory.as_of_s, _as_path(start.path), runs, seen_whole))
    memory.known = list(alive)
    if ended or memory.failed_starts:
        _count_failed(memory, ended, inventory.target)
    return ended


def _count_failed(memory: SupplyMemory, ended: Sequence[EndedStart], target: int) -> None:
    """Record starts that ended before the replica ran although the level still wants them; a replica that runs clears
    the record.

    A start that ended in a gap between observations may have run before.
    """
    if any(one.runs for one in ended):
        memory.failed_starts = []
    lowered = memory.last_observed_target is not None and target < memory.last_observed_target
    if not lowered:
        memory.failed_starts += [one.ended_at_s for one in ended if not one.runs and one.watched]
    del memory.failed_starts[:-MOST_FAILED]


def _all_known(memory: SupplyMemory, inventory: DeploymentInventory) -> bool:
    """Whether the same replicas are listed as last time and none is starting: then there is nothing to follow."""
    known = memory.known
    if len(inventory.replicas) != len(known):
        return False
    for replica, replica_id in zip(inventory.replicas, known, strict=True):
        if replica.replica_id != replica_id or replica.state in _NOT_YET_RUNNING:
            return False
    return True


def _asked_at_s(memory: SupplyMemory, start_time_s: float | None, now_s: float) -> float:
    if memory.raised_at_s is not None and now_s - memory.raised_at_s <= _RAISE_TO_START_S:
        return memory.raised_at_s
    return start_time_s if start_time_s is not None and start_time_s <= now_s else now_s


def _as_path(text: str) -> LeadPath:
    return "free_gpu" if text == "free_gpu" else "warm_node" if text == "warm_node" else "new_node"


def starts_under_way(memory: SupplyMemory, times: LeadTimes, now_s: float) -> tuple[StartView, ...]:
    """Every start under way with the moment it is expected to end (its median, given how long it already takes)."""
    if not memory.starts:
        return ()
    views = []
    for start in memory.starts.values():
        path = _as_path(start.path)
        left_s = times.path(path).remaining(now_s - start.asked_at_s, 0.5)
        views.append(StartView(start.asked_at_s, path, "starting", now_s + left_s))
    return tuple(sorted(views, key=lambda v: v.expected_ready_at_s))


def why_unknown(memory: SupplyMemory, inventory: DeploymentInventory | None) -> str:
    """Why the states of replicas are unknown; empty if they are known, or if there is no inventory.

    Serve replaces a replica at once: for a level above 0 it never lists none when some were there.
    """
    if inventory is None or inventory.replicas or not inventory.target or not memory.known:
        return ""
    return f"Serve lists no replica for a level of {inventory.target}, and {len(memory.known)} were there"


def supply_of(inventory: DeploymentInventory | None, starts: tuple[StartView, ...], known: bool = True) -> Supply:
    """Running and draining replicas, Serve's target, and the starts under way."""
    if inventory is None:
        return NO_SUPPLY
    target = inventory.target if inventory.target <= MOST_REPLICAS else None
    if not known:
        return Supply(None, None, target, starts)
    running = stopping = 0
    for replica in inventory.replicas:
        if replica.state in _ALIVE:
            running += 1
        elif replica.state == "STOPPING":
            stopping += 1
    return Supply(running, stopping, target, starts)


def learn_replica(
    book: StageBook, start: EndedStart, parts: Mapping[str, Duration], now_s: float, workers_seen: bool = False
) -> str:
    """Learn from one successful start. `parts`: keys and priors of the stages of its path.

    `workers_seen`: image and worker stages are measured on pods (`learn_workers`). On a free GPU the whole time is the
    replica's own stage. On other paths only the total is known, and each stage learns its share. The time until a node
    is Ready is measured separately (`learn_nodes`).
    """
    seconds = start.ended_at_s - start.asked_at_s
    seen = (PROVISION, *_OF_WORKERS) if workers_seen else (PROVISION,)
    book.observe_together(parts, seconds, now_s, [key for key in parts if key.endswith(seen)])
    return f"{start.key}: a replica was RUNNING {seconds:.1f} s after it was asked for ({start.path.replace('_', ' ')})"


def learn_under_way(
    book: StageBook,
    memory: SupplyMemory,
    parts: Mapping[LeadPath, Mapping[str, Duration]],
    nodes_come: bool,
    now_s: float,
) -> None:
    """Learn from starts under way: one that takes longer than expected counts before it ends.

    `parts`: keys and priors of the stages of every path. The stage that hangs is unknown, so the time beyond the
    expectation of the other stages is attributed to the replica's own. While nodes are on their way (`nodes_come`),
    starts that wait for one are left out: `learn_nodes` measures those.
    """
    *_, stage_key = parts["free_gpu"]
    if not memory.starts:
        learn_waits(book, stage_key, (), now_s)
        return
    waits_s = []
    for start in memory.starts.values():
        path = _as_path(start.path)
        others = list(parts[path].items())[:-1]
        if path != "new_node" or not nodes_come:
            spent_s = sum(book.estimate(key, prior).mean_s for key, prior in others)
            waits_s.append(now_s - start.asked_at_s - spent_s)
    learn_waits(book, stage_key, [wait_s for wait_s in waits_s if wait_s > 0.0], now_s)


def pool_view(
    settings: PoolSettings,
    signals: PoolSignals | None,
    book: StageBook,
    now_s: float,
    refused_for_s: float = 300.0,
    losses: LossMemory | None = None,
) -> PoolView:
    """View of a pool for the policy; all observed values are unknown without signals."""
    node_time = book.estimate(provision_key(settings.name), settings.provision_s)
    if signals is None:
        return PoolView(
            settings.name,
            settings.gpus_per_node,
            min_nodes=settings.min_nodes,
            max_nodes=settings.max_nodes,
            node_lead_time=node_time,
            price_usd_per_hour=settings.price_usd_per_hour,
        )
    lasting = [n for n in signals.nodes if not n.ends_within(node_time.quantile(_LEAD_LEVEL), now_s)]
    ready = [n for n in lasting if n.state == "ready"]
    used = [n.gpus_used for n in ready]
    free = None if any(u is None for u in used) else sum(n.gpus - (n.gpus_used or 0) for n in ready)
    return PoolView(
        settings.name,
        settings.gpus_per_node,
        nodes_ready=len(ready),
        nodes_starting=sum(1 for n in signals.nodes if n.state == "starting"),
        gpus_free=free,
        min_nodes=settings.min_nodes,
        max_nodes=settings.max_nodes,
        node_lead_time=node_time,
        price_usd_per_hour=settings.price_usd_per_hour,
        refused=signals.refused_at_s is not None and now_s - signals.refused_at_s < refused_for_s,
        taken_per_node_hour=0.0 if losses is None else taken_per_node_hour(losses),
        taken_at_once=1.0 if losses is None else taken_at_once(losses),
    )
