"""`leadtime chart sidecar`: what it prints is valid, restricted, and settings that the controller takes."""

from __future__ import annotations

import copy
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from autoscaler.settings import load_config
from tests.chart.chart import Doc
from tests.cli.helpers import leadtime

OWN = """\
dry_run: false
deployments: [{match: chat/*, profile: llama-3.1-8b/h100/tp1, replicas: {max: 4}}]
"""


def printed(*arguments: str) -> tuple[Doc, Doc]:
    """The ConfigMap and the fragment of the pod."""
    ran = leadtime("chart", "sidecar", "--service", "chat", "--namespace", "llm", *arguments)
    assert (ran.code, ran.err) == (0, ""), ran.err
    first, second = yaml.safe_load_all(ran.out)
    return first, second


def head_pod(fragment: Doc) -> Doc:
    """A head's pod with the fragment in it."""
    spec = copy.deepcopy(fragment)
    spec["containers"].insert(0, {"name": "ray-head", "image": "rayproject/ray:2.60.0"})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "head"}, "spec": spec}


@pytest.mark.parametrize("arguments", [(), ("--token-secret", "ray-token")])
def test_what_it_prints_passes_the_strict_schema_and_is_restricted(arguments: tuple[str, ...]) -> None:
    config_map, fragment = printed(*arguments)
    for doc in (config_map, head_pod(fragment)):
        kubernetes_validate.validate(doc, "1.31", strict=True)
    (container,) = fragment["containers"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert security["runAsNonRoot"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert "readinessProbe" not in container, "a controller that is not ready must not take the head out of service"
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in fragment["volumes"]}


def settings(config_map: Doc, folder: Path) -> Path:
    path = folder / "printed.yaml"
    path.write_text(config_map["data"]["leadtime.yaml"], encoding="utf-8")
    return path


def test_its_settings_are_taken_as_they_are_and_reach_the_head_beside_it(tmp_path: Path) -> None:
    config_map, fragment = printed("--token-secret", "ray-token")
    config = load_config(settings(config_map, tmp_path), look_at_files=False)
    (service,) = config.services
    assert (service.namespace, service.name, service.dashboard) == ("llm", "chat", "http://127.0.0.1:8265")
    assert str(service.token_file) == "/etc/leadtime/secrets/ray-token/auth_token"
    assert config.controller.dry_run
    (port,) = fragment["containers"][0]["ports"]
    assert (config.server.host, config.server.port) == ("0.0.0.0", port["containerPort"])
    assert config_map["metadata"]["name"] == fragment["volumes"][0]["configMap"]["name"]


def test_settings_of_a_file_go_over_what_the_pod_needs(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(OWN + "server: {port: 9000}\n", encoding="utf-8")
    config_map, fragment = printed("--config", str(own))
    config = load_config(settings(config_map, tmp_path), look_at_files=False)
    assert not config.controller.dry_run
    assert config.controller.deployments[0].max_replicas == 4
    assert (config.server.host, config.server.port) == ("0.0.0.0", 9000)
    assert fragment["containers"][0]["ports"][0]["containerPort"] == 9000


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("server: {port: 8080}", "server.port: 8080; allowed in the head's pod"),
        ("kubernetes: {watch_namespaces: [a]}", "kubernetes: a sidecar needs no Kubernetes API"),
        ("server: 5", "own.yaml:3: server: 5; allowed: a mapping"),
        ("tick: 5", "own.yaml:3: tick: unknown key; did you mean 'tick_s'?"),
        ("deployments: [{match: a/b, profile: mine.yaml, replicas: {max: 1}}]", "is a file"),
    ],
)
def test_what_no_sidecar_can_do_is_refused_with_2(more: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("version: 1\n", encoding="utf-8")
    own = tmp_path / "own.yaml"
    text = OWN if not more.startswith("deployments") else "dry_run: true\n"
    own.write_text(text + more + "\n", encoding="utf-8")
    ran = leadtime("chart", "sidecar", "--service", "chat", "--config", str(own))
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err
    assert len(ran.err.splitlines()) == 1
