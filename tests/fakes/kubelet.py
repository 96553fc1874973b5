"""A small kubelet: the pods of one release run as processes of this machine, under their own service accounts.

It binds pods of leadtime's image to a node of its own, starts their command with the ConfigMap that they mount and a
token that is bound to the pod, and says in the pod's status what became of it. A process reaches the API as in a
cluster: KUBERNETES_SERVICE_HOST is an address, the token is a file under /var/run/secrets (a mount namespace of its
own). Paths of settings and the port of its pages are this machine's. Not for Ray: its pods have no image here.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import urllib3
import yaml

from tests.chart.chart import ROOT
from tests.cluster.api import ApiError, RealApi
from tests.cluster.control_plane import PATIENCE_S, mortal
from tests.cluster.network import Relay

NODE = "this-machine"
COMPONENT = "app.kubernetes.io/component"
RUN = ("controller", "release", "standby")
"""Components of the chart whose container is leadtime."""
_CONFIG = "/etc/leadtime/config"
_INSIDE = """\
mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io/serviceaccount &&
mount --bind "$1" /run/secrets/kubernetes.io/serviceaccount && shift && exec "$@"
"""
_PAGES = re.compile(r"pages on (https?://[^\s\"]+)")


@dataclass
class ProcessPod:
    """One pod and its process; `relay` is its only way to the API server."""

    name: str
    uid: str
    component: str
    folder: Path
    relay: Relay
    process: subprocess.Popen[bytes]
    ready: bool = False
    told: str = ""
    """The phase that its status says."""
    ending: bool = False
    objects: Mapping[str, Any] = field(default_factory=dict)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @property
    def journal(self) -> str:
        return "".join(file.read_text() for file in sorted((self.folder / "journal").glob("*.jsonl")))

    @property
    def pages(self) -> str | None:
        found = _PAGES.search(self.log)
        return None if found is None else found[1]

    def page(self, path: str) -> str:
        """The text of one of its pages."""
        assert self.pages is not None
        return urllib3.request("GET", self.pages + path, timeout=10, retries=False).data.decode()

    def signal(self, number: signal.Signals) -> None:
        """To the controller itself."""
        self.process.send_signal(number)


class ProcessPods:
    """`with ProcessPods(api, folder, "lt", addresses) as pods:` plays the kubelet of that namespace's pods."""

    def __init__(self, api: RealApi, folder: Path, namespace: str, addresses: Path) -> None:
        self.api, self.folder, self.namespace, self.addresses = api, folder, namespace, addresses
        self.pods: dict[str, ProcessPod] = {}
        self.ended: list[ProcessPod] = []
        """Those that are gone, in order."""
        self.held = False
        """Start no pod while it is set."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="process-pods", daemon=True)
        self.failure: BaseException | None = None
        self._beat_at_s = 0.0

    def __enter__(self) -> ProcessPods:
        if not self.api.there("v1", "Node", "", NODE):
            ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "plays a kubelet"}
            meta = {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}}
            self.api.add({"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": {"conditions": [ready]}})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(30)
        for pod in list(self.pods.values()):
            pod.process.kill()
            self._forget(pod)

    def running(self, component: str = "controller") -> list[ProcessPod]:
        """Pods whose process runs, oldest first."""
        found = [pod for pod in self.pods.values() if pod.component == component]
        return [pod for pod in found if pod.process.poll() is None]

    # ------------------------------------------------------------ the loop

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._step()
            except (ApiError, urllib3.exceptions.HTTPError):
                pass  # the API server is away, or somebody else was faster: look again
            except BaseException as error:
                self.failure = error
                raise
            self._stopping.wait(0.1)

    def _step(self) -> None:
        self._beat()
        there = {}
        for obj in self.api.all("v1", "Pod", self.namespace):
            component = obj["metadata"].get("labels", {}).get(COMPONENT)
            if component not in RUN:
                continue
            meta = obj["metadata"]
            there[meta["uid"]] = obj
            pod = self.pods.get(meta["uid"])
            if pod is None and not self.held and not meta.get("deletionTimestamp") and not _over(obj):
                self._start(obj, component)
            elif pod is not None:
                self._look(pod, obj)
        for uid, pod in list(self.pods.items()):
            if uid not in there:
                pod.process.kill()
                self._forget(pod)

    def _beat(self) -> None:
        """All nodes have a kubelet that is heard of."""
        if time.monotonic() < self._beat_at_s:
            return
        self._beat_at_s = time.monotonic() + 8.0
        for node in self.api.all("v1", "Node"):
            meta = {"name": node["metadata"]["name"], "namespace": "kube-node-lease"}
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta}
            spec = {"holderIdentity": meta["name"], "leaseDurationSeconds": 40, "renewTime": _micro_now()}
            try:
                self.api.change(lease, {"spec": spec})
            except ApiError:
                self.api.add({**lease, "spec": spec})

    def _start(self, obj: dict[str, Any], component: str) -> None:
        meta, spec = obj["metadata"], obj["spec"]
        if not spec.get("nodeName"):
            binding = {
                "apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"]},
                "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
            }  # fmt: skip
            self.api.request("POST", self.api.path_of(obj) + "/binding", binding)
        place = self.folder / meta["name"]
        place.mkdir()
        secrets = place / "serviceaccount"
        secrets.mkdir()
        (secrets / "token").write_text(self.api.token(self.namespace, spec["serviceAccountName"], obj))
        (secrets / "namespace").write_text(self.namespace)
        (secrets / "ca.crt").write_bytes(self.api.plane.ca.read_bytes())
        self._settings(spec, place)
        relay = Relay(self.api.plane.port).__enter__()
        words = [word.replace(_CONFIG, str(place)) for word in spec["containers"][0]["args"]]
        command = [sys.executable, "-m", "tests.kube.leadtime_process", str(self.addresses), *words]
        inside = ["unshare", "-m", *(() if os.getuid() == 0 else ("-r",)), "sh", "-c", _INSIDE, "sh", str(secrets)]
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "POD_NAME": meta["name"], "POD_NAMESPACE": self.namespace,
            "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(relay.port),
        }  # fmt: skip
        with (place / "log").open("wb") as log:
            process = subprocess.Popen(
                mortal([*inside, *command]), cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.pods[meta["uid"]] = ProcessPod(meta["name"], meta["uid"], component, place, relay, process)

    def _settings(self, spec: dict[str, Any], place: Path) -> None:
        """The files of the ConfigMap that it mounts, with this machine's paths and a free port."""
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in spec["containers"][0]["volumeMounts"]}
        name = mounts[_CONFIG]["projected"]["sources"][0]["configMap"]["name"]
        data = self.api.request("GET", self.api.path("v1", "ConfigMap", self.namespace, name))["data"]
        for file, text in data.items():
            (place / file).write_text(text)
        settings = yaml.safe_load(data["leadtime.yaml"])
        settings["server"] |= {"host": "127.0.0.1", "port": 0}
        settings["state"]["path"], settings["journal"]["path"] = str(place / "state.sqlite"), str(place / "journal")
        settings["kubernetes"]["tokens"] = None
        (place / "leadtime.yaml").write_text(yaml.safe_dump(settings))

    def _look(self, pod: ProcessPod, obj: dict[str, Any]) -> None:
        code = pod.process.poll()
        if obj["metadata"].get("deletionTimestamp"):
            if code is None and not pod.ending:
                pod.ending = True
                pod.process.terminate()
            if code is not None:
                self.api.remove(obj)
                self._forget(pod)
            return
        if code is not None:
            self._tell(pod, obj, "Succeeded" if code == 0 else "Failed", code)
        elif pod.component == "release":
            self._tell(pod, obj, "Running")
        elif pod.pages is not None:
            try:
                answer = urllib3.request("GET", pod.pages + "/readyz", timeout=2, retries=False).status
            except urllib3.exceptions.HTTPError:
                answer = 0
            pod.ready = answer == 200
            self._tell(pod, obj, "Running")

    def _tell(self, pod: ProcessPod, obj: dict[str, Any], phase: str, code: int = 0) -> None:
        """The status that a kubelet would write."""
        said = f"{phase} {pod.ready}"
        if pod.told == said:
            return
        ready = phase == "Running" and (pod.ready or pod.component == "release")
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        conditions = [
            {"type": kind, "status": "True" if value else "False", "lastTransitionTime": now}
            for kind, value in (
                ("PodScheduled", True), ("Initialized", True), ("ContainersReady", ready), ("Ready", ready),
            )
        ]  # fmt: skip
        over = {"terminated": {"exitCode": code, "finishedAt": now, "reason": "Completed" if code == 0 else "Error"}}
        container = obj["spec"]["containers"][0]
        status = {
            "name": container["name"], "image": container["image"], "imageID": "", "ready": ready, "restartCount": 0,
            "state": {"running": {"startedAt": now}} if phase == "Running" else over,
        }  # fmt: skip
        patch = {"status": {"phase": phase, "conditions": conditions, "containerStatuses": [status]}}
        self.api.change(obj, patch, "status")
        pod.told = said

    def _forget(self, pod: ProcessPod) -> None:
        pod.process.wait(PATIENCE_S)
        pod.relay.__exit__()
        self.ended.append(self.pods.pop(pod.uid))


def _over(obj: dict[str, Any]) -> bool:
    return obj.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _micro_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
