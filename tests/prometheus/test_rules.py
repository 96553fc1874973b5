"""The recording and alert rules: every alert fires when it must and stays quiet when it must not (promtool)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.prometheus.alert_cases import CASES, Case
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


def bare_rules(folder: Path) -> list[str]:
    """The rules without annotations, whose words no case repeats."""
    written = []
    for path in sorted(RULES.glob("*.yaml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        for group in document["groups"]:
            for rule in group["rules"]:
                rule.pop("annotations", None)
        (folder / path.name).write_text(yaml.safe_dump(document), encoding="utf-8")
        written.append(path.name)
    return written


def promtool_test(case: Case) -> dict[str, Any]:
    labels = None if case.labels is None else {**case.labels, **ALERTS[case.alert]["labels"]}
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


def run_cases(cases: list[Case], folder: Path) -> subprocess.CompletedProcess[str]:
    (step,) = {case.step for case in cases}
    document = {
        "rule_files": bare_rules(folder),
        "evaluation_interval": step,
        "tests": [promtool_test(c) for c in cases],
    }
    path = folder / "cases.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    command = [promtool(), "test", "rules", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("step", sorted({case.step for case in CASES}))
def test_every_alert_fires_and_stays_quiet_as_its_cases_say(step: str, tmp_path: Path) -> None:
    done = run_cases([case for case in CASES if case.step == step], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_case_that_is_wrong_would_be_noticed(tmp_path: Path) -> None:
    fires = next(case for case in CASES if case.labels is not None)
    wrong = Case(fires.alert, "turned round", fires.series, fires.at, None)
    assert run_cases([wrong], tmp_path).returncode != 0


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
