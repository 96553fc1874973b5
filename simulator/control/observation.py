"""What a controller in the simulated cluster knows now: what its sources answer, or what they gave last.

As live: a source that is down contributes its last reading, which ages; what never came is unknown; a controller that
restarts has no reading at all until its sources answer again.
"""

from __future__ import annotations

from autoscaler.core.types import (
    DeploymentInventory,
    DeploymentMetrics,
    DeploymentSignals,
    PoolSignals,
    Signals,
    SourceStatus,
)
from policies.base import DeploymentKey
from simulator.control.faults import Faults
from simulator.environment import Environment


class SimulatedObservation:
    """The sources of one controller."""

    def __init__(self, environment: Environment, faults: Faults) -> None:
        self._environment = environment
        self._faults = faults
        self._inventories: dict[DeploymentKey, DeploymentInventory] = {}
        self._pools: tuple[PoolSignals, ...] = ()
        self._seen_at_s: dict[str, float | None] = {}

    def forget(self) -> None:
        """The controller's process is gone, and what it held of its sources with it."""
        self._inventories, self._pools, self._seen_at_s = {}, (), {}
        self._environment.forget_pages()

    def signals(self, read_pages: bool) -> Signals:
        """All inputs of a tick now. Without `read_pages` the metric pages are those of the last read."""
        now_s = self._environment.queue.now_s
        dashboard = self._status("ray_dashboard")
        if dashboard.up:
            self._inventories = self._environment.inventories()
        pages = self._status("node_metrics")
        metrics: dict[DeploymentKey, DeploymentMetrics] = {}
        if self._seen_at_s["node_metrics"] is not None:
            metrics = self._environment.metrics(self._inventories, read_pages, pages.up)
        kubernetes = self._status("kubernetes")
        if kubernetes.up:
            self._pools = self._environment.cluster.signals()
        return Signals(
            deployments=tuple(
                DeploymentSignals(key, inventory, metrics.get(key)) for key, inventory in self._inventories.items()
            ),
            pools=self._pools,
            sources=(dashboard, pages, kubernetes),
            hints=self._environment.hints(now_s),
        )

    def _status(self, source: str) -> SourceStatus:
        why = self._faults.source_down(source)
        if not why:
            self._seen_at_s[source] = self._environment.queue.now_s
        return SourceStatus(source, not why, self._seen_at_s.setdefault(source, None), why)
