"""The path by which a new replica would get its GPUs, from the nodes of its pool. Pure; without memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from autoscaler.core.types import DeploymentSettings, PoolSignals
from policies.base import LeadPath, whole_down

Pool = TypeVar("Pool")


class PoolPlacement:
    """A pool during one step, shared by the deployments that prefer it, so that equal questions are computed once.

    Valid for one step only, in which its signals do not change.
    """

    def __init__(self, signals: PoolSignals) -> None:
        self.signals = signals
        self.shows_workers = bool(signals.workers)
        self.nodes_come = any(node.state == "starting" for node in signals.nodes)
        self._by_gpus: dict[int, tuple[LeadPath, Sequence[int]]] = {}
        self._by_gang: dict[tuple[int, int], tuple[LeadPath, Sequence[int]]] = {}

    def way(self, gpus: int) -> tuple[LeadPath, Sequence[int]]:
        """`next_path` and `room` for replicas that hold this many GPUs."""
        found = self._by_gpus.get(gpus)
        if found is None:
            found = self._by_gpus[gpus] = next_path(self.signals, gpus), room(self.signals, gpus)
        return found

    def way_of_gang(self, gpus: int, gang_size: int) -> tuple[LeadPath, Sequence[int]]:
        """The same for replicas that start together: none starts before all of its gang fit."""
        found = self._by_gang.get((gpus, gang_size))
        if found is None:
            found = self._by_gang[gpus, gang_size] = of_gang(room(self.signals, gpus), gang_size)
        return found


def first_pool(settings: DeploymentSettings | None, pools: Mapping[str, Pool]) -> str | None:
    """First pool of the deployment's list with node data; None on a bare Ray."""
    if settings is not None:
        for name in settings.node_pools:
            if name in pools:
                return name
    return None


def next_path(pool: PoolSignals, gpus: int) -> LeadPath:
    """Path by which a replica asked for now would get its GPUs."""
    path: LeadPath = "new_node"
    for node in pool.nodes:
        if node.state == "ready" and node.gpus - (node.gpus_used or 0) >= gpus:
            if node.workers is None or node.workers > 0:
                return "free_gpu"
            path = "warm_node"
    return path


def room(pool: PoolSignals, gpus: int) -> list[int]:
    """How many more replicas fit on GPUs of running workers, and how many on nodes that are warm."""
    free = warm = 0
    for node in pool.nodes:
        if node.state == "ready":
            fit = (node.gpus - (node.gpus_used or 0)) // max(gpus, 1)
            if node.workers is None or node.workers > 0:
                free += fit
            else:
                warm += fit
    return [free, warm]


def of_gang(room: Sequence[int], gang_size: int) -> tuple[LeadPath, Sequence[int]]:
    """Path of the next gang, and the replicas of whole gangs that fit, from the room for single replicas."""
    free, warm = room
    on_workers = whole_down(free, gang_size)
    on_warm_nodes = whole_down(free + warm, gang_size) - on_workers
    path: LeadPath = "free_gpu" if on_workers else "warm_node" if on_warm_nodes else "new_node"
    return path, [on_workers, on_warm_nodes]
