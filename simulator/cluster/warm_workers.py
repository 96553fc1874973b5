"""Warm Ray workers: the floor under a pool's workers that a worker group's minReplicas, or request_resources, sets.

Ray's autoscaler starts the missing ones at its next look, as pods that bring nodes like any others, and takes no idle
one below the floor. Not for nodes held without a worker: nodes.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from autoscaler.core.types import ServiceGpus
from autoscaler.core.types.pools import shares


def service_name(one: ServiceGpus) -> str:
    """How the cluster calls it."""
    return f"{one.namespace}/{one.service}"


@dataclass(slots=True)
class WorkerFloor:
    """Of one pool: workers by service."""

    worker_gpus: int
    per_node: int
    floors: dict[str, int] = field(default_factory=dict)

    def set_level(self, nodes: int, services: Sequence[ServiceGpus]) -> bool:
        """Workers that fill this number of nodes, for the services whose planned replicas need them. Returns whether it
        changed.
        """
        named = {(s.namespace, s.service): service_name(s) for s in services}
        shared = shares(nodes * self.per_node, self.worker_gpus, services)
        floors = {named[place]: count for place, count in shared.items()}
        changed, self.floors = floors != self.floors, floors
        return changed

    def of(self, service: str) -> int:
        return self.floors.get(service, 0)
