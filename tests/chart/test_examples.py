"""The examples: their values validate, and what they name is in them. On a real API server: tests/cluster."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoscaler.settings import load_config
from autoscaler.sources.kuberay.autoscalers import parse_autoscaler
from autoscaler.sources.serve_config import parse_serve_config
from autoscaler.wiring.kubernetes import preset
from policies.base import DeploymentKey
from policies.registry import create_policy
from tests.chart import chart
from tests.chart.examples import EXAMPLES, FOLDER, manifests, rendered, values

README = (FOLDER / "README.md").read_text(encoding="utf-8")


def of_kind(example: str, kind: str) -> list[dict[str, Any]]:
    return [doc for doc in manifests(example) if doc["kind"] == kind]


def keys(example: str) -> dict[DeploymentKey, float | None]:
    """The deployments that a model runs in, with the GPUs of a replica."""
    found: dict[DeploymentKey, float | None] = {}
    for service in of_kind(example, "RayService"):
        meta = service["metadata"]
        for app in parse_serve_config(service["spec"]["serveConfigV2"]):
            assert (app.external_scaler_enabled, app.refused) == (True, None)
            for one in app.deployments:
                found[DeploymentKey(meta["namespace"], meta["name"], app.name, one.name)] = one.gpus_per_replica
    return found


def test_the_page_lists_all_of_them() -> None:
    assert tuple(sorted(re.findall(r"^\| \[([\w-]+)\]\(\1\)", README, re.MULTILINE))) == EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES)
def test_its_settings_validate_and_each_entry_is_for_a_deployment_of_it(example: str, tmp_path: Path) -> None:
    documents = rendered(example)
    file = tmp_path / "leadtime.yaml"
    file.write_text(chart.settings(documents))
    config = load_config(file, look_at_files=False).controller

    assert config.dry_run
    for entry in config.deployments:
        matched = [gpus for key, gpus in keys(example).items() if key.matches(entry.match)]
        assert matched, f"{entry.match} matches none of {[str(key) for key in keys(example)]}"
        assert entry.profile is not None
        assert set(matched) == {float(entry.profile.gpus)}
    for key in keys(example):
        assert any(key.matches(entry.match) for entry in config.deployments), str(key)


@pytest.mark.parametrize("example", EXAMPLES)
def test_its_node_pools_are_those_of_the_worker_groups(example: str) -> None:
    pools = {pool["name"]: pool["gpus_per_node"] for pool in values(example)["config"]["node_pools"]}
    for service in of_kind(example, "RayService"):
        groups = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        found = {}
        for group in groups:
            spec = group["template"]["spec"]
            gpus = spec["containers"][0]["resources"]["requests"].get("nvidia.com/gpu")
            if gpus is not None:
                found[spec["nodeSelector"]["cloud.google.com/gke-nodepool"]] = int(gpus)
        assert found == pools


@pytest.mark.parametrize("example", EXAMPLES)
def test_its_autoscalers_are_right_and_stay_inside_the_settings(example: str) -> None:
    found = of_kind(example, "Autoscaler")
    assert bool(found) == values(example)["config"].get("kubernetes", {}).get("autoscalers", False)
    services = {(doc["metadata"]["namespace"], doc["metadata"]["name"]) for doc in of_kind(example, "RayService")}
    for obj in found:
        view = parse_autoscaler(obj, preset)
        assert view.problems == ()
        assert view.wanted is not None
        assert (view.wanted.scope.namespace, view.wanted.scope.service) in services


def test_the_query_of_keda_names_a_metric_of_the_chart_and_series_that_exist() -> None:
    (scaled,) = of_kind("keda", "ScaledObject")
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    metric, labels = re.fullmatch(r"max\((\w+)\{(.+)\}\)", query).groups()  # type: ignore[union-attr]
    given = dict(re.findall(r'(\w+)="([^"]*)"', labels))
    spec = create_policy("predictive", {}).forecast

    assert f"`{metric}`" in (chart.ROOT / "docs" / "grafana.md").read_text(encoding="utf-8")
    assert float(given["quantile"]) in spec.levels
    assert math.log2(float(given["horizon"]) / spec.bin_s).is_integer()  # horizons double, from the width of a bin on
    assert (given["namespace"], given["service"], given["app"]) in {
        (k.namespace, k.service, k.app) for k in keys("keda")
    }
    targets = {doc["metadata"]["name"] for doc in of_kind("keda", "Deployment")}
    assert scaled["spec"]["scaleTargetRef"]["name"] in targets


@pytest.mark.parametrize("command", re.findall(r"^    (?:kubectl apply|helm install) .*$", README, re.MULTILINE))
def test_the_commands_of_the_page_name_files_that_are_there(command: str) -> None:
    for path in re.findall(r"-f (\S+)", command):
        assert (chart.ROOT / path).is_file()
        list(yaml.safe_load_all((chart.ROOT / path).read_text(encoding="utf-8")))
