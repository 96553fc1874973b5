"""The nouns of placement: a Ray worker pod, and a replica's claim to GPUs in one. No behaviour: placement.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from policies.base import LeadPath
from simulator.events import Event

if TYPE_CHECKING:
    from simulator.cluster.nodes import Node, NodePool


@dataclass(slots=True, eq=False)
class Worker:
    """A Ray worker pod: pending until a node has room, then pulling and starting, then running."""

    pool: NodePool
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
