"""Placeholders of the chart and a real kube-scheduler: they hold a node, make way for a worker, and wait for the next.

The node is an object that nothing runs on. What is real: priorities, fitting, preemption, and the Deployment.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.api import RealApi
from tests.cluster.control_plane import PATIENCE_S, SCHEDULER
from tests.cluster.helm import Helm
from tests.cluster.release import values
from tests.fakes.kubernetes import objects
from tests.kube.helpers import until

pytestmark = pytest.mark.cluster
SPACE = "placeholders"
NODE = "h100-1"


@pytest.fixture
def scheduled(cluster: RealApi, tmp_path: Path) -> Iterator[RealApi]:
    """One node with 8 GPUs, the scheduler, and the chart with one pool of placeholders and no controller."""
    cluster.fresh(("llm", SPACE))
    wants = tmp_path / "wants.json"
    wants.write_text(json.dumps({"replicas": 1, "nodes": 1}))
    helm = Helm(cluster.plane, tmp_path, SPACE)
    node = objects.node(NODE)
    node["status"]["allocatable"] |= {"pods": "110"}
    cluster.add({**node, "status": {**node["status"], "capacity": node["status"]["allocatable"]}})
    cluster.plane.add(SCHEDULER)
    try:
        helm.install({**values(wants, pods=0, ways={"h100": "placeholder"})})
        yield cluster
        helm.uninstall("--no-hooks")
    finally:
        cluster.plane.kill(SCHEDULER)


def placeholders(api: RealApi) -> list[dict[str, Any]]:
    return [pod for pod in api.all("v1", "Pod", SPACE) if "leadtime.dev/placeholder" in pod["metadata"]["labels"]]


def place(pod: dict[str, Any]) -> str | None:
    found: str | None = pod["spec"].get("nodeName")
    return found


async def test_a_worker_pushes_a_placeholder_aside_and_the_next_one_waits_for_a_node(scheduled: RealApi) -> None:
    await until(lambda: [place(pod) for pod in placeholders(scheduled)] == [NODE], PATIENCE_S, 0.1)
    (first,) = placeholders(scheduled)
    assert first["spec"]["priority"] == -10
    assert first["spec"]["preemptionPolicy"] == "Never"

    # a worker of Ray that needs the whole node
    worker = objects.pod("worker", on=None)
    scheduled.add({key: worker[key] for key in ("apiVersion", "kind", "metadata", "spec")})
    await until(lambda: place(scheduled.read(worker)) == NODE, PATIENCE_S, 0.1)

    await until(lambda: len(placeholders(scheduled)) == 1, PATIENCE_S, 0.1)
    (second,) = placeholders(scheduled)
    assert second["metadata"]["name"] != first["metadata"]["name"]
    told = {event["reason"] for event in scheduled.all("events.k8s.io/v1", "Event", SPACE) if about(event, first)}
    assert "Preempted" in told

    def waits() -> bool:
        conditions = scheduled.read({**second, "apiVersion": "v1", "kind": "Pod"})["status"].get("conditions") or ()
        return any(c["type"] == "PodScheduled" and c["reason"] == "Unschedulable" for c in conditions)

    await until(waits, PATIENCE_S, 0.1)

    # another node comes for it
    node = objects.node("h100-2")
    node["status"]["allocatable"] |= {"pods": "110"}
    scheduled.add({**node, "status": {**node["status"], "capacity": node["status"]["allocatable"]}})
    await until(lambda: [place(pod) for pod in placeholders(scheduled)] == ["h100-2"], PATIENCE_S, 0.1)


def about(event: dict[str, Any], pod: dict[str, Any]) -> bool:
    return bool(event["regarding"].get("uid") == pod["metadata"]["uid"])
