"""A release of the chart whose pods are processes, on the fake Kubernetes API; and what must hold of what they did.

For end-to-end tests: `Installed` renders the chart, puts its objects and rights into the fake API and runs `leadtime`
with the settings of its ConfigMap. Not for what is around it: tests/fakes/operator.py, and tests/live for a real Ray
Serve.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from autoscaler.cli.replay import replay
from autoscaler.runtime.journal_file import read_journal
from charts.generate.crd import definition
from tests.chart import chart
from tests.fakes.kubernetes import objects
from tests.fakes.kubernetes.crds import KUBERAY
from tests.fakes.kubernetes.rbac import Rbac
from tests.fakes.kubernetes.server import FakeApi
from tests.fakes.kubernetes.status import ApiError
from tests.kube.helpers import kubeconfig

RELEASE, NAMESPACE = f"{chart.NAME}-leadtime", chart.NAMESPACE
USER = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"
SECRET = "chat-llm-ray-token"
LOWEST, HIGHEST = 1, 6
STALE_AFTER_S = 5.0
POLICY = """\
from math import ceil
from policies.base import FleetProposal, ReplicaProposal, Term
from policies.plugin import PolicyPlugin

class Quick(PolicyPlugin):
    name = "quick"

    def propose(self, fleet, state, now_s):
        known = [d for d in fleet.deployments if d.waiting is not None and d.ongoing is not None]
        wants = {d.key: ceil((d.waiting + d.ongoing) / PER_REPLICA) for d in known}
        return FleetProposal({k: ReplicaProposal(n, (Term("quick", n, "requests"),)) for k, n in wants.items()})
"""
"""Without a period or a forecast, so that minutes fit into seconds."""
LEASE = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": RELEASE, "namespace": NAMESPACE},
}
SERVED = ("ConfigMap", "Lease")
"""Kinds of the rendered chart that the fake API holds as objects; Roles are its rights."""


def values(match: str, requests_per_replica: int) -> dict[str, Any]:
    """The chart's values: two pods that act on the deployments of `match`, quickly."""
    return {
        "replicas": 2,
        "watchNamespaces": ["llm"],
        "secrets": [{"name": SECRET}],
        "files": {"quick.py": POLICY.replace("PER_REPLICA", str(requests_per_replica))},
        "config": {
            "dry_run": False,
            "tick_s": 0.5,
            "kubernetes": {"nodes": True},
            "leader_election": {"lease_s": 8, "renew_deadline_s": 6},
            "deployments": [
                {"match": match, "replicas": {"min": LOWEST, "max": HIGHEST}, "node_pools": ["h100"]},
            ],
            "node_pools": [{"name": "h100"}],
            "policy": {"name": "quick.py:Quick"},
            "guards": {"scale_down_stabilization_s": 3.0, "stale_after_s": STALE_AFTER_S},
        },
    }


class Installed:
    """A release, and what the fake API held before it."""

    def __init__(self, api: FakeApi, folder: Path, chosen: dict[str, Any], token: str) -> None:
        self.api, self.folder = api, folder
        self.before = everything(api)
        self.docs = chart.render(chosen)
        api.rbac = Rbac.from_documents(self.docs)
        self.objects = [d for d in self.docs if d["kind"] in SERVED]
        for doc in self.objects:
            api.add(doc)
        secret = folder / "secrets" / "llm" / SECRET
        secret.mkdir(parents=True)
        (secret / "auth_token").write_text(token)
        self.addresses = folder / "addresses.json"
        self.pods: dict[str, asyncio.subprocess.Process] = {}
        self.started: list[str] = []
        self.refused: list[str] = []
        """Requests that the rendered rights did not allow while the release was there."""
        self.unused: set[tuple[str, str]] = set()
        """(verb, resource) of rights that nobody used until then."""

    async def start(self, name: str) -> None:
        """The pod's settings are the ConfigMap's; only paths, port and the way to the API are this machine's."""
        place = self.folder / name
        place.mkdir()
        settings = yaml.safe_load(chart.settings(self.docs))
        settings["server"] |= {"host": "127.0.0.1", "port": 0}
        settings["state"]["path"], settings["journal"]["path"] = str(place / "state.sqlite"), str(place / "journal")
        settings["kubernetes"]["tokens"] = str(self.folder / "secrets")
        settings["kubernetes"]["kubeconfig"] = str(kubeconfig(place / "kubeconfig", self.api.url, "t"))
        for file, text in chart.one(self.docs, "ConfigMap", RELEASE)["data"].items():
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
        return str((lease.get("spec") or {}).get("holderIdentity") or "").partition("_")[0]

    def log(self, name: str) -> str:
        return (self.folder / name / "log").read_text()

    async def kill(self, name: str) -> None:
        pod = self.pods.pop(name)
        pod.kill()
        await pod.wait()

    async def uninstall(self) -> list[int]:
        """As helm does, which waits for no pod: they are told to end, and rights and objects go at once. Exit codes."""
        pods = list(self.pods.values())
        self.pods = {}
        assert self.api.rbac is not None
        self.refused = [f"{r.verb} {r.resource} {r.name}" for r in self.api.requests if r.status == 403]
        unused = self.api.rbac.unused(USER)
        # Events of the pod itself tell of trouble of the whole: in a release that works there is none.
        unused = [one for one in unused if not (one.resource == "events" and one.namespace == NAMESPACE)]
        self.unused = {(one.verb, one.resource) for one in unused}
        for pod in pods:
            pod.send_signal(signal.SIGTERM)
        self.api.rbac = Rbac()
        for doc in self.objects:
            self.api.remove(doc)
        return [await asyncio.wait_for(pod.wait(), 60) for pod in pods]

    def left(self) -> set[tuple[str, str, str]]:
        """What is there now and was not before the release."""
        return everything(self.api) - self.before


@asynccontextmanager
async def installed(folder: Path, chosen: dict[str, Any], token: str) -> AsyncIterator[Installed]:
    """A fake cluster with one GPU node and the release in it; no process of it is left afterwards."""
    crds = (*KUBERAY, definition())
    with FakeApi(crds=crds, rbac=Rbac(), tokens={"t": USER}, namespaces=("llm", NAMESPACE)) as api:
        api.add(objects.node())
        release = Installed(api, folder, chosen, token)
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


# ---------------------------------------------------------------- what must hold of every tick


def check_journals(release: Installed, highest: int) -> dict[str, int]:
    """Every tick of every pod within the invariants, and no two pods that wrote in turns; each pod's writes."""
    writes = {name: _check_journal(release.folder / name / "journal", highest) for name in release.started}
    spans = sorted((times[0], times[-1]) for times in writes.values() if times)
    for (_, last_s), (first_s, _) in itertools.pairwise(spans):
        assert last_s < first_s, "two pods wrote in turns"
    return {name: len(times) for name, times in writes.items()}


def _check_journal(path: Path, highest: int) -> list[float]:
    """When writes went out. Decisions are made again by `replay`, guards included."""
    writes, last_s = [], 0.0
    for record in read_journal(path):
        tick = record.data
        if tick["kind"] != "tick":
            continue
        assert tick["now_s"] >= last_s
        last_s = tick["now_s"]
        for key, target in tick["plan"]["deployments"].items():
            applied = tick["applied"].get(key)
            assert target is None or not key.endswith("OpenAiIngress"), "only observed: it has no settings"
            if target is not None:
                assert LOWEST <= target <= highest
                _check_scale_down(tick, key, target)
            if applied is not None and applied["outcome"] == "ok":
                assert tick["leader"], "a follower wrote"
                assert target is not None, "wrote what was left alone"
                writes.append(tick["now_s"])
    report = replay(path, trust_policy=True)
    assert (report.differing, report.ticks > 0) == (0, True)
    return writes


def _check_scale_down(tick: dict[str, Any], key: str, target: int) -> None:
    """Unknown is not zero; one step at a time; those who stay have room for what is in flight."""
    observed, seen = tick["plan"]["observed"][key], tick["signals"][key]
    if observed is None or target >= observed:
        return
    assert seen["metrics"] is not None
    assert tick["now_s"] - seen["metrics"]["as_of_s"] <= STALE_AFTER_S, "scaled down on old metrics"
    slots = seen["inventory"]["max_ongoing_requests"]
    running = seen["running"]
    if slots and seen["ongoing"] is not None and running is not None and target < running:
        assert target >= min(observed, math.ceil(seen["ongoing"] / slots - 1e-9)), "those who stay have no room"
