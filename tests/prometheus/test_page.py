"""The controller's metrics page: valid, named by the conventions, with bounded labels, and documented."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.prometheus.recorded_run import Page
from tests.prometheus.server import promtool

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "grafana.md"
LABELS = {
    "condition", "severity", "invariant",
    "namespace", "service", "app", "deployment", "state", "bound", "quantile", "horizon", "pool", "stage", "outcome",
    "source", "actuator", "name", "kind", "version", "le", "result",
}  # fmt: skip
"""Every label that a family may have: each has few values, however many replicas, nodes and errors there are."""


OF_THE_CONTRACT = 'should not have "quantile" label'
"""What promtool says of gauges by quantile: names and labels that outside programs rely on, so they stay."""


def test_promtool_finds_nothing_to_mend(page: Page) -> None:
    text = generate_latest(page.registry())
    done = subprocess.run([promtool(), "check", "metrics"], input=text, capture_output=True, timeout=120, check=False)
    findings = [line for line in done.stderr.decode().splitlines() if OF_THE_CONTRACT not in line]
    assert (done.stdout.decode(), findings) == ("", [])
    assert done.returncode in (0, 3), "3: something was found, 1: not a page"


def test_it_is_valid_openmetrics_in_which_everything_has_a_help(page: Page) -> None:
    text = generate_openmetrics(page.registry()).decode()
    families = list(text_string_to_metric_families(text))
    assert len(families) > 30
    for family in families:
        assert family.documentation.endswith("."), family.name


def test_labels_are_bounded(page: Page) -> None:
    for family in page.registry().collect():
        rows = [(sample.name, *sorted(sample.labels.items())) for sample in family.samples]
        assert len(rows) == len(set(rows)), family.name
        assert {label for sample in family.samples for label in sample.labels} <= LABELS, family.name
        assert len(rows) < 100, family.name


def test_the_documentation_lists_exactly_what_is_exported(page: Page) -> None:
    rows = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| `leadtime_")]
    documented = {name for row in rows for name in re.findall(r"`(leadtime_\w+)`", row.split("|")[1])}
    exported = {re.sub(r"_(bucket|count|sum)$", "", name) for name in page.names}
    assert documented == exported
