"""The whole controller in a cluster with each way to pre-warm: the chart's settings, objects and rights, the fake
Kubernetes API (and Ray's Jobs API, and Google's), a cluster that starts what is asked for.

Capacity is there before replicas ask for it; what is held is given back when the plan falls, at the end, and before an
uninstall; no right is used that the chart does not grant, and nothing is written but what is the way's own.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("google.cloud.container_v1", reason="the extra `gke` is not installed")

from google.cloud import container_v1

from autoscaler.actuators.ways.node_pool import GkeNodePools
from autoscaler.cli.release import pull_switch, released
from autoscaler.runtime.loop import Runtime
from autoscaler.settings import load_config
from autoscaler.settings.model import Config
from autoscaler.wiring import kubernetes
from autoscaler.wiring.controller import build
from tests.chart import chart
from tests.fakes.kubernetes import objects
from tests.fakes.kubernetes.crds import KUBERAY
from tests.fakes.kubernetes.crds_autoscaling import AUTOSCALING
from tests.fakes.kubernetes.rbac import Rbac
from tests.fakes.kubernetes.server import FakeApi
from tests.fakes.kubernetes.traffic import Fault, when
from tests.fakes.warm_cluster import APP, LLM, NAMESPACE, WarmCluster
from tests.kube.helpers import kubeconfig, until

WAYS = ("placeholder", "capacity_buffer", "worker_group", "request_resources", "node_pool", "provisioning_request")
USER = f"system:serviceaccount:{NAMESPACE}:demo-leadtime"
POLICY = """\
import json
from pathlib import Path
from policies.base import FleetProposal, PoolProposal, ReplicaProposal, Term
from policies.plugin import PolicyPlugin

class Told(PolicyPlugin):
    name = "told"

    def propose(self, fleet, state, now_s):
        wants = json.loads((Path(__file__).parent / "wants.json").read_text())
        term = (Term("told", 0, "as the test says"),)
        return FleetProposal(
            {d.key: ReplicaProposal(wants["replicas"], term) for d in fleet.deployments},
            {"h100": PoolProposal(wants["nodes"], term)},
        )
"""
"""A forecast that the test makes."""


def values(way: str) -> dict[str, Any]:
    warm = {"gke": {"project": "p", "location": "us-central1", "cluster": "c"}} if way == "node_pool" else {}
    match = {"match": "llm/chat-llm/chat/LLMServer:*", "replicas": {"min": 1, "max": 6}, "gpus_per_replica": 4}
    return {
        "watchNamespaces": ["llm"],
        "files": {"told.py": POLICY},
        "config": {
            "dry_run": False,
            "tick_s": 0.5,
            "deployments": [{**match, "node_pools": ["h100"]}],
            "node_pools": [{"name": "h100", "max_nodes": 4, "prewarm": way, "warm": warm}],
            "policy": {"name": "told.py:Told"},
        },
    }


class Installed:
    """A release of the chart whose pod runs in this process."""

    def __init__(self, api: FakeApi, folder: Path, way: str) -> None:
        self.api, self.folder = api, folder
        self.autoscaled = True
        """Of the node pool, as the settings say."""
        self.docs = chart.render(values(way))
        api.rbac = Rbac.from_documents(self.docs)
        served = {(kind.api_version, kind.kind) for kind in api.kinds}
        for doc in self.docs:
            if (doc["apiVersion"], doc["kind"]) not in served or "helm.sh/hook" in str(doc["metadata"]):
                continue
            if doc["metadata"]["name"] != "demo-leadtime" or doc["kind"] in ("ConfigMap", "Lease"):
                api.add(doc)
        self.runs: list[tuple[Runtime, asyncio.Task[None]]] = []

    def config(self) -> Config:
        settings = yaml.safe_load(chart.settings(self.docs))
        settings["state"]["path"] = str(self.folder / "state.sqlite")
        settings["journal"]["path"] = str(self.folder / "journal")
        settings["kubernetes"]["kubeconfig"] = str(kubeconfig(self.folder / "kubeconfig", self.api.url, "t"))
        settings["kubernetes"]["tokens"] = None
        if not self.autoscaled:
            settings["node_pools"][0]["warm"]["gke"]["autoscaled"] = False
        (self.folder / "told.py").write_text(POLICY)
        (self.folder / "leadtime.yaml").write_text(yaml.safe_dump(settings))
        return load_config(self.folder / "leadtime.yaml")

    def wants(self, replicas: int, nodes: int) -> None:
        file = self.folder / "wants.json"
        (self.folder / "wants.new").write_text(json.dumps({"replicas": replicas, "nodes": nodes}))
        (self.folder / "wants.new").replace(file)

    def start(self) -> Runtime:
        runtime = build(self.config(), serve_pages=False)
        self.runs.append((runtime, asyncio.ensure_future(runtime.run())))
        return runtime

    async def stop(self) -> None:
        """SIGTERM."""
        runtime, task = self.runs.pop()
        runtime.stop()
        await asyncio.wait_for(task, 60)


@asynccontextmanager
async def installed(
    tmp_path: Path, way: str, patch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[WarmCluster, Installed]]:
    namespaces = ("llm", NAMESPACE)
    with FakeApi(crds=(*KUBERAY, *AUTOSCALING), rbac=Rbac(), tokens={"t": USER}, namespaces=namespaces) as api:
        release = Installed(api, tmp_path, way)
        async with WarmCluster(api, way).running() as cluster:
            defaults = kubernetes.kubernetes_parts.__kwdefaults__
            patch.setitem(defaults, "dashboard", lambda one: cluster.dashboard.url)
            patch.setattr(GkeNodePools.__init__, "__defaults__", (cluster.gke.client,))
            try:
                yield cluster, release
            finally:
                while release.runs:
                    await release.stop()


@pytest.mark.parametrize("way", WAYS)
async def test_capacity_comes_before_replicas_and_everything_is_given_back(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with installed(tmp_path, way, monkeypatch) as (cluster, release):
        api = cluster.api
        await until(lambda: len(cluster.workers()) == 1)
        release.wants(replicas=1, nodes=3)
        release.start()

        # ahead of need: the plan wants three nodes while one is in use
        await until(lambda: len(cluster.nodes()) >= 3)
        if way in ("worker_group", "request_resources"):
            await until(lambda: len(cluster.workers()) >= 3)
        cluster.hidden = cluster.exposed = 0
        assert cluster.target == 1

        # replicas ask: what they need is there
        release.wants(replicas=4, nodes=3)
        await until(lambda: cluster.target == 4)
        await until(lambda: len(cluster.workers()) >= 2)
        await asyncio.sleep(0.1)
        assert (cluster.hidden, cluster.exposed) == (1, 0)

        # the plan falls
        release.wants(replicas=4, nodes=0)
        await until(lambda: cluster.held() == 0)
        await until(lambda: len(cluster.workers()) == 2)
        await asyncio.sleep(0.2)
        assert len(cluster.workers()) == 2, "what is in use stays"

        # SIGTERM
        release.wants(replicas=4, nodes=4)
        await until(lambda: cluster.held() > 0)
        await release.stop()
        assert cluster.held() == 0

        # killed while it held something; the hook before an uninstall
        release.start()
        await until(lambda: cluster.held() > 0)
        runtime, _ = release.runs[-1]
        monkeypatch.setattr(runtime, "_give_back", lambda: asyncio.sleep(0))
        await release.stop()
        assert cluster.held() > 0
        await pull_switch(release.config())
        (given_back,) = await released(release.config())
        assert (given_back.what, given_back.outcome) == ("h100", "ok")
        assert cluster.held() == 0
        assert {one.outcome for one in await released(release.config())} == {"unchanged"}, "it can be repeated"

        assert [f"{r.verb} {r.resource} {r.name}" for r in api.requests if r.status == 403] == []
        assert api.rbac is not None
        unused = {(p.verb, p.resource) for p in api.rbac.unused(USER)}
        assert unused <= {("patch", "events"), ("create", "events"), ("get", "configmaps")}
        written = {(r.resource, r.name) for r in api.traffic.writes("events", "configmaps", "leases") if r.user == USER}
        own = {
            "placeholder": {("deployments/scale", "demo-leadtime-warm-h100")},
            "capacity_buffer": {("capacitybuffers", "demo-leadtime-warm-h100")},
            "worker_group": {("rayservices", "chat-llm")},
            "provisioning_request": {("provisioningrequests", ""), ("provisioningrequests", "demo-leadtime-warm-h100")},
        }  # fmt: skip
        assert written == own.get(way, set())


async def test_the_hook_alone_gives_back_a_size_that_google_set_and_only_once_nobody_uses_the_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with installed(tmp_path, "node_pool", monkeypatch) as (cluster, release):
        release.autoscaled = False
        pool = container_v1.NodePool(name="h100", locations=["us-central1-a"], initial_node_count=3)
        cluster.gke.pool = pool
        await until(lambda: len(cluster.workers()) == 1)
        await pull_switch(release.config())
        (kept,) = await released(release.config())
        assert (kept.outcome, kept.why) == ("unchanged", "size 3; it is not reduced while workers run on the pool")
        cluster.dashboard.of(APP, LLM).target = 0
        await until(lambda: not cluster.workers(bound=False))
        (given_back,) = await released(release.config())
        assert given_back.outcome == "ok", given_back.why
        assert pool.initial_node_count == 0
        cluster.api.rbac = Rbac()  # as a ServiceAccount without the rights of the chart
        (unknown,) = await released(release.config(), pause_s=0.0)
        assert (unknown.outcome, "cannot be seen" in unknown.why) == ("unavailable", True)


async def test_the_one_placeholder_that_kubernetes_begins_with_is_given_back_when_none_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with installed(tmp_path, "placeholder", monkeypatch) as (cluster, release):
        assert cluster.held() == 1
        release.wants(replicas=1, nodes=0)
        release.start()
        await until(lambda: cluster.held() == 0)


async def test_a_fault_of_the_api_is_a_clear_outcome_and_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with installed(tmp_path, "placeholder", monkeypatch) as (cluster, release):
        release.wants(replicas=1, nodes=3)
        cluster.api.traffic.hooks.append(
            when("patch", "deployments/scale", fault=Fault(status=429, retry_after_s=1), times=1)
        )
        runtime = release.start()
        seen: set[str] = set()

        def held() -> bool:
            applied = runtime.telemetry.applied.get("h100")
            if applied is not None:
                seen.add(f"{applied.outcome}: {applied.why}")
            return cluster.held() > 1

        await until(held)
        assert any(words.startswith("throttled: kubernetes: patch deployments") for words in seen), seen


async def test_the_kill_switch_leaves_what_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "demo-leadtime-pause", "namespace": "lt"}}
    async with installed(tmp_path, "placeholder", monkeypatch) as (cluster, release):
        release.wants(replicas=1, nodes=3)
        runtime = release.start()
        await until(lambda: cluster.held() == 2)
        cluster.api.change(switch, {"data": {"paused": "true"}})
        await until(lambda: bool(runtime.telemetry.plan and runtime.telemetry.plan.pools[0].nodes is None))
        release.wants(replicas=1, nodes=0)
        await asyncio.sleep(1.2)
        assert cluster.held() == 2


REQUEST = {
    "apiVersion": "autoscaling.x-k8s.io/v1",
    "kind": "ProvisioningRequest",
    "metadata": {"name": "demo-leadtime-warm-h100", "namespace": "lt"},
}
PLACEHOLDERS = {**REQUEST, "apiVersion": "apps/v1", "kind": "Deployment"}


def no_quota(cluster: WarmCluster) -> None:
    cluster.gke.finish("Insufficient regional quota to satisfy request: resource NVIDIA_H100_GPUS")


def no_node_comes(cluster: WarmCluster) -> None:
    """Evicted or never placed, and waiting for longer than nodes ever take."""
    short = {"type": "Available", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    cluster.api.set_status(PLACEHOLDERS, {"replicas": 2, "readyReplicas": 0, "conditions": [short]})


def booking_expired(cluster: WarmCluster) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    said = {"type": "BookingExpired", "status": "True", "reason": "R", "message": "", "lastTransitionTime": now}
    cluster.api.set_status(REQUEST, {"conditions": [said]})


def out_of_stock(cluster: WarmCluster) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    said = {"type": "Failed", "status": "True", "reason": "R", "message": "GCE_STOCKOUT", "lastTransitionTime": now}
    cluster.api.set_status(REQUEST, {"conditions": [said]})


@pytest.mark.parametrize(
    ("way", "fault", "words", "kind"),
    [
        ("node_pool", no_quota, "operation operation-0 failed (quota): Insufficient regional quota", "quota"),
        ("placeholder", no_node_comes, "0 of 2 placeholders hold a node, 2 wait for one, for ", "other"),
        ("provisioning_request", booking_expired, "the booking of 2 expired unused", None),
        ("provisioning_request", out_of_stock, "the request for 2 failed (GCE_STOCKOUT)", "stockout"),
    ],
)  # fmt: skip
async def test_capacity_that_does_not_come_is_a_clear_state_and_the_policy_hears_of_it(
    way: str,
    fault: Callable[[WarmCluster], None],
    words: str,
    kind: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with installed(tmp_path, way, monkeypatch) as (cluster, release):
        cluster.broken, cluster.gke.quick = True, False
        cluster.api.add(objects.node("h100-0"))
        await until(lambda: len(cluster.workers()) == 1)
        release.wants(replicas=1, nodes=3)
        runtime = release.start()
        await until(lambda: cluster.held() > 0)
        fault(cluster)

        def says() -> str:
            applied = runtime.telemetry.applied.get("h100")
            return "" if applied is None else applied.why

        await until(lambda: says().startswith(words))

        def kinds() -> set[str]:
            signals = runtime.telemetry.signals
            return {one.kind for pool in (signals.pools if signals else ()) for one in pool.refusals}

        await until(lambda: kinds() == ({kind} if kind else set()))
        await until(lambda: (runtime.controller.state.pools["h100"].zones == {}) == (kind is None))
        cluster.gke.finish()
