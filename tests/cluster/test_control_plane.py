"""The control plane itself: it comes up whole, it is what it says, and nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster import parts
from tests.cluster.api import RealApi
from tests.cluster.control_plane import PATIENCE_S, ControlPlane
from tests.cluster.network import Relay

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).resolve().parents[2]


def test_the_server_is_a_real_one_and_serves_what_kuberay_and_the_autoscaler_define(cluster: RealApi) -> None:
    assert cluster.request("GET", "/version")["gitVersion"] == "v1.37.2"
    for api_version, kind in (("ray.io/v1", "RayService"), ("autoscaling.x-k8s.io/v1beta1", "CapacityBuffer")):
        served = cluster.request("GET", f"/apis/{api_version}")["resources"]
        assert kind in {one["kind"] for one in served}


def test_the_audit_log_tells_who_did_what_and_what_came_of_it(cluster: RealApi) -> None:
    cluster.fresh(["llm"])
    made = cluster.add({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "llm"}})

    (call,) = cluster.traffic.writes()
    assert (call.user, call.verb, call.resource, call.namespace, call.name, call.status) == (
        "kubernetes-admin", "create", "configmaps", "llm", "a", 201,
    )  # fmt: skip
    assert call.revision == int(made["metadata"]["resourceVersion"])


def test_a_relay_that_is_cut_carries_nothing_and_heals(plane: ControlPlane) -> None:
    kubectl = [str(parts.require("kubectl")), "--request-timeout=2s", f"--kubeconfig={plane.admin}"]

    def asks(relay: Relay) -> int:
        server = f"--server=https://127.0.0.1:{relay.port}"
        command = [*kubectl, server, "get", "--raw", "/version"]
        return subprocess.run(command, capture_output=True, check=False).returncode

    with Relay(plane.port) as relay:
        assert asks(relay) == 0
        relay.silence()
        assert asks(relay) != 0
        relay.heal()
        assert asks(relay) == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_make_cluster_leaves_no_process_and_no_file(how: signal.Signals, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "tests.cluster"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C" in line:
            break
    assert any("export KUBECONFIG=" in line for line in lines), lines
    assert running(tmp_path) != []
    process.send_signal(how)
    process.wait(PATIENCE_S)
    process.stdout.close()

    ends_at_s = time.monotonic() + PATIENCE_S
    while running(tmp_path):
        assert time.monotonic() < ends_at_s, running(tmp_path)
        time.sleep(0.05)
    if how is signal.SIGINT:  # a process that is killed cannot clean up its folder
        assert process.returncode == 0
        assert list(tmp_path.iterdir()) == []


def running(folder: Path) -> list[str]:
    """Command lines that name the folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words and file.parent.name != str(os.getpid()):
            found.append(words)
    return found
