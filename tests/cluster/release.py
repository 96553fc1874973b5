"""A release of the chart on the real API with its pods as processes, and a Ray dashboard double that they scale."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.cluster.api import ApiError, Call, RealApi
from tests.cluster.control_plane import PATIENCE_S
from tests.cluster.helm import Helm
from tests.fakes.dashboard import FakeApplication, FakeDashboard, FakeDeployment
from tests.fakes.kubelet import ProcessPod, ProcessPods
from tests.fakes.kubernetes import objects
from tests.kube import helpers

APP, LLM = "chat", "LLMServer:llama-70b"
SERVICES = "llm"
"""The namespace with the RayService."""
WAYS = {"h100": "placeholder", "a100": "capacity_buffer", "flex": "provisioning_request", "spot": "worker_group"}
"""Node pool -> how it is pre-warmed: one of each way that writes to the API."""
POLICY = """\
import json
from pathlib import Path
from policies.base import FleetProposal, PoolProposal, ReplicaProposal, Term
from policies.plugin import PolicyPlugin

class Told(PolicyPlugin):
    name = "told"

    def propose(self, fleet, state, now_s):
        wants = json.loads(Path("WANTS").read_text())
        term = (Term("told", 0, "as the test says"),)
        return FleetProposal(
            {d.key: ReplicaProposal(wants["replicas"], term) for d in fleet.deployments},
            {pool: PoolProposal(wants["nodes"], term) for pool in POOLS},
        )
"""
"""A forecast that the test makes."""


def values(wants: Path, *, pods: int = 1, ways: Mapping[str, str] = WAYS) -> dict[str, Any]:
    """The chart's values for a controller that acts, quickly, on what the file `wants` says."""
    match = {"match": f"{SERVICES}/chat-llm/{APP}/LLMServer:*", "replicas": {"min": 1, "max": 6}, "gpus_per_replica": 4}
    return {
        "replicas": pods,
        "watchNamespaces": [SERVICES],
        "files": {"told.py": POLICY.replace("WANTS", str(wants)).replace("POOLS", repr(list(ways)))},
        "config": {
            "dry_run": False,
            "tick_s": 0.5,
            "kubernetes": {"nodes": True},
            "leader_election": {"lease_s": 8, "renew_deadline_s": 6},
            "deployments": [{**match, "node_pools": list(ways)}],
            "node_pools": [{"name": name, "max_nodes": 4, "prewarm": way} for name, way in ways.items()],
            "policy": {"name": "told.py:Told"},
        },
    }


_LEVELS = ("rayservices", "deployments/scale", "capacitybuffers", "provisioningrequests")


def _holder(lease: Mapping[str, Any]) -> str:
    """The pod that a lease names."""
    return str((lease.get("spec") or {}).get("holderIdentity") or "").partition("_")[0]


class Release:
    """`helm`, the pods, and what the plan should want."""

    def __init__(self, api: RealApi, folder: Path, namespace: str, dashboard: FakeDashboard) -> None:
        self.api, self.folder, self.namespace, self.dashboard = api, folder, namespace, dashboard
        self.helm = Helm(api.plane, folder, namespace)
        self.user = f"system:serviceaccount:{namespace}:demo-leadtime"
        self.wants_file = folder / "wants.json"
        addresses = folder / "addresses.json"
        addresses.write_text(json.dumps({"chat-llm-abcde": dashboard.url}))
        self.pods = ProcessPods(api, folder, namespace, addresses)
        self.wants(1, 0)

    def wants(self, replicas: int, nodes: int) -> None:
        """Replicas of the deployment, and nodes of every pool."""
        new = self.wants_file.with_suffix(".new")
        new.write_text(json.dumps({"replicas": replicas, "nodes": nodes}))
        new.replace(self.wants_file)

    @property
    def target(self) -> int:
        """The level of replicas that was set at the dashboard."""
        return self.dashboard.of(APP, LLM).target

    def calls(self, verb: str | None = None, resource: str | None = None) -> list[Call]:
        """What the account asked for."""
        return self.api.traffic.of(verb, resource, self.user)

    def holder(self) -> str:
        """The pod that the lease names."""
        lease = self.api.path("coordination.k8s.io/v1", "Lease", self.namespace, "demo-leadtime")
        return _holder(self.api.request("GET", lease))

    def held(self) -> dict[str, int]:
        """Pool -> what its way holds."""
        names = {pool: f"demo-leadtime-warm-{pool}" for pool in WAYS}
        found: dict[str, int] = {}
        for pool, (api_version, kind, count) in {
            "h100": ("apps/v1", "Deployment", lambda o: o["spec"]["replicas"]),
            "a100": ("autoscaling.x-k8s.io/v1beta1", "CapacityBuffer", lambda o: o["spec"]["replicas"]),
            "flex": ("autoscaling.x-k8s.io/v1", "ProvisioningRequest", lambda o: o["spec"]["podSets"][0]["count"]),
        }.items():
            try:
                obj = self.api.request("GET", self.api.path(api_version, kind, self.namespace, names[pool]))
                found[pool] = count(obj)
            except ApiError as error:
                if error.code != 404:
                    raise
                found[pool] = 0
        service = self.api.request("GET", self.api.path("ray.io/v1", "RayService", SERVICES, "chat-llm"))
        found["spot"] = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["minReplicas"]
        return found

    async def rolled_out(self, pods: int) -> ProcessPod:
        """As `kubectl rollout status` waits for it; then the pod that leads."""

        def done() -> bool:
            obj = self.api.request("GET", self.api.path("apps/v1", "Deployment", self.namespace, "demo-leadtime"))
            status = obj.get("status") or {}
            counts = [status.get(f"{kind}Replicas", 0) for kind in ("updated", "available")]
            current = status.get("observedGeneration") == obj["metadata"]["generation"]
            return current and [*counts, status.get("replicas", 0)] == [pods] * 3 and len(self.pods.running()) == pods

        await self.until(done, f"{pods} new pods and no old one")
        return await self.leading()

    def check_one_writer(self) -> int:
        """At the version of each write of a level the lease names the pod that wrote it; how many there were."""
        renewals = [call for call in self.calls("update", "leases") if call.revision]
        holders = sorted((call.revision, _holder(call.answer)) for call in renewals)
        writes = [call for call in self.calls() if call.writes and call.revision and call.resource in _LEVELS]
        for call in writes:
            holder = next((who for version, who in reversed(holders) if version < call.revision), "")
            assert holder == call.pod, f"{call.pod} wrote {call.resource} while {holder or 'nobody'} held the lease"
        return len(writes)

    def replace_pods(self) -> None:
        """As after a node's death: new pods come for those that are gone at once."""
        for pod in self.pods.running():
            meta = {"name": pod.name, "namespace": self.namespace}
            self.api.remove({"apiVersion": "v1", "kind": "Pod", "metadata": meta})

    def holds(self, nodes: int) -> bool:
        """Every way asks for so many. A request for queued capacity stands as it is until it was served."""
        held = self.held()
        return all(held[pool] == nodes for pool in held if pool != "flex") and (held["flex"] > 0) == (nodes > 0)

    async def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait for it; on failure with the pods' last words."""
        try:
            await helpers.until(true, PATIENCE_S, 0.1)
        except AssertionError:
            said = [f"{pod.name}: {pod.log[-1500:]}" for pod in (*self.pods.pods.values(), *self.pods.ended)]
            raise AssertionError("\n".join([f"never seen: {what}", *said])) from None

    async def leading(self) -> ProcessPod:
        """The pod that leads."""
        await self.until(lambda: any(pod.name == self.holder() for pod in self.pods.running()), "a pod that leads")
        holder = self.holder()
        return next(pod for pod in self.pods.running() if pod.name == holder)


@asynccontextmanager
async def released(
    api: RealApi, folder: Path, namespace: str, chosen: Callable[[Path], dict[str, Any]] | None = values
) -> AsyncIterator[Release]:
    """Installed (without `chosen`: not yet), with one RayService to look after; all of it is gone afterwards."""
    api.fresh((SERVICES, namespace))
    dashboard = FakeDashboard({APP: FakeApplication({LLM: FakeDeployment(target=1)})})
    async with dashboard.serve():
        release = Release(api, folder, namespace, dashboard)
        groups = [objects.worker_group("spot"), objects.worker_group("cpu", gpus=0)]
        groups[0]["template"]["spec"]["nodeSelector"] = {objects.POOL_LABEL: "spot"}
        ray = {**objects.cluster_spec(*groups), "authOptions": {"mode": "disabled"}}
        api.add(
            objects.ray_service(
                annotations={"leadtime.dev/enabled": "true"}, status=objects.service_status(), cluster=ray
            )
        )
        with release.pods:
            try:
                if chosen is not None:
                    await asyncio.to_thread(release.helm.install, chosen(release.wants_file))
                yield release
            finally:
                release.pods.held = True
                await asyncio.to_thread(_remove, release)


def _remove(release: Release) -> None:
    """As it may be: half installed, or gone."""
    process = release.helm.started("uninstall", release.helm.name, "--ignore-not-found", "--no-hooks")
    process.communicate(timeout=300)
