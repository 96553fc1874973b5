"""The chart renders: two helms agree, objects pass the strict schemas of seven Kubernetes versions, goldens hold."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

from tests.chart.chart import CASES, CHART, NAME, NAMESPACE, documents, helm_command, notes, render, values_of

VERSIONS = ("1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
NOT_OF_KUBERNETES = {"CapacityBuffer", "PodMonitor", "ServiceMonitor", "PrometheusRule", "PodMonitoring"}
"""Kinds of operators: no schema of theirs is at hand, so their shape is only in the goldens."""
GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("case", CASES)
def test_the_sdk_lints_it(case: str) -> None:
    report = helm.lint(str(CHART), values_of(case), strict=True, namespace=NAMESPACE)
    assert report["errors"] == []
    assert all(message["severity"] <= 1 for message in report["messages"]), report["messages"]


@pytest.mark.parametrize("case", CASES)
def test_the_real_helm_lints_it_and_renders_the_same(case: str, tmp_path: Path) -> None:
    given = ("-n", NAMESPACE, "-f", str(CASES[case]))
    linted = helm_command(tmp_path, "lint", str(CHART), "--strict", *given)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    rendered = helm_command(tmp_path, "template", NAME, str(CHART), *given)
    assert rendered.returncode == 0, rendered.stderr
    assert documents(rendered.stdout) == render(values_of(case))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_passes_the_strict_schema_of_kubernetes(version: str) -> None:
    seen = set()
    for case in CASES:
        for doc in render(values_of(case)):
            if doc["kind"] not in NOT_OF_KUBERNETES:
                kubernetes_validate.validate(doc, version, strict=True)
                seen.add(doc["kind"])
    assert seen >= {"Deployment", "Role", "NetworkPolicy", "ValidatingAdmissionPolicy", "PodDisruptionBudget"}


@pytest.mark.parametrize("case", CASES)
def test_what_is_rendered_is_the_golden(case: str) -> None:
    path = GOLDEN / f"{case}.yaml"
    text = yaml.safe_dump_all([_without_dashboards(doc) for doc in render(values_of(case))], sort_keys=True, width=120)
    if os.environ.get("LEADTIME_RENEW_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, "LEADTIME_RENEW_GOLDEN=1 renews it"


def _without_dashboards(doc: dict[str, Any]) -> dict[str, Any]:
    if not doc["metadata"]["name"].endswith("-dashboards"):
        return doc
    return {**doc, "data": dict.fromkeys(doc["data"], "(a dashboard)")}


@pytest.mark.parametrize("case", CASES)
def test_names_and_labels_are_those_of_the_release(case: str) -> None:
    docs = render(values_of(case))
    identities = [(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]) for d in docs]
    assert len(identities) == len(set(identities))
    for doc in docs:
        if doc["metadata"]["name"] == "demo-more":
            continue
        labels = doc["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == NAME
        assert labels["app.kubernetes.io/name"] == "leadtime"


def test_the_notes_say_whether_it_acts_and_how_to_see_it() -> None:
    quiet, live = notes(), notes(values_of("live"))
    assert "DRY RUN" in quiet
    assert "ACTS" in live
    assert "DRY RUN" not in live
    assert "kubectl -n lt port-forward svc/demo-leadtime 8080:8080" in quiet
    assert "annotate rayservice NAME leadtime.dev/enabled=true" in quiet
    assert "annotate rayservice" not in live
    assert "Nothing scrapes its metrics" in quiet
    assert "Nothing scrapes its metrics" not in notes(values_of("monitored"))


def test_links_of_the_chart_lead_nowhere_outside_of_its_package() -> None:
    for path in (CHART / "README.md", CHART / "Chart.yaml", CHART / "templates" / "NOTES.txt"):
        text = path.read_text(encoding="utf-8")
        assert "../" not in text, path
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert (CHART / link).exists(), f"{path}: {link}"
            assert link.split("/")[0] != "ci", "not in the package"


def test_the_chart_has_the_version_of_the_code() -> None:
    from autoscaler import __version__

    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["version"] == chart["appVersion"] == __version__
