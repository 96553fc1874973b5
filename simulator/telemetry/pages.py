"""What the controller reads: the metric pages of all nodes of a Ray cluster, joined to deployments; handle reports.

The join is the live source's own code, `collect`. What processes report, and when, is in processes.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from autoscaler.core.types import DeploymentInventory, DeploymentMetrics
from autoscaler.sources.exposition import Sample
from autoscaler.sources.join import NodePage, collect
from policies.base import DeploymentKey
from simulator.kernel.draws import Draws
from simulator.kernel.events import EventQueue
from simulator.telemetry.handles import HandleRecorder
from simulator.telemetry.noise import Noise
from simulator.telemetry.processes import DeploymentTelemetry
from simulator.telemetry.spec import TelemetrySpec


class MetricPages:
    """Reads the pages of all nodes of one Ray cluster (one RayService) and joins them to its deployments."""

    def __init__(self, deployments: Sequence[DeploymentTelemetry], spec: TelemetrySpec, seed: int) -> None:
        self._deployments = deployments
        self._spec = spec
        key = deployments[0].serve.spec.key
        self._namespace, self._service = key.namespace, key.service
        self._drops = Draws(seed, f"telemetry/{key.namespace}/{key.service}")
        name = f"noise/{key.namespace}/{key.service}"
        self._noise = Noise(spec.noise_fraction, seed, name) if spec.noise_fraction > 0 else None
        self._last: dict[str, NodePage] = {}
        self._recorders: dict[DeploymentKey, HandleRecorder] = {}
        self._metrics: dict[DeploymentKey, DeploymentMetrics] = {}
        self._begun = True
        """False once the reader has restarted: counts on its first pages are older than it can know."""

    def record_handles(self, queue: EventQueue, metrics_interval_s: float, look_back_s: float) -> None:
        """Let every handle record and push for Serve's own autoscaler, from now on."""
        for one in self._deployments:
            recorder = HandleRecorder(one.serve, one.figures, queue, metrics_interval_s, look_back_s)
            self._recorders[one.serve.spec.key] = recorder

    def read(
        self, inventories: Mapping[DeploymentKey, DeploymentInventory], nodes: set[str], now_s: float
    ) -> dict[DeploymentKey, DeploymentMetrics]:
        """Metrics of every deployment of this service; `nodes` are those that exist."""
        fresh: dict[str, list[Sample]] = {}
        for deployment in self._deployments:
            deployment.add_to_pages(fresh, nodes, now_s)
        read = fresh if self._noise is None else self._noise.on(fresh)
        pages = {}
        first, self._begun = not self._begun, True
        for node, samples in read.items():
            before = self._last.get(node)
            dropped = self._spec.drop_fraction > 0 and self._drops.uniform() < self._spec.drop_fraction
            # A node that does not answer is stood for by its last page, as in the live source.
            pages[node] = before if dropped and before is not None else NodePage(now_s, tuple(samples), first)
        self._last = pages
        self._metrics = collect(pages, inventories, self._namespace, self._service, now_s)
        return self.last_read()

    def as_they_were(
        self, inventories: Mapping[DeploymentKey, DeploymentInventory], now_s: float
    ) -> dict[DeploymentKey, DeploymentMetrics]:
        """No page can be read: the last ones, joined to what the inventories say now, as the live source does."""
        self._metrics = collect(self._last, inventories, self._namespace, self._service, now_s)
        return self.last_read()

    def forget(self) -> None:
        """The reader restarts: it holds no page any more."""
        self._last, self._metrics, self._begun = {}, {}, False

    def last_read(self) -> dict[DeploymentKey, DeploymentMetrics]:
        """What the last read gave, with the newest handle reports."""
        found = dict(self._metrics)
        for key, recorder in self._recorders.items():
            if recorder.report is not None and key in found:
                found[key] = replace(found[key], handle_reports=(recorder.report,))
        return found
