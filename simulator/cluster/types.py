"""The nouns of the cluster: what a pool is made of, a node, a Ray worker pod on it, a replica's claim to GPUs in one.

No behaviour: nodes.py asks for nodes and deletes them, placement.py puts workers and replicas on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from autoscaler.core.types import NodeSignal
from autoscaler.core.types.pools import Warms
from policies.base import LeadPath
from policies.base.durations import Duration
from simulator.kernel.events import Event


@dataclass(frozen=True, slots=True)
class Stockout:
    """From `start_s` to `end_s` this share of the requests for nodes is refused."""

    start_s: float
    end_s: float
    fraction: float


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """A pool as the simulation needs it; `price_usd_per_hour` of a node, None = unknown."""

    name: str
    gpus_per_node: int
    min_nodes: int
    max_nodes: int
    reserved_nodes: int
    provision_s: Duration
    image_pull_s: Duration
    worker_gpus: int
    worker_start_s: Duration
    idle_timeout_s: float
    autoscaler_period_s: float
    scale_down_after_s: float
    prewarm: bool
    price_usd_per_hour: float | None
    preemption_per_node_hour: float = 0.0
    stockouts: tuple[Stockout, ...] = ()
    warms: Warms = "node"


@dataclass(slots=True, eq=False)
class Node:
    """A node from the moment it is asked for."""

    name: str
    spec: PoolSpec
    """Of its pool."""
    requested_at_s: float
    prewarmed: bool
    state: Literal["starting", "ready", "deleted"] = "starting"
    ready_at_s: float | None = None
    deleted_at_s: float | None = None
    first_used_at_s: float | None = None
    workers: list[Worker] = field(default_factory=list)
    images: dict[str, float] = field(default_factory=dict)
    """Image (one per RayService) -> when its pull is over."""
    unneeded_since_s: float | None = None
    deletion: Event | None = None
    shown: NodeSignal | None = None
    """As it was shown last."""

    @property
    def gpus_free_for_pods(self) -> int:
        return self.spec.gpus_per_node - sum(w.gpus for w in self.workers)


@dataclass(slots=True, eq=False)
class Worker:
    """A Ray worker pod: pending until a node has room, then pulling and starting, then running."""

    spec: PoolSpec
    """Of its pool."""
    service: str
    gpus: int
    created_at_s: float
    node: Node | None = None
    state: Literal["pending", "starting", "running", "gone"] = "pending"
    claims: list[Claim] = field(default_factory=list)
    running_since_s: float | None = None
    idle: Event | None = None
    warm: bool = False
    """Started for the floor, before a replica asked."""

    @property
    def gpus_used(self) -> int:
        return sum(c.gpus for c in self.claims)

    @property
    def gpus_free(self) -> int:
        return self.gpus - self.gpus_used


@dataclass(slots=True, eq=False)
class Claim:
    """A replica's wish for GPUs in one worker; `on_placed` is called when it has them, `on_lost` when they vanish."""

    service: str
    gpus: int
    pools: Sequence[str]
    asked_at_s: float
    on_placed: Callable[[Claim], None]
    on_lost: Callable[[Claim], None]
    worker: Worker | None = None
    path: LeadPath | None = None
    serving: bool = False
    """Its replica is RUNNING: Serve counts these when it chooses a node to empty."""
    gang: Sequence[Claim] = ()
    """Claims of its gang, itself among them: all are placed at once or none. Empty: it is alone."""
