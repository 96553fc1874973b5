"""docs/gke.md: its values are the chart's, its settings validate, its Serve config is what leadtime looks for."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml

from autoscaler.cli.registry import find_command
from autoscaler.core.types.pools import WAYS, Provisioner
from autoscaler.settings import load_config
from autoscaler.sources.serve_config import parse_serve_config
from tests.chart.chart import NAME, ROOT, one, render

PAGE = (ROOT / "docs" / "gke.md").read_text(encoding="utf-8")
BLOCKS = {
    first.removeprefix("# ").split(",")[0].strip(): text
    for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    for first in [text.splitlines()[0]]
}
SCHEMA = json.loads((ROOT / "charts" / "leadtime" / "values.schema.json").read_text(encoding="utf-8"))


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """As helm lays one values file over another: mappings are merged, anything else is replaced."""
    result = copy.deepcopy(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def values(*names: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in names:
        found = merged(found, yaml.safe_load(BLOCKS[name]))
    return found


def test_the_page_has_the_blocks_that_are_tested_here() -> None:
    assert set(BLOCKS) == {"rayservice.yaml", "values.yaml", "values-warm.yaml"}


@pytest.mark.parametrize("names", [("values.yaml",), ("values.yaml", "values-warm.yaml")])
def test_the_values_fit_the_charts_schema_and_render_to_settings_that_validate(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    given = values(*names)
    jsonschema.validate(given, SCHEMA)
    documents = render(given)
    settings = next(
        document["data"]["leadtime.yaml"]
        for document in documents
        if document["kind"] == "ConfigMap" and "leadtime.yaml" in document.get("data", {})
    )
    file = tmp_path / "leadtime.yaml"
    file.write_text(settings)
    config = load_config(file, look_at_files=False)
    assert config.controller.dry_run is ("values-warm.yaml" not in names)
    assert [pool.name for pool in config.controller.pools] == ["h100"]
    assert [entry.match for entry in config.controller.deployments] == ["llm/chat-llm/chat/LLMServer:*"]


def test_the_warm_values_make_the_deployment_that_the_page_shows() -> None:
    documents = render(values("values.yaml", "values-warm.yaml"))
    names = {document["metadata"]["name"] for document in documents if document["kind"] == "Deployment"}
    shown = {name.replace(f"{NAME}-leadtime", "leadtime") for name in names}  # the page's release is called leadtime
    assert shown == {"leadtime", "leadtime-warm-h100"}
    assert all(name in PAGE for name in shown)


@pytest.mark.parametrize("key", sorted(set(re.findall(r"--set(?:-string)? '?([A-Za-z][\w.\[\]-]*)=", PAGE))))
def test_each_value_that_is_set_on_the_command_line_is_in_the_schema(key: str) -> None:
    schema = SCHEMA
    for part in re.split(r"[.\[]", key):
        assert part in schema["properties"], f"--set {key}: the chart has no {part!r}"
        schema = schema["properties"][part]
        if "$ref" in schema:
            schema = resolved(schema)


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    found: Any = SCHEMA
    for part in schema["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    assert isinstance(found, dict)
    return found


def test_the_page_sets_values_on_the_command_line() -> None:
    assert len(set(re.findall(r"--set ([\w.]+)=", PAGE))) >= 4


@pytest.mark.parametrize(
    "key", sorted(set(re.findall(r"`((?:networkPolicy|persistence|podMonitor|prewarm)\.\w+)`", PAGE)))
)
def test_each_value_that_the_text_names_is_in_the_schema(key: str) -> None:
    outer, inner = key.split(".")
    assert inner in SCHEMA["properties"][outer]["properties"]


def test_the_ray_service_is_one_that_leadtime_may_scale_and_its_values_match() -> None:
    service = yaml.safe_load(BLOCKS["rayservice.yaml"])
    assert (service["apiVersion"], service["kind"]) == ("ray.io/v1", "RayService")
    (app,) = parse_serve_config(service["spec"]["serveConfigV2"])
    assert (app.name, app.external_scaler_enabled, app.refused) == ("chat", True, None)
    (model,) = app.deployments
    assert (model.name, model.gpus_per_replica, model.num_replicas) == ("LLMServer:llama-70b", 4.0, 1)
    worker = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    pool = values("values.yaml")["config"]["node_pools"][0]
    (container,) = worker["template"]["spec"]["containers"]
    assert worker["template"]["spec"]["nodeSelector"] == {"cloud.google.com/gke-nodepool": pool["name"]}
    assert int(container["resources"]["requests"]["nvidia.com/gpu"]) == pool["gpus_per_node"]
    warm = values("values-warm.yaml")["prewarm"]
    assert (warm["cpu"], warm["memory"]) == tuple(container["resources"]["requests"][k] for k in ("cpu", "memory"))
    assert warm["prepull"] == [container["image"]]
    secret = service["spec"]["rayClusterConfig"]["authOptions"]["secretName"]
    assert values("values.yaml")["secrets"] == [{"name": secret, "namespace": service["metadata"]["namespace"]}]


def test_the_table_says_which_way_works_where_as_the_settings_do() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|$", PAGE.split("### Which way works where")[1], re.MULTILINE)
    said = {way: [cell.startswith("yes") for cell in cells.split(" | ")[:4]] for way, cells in rows if way != "prewarm"}
    assert said == {
        way: [provisioner in facts.places for provisioner in get_args(Provisioner)]
        for way, facts in WAYS.items()
        if way != "none"
    }


@pytest.mark.parametrize("name", sorted(set(re.findall(r"(?:^    |-- |`)leadtime ([a-z]+)", PAGE, re.MULTILINE))))
def test_each_leadtime_command_of_the_page_exists(name: str) -> None:
    assert find_command(name) is not None


def test_where_the_page_looks_for_files_is_where_the_chart_puts_them() -> None:
    deployment = one(render(values("values.yaml")), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    for path in re.findall(r"/(?:etc|var)/[\w./-]+", PAGE):
        assert any(path.startswith(mount) for mount in mounts), path
