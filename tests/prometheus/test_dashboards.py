"""The dashboards: what is in the files is what the code makes, and every query answers over a recorded run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from charts.generate.dashboards import dashboards
from tests.prometheus.recorded_run import START_S, Page
from tests.prometheus.server import Prometheus

FOLDER = Path(__file__).resolve().parents[2] / "charts" / "leadtime" / "dashboards"
FILES = sorted(FOLDER.glob("*.json"))
KNOWN_ELSEWHERE: frozenset[str] = frozenset()
"""Metrics of others that panels may use (vLLM's, KubeRay's, DCGM's); none so far."""
VARIABLES = {"$__rate_interval": "2m", "$__interval": "30s", "$__range": "25m", "${horizon}": "240", "$horizon": "240"}
SCALARS = ("percentunit", "reqps", "s", "short", "currencyUSD")


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def panels(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in document["panels"]:
        yield panel
        yield from panel.get("panels") or ()


def charts(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in panels(document) if panel["type"] != "row"]


def filled_in(expr: str) -> str:
    """A query as Grafana would send it with everything selected."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    expr = re.sub(r"\$[a-z]+", ".*", expr)
    assert "$" not in expr, expr
    return expr


QUERIES = [
    pytest.param(panel, target["expr"], id=f"{path.stem}-{panel['title']}-{target['refId']}")
    for path in FILES
    for panel in charts(load(path))
    for target in panel["targets"]
]


def test_the_files_are_what_the_code_makes() -> None:
    made = dashboards()
    assert {path.stem for path in FILES} == set(made)
    for path in FILES:
        assert path.read_text(encoding="utf-8") == made[path.stem], f"{path.name}: run python -m charts.generate"


def test_there_is_a_dashboard_for_each_of_the_five_subjects() -> None:
    assert {load(path)["title"] for path in FILES} == {
        "leadtime / Overview", "leadtime / Deployment", "leadtime / Pools and cost", "leadtime / Controller health",
        "leadtime / Forecast quality",
    }  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_panel_says_what_it_shows_and_has_its_own_place(path: Path) -> None:
    document = load(path)
    numbers = [panel["id"] for panel in panels(document)]
    assert len(numbers) == len(set(numbers))
    taken: set[tuple[int, int]] = set()
    for panel in panels(document):
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    for panel in charts(document):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"] in SCALARS
        assert panel["targets"]


def test_dashboards_and_titles_are_unique() -> None:
    documents = [load(path) for path in FILES]
    assert len({d["uid"] for d in documents}) == len(documents) == len({d["title"] for d in documents})
    for document in documents:
        titles = [panel["title"] for panel in charts(document)]
        assert len(titles) == len(set(titles)), document["title"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_variable_that_a_query_uses_is_defined(path: Path) -> None:
    document = load(path)
    defined = {variable["name"] for variable in document["templating"]["list"]}
    exprs = [target["expr"] for panel in charts(document) for target in panel["targets"]]
    used = {name for expr in exprs for name in re.findall(r"\$\{?(\w+)", expr)}
    assert used <= defined | {"__rate_interval", "__range", "__interval"}
    assert defined - {"datasource"} <= used


@pytest.mark.parametrize(("panel", "expr"), QUERIES)
def test_every_metric_of_a_query_is_exported(panel: dict[str, Any], expr: str, page: Page) -> None:
    promql_parser.parse(filled_in(expr))  # ValueError on bad syntax
    names = set(re.findall(r"\b(?:leadtime|ray|vllm|kuberay|DCGM)_[a-zA-Z0-9_]+", expr))
    assert names
    assert names <= page.names | KNOWN_ELSEWHERE


@pytest.mark.parametrize(("panel", "expr"), QUERIES)
def test_every_query_answers_over_a_recorded_run(
    panel: dict[str, Any], expr: str, page: Page, prometheus: Prometheus
) -> None:
    found = prometheus.query_range(filled_in(expr), START_S + 900, page.until_s, 30)
    values = [float(value) for series in found for _, value in series["values"]]
    assert values, "no series"
    assert all(math.isfinite(value) for value in values)
    limits = panel["fieldConfig"]["defaults"]
    assert min(values) >= limits.get("min", -math.inf)
    assert max(values) <= limits.get("max", math.inf)


def test_variables_find_their_values_in_a_recorded_run(page: Page, prometheus: Prometheus) -> None:
    queries = {v["query"] for path in FILES for v in load(path)["templating"]["list"] if v["type"] == "query"}
    assert len(queries) >= 5
    for query in queries:
        match = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
        assert match is not None
        found = prometheus.query(filled_in(match[1]), page.until_s)
        assert {series["metric"][match[2]] for series in found}, query
