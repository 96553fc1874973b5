"""Autoscaler objects at a real API server: what the chart's definition refuses and in which words, and a row of
`kubectl get leadtime` with a reason."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.generate.crd import definition
from tests.autoscaler.sources.test_autoscalers import BAD, FULL, with_value
from tests.chart.chart import CHART
from tests.cluster import parts
from tests.cluster.api import ApiError, RealApi
from tests.cluster.helm import Helm
from tests.cluster.release import APP, SERVICES, released, values
from tests.fakes.kubernetes import objects

pytestmark = pytest.mark.cluster
NAME = definition()["metadata"]["name"]
CRD = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": NAME}}
BEYOND, LATER = "profile", ("Europe/Berlin or UTC", "no longer than that")
"""Names of presets, time zones and the times of a calendar are known to the controller alone."""
REFUSED = {
    "target.kind": 'spec.target.kind: Unsupported value: "Deployment": supported values: "RayService", "RayCluster"',
    "target.name": "spec.target.name: Invalid value",
    "target.application": "spec.target.application",
    "target.deployment": "spec.target.deployment",
    "replicas.min": "spec.replicas",
    "replicas.max": "spec.replicas.max",
    "slo.ttftSeconds": "spec.slo.ttftSeconds: Invalid value: 2000: above 600 s: 2000 ms are written 2",
    "slo.itlSeconds": "spec.slo.itlSeconds: Invalid value: 0: allowed: seconds > 0 and <= 10",
    "slo.targetFraction": ": allowed: a share < 1",
    "nodePools": "spec.nodePools",
    "weight": "spec.weight: Invalid value: 0: allowed: a number > 0",
    "priority": "spec.priority: Invalid value: 2000: spec.priority in body should be less than or equal to 1000",
    "schedule": "spec.schedule",
    "paused": "spec.paused: Invalid value",
}
"""Field -> words of the server."""


@pytest.fixture
def kind(cluster: RealApi) -> Iterator[RealApi]:
    """The definition alone, without a release."""
    cluster.fresh((SERVICES,))
    cluster.add(definition())
    cluster.plane.until(lambda: _established(cluster), "the definition is established")
    yield cluster
    undefine(cluster)


def _exists(cluster: RealApi) -> bool:
    try:
        cluster.read(CRD)
    except ApiError as error:
        if error.code != 404:
            raise
        return False
    return True


def undefine(cluster: RealApi) -> None:
    """The definition, and all objects with it, are gone."""
    if _exists(cluster):
        cluster.remove(CRD)
    cluster.plane.until(lambda: not _exists(cluster), "the definition is gone")


def _established(cluster: RealApi) -> bool:
    conditions = (cluster.read(CRD).get("status") or {}).get("conditions") or []
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def test_every_wrong_value_is_refused_by_the_server_with_its_reason(kind: RealApi) -> None:
    kind.remove(kind.add(FULL))
    tried = set()
    for field, value, words in (*BAD, ("target.name", "Upper", "")):
        if field == BEYOND or value != value or words.endswith(LATER):  # JSON has no NaN
            continue
        with pytest.raises(ApiError) as caught:
            kind.add(with_value(field, value))
        assert REFUSED[field] in str(caught.value), (field, value, str(caught.value))
        tried.add(field)
    assert tried == set(REFUSED)


async def test_a_row_with_a_reason_by_helm_and_what_stays_after_an_uninstall(cluster: RealApi, tmp_path: Path) -> None:
    def chosen(wants: Path) -> dict[str, Any]:
        made = values(wants, ways={})
        made["config"] |= {"kubernetes": {"autoscalers": True}, "node_pools": []}
        made["config"]["deployments"] = [{"match": f"{SERVICES}/*/{APP}/LLMServer:*", "replicas": {"min": 1, "max": 6}}]
        return made

    try:
        async with released(cluster, tmp_path, "own", None) as release:
            old = earlier_chart(tmp_path / "old")
            await asyncio.to_thread(release.helm.install, chosen(release.wants_file), chart=old)
            await release.rolled_out(1)
            asked = cluster.add(objects.autoscaler(replicas={"max": 4}))
            release.wants(6, 0)
            await release.until(lambda: release.target == 4, "the object's maximum holds")

            def acting() -> bool:
                conditions = (cluster.read(asked).get("status") or {}).get("conditions") or []
                return any(one["type"] == "Acting" and one["status"] == "True" for one in conditions)

            await release.until(acting, "the status says that leadtime acts")
            header, row = rows(cluster)
            assert header.split() == ["NAME", "TARGET", "CURRENT", "DESIRED", "FORECAST", "LEAD", "ATTAINED", "READY",
                                      "ACTING", "REASON", "AGE"]  # fmt: skip
            assert row.split()[:2] == ["chat", "chat-llm"]
            assert "replicas.max is 4" in row
            events = [
                one for one in cluster.all("events.k8s.io/v1", "Event") if one["regarding"]["kind"] == "Autoscaler"
            ]
            assert events

            # an upgrade of the release upgrades the definition, and an object stays as it is
            assert "weight" not in fields(cluster)
            await asyncio.to_thread(release.helm.upgrade, chosen(release.wants_file))
            assert "weight" in fields(cluster)
            assert cluster.change(asked, {"spec": {"weight": 0.5}})["spec"]["weight"] == 0.5
            assert cluster.read(asked)["spec"]["replicas"] == {"max": 4}

            refused = [f"{call.verb} {call.resource} {call.name}" for call in release.calls() if call.status == 403]
            assert refused == []
        assert cluster.read(asked)["spec"]["replicas"] == {"max": 4}, "an uninstall takes nobody's objects"

        # a second release leaves the definition to the first
        helm = Helm(cluster.plane, tmp_path, "own", "second")
        with pytest.raises(AssertionError, match="annotation validation error"):
            await asyncio.to_thread(helm.install, chosen(release.wants_file))
        second = {**chosen(release.wants_file), "autoscalers": {"createDefinition": False}}
        await asyncio.to_thread(helm.install, second)
        await asyncio.to_thread(helm.uninstall, "--no-hooks")
    finally:
        undefine(cluster)


def earlier_chart(folder: Path) -> Path:
    """The chart of a release whose definition had no `weight` yet."""
    shutil.copytree(CHART, folder)
    file = folder / "definitions" / "autoscalers.yaml"
    older = yaml.safe_load(file.read_text())
    del older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["weight"]
    file.write_text(yaml.safe_dump(older))
    return folder


def fields(cluster: RealApi) -> set[str]:
    """Of `spec`, as the server has them."""
    (version,) = cluster.read(CRD)["spec"]["versions"]
    return set(version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"])


def rows(cluster: RealApi) -> list[str]:
    """What `kubectl get leadtime` prints, by the short name."""
    kubectl = [str(parts.require("kubectl")), f"--kubeconfig={cluster.plane.admin}"]
    command = [*kubectl, "-n", SERVICES, "get", "leadtime"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()
