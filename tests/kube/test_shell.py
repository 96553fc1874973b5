"""A whole controller in a cluster: fake Kubernetes API with the rights it needs, fake Ray dashboards, real runtime.

Two replicas elect a leader, a service is found, scaled, paused, upgraded, and handed over; every right is used, no
other one is asked for, and only the leader writes.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from autoscaler.api.telemetry import new_telemetry
from autoscaler.core.build import new_controller
from autoscaler.core.types import ControllerConfig, DeploymentSettings, GuardSettings, NodeSignal, PoolSettings
from autoscaler.kubernetes.leader import LeaseSettings
from autoscaler.runtime.loop import Runtime
from autoscaler.sources.kubernetes.cache import WatchTimes
from autoscaler.wiring.kubernetes import (
    KubernetesParts,
    KubernetesSettings,
    connected_parts,
    kubernetes_parts,
    process_identity,
)
from policies.base import DeploymentKey
from tests.autoscaler.build import Says
from tests.fakes.dashboard import FakeApplication, FakeDashboard, FakeDeployment
from tests.fakes.kubernetes import objects
from tests.fakes.kubernetes.crds import KUBERAY
from tests.fakes.kubernetes.rbac import Rbac
from tests.fakes.kubernetes.server import FakeApi
from tests.kube.helpers import client_of, kubeconfig, until
from tests.kube.test_discovery import role

USER = "system:serviceaccount:leadtime:leadtime"
LLM = DeploymentKey("llm", "chat-llm", "chat", "LLMServer:llama-70b")
LEASE = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "lt", "namespace": "leadtime"}}
SWITCH = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "lt-pause", "namespace": "leadtime"}}
QUICK = WatchTimes(lasts_s=2, silence_s=5, backoff_s=0.05, longest_backoff_s=0.1, denied_backoff_s=0.1)
ENABLED = {"leadtime.dev/enabled": "true"}


def roles(*, acts: bool) -> list[dict[str, Any]]:
    """As the table in docs/rights.md, with node watching on."""
    watched = [
        ("ray.io", "rayservices", "list watch"),
        ("ray.io", "rayclusters", "list watch"),
        ("", "pods", "list watch"),
        ("events.k8s.io", "events", "list watch"),
    ]
    if acts:
        watched.append(("events.k8s.io", "events", "create"))
    nodes = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}
    return [
        role("leadtime", "llm", *watched),
        role("lease", "leadtime", ("coordination.k8s.io", "leases", "get update"), names=("lt",)),
        role("lease-create", "leadtime", ("coordination.k8s.io", "leases", "create")),
        role("switch", "leadtime", ("", "configmaps", "get"), names=("lt-pause",)),
        {"kind": "ClusterRole", "metadata": {"name": "nodes"}, "rules": [nodes]},
    ]


@pytest.fixture
def api() -> Iterator[FakeApi]:
    rbac = Rbac.from_documents(roles(acts=True), subject=USER)
    with FakeApi(crds=KUBERAY, rbac=rbac, tokens={"t": USER}, namespaces=("llm", "leadtime")) as server:
        server.add({**SWITCH, "data": {}})
        server.add(objects.node())
        yield server


class Cluster:
    """Ray dashboards of the Ray clusters, and controllers that are started and stopped."""

    def __init__(self, api: FakeApi, stack: AsyncExitStack) -> None:
        self.api, self._stack = api, stack
        self.dashboards: dict[str, FakeDashboard] = {}
        self.parts: dict[str, KubernetesParts] = {}
        self.says: dict[str, Says] = {}
        self.running: dict[str, tuple[Runtime, asyncio.Task[None]]] = {}
        self.lease_s = (60.0, 50.0, 0.1)
        """So long that a busy machine loses none; with the renew deadline and the time between attempts."""

    async def ray(self, name: str) -> None:
        deployments = {LLM.deployment: FakeDeployment(), "OpenAiIngress": FakeDeployment()}
        dashboard = FakeDashboard({LLM.app: FakeApplication(deployments)})
        self.dashboards[name] = await self._stack.enter_async_context(dashboard.serve())

    def target(self, cluster: str) -> int:
        return self.dashboards[cluster].of(LLM.app, LLM.deployment).target

    async def start(self, name: str, *, dry_run: bool = False, replicas: int = 3) -> Runtime:
        config = ControllerConfig(
            deployments=(DeploymentSettings("chat/LLMServer:*", min_replicas=1, max_replicas=8),),
            pools=(PoolSettings("h100"),),
            tick_s=0.1,
            dry_run=dry_run,
            guards=GuardSettings(max_step_down=None),
        )
        telemetry, policy = new_telemetry(config), Says(replicas)
        parts = kubernetes_parts(
            KubernetesSettings(("llm",), "leadtime", "lt", nodes=True),
            config,
            telemetry,
            client_of(self.api, "t"),
            (client_of(self.api, "t", threads=2), LeaseSettings(name, *self.lease_s)),
            dashboard=lambda cluster: self.dashboards[cluster.name].url,
            times=QUICK,
        )
        runtime = Runtime(
            config,
            new_controller(config, None, policy),
            parts.sources,
            parts.actuators,
            telemetry=telemetry,
            leader=parts.leader,
            background=parts.background,
        )
        self.parts[name], self.says[name] = parts, policy
        self.running[name] = (runtime, asyncio.ensure_future(runtime.run()))
        return runtime

    async def stop(self, name: str) -> None:
        runtime, task = self.running.pop(name)
        runtime.stop()
        await asyncio.wait_for(task, 60)

    async def ticks(self, name: str, count: int) -> None:
        """Wait for so many more to end."""
        telemetry = self.running[name][0].telemetry
        first = telemetry.plan.tick if telemetry.plan else 0
        await until(lambda: telemetry.plan is not None and telemetry.plan.tick >= first + count)

    def leads(self, name: str) -> bool:
        return self.parts[name].leader()

    def posts(self) -> list[int]:
        return [body["target_num_replicas"] for d in self.dashboards.values() for _, _, body in d.posts]


@asynccontextmanager
async def cluster_of(api: FakeApi, *ray_clusters: str) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        cluster = Cluster(api, stack)
        for name in ray_clusters:
            await cluster.ray(name)
        try:
            yield cluster
        finally:
            for name in list(cluster.running):
                await cluster.stop(name)


async def test_one_of_two_controllers_scales_what_was_asked_for_and_tells_of_it(api: FakeApi) -> None:
    api.add(objects.ray_service(annotations=ENABLED, status=objects.service_status("old")))
    api.add(objects.ray_service("not-asked", status=objects.service_status("other")))
    async with cluster_of(api, "old", "other") as cluster:
        await cluster.start("a")
        await until(lambda: cluster.target("old") == 3)
        await cluster.start("b", replicas=7)
        await until(lambda: "b" in cluster.parts and cluster.running["b"][0].telemetry.plan is not None)
        await asyncio.sleep(0.5)

        assert (cluster.leads("a"), cluster.leads("b")) == (True, False)
        assert set(cluster.posts()) == {3}
        plan = cluster.running["b"][0].telemetry.plan
        assert plan is not None
        assert not plan.leader  # a follower plans all the same
        await until(lambda: bool(api.all("events.k8s.io/v1", "Event")))
        (event,) = api.all("events.k8s.io/v1", "Event")
        assert (event["reason"], event["regarding"]["name"]) == ("Scaled", "chat-llm")
        assert "1 -> 3 replicas" in event["note"]

    assert api.rbac is not None
    assert [(p.verb, p.resource) for p in api.rbac.unused(USER)] == []
    assert [(r.verb, r.resource) for r in api.requests if r.status == 403] == []


async def test_who_is_terminated_gives_the_lease_back_and_the_other_goes_on(api: FakeApi) -> None:
    api.add(objects.ray_service(annotations=ENABLED, status=objects.service_status("old")))
    async with cluster_of(api, "old") as cluster:
        await cluster.start("a")
        await until(lambda: cluster.target("old") == 3)
        await cluster.start("b", replicas=5)
        await until(lambda: cluster.running["b"][0].telemetry.plan is not None)
        await cluster.stop("a")
        await until(lambda: cluster.target("old") == 5)

        assert api.read(LEASE)["spec"]["holderIdentity"] == "b"
        assert api.read(LEASE)["spec"]["leaseTransitions"] == 1
        # a level may be told twice: an inventory that was read before the write says that it is not yet so
        assert [level for level, _ in itertools.groupby(cluster.posts())] == [3, 5]


async def test_while_kubernetes_is_away_nobody_writes_after_the_deadline_and_reading_goes_on(api: FakeApi) -> None:
    from tests.fakes.kubernetes.traffic import Fault, when

    api.add(objects.ray_service(annotations=ENABLED, status=objects.service_status("old")))
    async with cluster_of(api, "old") as cluster:
        cluster.lease_s = (2.0, 1.5, 0.1)
        await cluster.start("a")
        await until(lambda: cluster.target("old") == 3)
        away = when(fault=Fault(status=503))
        api.traffic.hooks.append(away)
        api.cut_watches()
        await until(lambda: not cluster.leads("a"))
        cluster.says["a"].replicas = 6
        reads = cluster.dashboards["old"].reads
        await until(lambda: cluster.dashboards["old"].reads > reads + 5)
        assert cluster.target("old") == 3

        api.traffic.hooks.clear()
        await until(lambda: cluster.target("old") == 6)


async def test_the_clusters_kill_switch_stops_the_writes(api: FakeApi) -> None:
    api.add(objects.ray_service(annotations=ENABLED, status=objects.service_status("old")))
    api.change(SWITCH, {"data": {"paused": "true"}})
    async with cluster_of(api, "old") as cluster:
        runtime = await cluster.start("a")
        await until(lambda: runtime.telemetry.plan is not None and cluster.leads("a") and runtime.telemetry.plan.leader)
        await until(
            lambda: (
                runtime.telemetry.pause.everything
                and bool(runtime.telemetry.plan and runtime.telemetry.plan.deployments)
            )
        )
        await asyncio.sleep(0.5)
        assert cluster.posts() == []
        api.change(SWITCH, {"data": {"paused": "false"}})
        await until(lambda: cluster.target("old") == 3)


async def test_an_upgrade_is_prepared_and_carried_over_the_switch(api: FakeApi) -> None:
    service = objects.ray_service(annotations=ENABLED, status=objects.service_status("old"))
    api.add(service)
    async with cluster_of(api, "old", "new") as cluster:
        await cluster.start("a")
        await until(lambda: cluster.target("old") == 3)
        api.set_status(service, objects.service_status("old", "new"))
        await until(lambda: cluster.target("new") == 3)
        api.set_status(service, objects.service_status("new"))
        await until(lambda: [c.name for c in cluster.parts["a"].discovery.services()[0].clusters] == ["new"])
        await cluster.ticks("a", 2)  # one that began before that has ended
        cluster.says["a"].replicas = 4
        await until(lambda: cluster.target("new") == 4)

        assert cluster.target("old") == 3
        told = [(before, after) for before, after in itertools.pairwise(cluster.posts()) if after < before]
        assert told == []


async def test_a_dry_run_writes_its_lease_and_nothing_else(api: FakeApi) -> None:
    assert api.rbac is not None
    api.rbac.granted = Rbac.from_documents(roles(acts=False), subject=USER).granted
    api.add(objects.ray_service(annotations=ENABLED, status=objects.service_status("old")))
    api.add(objects.ray_service("wrong", annotations={"leadtime.dev/max-replicas": "many"}))
    async with cluster_of(api, "old") as cluster:
        runtime = await cluster.start("a", dry_run=True)
        await until(lambda: bool(runtime.telemetry.plan and runtime.telemetry.plan.deployments) and cluster.leads("a"))
        await asyncio.sleep(0.5)
        assert cluster.posts() == []

    assert api.traffic.writes("leases") == []
    assert [(r.verb, r.resource) for r in api.requests if r.status == 403] == []


async def test_a_wrong_annotation_is_an_event_on_the_service(api: FakeApi) -> None:
    wrong = {**ENABLED, "leadtime.dev/max-replica": "3"}
    api.add(objects.ray_service(annotations=wrong, status=objects.service_status("old")))
    async with cluster_of(api, "old") as cluster:
        await cluster.start("a")
        await until(lambda: any(e["reason"] == "SettingRejected" for e in api.all("events.k8s.io/v1", "Event")))
        event = next(e for e in api.all("events.k8s.io/v1", "Event") if e["reason"] == "SettingRejected")

    assert event["type"] == "Warning"
    assert event["note"] == "leadtime.dev/max-replica: no such annotation; did you mean 'max-replicas'?"
    assert event["regarding"]["uid"] == api.read(objects.ray_service())["metadata"]["uid"]


async def test_a_controller_connects_by_its_kubeconfig(api: FakeApi, tmp_path: Path) -> None:
    config = ControllerConfig(tick_s=0.1)
    parts = connected_parts(
        KubernetesSettings(("llm",), "leadtime", "lt"),
        config,
        new_telemetry(config),
        LeaseSettings(process_identity()),
        kubeconfig=kubeconfig(tmp_path / "config", api.url, "t"),
    )
    tasks = [asyncio.ensure_future(work()) for work in parts.background]
    await until(lambda: parts.leader() and parts.discovery.status()[0])
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert api.read(LEASE)["spec"]["holderIdentity"] == ""
    assert parts.elector is not None
    assert process_identity() != process_identity()


async def test_node_pools_reach_the_signals(api: FakeApi) -> None:
    api.add(objects.ray_service(annotations=ENABLED, status=objects.service_status("old")))
    api.add(objects.pod())
    async with cluster_of(api, "old") as cluster:
        runtime = await cluster.start("a")

        def nodes() -> tuple[NodeSignal, ...]:
            signals = runtime.telemetry.signals
            return signals.pools[0].nodes if signals is not None and signals.pools else ()

        await until(lambda: bool(nodes()))
        assert [(n.name, n.state, n.gpus_used, n.workers) for n in nodes()] == [("h100-1", "ready", 8, 1)]


async def test_refused_scale_ups_and_image_pulls_reach_the_signals(api: FakeApi) -> None:
    api.add(objects.ray_service(annotations=ENABLED, status=objects.service_status("old")))
    waiting, up = objects.pod("waits", on=None), objects.pod("up")
    up["status"]["conditions"].append({"type": "Ready", "status": "True", "lastTransitionTime": "2026-03-01T10:04:00Z"})
    for pod in (waiting, up):
        api.add(pod)
    refused = "Node scale up in zones us-central1-a associated with this pod failed: GCE out of resources."
    pulled = 'Successfully pulled image "ray:1" in 1m0s (1m0s including waiting)'
    for name, reason, pod, note in (("e1", "FailedScaleUp", "waits", refused), ("e2", "Pulled", "up", pulled)):
        api.add(
            {
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": "llm"},
                "eventTime": "2026-03-01T10:05:00.000000Z",
                "reportingController": "x",
                "reportingInstance": "x",
                "action": "x",
                "reason": reason,
                "type": "Normal",
                "note": note,
                "regarding": {"kind": "Pod", "namespace": "llm", "name": pod},
            }
        )
    async with cluster_of(api, "old") as cluster:
        runtime = await cluster.start("a")

        def told() -> bool:
            signals = runtime.telemetry.signals
            return bool(
                signals is not None and signals.pools and signals.pools[0].refusals and signals.pools[0].workers
            )

        await until(told)
        assert runtime.telemetry.signals is not None
        (pool,) = runtime.telemetry.signals.pools
        assert [(r.kind, r.zone) for r in pool.refusals] == [("stockout", "us-central1-a")]
        assert pool.refused_at_s == pool.refusals[0].at_s
        assert [(w.name, w.pull_s) for w in pool.workers] == [("llm/up", 60.0)]
        await until(lambda: bool(runtime.controller.state.pools["h100"].workers))
        record = runtime.controller.state.book.stages["h100/worker_start"]
        assert record.starts == 1.0
