"""By which path a replica would get its GPUs, as the nodes of its pool show it. Pure; nothing is remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from autoscaler.core.types import DeploymentSettings, PoolSignals
from policies.base import LeadPath

Pool = TypeVar("Pool")


class PoolPlacement:
    """A pool as the deployments that prefer it see it in one step: what they all ask is answered once.

    For one step only, in which its signals do not change.
    """

    def __init__(self, signals: PoolSignals) -> None:
        self.signals = signals
        self.shows_workers = bool(signals.workers)
        self.nodes_come = any(node.state == "starting" for node in signals.nodes)
        self._by_gpus: dict[int, tuple[LeadPath, Sequence[int]]] = {}

    def way(self, gpus: int) -> tuple[LeadPath, Sequence[int]]:
        """`next_path` and `room` of replicas that hold so many GPUs."""
        found = self._by_gpus.get(gpus)
        if found is None:
            found = self._by_gpus[gpus] = next_path(self.signals, gpus), room(self.signals, gpus)
        return found


def first_pool(settings: DeploymentSettings | None, pools: Mapping[str, Pool]) -> str | None:
    """The first pool of the deployment's list that anybody can see; None on a bare Ray."""
    if settings is not None:
        for name in settings.node_pools:
            if name in pools:
                return name
    return None


def next_path(pool: PoolSignals, gpus: int) -> LeadPath:
    """How a replica asked for now would get its GPUs."""
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
