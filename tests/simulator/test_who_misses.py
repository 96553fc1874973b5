"""Several deployments, each with a target of its own: whoever misses is named, in every output."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from policies.references.oracle import OraclePolicy
from simulator.experiments.league import Run, judge
from simulator.experiments.simulation import simulate
from simulator.report.page import render
from simulator.report.text import NARROW, headline
from simulator.run import Choice, make_policy
from simulator.scenario.load import load_scenario
from tests.cli.helpers import leadtime
from tests.simulator.experiments.test_league import run as run_of_one
from tests.simulator.scenarios import SMALL, TWO_TENANTS, write

TARGETS = {"chat/llm": 0.99, "code/llm": 0.95}
SHORT = ("--set", "duration_s=60", "--policy", "hpa_ongoing")
MIXED = TWO_TENANTS.replace(
    "    replicas: {min: 1, max: 3}", "    replicas: {min: 1, max: 3}\n    slo: {target_fraction: 0.5}"
)


def run(policy: str, chat: float, code: float, targets: dict[str, float] = TARGETS, seed: int = 1) -> Run:
    """A run of two deployments with as many requests each."""
    made = run_of_one(policy, seed, 80.0, (chat + code) / 2)
    one, strip = made.document["deployments"]["chat/llm"], made.strips["chat/llm"]
    shares = {"chat/llm": chat, "code/llm": code}
    document = {
        **made.document,
        "deployments": {key: {**one, "slo_attainment_fraction": share} for key, share in shares.items()},
    }
    each = dict.fromkeys(shares, strip)
    starts, capacities = dict.fromkeys(shares, made.starts["chat/llm"]), dict.fromkeys(shares, 12.0)
    return replace(
        made, document=document, targets=targets, strips=each, starts=starts, capacities_rps=dict(capacities)
    )


def title(*runs: Run) -> str:
    return headline(judge(runs).summaries, runs[0])[0].replace(NARROW, " ")


def test_the_league_names_who_misses_with_its_share_over_all_seeds() -> None:
    league = judge([run("predictive", 1.0, 0.90), run("predictive", 1.0, 0.92, seed=2)])
    row = league.document()["summary"][0]
    assert row["reaches_target"] is False
    share = pytest.approx(0.91)
    assert row["missing_target"] == [
        {"deployment": "code/llm", "slo_attainment_fraction": share, "target_fraction": 0.95}
    ]
    assert judge([run("predictive", 0.99, 0.95)]).document()["summary"][0]["missing_target"] == []


def test_the_headline_names_the_deployment_whose_target_is_missed() -> None:
    ours, theirs = run("predictive", 1.0, 0.9), run("hpa_ongoing", 0.99, 0.96)
    assert title(ours) == "leadtime misses the 95 % target of code/llm: 10.00 % of its requests got less than promised"
    assert title(ours, theirs) == "leadtime misses the 95 % target of code/llm; HPA meets every target"
    both = "leadtime misses the targets of chat/llm and code/llm: 7.00 % of all requests got less than promised"
    assert title(run("predictive", 0.96, 0.9)) == both
    same = dict.fromkeys(TARGETS, 0.99)
    assert title(run("predictive", 1.0, 0.98, same)).startswith("leadtime misses the 99 % target of code/llm: 2.00 %")
    assert title(theirs) == "HPA meets every target for $80"


def test_many_that_miss_are_counted_and_not_listed() -> None:
    made = run("predictive", 1.0, 0.9)
    one = made.document["deployments"]["code/llm"]
    keys = [f"app{i}/llm" for i in range(5)]
    document = {**made.document, "deployments": dict.fromkeys(keys, one)}
    targets = {k: 0.99 if i < 3 else 0.5 for i, k in enumerate(keys)}
    assert title(replace(made, document=document, targets=targets)).startswith(
        "leadtime misses the 99 % target of 3 of 5 deployments: 5.00 % of all requests"
    )


def test_the_page_draws_a_line_for_each_target_and_its_tables_name_who_misses() -> None:
    page = unescape(render(judge([run("predictive", 1.0, 0.9), run("static", 0.98, 0.95)]), "x")).replace(NARROW, " ")
    assert re.findall(r'class="note" style="[^"]*">([^<]*)<', page) == [
        "chat/llm: 1 % may miss",
        "code/llm: 5 % may miss",
    ]
    assert page.count('class="target"') == 2
    assert page.count("<td>misses: code/llm</td>") == page.count("<td>misses: chat/llm</td>") == 1
    assert "misses the target<" not in page
    assert "static peak: $80 at 3.50 % misses, which misses the 99 % target of chat/llm." in page
    assert "10.00 % miss (5 % may)" in page


def test_equal_targets_are_one_line() -> None:
    same = dict.fromkeys(TARGETS, 0.99)
    page = render(judge([run("predictive", 1.0, 1.0, same), run("static", 1.0, 1.0, same)]), "x").replace(NARROW, " ")
    assert page.count('class="target"') == 1
    assert "target: 1 % may miss" in page


# ---------------------------------------------------------------- what a run says


@cache
def simulated() -> tuple[str, dict[str, Any]]:
    """What is printed, and the result."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        ran = leadtime("simulate", write(Path(folder), MIXED), *SHORT, "--out", str(out))
        assert ran.code == 0, ran.err
        return ran.out.replace(NARROW, " "), json.loads((out / "result.json").read_text("utf-8"))


def test_a_result_says_of_each_deployment_what_its_target_is_and_whether_it_is_reached() -> None:
    _, document = simulated()
    each = document["deployments"]
    assert [d["target_fraction"] for d in each.values()] == [0.99, 0.5]
    for d in each.values():
        assert d["reaches_target"] == (d["slo_attainment_fraction"] >= d["target_fraction"])
    assert document["reaches_target"] == all(d["reaches_target"] for d in each.values())


def test_simulate_prints_a_line_for_each_deployment_with_its_own_target() -> None:
    printed, document = simulated()
    rows = {line.split()[0]: line for line in printed.splitlines() if re.match(r"\s+\w+/llm ", line)}
    assert list(rows) == ["chat/llm", "code/llm"]
    for key, d in document["deployments"].items():
        share = f"{100 * d['slo_attainment_fraction']:.2f} %"
        word = "meets" if d["reaches_target"] else "misses"
        assert re.search(rf"{re.escape(share)} +{100 * d['target_fraction']:g} % +{word} ", rows[key]), rows[key]
        assert rows[key].split()[-2:] == [str(d["replica_starts"]), str(d["cold_starts_exposed"])]
    missing = [key for key, d in document["deployments"].items() if not d["reaches_target"]]
    assert missing
    assert f"misses: {', '.join(missing)}" in printed


def test_a_single_deployment_needs_no_table_and_its_target_is_named(tmp_path: Path) -> None:
    ran = leadtime("simulate", write(tmp_path), "--set", "duration_s=120", "--set", "deployments.0.replicas.max=1")
    assert "misses the target of 99 %" in ran.out.replace(NARROW, " ")
    assert "chat/llm" not in ran.out


def test_compare_says_below_its_table_who_misses(tmp_path: Path) -> None:
    ran = leadtime(
        "compare", write(tmp_path, MIXED), "--set", "duration_s=60", "--policies", "hpa_ongoing", "--jobs", "1"
    )
    assert ran.code == 0, ran.err
    said = [line for line in ran.out.replace(NARROW, " ").splitlines() if line.startswith("  hpa_ongoing misses: ")]
    _, document = simulated()
    missing = [
        f"{key} ({100 * d['slo_attainment_fraction']:.2f} % of {100 * d['target_fraction']:g} %)"
        for key, d in document["deployments"].items()
        if not d["reaches_target"]
    ]
    assert said == [f"  hpa_ongoing misses: {', '.join(missing)}"]


def test_a_bound_that_reaches_every_target_says_so_of_each_deployment(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path, MIXED), ["duration_s=120"])
    policy = make_policy(scenario, Choice("oracle"))
    assert isinstance(policy, OraclePolicy)
    result = simulate(scenario, policy)
    assert result.reaches_target == all(d.reaches_target for d in result.deployments)


# ---------------------------------------------------------------- nodes ahead of need by default


def noted(folder: Path, *sets: str) -> list[str]:
    """Notes about pre-warming, of a run under a policy that asks for nodes."""
    scenario = load_scenario(write(folder, SMALL), ["duration_s=120", *sets])
    options = {"follow": False}
    result = simulate(scenario, make_policy(scenario, Choice("predictive", options)))
    started = sum(p.nodes_prewarmed for p in result.pools)
    assert started == 0 or "node_pools.0.prewarm=none" not in sets
    notes = [n for n in result.document()["notes"] if "prewarm" in n]
    assert started or not notes
    return notes


def test_a_pool_that_was_warmed_by_default_is_told_with_the_controllers_default(tmp_path: Path) -> None:
    assert noted(tmp_path) == [
        "pool h100: without `prewarm`, so simulated with placeholder, and nodes were started ahead of need; a "
        "controller's default is none"
    ]


@pytest.mark.parametrize("way", ["placeholder", "none"])
def test_a_pool_whose_way_is_written_needs_no_note(tmp_path: Path, way: str) -> None:
    assert noted(tmp_path, f"node_pools.0.prewarm={way}") == []


def test_notes_are_printed_for_people_and_stay_inside_the_json(tmp_path: Path) -> None:
    words = ("simulate", write(tmp_path), "--set", "duration_s=60", "--policy", "oracle")
    note = "oracle: a lower bound of the bill, computed and not simulated; no latencies"
    assert f"note: {note}\n" in leadtime(*words).out
    ran = leadtime(*words, "--json")
    assert json.loads(ran.out)["notes"] == [note]
    assert ran.out.count("\n") == 1
