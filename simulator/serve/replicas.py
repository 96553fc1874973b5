"""The nouns of Serve's side: a deployment as it is configured, one replica of it, the story of one start.

And what Serve needs of a data plane. No behaviour: that is in lifecycle.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from autoscaler.core.types import ReplicaSignal
from policies.base import DeploymentKey, LeadPath
from policies.base.durations import Duration
from simulator.cluster.types import Claim
from simulator.kernel.events import Event


class Plane(Protocol):
    """What the lifecycle needs of a deployment's data plane."""

    def advance(self, until_s: float) -> None: ...
    def add_replica(self, replica_id: str, now_s: float) -> None: ...
    def drain_replica(self, replica_id: str, now_s: float) -> None: ...
    def kill_replica(self, replica_id: str, now_s: float) -> None: ...
    def ongoing(self, replica_id: str) -> int: ...


@dataclass(frozen=True, slots=True)
class ServeSpec:
    """A deployment as Serve is configured for it."""

    key: DeploymentKey
    gpus: int
    pools: tuple[str, ...]
    load_s: Duration
    init_s: Duration
    initial: int
    max_ongoing_requests: int
    graceful_shutdown_timeout_s: float
    gang_size: int = 1
    """Replicas that start and stop together."""

    @property
    def service(self) -> str:
        return f"{self.key.namespace}/{self.key.service}"


@dataclass(slots=True, eq=False)
class Replica:
    """One replica of a deployment, as long as Serve lists it."""

    replica_id: str
    worker_id: str
    asked_at_s: float
    claim: Claim
    version: int = 0
    state: Literal["STARTING", "RUNNING", "STOPPING"] = "STARTING"
    loaded: Event | None = None
    node: str | None = None
    """The node it is on, once it is placed."""
    running_since_s: float | None = None
    """None also when its process has died: it serves and reports no more, whatever Serve still believes."""
    crashed: bool = False
    gang: int = 0
    """Its gang's number: replicas of one start and stop together."""
    ready: bool = False
    """Loaded and initialised: it runs as soon as all of its gang are."""
    stop_at_s: float = 0.0
    """When a STOPPING one is killed."""
    shown: ReplicaSignal | None = None
    """As Serve listed it last."""


@dataclass(frozen=True, slots=True)
class Start:
    """The story of one replica start, for cold-start accounting. `ended_at_s`: RUNNING or withdrawn; None: cut off."""

    asked_at_s: float
    ended_at_s: float | None
    path: LeadPath | None
    withdrawn: bool
