"""Observable figures of replicas and of the handle at one moment, and which process reports them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from autoscaler.core.types import Histogram


@dataclass(frozen=True, slots=True)
class ReplicaFigures:
    """What one replica's own counters and gauges say at one moment; histogram counts are cumulative, last +inf."""

    ongoing: float
    running: float
    waiting: float
    kv_usage_fraction: float
    prompt_tokens: float
    output_tokens: float
    cached_tokens: float
    finished: float
    preemptions: float
    ttft: Histogram
    itl: Histogram
    ttft_sum_s: float = 0.0
    itl_sum_s: float = 0.0
    itl_of_requests: bool = False
    """`itl` counts ended requests by their mean; else, before any has ended, every gap between two tokens."""

    def running_and_tokens(self) -> tuple[float, float]:
        return self.running, self.prompt_tokens + self.output_tokens

    def figures(self) -> ReplicaFigures:
        return self


@dataclass(frozen=True, slots=True)
class HandleFigures:
    """What the handle in front of a deployment says: waiting for a replica, sent and not finished, all that came."""

    queued: float
    ongoing: float
    arrivals: float


class ReplicaSnapshot(Protocol):
    """Figures of one replica at one moment, computed when they are read."""

    def running_and_tokens(self) -> tuple[float, float]: ...
    def figures(self) -> ReplicaFigures: ...


class Figures(Protocol):
    """Where the truth is."""

    def advance(self, until_s: float) -> None: ...
    def replica_figures(self, replica_id: str) -> ReplicaSnapshot: ...
    def handle_figures(self) -> HandleFigures: ...
    def ongoing(self, replica_id: str) -> int: ...
