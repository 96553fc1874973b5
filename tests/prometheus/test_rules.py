"""The recording and alert rules: every alert fires when it must and stays quiet when it must not (promtool)."""

from __future__ import annotations

import copy
import re
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.chart.chart import one, render
from tests.prometheus.alert_cases import CASES, OF_JOB, POD, Case
from tests.prometheus.recorded_run import START_S, Page
from tests.prometheus.server import Prometheus, promtool

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "charts" / "leadtime" / "rules"
RUNBOOKS = ROOT / "docs" / "runbooks"
HEADINGS = ("## What it means", "## What users notice", "## Look", "## Mend")


def rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((RULES / name).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules("alerts.yaml")}
RECORDED = {rule["record"]: rule for rule in rules("recording.yaml")}


def test_the_rules_pass_promtools_lint() -> None:
    command = [promtool(), "check", "rules", "--lint=all", "--lint-fatal", *map(str, sorted(RULES.glob("*.yaml")))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


Groups = list[dict[str, Any]]


def rule_files() -> Groups:
    """The rules as they are in the chart, for all releases at once."""
    return [g for path in sorted(RULES.glob("*.yaml")) for g in yaml.safe_load(path.read_text("utf-8"))["groups"]]


@cache
def rendered(cluster: str = "") -> Groups:
    """The rules as the chart makes them for the release `demo` in the namespace `lt`."""
    groups: Groups = one(render({"prometheusRule": {"enabled": True, "cluster": cluster}}), "PrometheusRule")["spec"][
        "groups"
    ]
    return groups


def promtool_test(case: Case) -> dict[str, Any]:
    labels = None
    if case.labels is not None:
        labels = {"severity": ALERTS[case.alert]["labels"]["severity"], **case.labels}
    return {
        "name": f"{case.alert}: {case.what}",
        "interval": case.step,
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "alert_rule_test": [
            {
                "alertname": case.alert,
                "eval_time": case.at,
                "exp_alerts": [] if labels is None else [{"exp_labels": labels}],
            }
        ],
    }


def run_cases(cases: Iterable[Case], folder: Path, groups: Groups) -> None:
    """Errors: AssertionError with promtool's words."""
    bare = copy.deepcopy(groups)
    for group in bare:
        for rule in group["rules"]:
            rule.pop("annotations", None)  # no case repeats their words
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": bare}), encoding="utf-8")
    by_step: dict[str, list[Case]] = {}
    for case in cases:
        by_step.setdefault(case.step, []).append(case)
    assert by_step
    for step, some in by_step.items():
        document = {
            "rule_files": ["rules.yaml"],
            "evaluation_interval": step,
            "tests": [promtool_test(case) for case in some],
        }
        path = folder / "cases.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        command = [promtool(), "test", "rules", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "groups", [rule_files(), rendered(), rendered("prod")], ids=["files", "chart", "chart, cluster"]
)
def test_every_alert_fires_and_stays_quiet_as_its_cases_say(groups: Groups, tmp_path: Path) -> None:
    run_cases(CASES, tmp_path, groups)


def test_without_a_cluster_label_every_alert_fires_and_stays_quiet_all_the_same(tmp_path: Path) -> None:
    """One Prometheus for one cluster: its external labels are not on the series that rules see."""
    run_cases([moved(case, 'cluster="prod"', "") for case in CASES], tmp_path, rendered())


# ---------------------------------------------------------------- other controllers


def moved(case: Case, was: str, now: str) -> Case:
    """The case in another cluster, namespace or release."""
    name, _, value = was.partition("=")
    labels = case.labels
    if labels is not None:
        labels = {k: v for k, v in labels.items() if now or k != name}
        labels |= {name: now.partition("=")[2].strip('"')} if now else {}
        if name == "controller_namespace" and labels.get("namespace") == value.strip('"'):
            labels["namespace"] = labels[name]
    series = {key.replace(was, now).replace(", , ", ", ").replace("{, ", "{"): v for key, v in case.series.items()}
    return replace(case, series=series, labels=labels)


STAGING = {
    "cluster": ('cluster="prod"', 'cluster="staging"'),
    "namespace": ('controller_namespace="lt"', 'controller_namespace="staging"'),
    "release": ('controller_release="demo"', 'controller_release="staging"'),
}


def beside(firing: Case, other: Case) -> Case:
    assert not firing.series.keys() & other.series.keys()
    return replace(firing, what=f"{firing.what}; and elsewhere {other.what}", series={**other.series, **firing.series})


def pairs(place: tuple[str, str]) -> list[Case]:
    """Every case that fires, beside every quiet one of the same alert elsewhere."""
    return [
        beside(firing, moved(quiet, *place))
        for firing in CASES
        for quiet in CASES
        if firing.labels is not None and quiet.labels is None
        and (firing.alert, firing.step) == (quiet.alert, quiet.step)
    ]  # fmt: skip


@pytest.mark.parametrize("place", STAGING.values(), ids=STAGING)
@pytest.mark.parametrize("groups", [rule_files(), rendered("prod")], ids=["files", "chart"])
def test_a_controller_elsewhere_in_which_all_is_well_mutes_no_alert(
    groups: Groups, place: tuple[str, str], tmp_path: Path
) -> None:
    found = pairs(place)
    assert {case.alert for case in found} == set(ALERTS)
    run_cases(found, tmp_path, groups)


@pytest.mark.parametrize("place", STAGING.values(), ids=STAGING)
def test_a_controller_elsewhere_that_is_in_trouble_raises_no_alert_of_this_release(
    place: tuple[str, str], tmp_path: Path
) -> None:
    there = {f"leadtime_build_info{{{POD}}}": "1x600"}
    found = [
        replace(case, series={**there, **moved(case, *place).series}, labels=None)
        for case in CASES
        if case.labels is not None and case.step == "1m"
    ]
    run_cases(found, tmp_path, rendered("prod"))


@pytest.mark.parametrize("own", ["_x60", "1x5"], ids=["never seen", "gone for two days"])
def test_a_release_that_was_not_seen_for_a_day_is_missed_though_another_is_there(own: str, tmp_path: Path) -> None:
    elsewhere = POD.replace(*STAGING["release"])
    series = {f"leadtime_build_info{{{elsewhere}}}": "1x60", f"leadtime_build_info{{{POD}}}": own}
    case = Case("LeadtimeAbsent", "not seen", series, "50h", OF_JOB, "1h")
    run_cases([case], tmp_path, rendered("prod"))
    run_cases([replace(case, labels={k: v for k, v in OF_JOB.items() if k != "cluster"})], tmp_path, rendered())
    run_cases([replace(case, labels=None)], tmp_path, rule_files())  # they know no release by name


def test_a_release_without_pods_by_its_values_is_not_missed() -> None:
    docs = render({"replicas": 0, "prometheusRule": {"enabled": True}})
    names = {rule.get("alert") for group in one(docs, "PrometheusRule")["spec"]["groups"] for rule in group["rules"]}
    assert names - {None} == set(ALERTS) - {"LeadtimeAbsent"}


def test_the_chart_names_its_release_in_every_selector_of_a_rule() -> None:
    own = 'prod_name="prod", controller_namespace="lt", controller_release="demo"'
    values = {"prometheusRule": {"enabled": True, "cluster": "prod", "clusterLabel": "prod_name"}}
    for group in one(render(values), "PrometheusRule")["spec"]["groups"]:
        for rule in group["rules"]:
            selectors = re.findall(r"\bleadtime[_:][a-z0-9_:]+(.?)(\S*?, \S*, \S*)", rule["expr"])
            names = re.findall(r"\bleadtime[_:][a-z0-9_:]+", rule["expr"])
            assert rule["expr"].count("{" + own) == len(names) >= 1, rule
            assert selectors
            promql_parser.parse(rule["expr"])
            for labels in re.findall(r"(?:by|on) \(([^)]*)\)", rule["expr"]):
                assert labels.startswith("prod_name, controller_namespace, controller_release"), rule


def test_what_the_rules_group_by_the_monitors_set_on_the_target() -> None:
    wanted = {"controller_namespace": "lt", "controller_release": "demo"}
    for monitor, key in (("PodMonitor", "podMetricsEndpoints"), ("ServiceMonitor", "endpoints")):
        values = {monitor[0].lower() + monitor[1:]: {"enabled": True}}
        (endpoint,) = one(render(values), monitor)["spec"][key]
        given = {r["targetLabel"]: r["replacement"] for r in endpoint["relabelings"]}
        assert given == wanted
        back = endpoint["metricRelabelings"][0]
        assert (back["sourceLabels"], back["targetLabel"]) == (["exported_namespace"], "namespace")


def test_a_case_that_is_wrong_would_be_noticed(tmp_path: Path) -> None:
    fires = next(case for case in CASES if case.labels is not None)
    with pytest.raises(AssertionError, match="FAILED"):
        run_cases([replace(fires, labels=None)], tmp_path, rule_files())


def test_every_alert_has_a_case_each_way() -> None:
    firing = {case.alert for case in CASES if case.labels is not None}
    quiet = {case.alert for case in CASES if case.labels is None}
    assert firing == quiet == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_what_is_wrong_and_links_a_runbook_that_names_it(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["for"]
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    page = ROOT / rule["annotations"]["runbook_url"]
    assert page.parent == RUNBOOKS
    text = page.read_text(encoding="utf-8")
    assert name in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == list(HEADINGS)


def test_every_runbook_belongs_to_an_alert() -> None:
    linked = {Path(rule["annotations"]["runbook_url"]).name for rule in ALERTS.values()}
    assert {path.name for path in RUNBOOKS.glob("*.md")} == linked | {"README.md"}
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    assert all(alert in index for alert in ALERTS)


def test_every_metric_of_a_rule_is_exported_or_recorded(page: Page) -> None:
    for rule in (*ALERTS.values(), *RECORDED.values()):
        names = set(re.findall(r"\bleadtime[_:][a-zA-Z0-9_:]+", rule["expr"]))
        assert names
        assert names <= page.names | set(RECORDED), rule


def test_recorded_rules_answer_over_a_recorded_run(page: Page, prometheus: Prometheus) -> None:
    for name, rule in RECORDED.items():
        assert prometheus.query_range(rule["expr"], START_S + 900, page.until_s, 60), name


def test_only_what_the_run_shows_fires_over_a_recorded_run(page: Page, prometheus: Prometheus) -> None:
    """Nothing of the controller itself is wrong in a run in which all went well."""
    for name in ("LeadtimeNoLeader", "LeadtimeTwoLeaders", "LeadtimeSourceStale", "LeadtimeActuatorFailing",
                 "LeadtimeStockOut", "LeadtimeBlocked", "LeadtimeFlapping", "LeadtimePausedLong"):  # fmt: skip
        assert not prometheus.query_range(ALERTS[name]["expr"], START_S + 60, page.until_s, 60), name
