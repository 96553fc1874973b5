"""What there is and what is on its way: replicas by state, starts with their expected end, learned lead times, pools.

Pure; reads inventories, learns how long each stage of a cold start takes, and says which path the next one would take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from autoscaler.controller_state import ControllerState, NodeMemory, StartMemory, SupplyMemory
from autoscaler.model import (
    ControllerConfig,
    DeploymentInventory,
    DeploymentSettings,
    EndedStart,
    Observation,
    PoolSettings,
    PoolSignals,
    Startup,
)
from policies.base import DeploymentKey, LeadPath, LeadTimes, PoolView, StartView
from policies.durations import Duration
from policies.leadtimes import StageBook, StagePriors, lead_times, provision_key, replica_key

_NOT_YET_RUNNING = ("STARTING",)
_ALIVE = ("RUNNING", "UPDATING", "RECOVERING", "PENDING_MIGRATION")
_RAISE_TO_START_S = 15.0
"""A replica that appears within this time of our raising the target is ours, and was asked for then."""
_DEFAULT_STARTUP = Startup()


def priors(settings: DeploymentSettings | None, pool: PoolSettings | None) -> StagePriors:
    """What to expect of a cold start's stages before any was seen."""
    startup = _DEFAULT_STARTUP
    if settings is not None and settings.startup is not None:
        startup = settings.startup
    elif settings is not None and settings.profile is not None:
        startup = Startup(settings.profile.load_s, settings.profile.init_s)
    pool = pool or PoolSettings("")
    return StagePriors(
        provision=pool.provision_s,
        image_pull=pool.image_pull_s,
        worker_start=pool.worker_start_s,
        replica=Duration.total([startup.load_s, startup.init_s]),
    )


def gpus_per_replica(settings: DeploymentSettings | None, inventory: DeploymentInventory | None) -> int:
    """GPUs that one replica holds: setting, profile, Serve's own figure, else 1."""
    if settings is not None and settings.gpus_per_replica is not None:
        return settings.gpus_per_replica
    if settings is not None and settings.profile is not None:
        return settings.profile.gpus
    if inventory is not None and inventory.gpus_per_replica is not None:
        return inventory.gpus_per_replica
    return 1


def first_pool(settings: DeploymentSettings | None, pools: Mapping[str, PoolSignals]) -> str | None:
    """The first pool of the deployment's list that anybody can see; None on a bare Ray."""
    names = settings.node_pools if settings is not None else ()
    return next((name for name in names if name in pools), None)


def next_path(pool: PoolSignals | None, gpus: int) -> LeadPath:
    """How a replica asked for now would get its GPUs. Without any view of nodes: as on a running worker."""
    if pool is None:
        return "free_gpu"
    path: LeadPath = "new_node"
    for node in pool.nodes:
        if node.state == "ready" and node.gpus - (node.gpus_used or 0) >= gpus:
            if node.workers is None or node.workers > 0:
                return "free_gpu"
            path = "warm_node"
    return path


def take_in_replicas(
    key: DeploymentKey, memory: SupplyMemory, inventory: DeploymentInventory, path: LeadPath, now_s: float
) -> list[EndedStart]:
    """Follow replicas from STARTING to RUNNING; the starts that ended since the last inventory."""
    ended: list[EndedStart] = []
    known = set(memory.known)
    alive = {r.replica_id: r for r in inventory.replicas}
    for replica in inventory.replicas:
        if replica.state in _NOT_YET_RUNNING and replica.replica_id not in memory.starts:
            memory.starts[replica.replica_id] = StartMemory(
                _asked_at_s(memory, replica.start_time_s, now_s), path, now_s
            )
        elif replica.state == "RUNNING" and replica.replica_id not in known and memory.raised_at_s is not None:
            # So quick that nobody saw it STARTING.
            asked_at_s = _asked_at_s(memory, replica.start_time_s, now_s)
            memory.starts.setdefault(replica.replica_id, StartMemory(asked_at_s, path, now_s))
    for replica_id, start in list(memory.starts.items()):
        seen = alive.get(replica_id)
        if seen is not None and seen.state in _NOT_YET_RUNNING:
            continue
        del memory.starts[replica_id]
        runs = seen is not None and seen.state == "RUNNING"
        ended.append(EndedStart(key, start.asked_at_s, inventory.as_of_s, _as_path(start.path), runs))
    memory.known = list(alive)
    return ended


def _asked_at_s(memory: SupplyMemory, start_time_s: float | None, now_s: float) -> float:
    if memory.raised_at_s is not None and now_s - memory.raised_at_s <= _RAISE_TO_START_S:
        return memory.raised_at_s
    return start_time_s if start_time_s is not None and start_time_s <= now_s else now_s


def _as_path(text: str) -> LeadPath:
    return "free_gpu" if text == "free_gpu" else "warm_node" if text == "warm_node" else "new_node"


def starts_under_way(memory: SupplyMemory, times: LeadTimes, now_s: float) -> tuple[StartView, ...]:
    """Every start under way with the moment it is expected to end (its median, given how long it already takes)."""
    views = []
    for start in memory.starts.values():
        path = _as_path(start.path)
        left_s = times.path(path).remaining(now_s - start.asked_at_s, 0.5)
        views.append(StartView(start.asked_at_s, path, "starting", now_s + left_s))
    return tuple(sorted(views, key=lambda v: v.expected_ready_at_s))


def with_supply(
    observation: Observation, inventory: DeploymentInventory | None, starts: tuple[StartView, ...]
) -> Observation:
    """The observation with what the inventory says of replicas."""
    if inventory is None:
        return observation
    return replace(
        observation,
        running=inventory.count(*_ALIVE),
        draining=inventory.count("STOPPING"),
        target=inventory.target,
        starting=starts,
    )


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
            state.book.observe(provision_key(pool.name), seconds, now_s)
            words.append(f"node {node.name} of pool {pool.name} was Ready {seconds:.0f} s after it was asked for")
    memory.learned = [name for name in memory.learned if name in names]
    _learn_waits(state.book, provision_key(pool.name), waits_s, now_s)
    return words


def learn_replica(book: StageBook, start: EndedStart, now_s: float) -> str:
    """Learn one start that ended well; only those on a free GPU measure the replica's own stage alone."""
    seconds, path = start.ended_at_s - start.asked_at_s, start.path
    if path == "free_gpu":
        book.observe(replica_key(start.key.full), seconds, now_s)
    return f"{start.key}: a replica was RUNNING {seconds:.1f} s after it was asked for ({path.replace('_', ' ')})"


def learn_under_way(book: StageBook, key: DeploymentKey, memory: SupplyMemory, now_s: float) -> None:
    """Starts that are not over yet: one that takes longer than expected tells so before it ends."""
    waits_s = [now_s - start.asked_at_s for start in memory.starts.values() if start.path == "free_gpu"]
    _learn_waits(book, replica_key(key.full), waits_s, now_s)


def _learn_waits(book: StageBook, stage_key: str, waits_s: Sequence[float], now_s: float) -> None:
    if waits_s:
        book.observe_censored(stage_key, max(waits_s), now_s)
    else:
        book.none_under_way(stage_key)


def pool_view(
    settings: PoolSettings, signals: PoolSignals | None, book: StageBook, now_s: float, refused_for_s: float = 300.0
) -> PoolView:
    """What a policy may know of a pool; everything observed is unknown without signals."""
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
    ready = [n for n in signals.nodes if n.state == "ready"]
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
    )


def lead_times_of(
    config: ControllerConfig,
    settings: DeploymentSettings | None,
    pool_name: str | None,
    book: StageBook,
    key: DeploymentKey,
) -> LeadTimes:
    """How long a replica of this deployment takes on each path, from priors and what was learned."""
    pool = next((p for p in config.pools if p.name == pool_name), None)
    return lead_times(book, key.full, pool_name, priors(settings, pool))
