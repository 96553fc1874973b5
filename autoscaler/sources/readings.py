"""What sources hand over: the `data` of a Reading. Which class it is tells the runtime what to do with it.

Plain nouns only. A source gives one of these, or a Reading that says why it could not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from autoscaler.core.types import DeploymentInventory, DeploymentMetrics, Hint, PauseState, PoolSignals
from autoscaler.sources.join import NodePage
from policies.base import DeploymentKey


@dataclass(frozen=True, slots=True)
class Inventories:
    """All deployments of one Ray cluster, as Serve's API lists them."""

    namespace: str
    service: str
    deployments: Mapping[DeploymentKey, DeploymentInventory]
    unreadable: Mapping[DeploymentKey, str] = field(default_factory=dict)
    """Deployments that are listed and whose entry makes no sense: why."""


@dataclass(frozen=True, slots=True)
class NodePages:
    """The metric pages of one Ray cluster's nodes; they are joined to that cluster's inventories."""

    namespace: str
    service: str
    pages: Mapping[str, NodePage]


@dataclass(frozen=True, slots=True)
class PagesOfServices:
    """The metric pages of several Ray clusters, each joined to its own inventories."""

    services: tuple[NodePages, ...]


@dataclass(frozen=True, slots=True)
class JoinedMetrics:
    """Metrics that a source joined to deployments by itself (Prometheus)."""

    deployments: Mapping[DeploymentKey, DeploymentMetrics]


@dataclass(frozen=True, slots=True)
class Pools:
    """Node pools, as Kubernetes or Ray list them."""

    pools: tuple[PoolSignals, ...]


@dataclass(frozen=True, slots=True)
class Hints:
    """Demand announced from outside."""

    hints: tuple[Hint, ...]


@dataclass(frozen=True, slots=True)
class Paused:
    """The kill switch as it stands in the cluster; it adds to the one set through the controller's own API."""

    pause: PauseState
