"""The future as plain data: every request to come and the cluster as it is, for policies that are marked as knowing.

The simulator makes a `KnownWorld` from a scenario (simulator/experiments/references/known.py); nothing else can.
"""

from __future__ import annotations

from dataclasses import dataclass

from policies.base import DeploymentKey, Slo
from policies.base.durations import Duration
from policies.capacity.profile import EngineProfile
from policies.references.oracle_need import Traffic


@dataclass(frozen=True, slots=True)
class KnownDeployment:
    """One deployment with its future: requests, engine, promise, bounds, start and what runs at time 0."""

    key: DeploymentKey
    traffic: Traffic
    profile: EngineProfile
    slo: Slo
    gpus: int
    pools: tuple[str, ...]
    min_replicas: int
    max_replicas: int
    initial_replicas: int
    start_s: Duration
    """From GPUs to RUNNING."""


@dataclass(frozen=True, slots=True)
class KnownPool:
    """One pool: sizes, what is paid always, what is there at time 0, how long a node takes and how long it lingers."""

    name: str
    gpus_per_node: int
    worker_gpus: int
    floor_nodes: int
    """Paid for always: the pool's minimum or what is reserved."""
    initial_nodes: int
    max_nodes: int
    node_s: Duration
    """From asked for to a running worker."""
    linger_s: float
    """Paid for after its last replica has gone."""
    price_usd_per_hour: float | None
    spot: bool = False
    closed: tuple[tuple[float, float], ...] = ()
    """Times of no stock."""

    def replicas_per_node(self, gpus: int) -> int:
        return max(1, (self.gpus_per_node // self.worker_gpus) * (self.worker_gpus // gpus))


@dataclass(frozen=True, slots=True)
class KnownWorld:
    """Everything that will be, as a scenario has it. The bill and the misses count from `begin_s` to `end_s`."""

    begin_s: float
    end_s: float
    deployments: tuple[KnownDeployment, ...]
    pools: tuple[KnownPool, ...]

    def groups(self) -> list[tuple[list[KnownDeployment], list[KnownPool]]]:
        """Deployments that share pools, with all pools of theirs."""
        groups: list[tuple[list[int], set[str]]] = []
        for i, d in enumerate(self.deployments):
            members, names = [i], set(d.pools)
            for other in [g for g in groups if g[1] & names]:
                groups.remove(other)
                members, names = other[0] + members, other[1] | names
            groups.append((sorted(members), names))
        return [
            ([self.deployments[i] for i in members], [p for p in self.pools if p.name in names])
            for members, names in groups
        ]

    def budget(self, d: KnownDeployment) -> float:
        """Requests that may miss."""
        counted = int((d.traffic.arrival_s >= self.begin_s).sum())
        return (1.0 - d.slo.target_fraction) * counted
