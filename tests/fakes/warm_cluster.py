"""A cluster autoscaler, Ray's autoscaler and Serve as far as pre-warming needs them, around the fake Kubernetes API.

A target of replicas needs Ray workers, workers need nodes, a node takes a while. What a way holds (a scale, a buffer, a
floor, a request) makes the same come before anybody asks. `hidden` counts the raises of a target that found what they
needed, `exposed` those that did not.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from dataclasses import dataclass, field
from typing import Any

from google.cloud import container_v1

from tests.fakes.dashboard import FakeApplication, FakeDashboard, FakeDeployment
from tests.fakes.gke import FakeGke
from tests.fakes.jobs import FakeJobs
from tests.fakes.kubernetes import objects
from tests.fakes.kubernetes.server import FakeApi
from tests.fakes.kubernetes.status import ApiError

APP, LLM = "chat", "LLMServer:llama-70b"
NODE_S = 0.3
"""Until a node is Ready."""
NAME, NAMESPACE = "demo-leadtime-warm-h100", "lt"
SERVICE = objects.ray_service(annotations={"leadtime.dev/enabled": "true"}, status=objects.service_status("old"))
REQUEST = {
    "apiVersion": "autoscaling.x-k8s.io/v1",
    "kind": "ProvisioningRequest",
    "metadata": {"name": NAME, "namespace": NAMESPACE},
}


def _made(api_version: str, kind: str) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": NAME, "namespace": NAMESPACE}}


def node_pool() -> container_v1.NodePool:
    scaling = container_v1.NodePoolAutoscaling(enabled=True, total_max_node_count=4)
    return container_v1.NodePool(name="h100", autoscaling=scaling, locations=["us-central1-a"])


@dataclass
class WarmCluster:
    """One pool `h100` of nodes with 8 GPUs; a replica has 4, a worker all of a node."""

    api: FakeApi
    way: str
    jobs: FakeJobs = field(default_factory=FakeJobs)
    gke: FakeGke = field(default_factory=lambda: FakeGke(node_pool()))
    hidden: int = 0
    exposed: int = 0
    broken: bool = False
    """No node comes any more."""
    _coming: dict[str, float] = field(default_factory=dict)
    _made: int = 0
    _needed: int = 0
    _task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        fleet = {LLM: FakeDeployment(target=1)}
        self.dashboard = FakeDashboard({APP: FakeApplication(fleet)}, more_routes=self.jobs.routes())

    @contextlib.asynccontextmanager
    async def running(self) -> Any:
        self.api.add(SERVICE)
        async with self.dashboard.serve(), self.gke.serve():
            self._task = asyncio.ensure_future(self._live())
            try:
                yield self
            finally:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)

    # ------------------------------------------------------------ what a test asks

    @property
    def target(self) -> int:
        return self.dashboard.of(APP, LLM).target

    def held(self) -> int:
        """Nodes (or workers, one a node) that the way asks for."""
        match self.way:
            case "placeholder":
                return int(self.api.read(_made("apps/v1", "Deployment"))["spec"].get("replicas", 1))
            case "capacity_buffer":
                return int(self.api.read(_made("autoscaling.x-k8s.io/v1beta1", "CapacityBuffer"))["spec"]["replicas"])
            case "worker_group":
                groups = self.api.read(SERVICE)["spec"]["rayClusterConfig"]["workerGroupSpecs"]
                return int(groups[0]["minReplicas"])
            case "request_resources":
                return len(self.jobs.standing)
            case "node_pool":
                return int(self.gke.pool.autoscaling.total_min_node_count)
        try:
            return int(self.api.read(REQUEST)["spec"]["podSets"][0]["count"])
        except ApiError:
            return 0

    def nodes(self) -> list[str]:
        return [node["metadata"]["name"] for node in self.api.all("v1", "Node")]

    def workers(self, bound: bool = True) -> list[dict[str, Any]]:
        return [pod for pod in self.api.all("v1", "Pod") if not bound or pod["spec"].get("nodeName")]

    # ------------------------------------------------------------ the loops

    async def _live(self) -> None:
        while True:
            self._step()
            await asyncio.sleep(0.01)

    def _step(self) -> None:
        held, floor_ways = self.held(), ("worker_group", "request_resources")
        needed = math.ceil(self.target * 4 / 8)
        if needed > self._needed:
            there = len(self.workers()) if self.way in floor_ways else len(self.nodes())
            self.hidden += there >= needed
            self.exposed += there < needed
        self._needed = needed
        self._workers(max(needed, held) if self.way in floor_ways else needed)
        pods = self.workers(bound=False)
        spare = held if self.way in ("placeholder", "capacity_buffer", "provisioning_request") else 0
        self._nodes(max(len(pods) + spare, held if self.way == "node_pool" else 0))
        self._bind()
        if self.way == "provisioning_request" and spare and len(self.nodes()) >= len(pods) + spare:
            self._provisioned()

    def _workers(self, count: int) -> None:
        pods = self.workers(bound=False)
        for _ in range(count - len(pods)):
            self._made += 1
            self.api.add(objects.pod(f"worker-{self._made}", on=None))
        for pod in pods[count:] if count < len(pods) else ():
            self.api.remove(pod)

    def _nodes(self, count: int) -> None:
        now_s = time.monotonic()
        for name, ready_s in list(self._coming.items()):
            if now_s >= ready_s:
                del self._coming[name]
                self.api.add(objects.node(name))
        there = self.nodes()
        while not self.broken and len(there) + len(self._coming) < count:
            self._made += 1
            self._coming[f"h100-{self._made}"] = now_s + NODE_S
        used = {pod["spec"]["nodeName"] for pod in self.workers()}
        for name in [name for name in there if name not in used][: max(0, len(there) - count)]:
            self.api.remove(objects.node(name))

    def _bind(self) -> None:
        used = {pod["spec"]["nodeName"] for pod in self.workers()}
        free = [name for name in self.nodes() if name not in used]
        for pod in self.workers(bound=False):
            if not pod["spec"].get("nodeName") and free:
                name = pod["metadata"]["name"]
                self.api.remove(pod)
                self.api.add(objects.pod(name, on=free.pop()))

    def _provisioned(self) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        said = {"type": "Provisioned", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": now}
        if not self.api.read(REQUEST).get("status"):
            self.api.set_status(REQUEST, {"conditions": [said]})
