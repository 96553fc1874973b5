"""Stand-ins for tests of the shell: a clock that jumps, sources and an actuator that obey, a policy that wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from autoscaler.core.ports import Actuator, Reading, Source
from autoscaler.core.types import (
    Applied,
    ControllerConfig,
    DeploymentInventory,
    DeploymentMetrics,
    DeploymentSettings,
    NodeSignal,
    Outcome,
    Plan,
    PoolSettings,
    PoolSignals,
    ReplicaSignal,
)
from autoscaler.sources.readings import Inventories, JoinedMetrics, Pools
from policies.base import DeploymentKey

LLM, OTHER = DeploymentKey.parse("chat/llm"), DeploymentKey.parse("chat/other")
START_S = 1_700_000_000.0


@dataclass
class JumpingClock:
    """Time passes only when somebody waits or `takes_s` is spent."""

    time_s: float = 0.0
    wall_offset_s: float = START_S
    waits: list[float] = field(default_factory=list)
    when_waiting: Callable[[], None] = lambda: None

    def now_s(self) -> float:
        return self.wall_offset_s + self.time_s

    def monotonic_s(self) -> float:
        return self.time_s

    async def wait(self, stop: asyncio.Event, until_monotonic_s: float) -> None:
        self.waits.append(until_monotonic_s)
        self.time_s = max(self.time_s, until_monotonic_s)
        self.when_waiting()
        await asyncio.sleep(0)


@dataclass
class Fleet:
    """What the fake sources tell of; the fake actuator writes into it, so that levels come back."""

    targets: dict[DeploymentKey, int] = field(default_factory=lambda: {LLM: 1})
    rate_per_s: float = 1.0
    nodes: int = 0


@dataclass
class FleetSource(Source):
    """Inventory, metrics and one pool of a Fleet."""

    fleet: Fleet
    kind: Literal["inventory", "metrics", "pools"]
    broken: str = ""
    hang: bool = False
    closed: bool = False

    @property
    def name(self) -> str:
        return self.kind

    async def read(self, now_s: float) -> Reading:
        if self.hang:
            await asyncio.Event().wait()
        if self.broken:
            return Reading(self.name, False, None, None, self.broken)
        return Reading(self.name, True, now_s, self._data(now_s))

    async def close(self) -> None:
        self.closed = True

    def _data(self, now_s: float) -> object:
        targets = self.fleet.targets
        if self.kind == "inventory":
            return Inventories("default", "local", {key: _inventory(n, now_s) for key, n in targets.items()})
        if self.kind == "metrics":
            arrivals = {"s": self.fleet.rate_per_s * (now_s - START_S)}
            return JoinedMetrics({k: DeploymentMetrics(now_s, arrivals, queued_at_handles=0.0) for k in targets})
        nodes = tuple(NodeSignal(f"n{i}", "ready", gpus=8, gpus_used=8 * (i == 0)) for i in range(self.fleet.nodes))
        return Pools((PoolSignals("h100", now_s, nodes),))


def _inventory(target: int, now_s: float) -> DeploymentInventory:
    replicas = tuple(ReplicaSignal(f"r{i}", "RUNNING", start_time_s=0.0) for i in range(target))
    return DeploymentInventory(now_s, target, replicas, external_scaler_enabled=True, configured_replicas=1)


@dataclass
class FleetActuator(Actuator):
    """Applies levels to a Fleet, or misbehaves."""

    fleet: Fleet
    name: str = "fake"
    raises: Exception | None = None
    hang: bool = False
    plans: list[Plan] = field(default_factory=list)
    closed: bool = False

    async def apply(self, plan: Plan, now_s: float) -> Outcome:
        self.plans.append(plan)
        if self.hang:
            await asyncio.Event().wait()
        if self.raises is not None:
            raise self.raises
        applied = []
        for one in plan.deployments:
            if one.target is not None:
                outcome = "unchanged" if one.target == one.observed_target else "ok"
                self.fleet.targets[one.key] = one.target
                applied.append(Applied(self.name, str(one.key), outcome, one.target))
        return Outcome(self.name, tuple(applied))

    async def close(self) -> None:
        self.closed = True


def settings(tick_s: float = 5.0, dry_run: bool = False) -> ControllerConfig:
    return ControllerConfig(
        deployments=(DeploymentSettings("*/*", min_replicas=0, max_replicas=10, node_pools=("h100",)),),
        pools=(PoolSettings("h100", gpu="nvidia-h100-80gb", price_usd_per_hour=36.0, max_nodes=4),),
        policy_name="wanting",
        tick_s=tick_s,
        dry_run=dry_run,
        gpu_budget={"nvidia-h100-80gb": 32},
    )
