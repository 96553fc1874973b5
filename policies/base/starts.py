"""Starts of replicas: by which path, how long each takes, and those under way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from policies.base.record import record
from policies.durations import Duration

LeadPath = Literal["free_gpu", "warm_node", "new_node"]
"""How a new replica gets its GPUs: free in a running worker; a Ready node without a worker; a node yet to come."""


@dataclass(frozen=True, slots=True)
class LeadTimes:
    """How long from asking for a replica until it is RUNNING, by the path it takes."""

    free_gpu: Duration
    warm_node: Duration
    new_node: Duration

    def path(self, path: LeadPath) -> Duration:
        found: Duration = getattr(self, path)
        return found


@record(frozen=True, slots=True)
class StartView:
    """A replica that was asked for and is not RUNNING yet."""

    asked_at_s: float
    path: LeadPath
    stage: str
    expected_ready_at_s: float
