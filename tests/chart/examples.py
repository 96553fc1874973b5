"""The examples as they are: their manifests, and what the chart makes of their values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.chart.chart import ROOT, render

FOLDER = ROOT / "examples"
EXAMPLES = tuple(sorted(path.name for path in FOLDER.iterdir() if path.is_dir()))


def values(example: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / example / "values.yaml").read_text(encoding="utf-8"))
    return found


def manifest_files(example: str) -> list[Path]:
    """Those that are given to kubectl, namespaces first."""
    found = [path for path in (FOLDER / example).glob("*.yaml") if path.name != "values.yaml"]
    return sorted(found, key=lambda path: (not path.name.startswith("namespace"), path.name))


def manifests(example: str) -> list[dict[str, Any]]:
    return [doc for path in manifest_files(example) for doc in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def rendered(example: str) -> list[dict[str, Any]]:
    return render(values(example))
