"""The whole product in a cluster: the rendered chart's settings and rights, `leadtime run` as two real processes, the
fake Kubernetes API, a KubeRay-like operator double, fake Ray dashboards with traffic behind them.

A ramp, an upgrade, the leader killed in mid-write, an uninstall. Every write within the rights of the chart's Roles, no
request lost, every tick of both processes' journals within the invariants, and nothing left behind.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoscaler.cli.replay import replay
from autoscaler.journal_file import read_journal
from tests.chart import chart
from tests.kube import objects
from tests.kube.crds import KUBERAY
from tests.kube.fake_api import FakeApi
from tests.kube.helpers import kubeconfig, until
from tests.kube.operator_double import APP, LLM, Operator
from tests.kube.rbac import Rbac
from tests.kube.status import ApiError

RELEASE, NAMESPACE = f"{chart.NAME}-leadtime", chart.NAMESPACE
USER = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"
TOKEN = "t0ken-0f-the-dashboard"
LOWEST, HIGHEST = 1, 6
POLICY = """\
from math import ceil
from policies.base import FleetProposal, ReplicaProposal, Term
from policies.static import StaticState

class Quick:
    name, period_s, guards, clairvoyant, telemetry, forecast, options = "quick", None, "full", False, None, None, None

    def new_state(self):
        return StaticState()

    def propose(self, fleet, state, now_s):
        known = [d for d in fleet.deployments if d.waiting is not None and d.ongoing is not None]
        wants = {d.key: ceil((d.waiting + d.ongoing) / 3) for d in known}
        return FleetProposal({k: ReplicaProposal(n, (Term("quick", n, "3 requests each"),)) for k, n in wants.items()})
"""
"""Without a period or a forecast, so that minutes fit into seconds."""
VALUES: dict[str, Any] = {
    "replicas": 2,
    "watchNamespaces": ["llm"],
    "secrets": [{"name": "chat-llm-ray-token"}],
    "files": {"quick.py": POLICY},
    "config": {
        "dry_run": False,
        "tick_s": 0.5,
        "kubernetes": {"nodes": True},
        "leader_election": {"lease_s": 2.5, "renew_deadline_s": 1.5},
        "deployments": [
            {"match": f"{APP}/LLMServer:*", "replicas": {"min": LOWEST, "max": HIGHEST}, "node_pools": ["h100"]}
        ],
        "node_pools": [{"name": "h100"}],
        "policy": {"name": "quick.py:Quick"},
        "guards": {"scale_down_stabilization_s": 3.0, "stale_after_s": 5.0},
    },
}
LEASE = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": RELEASE, "namespace": NAMESPACE},
}
SERVED = ("ConfigMap",)
"""Kinds of the rendered chart that the fake API holds as objects; Roles are its rights."""


class Installed:
    """A release of the chart, whose pods are processes."""

    def __init__(self, api: FakeApi, folder: Path) -> None:
        self.api, self.folder = api, folder
        self.docs = chart.render(VALUES)
        api.rbac = Rbac.from_documents(self.docs)
        self.objects = [d for d in self.docs if d["kind"] in SERVED]
        for doc in self.objects:
            api.add(doc)
        secret = folder / "secrets" / "chat-llm-ray-token"
        secret.mkdir(parents=True)
        (secret / "auth_token").write_text(TOKEN)
        self.addresses = folder / "addresses.json"
        self.pods: dict[str, asyncio.subprocess.Process] = {}
        self.started: list[str] = []

    async def start(self, name: str) -> None:
        """The pod's settings are the ConfigMap's; only paths, port and the way to the API are this machine's."""
        place = self.folder / name
        place.mkdir()
        settings = yaml.safe_load(chart.settings(self.docs))
        settings["server"] |= {"host": "127.0.0.1", "port": 0}
        settings["state"]["path"], settings["journal"]["path"] = str(place / "state.sqlite"), str(place / "journal")
        settings["kubernetes"]["tokens"] = str(self.folder / "secrets")
        settings["kubernetes"]["kubeconfig"] = str(kubeconfig(place / "kubeconfig", self.api.url, "t"))
        for file, text in self.objects[0]["data"].items():
            (place / file).write_text(text)
        (place / "leadtime.yaml").write_text(yaml.safe_dump(settings))
        words = ("-m", "tests.kube.leadtime_process", str(self.addresses), "run", "--log-json", "--config")
        with (place / "log").open("wb") as log:
            self.pods[name] = await asyncio.create_subprocess_exec(
                sys.executable, *words, str(place / "leadtime.yaml"),
                cwd=chart.ROOT, env={**os.environ, "POD_NAME": name, "POD_NAMESPACE": NAMESPACE}, stderr=log,
            )  # fmt: skip
        self.started.append(name)

    def holder(self) -> str:
        """The pod that the lease names."""
        try:
            lease = self.api.read(LEASE)
        except ApiError:
            return ""
        return str(lease["spec"]["holderIdentity"]).partition("_")[0]

    def log(self, name: str) -> str:
        return (self.folder / name / "log").read_text()

    async def kill(self, name: str) -> None:
        pod = self.pods.pop(name)
        pod.kill()
        await pod.wait()

    async def uninstall(self) -> list[int]:
        """As helm does: the pods are terminated, then the objects of the release go. The pods' exit codes."""
        pods = list(self.pods.values())
        self.pods = {}
        for pod in pods:
            pod.send_signal(signal.SIGTERM)
        codes = [await asyncio.wait_for(pod.wait(), 20) for pod in pods]
        for doc in self.objects:
            self.api.remove(doc)
        return codes


@pytest.fixture
async def installed(tmp_path: Path) -> AsyncIterator[Installed]:
    with FakeApi(crds=KUBERAY, rbac=Rbac(), tokens={"t": USER}, namespaces=("llm", NAMESPACE)) as api:
        api.add(objects.node())
        release = Installed(api, tmp_path)
        try:
            yield release
        finally:
            for pod in release.pods.values():
                pod.kill()
                await pod.wait()


def everything(api: FakeApi) -> set[tuple[str, str, str]]:
    """All objects but Events, which expire by themselves."""
    found = set()
    for kind in api.kinds:
        if kind.kind != "Event":
            for obj in api.all(kind.api_version, kind.kind):
                found.add((kind.kind, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]))
    return found


def check_journal(path: Path) -> int:
    """Every tick within the invariants; how many writes went out."""
    writes, last_s = 0, 0.0
    for record in read_journal(path):
        tick = record.data
        if tick["kind"] != "tick":
            continue
        assert tick["now_s"] >= last_s
        last_s = tick["now_s"]
        for key, target in tick["plan"]["deployments"].items():
            observed, applied = tick["plan"]["observed"][key], tick["applied"].get(key)
            assert target is None or LOWEST <= target <= HIGHEST
            assert target is None or not key.endswith("OpenAiIngress"), "only observed: it has no settings"
            seen = tick["signals"][key]
            if target is not None and observed is not None and target < observed:
                assert seen["metrics"] is not None
                assert tick["now_s"] - seen["metrics"]["as_of_s"] <= 5.0, "scaled down on old metrics"
            if applied is not None and applied["outcome"] == "ok":
                assert tick["leader"], "a follower wrote"
                writes += 1
    report = replay(path)
    assert (report.differing, report.ticks > 0) == (0, True)
    return writes


async def test_a_ramp_an_upgrade_a_killed_leader_and_an_uninstall(installed: Installed, tmp_path: Path) -> None:
    api = installed.api
    service = objects.ray_service(annotations={"leadtime.dev/enabled": "true", "leadtime.dev/max-replicas": "5"})
    before = everything(api) - {
        (d["kind"], d["metadata"]["namespace"], d["metadata"]["name"]) for d in installed.objects
    }
    async with Operator(api, service, TOKEN, installed.addresses) as operator:
        before |= {("RayService", "llm", "chat-llm")}
        first = operator.now_active

        await installed.start("pod-0")
        await until(lambda: installed.holder() == "pod-0", 20)
        await installed.start("pod-1")

        # the ramp: more users than the settings' six replicas and the annotation's five could serve
        for rate_rps in (8.0, 20.0, 60.0):
            operator.rate_rps = rate_rps
            await asyncio.sleep(1.0)
        await until(lambda: first.replicas == 5, 20)
        operator.rate_rps = 20.0

        # the leader dies in mid-write: the request arrived, the answer never comes
        first.dashboard.hold = True
        await until(lambda: first.dashboard.held > 0, 20)
        await installed.kill("pod-0")
        first.dashboard.hold = False
        level = first.replicas
        assert level == 5
        await until(lambda: installed.holder() == "pod-1", 20)
        await until(lambda: first.replicas < level, 20)
        await installed.start("pod-2")

        # the upgrade: the new cluster is prepared before anybody is sent there
        operator.change_spec("2.61.0")
        await until(lambda: operator.pending is not None and operator.pending.replicas >= min(3, first.replicas), 20)
        second = operator.pending
        assert second is not None
        operator.switch()
        await until(lambda: first.name not in operator.clusters, 20)
        assert (second.dashboard.posts, second.plane.arrived > 0) != ([], False)

        operator.rate_rps = 0.0
        await until(lambda: second.plane.inside < 0.5, 20)

        # the uninstall: targets stay, the lease is given back, everything that the chart made is gone
        await until(lambda: "pages on" in installed.log("pod-2"), 20)
        codes = await installed.uninstall()
        kept = second.replicas
        assert codes == [0, 0]
        assert api.read(LEASE)["spec"]["holderIdentity"] == ""
        await asyncio.sleep(1.0)
        assert second.replicas == kept
        left = everything(api) - before - {("RayCluster", "llm", second.name)}
        assert left == {("Lease", NAMESPACE, RELEASE)}, "no more than the free lease, as docs/kubernetes.md says"
        assert operator.answered == pytest.approx(operator.arrived, abs=1.5)

    assert [f"{r.verb} {r.resource} {r.name}" for r in api.requests if r.status == 403] == []
    assert api.rbac is not None
    # a repeated event is patched after five minutes only
    assert {(p.verb, p.resource) for p in api.rbac.unused(USER)} <= {("patch", "events")}
    writes = {name: check_journal(tmp_path / name / "journal") for name in installed.started}
    assert writes["pod-0"] > 0
    assert writes["pod-1"] > 0
    levels = [
        body["target_num_replicas"] for c in (first, second) for _, name, body in c.dashboard.posts if name == LLM
    ]
    assert all(LOWEST <= level <= 5 for level in levels)
    assert {name for c in (first, second) for _, name, _ in c.dashboard.posts} == {LLM}
    assert not any(TOKEN in installed.log(name) for name in installed.started)
