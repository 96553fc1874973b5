"""Small builders for the core's tests: signals of one deployment, a policy that says what it is told to say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from autoscaler.core.types import (
    ControllerConfig,
    DeploymentInventory,
    DeploymentMetrics,
    DeploymentSettings,
    DeploymentSignals,
    GuardSettings,
    ReplicaSignal,
    Signals,
)
from policies.base import (
    DeploymentKey,
    FleetProposal,
    FleetView,
    ForecastSpec,
    ReplicaMetrics,
    ReplicaProposal,
    Term,
)
from policies.plugin import PolicyPlugin

KEY = DeploymentKey.parse("chat/llm")


def inventory(
    now_s: float, running: int = 1, starting: int = 0, stopping: int = 0, **changes: Any
) -> DeploymentInventory:
    """Replicas r0, r1, ... by state; the target is what runs and starts unless said otherwise."""
    states = ["RUNNING"] * running + ["STARTING"] * starting + ["STOPPING"] * stopping
    replicas = tuple(ReplicaSignal(f"r{i}", state, 0.0) for i, state in enumerate(states))
    values: dict[str, Any] = {
        "as_of_s": now_s,
        "target": running + starting,
        "replicas": replicas,
        "external_scaler_enabled": True,
        "max_ongoing_requests": 10,
        "configured_replicas": 1,
    }
    return DeploymentInventory(**(values | changes))


def metrics(
    now_s: float, arrivals: float = 0.0, waiting: float = 0.0, ongoing: float = 0.0, **changes: Any
) -> DeploymentMetrics:
    values: dict[str, Any] = {
        "as_of_s": now_s,
        "arrivals_total": {"handle": arrivals},
        "queued_at_handles": waiting,
        "ongoing": ongoing,
        "replicas": (ReplicaMetrics("r0", ongoing=ongoing),),
    }
    return DeploymentMetrics(**(values | changes))


def signals(
    inventory: DeploymentInventory | None, metrics: DeploymentMetrics | None, key: DeploymentKey = KEY, **changes: Any
) -> Signals:
    return Signals(deployments=(DeploymentSignals(key, inventory, metrics),), **changes)


@dataclass
class Said:
    """The memory of `Says`: how often it was asked."""

    asked: int = 0


@dataclass
class Says(PolicyPlugin):
    """A policy that wants `replicas` (for every deployment), and keeps the views it was shown."""

    replicas: int = 1
    guards: Literal["full", "bounds"] = "full"
    period_s: float | None = None
    forecast: ForecastSpec | None = None
    name: str = "says"
    clairvoyant: bool = False
    telemetry: str | None = None
    options: Any = None
    views: list[FleetView] = field(default_factory=list)

    def new_state(self) -> Said:
        return Said()

    def propose(self, fleet: FleetView, state: Said, now_s: float) -> FleetProposal:
        state.asked += 1
        self.views.append(fleet)
        wants = ReplicaProposal(self.replicas, (Term("says", self.replicas, "I was told so"),))
        return FleetProposal({d.key: wants for d in fleet.deployments})


def config(*deployments: DeploymentSettings, **changes: Any) -> ControllerConfig:
    """A live (not dry) config with guards that act at once unless a test says otherwise."""
    settings = deployments or (DeploymentSettings("chat/llm", min_replicas=1, max_replicas=8),)
    values: dict[str, Any] = {
        "deployments": settings,
        "dry_run": False,
        "tick_s": 5.0,
        "guards": GuardSettings(scale_down_stabilization_s=0.0, max_step_down=None),
    }
    return ControllerConfig(**(values | changes))
