"""Ray's own autoscaler with nodes that come and go: `request_resources` has them there before replicas ask for them."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoscaler.actuators.prewarm import PrewarmActuator, RayHead
from autoscaler.actuators.ways.request_resources import RayRequestResources
from autoscaler.clients.ray_dashboard import DashboardClient
from autoscaler.core.types import Plan, PoolPlan, ServiceGpus
from autoscaler.core.types.pools import WarmPool
from leadtime.demo.nodes import Nodes, prepare
from tests.live.conftest import skip_without_ray
from tests.live.local_serve import HERE, LocalServe, end_processes, environment_of, free_ports, is_up, ray_python

pytestmark = [pytest.mark.ray, pytest.mark.slow]
GPUS, MOST_NODES, PROVISION_S = 8, 4, 8.0
APP = {"name": "gpu", "route_prefix": "/gpu", "import_path": "gpu_app:build", "external_scaler_enabled": True}


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalServe]:
    """A head with Ray's autoscaler, and no node yet. Version 1: version 2 knows no external provider."""
    skip_without_ray()
    folder = Path(tempfile.mkdtemp(prefix="ltn"))
    gcs, dashboard, agent, grpc, metrics, http, runtime_env, client = free_ports(8)
    environment = environment_of(folder, None)
    file, more = prepare(folder, f"127.0.0.1:{gcs}", Nodes(GPUS, MOST_NODES, PROVISION_S), environment["PYTHONPATH"])
    environment |= more
    command = [
        str(ray_python().with_name("ray")), "start", "--head", "--block", "--disable-usage-stats",
        f"--autoscaling-config={file}", f"--port={gcs}", "--node-ip-address=127.0.0.1",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}",
        f"--dashboard-agent-grpc-port={grpc}", f"--runtime-env-agent-port={runtime_env}",
        f"--metrics-export-port={metrics}", f"--ray-client-server-port={client}", f"--temp-dir={folder / 'ray'}",
        "--num-cpus=4", "--num-gpus=0", "--object-store-memory=100000000", "--include-log-monitor=false",
    ]  # fmt: skip
    with (folder / "start.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=HERE, start_new_session=True
        )
    serve = LocalServe(
        dashboard=f"http://127.0.0.1:{dashboard}", http=f"http://127.0.0.1:{http}", http_port=http,
        metrics=f"http://127.0.0.1:{metrics}/metrics", folder=folder, root_pid=process.pid,
    )  # fmt: skip
    try:
        serve.wait("dashboard up", lambda: is_up(serve, process), 90.0)
        yield serve
    finally:
        end_processes(process)
        shutil.rmtree(folder, ignore_errors=True)


def nodes(cluster: LocalServe) -> int:
    """Nodes beside the head that Ray has alive."""
    status, text = cluster.request("GET", "/api/v0/nodes")
    assert status == 200, text
    listed = json.loads(text)["data"]["result"]["result"]
    return sum(1 for node in listed if node["state"] == "ALIVE" and not node["is_head_node"])


def scale(cluster: LocalServe, replicas: int) -> None:
    path = "/api/v1/applications/gpu/deployments/Model/scale"
    status, text = cluster.request("POST", path, {"target_num_replicas": replicas})
    assert status == 200, text


async def hold(cluster: LocalServe, count: int) -> None:
    """What the plan of `count` nodes makes leadtime's actuator ask for, until it is done."""
    client = DashboardClient(cluster.dashboard, timeout_s=20.0)
    pool = WarmPool("gpu", "request_resources", GPUS, GPUS, resources={"GPU": float(GPUS)})
    way = RayRequestResources(lambda: [RayHead("default", "local", client)])
    actuator = PrewarmActuator(way, [pool], deadline_s=20.0)
    for _ in range(300):
        now_s = time.time()
        pools = (PoolPlan("gpu", count, 0, (), 0, (ServiceGpus("default", "local", 0),)),)
        (applied,) = (await actuator.apply(Plan(1, now_s, True, False, (), pools), now_s)).applied
        if applied.outcome == "unchanged" and not applied.why:
            break
        await asyncio.sleep(0.2)
    await client.close()
    assert applied.outcome == "unchanged", applied


async def test_nodes_that_were_asked_for_ahead_spare_replicas_the_wait(cluster: LocalServe) -> None:
    cluster.deploy(APP)
    cluster.wait("the first node is wanted by the first replica", lambda: cluster.running("gpu", "Model") == 1, 120.0)
    assert nodes(cluster) == 1

    scale(cluster, 3)
    cold_s = await asyncio.to_thread(cluster.wait, "3 running", lambda: cluster.running("gpu", "Model") == 3, 120.0)
    assert nodes(cluster) == 2

    await hold(cluster, 3)
    ahead_s = await asyncio.to_thread(cluster.wait, "the third node", lambda: nodes(cluster) == 3, 120.0)
    scale(cluster, 6)
    warm_s = await asyncio.to_thread(cluster.wait, "6 running", lambda: cluster.running("gpu", "Model") == 6, 120.0)
    print(f"\n  [live] replicas on a new node {cold_s:.1f} s, on one asked for ahead ({ahead_s:.1f} s) {warm_s:.1f} s")
    assert cold_s > PROVISION_S
    assert nodes(cluster) == 3

    await hold(cluster, 0)
    scale(cluster, 1)
    gone_s = await asyncio.to_thread(cluster.wait, "idle nodes gone", lambda: nodes(cluster) == 1, 120.0)
    print(f"  [live] given back and idle -> gone: {gone_s:.1f} s")
