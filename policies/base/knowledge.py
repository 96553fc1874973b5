"""A scenario's past and future as plain data, for policies that are completed with it before a run.

The future is for policies that are marked as clairvoyant. Only the simulator can make it
(simulator/experiments/references/known.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from policies.base.durations import Duration
from policies.base.view import DeploymentKey, Slo

if TYPE_CHECKING:
    from policies.capacity.profile import EngineProfile


@dataclass(frozen=True, slots=True)
class PastDemand:
    """Bins of one deployment before now: their ends (seconds, ascending, on the clock that `now_s` will count), mean
    rates (req/s), and what one replica carries within the SLO at that traffic's mix.
    """

    ends_s: tuple[float, ...]
    rates_rps: tuple[float, ...]
    bin_s: float
    capacity_rps: float

    def replicas(self) -> list[int]:
        """The fewest replicas that carry each bin's rate."""
        return [math.ceil(rate / self.capacity_rps - 1e-9) for rate in self.rates_rps]


@dataclass(frozen=True, slots=True)
class Traffic:
    """All requests of one deployment: arrays of one length, sorted by arrival (seconds since the scenario's start)."""

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    cached_prompt_tokens: NDArray[np.int32]


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
