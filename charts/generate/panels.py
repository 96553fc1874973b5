"""Small builders for Grafana panels: every panel has a title, a description, a unit and at least one query.

Not for what is shown (dashboards.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from grafana_foundation_sdk.builders.common import (
    GraphThresholdsStyleConfig,
    ReduceDataOptions,
    StackingConfig,
    VizLegendOptions,
)
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.models.common import (
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
)

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "leadtime"
KEY = 'namespace=~"$namespace", service=~"$service", app=~"$app", deployment=~"$deployment"'
"""Selects the deployments that the variables name."""
BY = "namespace, service, app, deployment"


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and how its series are named."""

    expr: str
    legend: str = "{{app}}/{{deployment}}"


@dataclass(frozen=True, slots=True)
class Chart:
    """One panel. `width` of 24, `limit`: a value above (or with `low`, below) which it turns red."""

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    kind: Literal["lines", "stat"] = "lines"
    width: int = 12
    stacked: bool = False
    minimum: float | None = 0.0
    maximum: float | None = None
    limit: float | None = None
    low: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """One dashboard: rows of charts by the row's title."""

    uid: str
    title: str
    description: str
    rows: Sequence[tuple[str, Sequence[Chart]]]
    variables: Sequence[tuple[str, str]] = field(default_factory=tuple)
    """(name, query) of each; a query is a label_values expression."""


def build(page: Page) -> Any:
    """The dashboard as the SDK's object."""
    dashboard = (
        Dashboard(page.title)
        .uid(page.uid)
        .description(page.description)
        .tags([TAG])
        .refresh("30s")
        .time("now-6h", "now")
        .tooltip(1)  # type: ignore[arg-type]
        .link(
            DashboardLink("leadtime").type(DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(True).keep_time(True)
        )
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for name, query in page.variables:
        dashboard = dashboard.with_variable(_variable(name, query))
    number = 0
    for title, charts in page.rows:
        number += 1
        dashboard = dashboard.with_row(Row(title).id(number))
        for chart in charts:
            number += 1
            dashboard = dashboard.with_panel(_panel(chart, number))
    return dashboard.build()


def _variable(name: str, query: str) -> QueryVariable:
    one = name == "horizon"
    variable = (
        QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(not one)
        .include_all(not one)
    )
    if one:
        return variable.current(VariableOption(text="240", value="240", selected=True))
    return variable.all_value(".*").current(VariableOption(text="All", value="$__all", selected=True))


def _panel(chart: Chart, number: int) -> Any:
    panel = _stat(chart) if chart.kind == "stat" else _lines(chart)
    panel = (
        panel.id(number).title(chart.title).description(chart.description).datasource(SOURCE).unit(chart.unit)
        .span(chart.width).height(4 if chart.kind == "stat" else 8)
    )  # fmt: skip
    if chart.minimum is not None:
        panel = panel.min(chart.minimum)
    if chart.maximum is not None:
        panel = panel.max(chart.maximum)
    for letter, query in zip("ABCDEFGHIJ", chart.queries, strict=False):
        panel = panel.with_target(Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter))
    return panel.thresholds(_thresholds(chart))


def _stat(chart: Chart) -> Stat:
    return Stat().reduce_options(ReduceDataOptions().calcs(["lastNotNull"]).values(False))


def _lines(chart: Chart) -> TimeSeries:
    legend = VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    panel = TimeSeries().legend(legend).line_width(1).fill_opacity(30 if chart.stacked else 0)
    if chart.stacked:
        panel = panel.stacking(StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if chart.limit is not None:
        panel = panel.thresholds_style(GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.LINE))
    return panel


def _thresholds(chart: Chart) -> ThresholdsConfig:
    good, bad = "green", "red"
    if chart.limit is None:
        steps = [Threshold(value=None, color=good)]
    elif chart.low:
        steps = [Threshold(value=None, color=bad), Threshold(value=chart.limit, color=good)]
    else:
        steps = [Threshold(value=None, color=good), Threshold(value=chart.limit, color=bad)]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
