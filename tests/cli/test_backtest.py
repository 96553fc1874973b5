"""`leadtime backtest`: a file's rates stand in for a deployment's traffic, what lies before them is history."""

from __future__ import annotations

import html
import json
import re
import shlex
from pathlib import Path

import pytest

from simulator.scenario.load import load_scenario
from tests.cli.helpers import leadtime
from tests.simulator.scenarios import SMALL, TWO_TENANTS, write

BIN_S = 60.0


def recorded(folder: Path, bins: int = 20, first_s: float = 0.0, rps: float = 5.0) -> str:
    path = folder / "rates.csv"
    rows = [f"{first_s + BIN_S * i:g},{rps}" for i in range(bins)]
    path.write_text("\n".join(["timestamp_s,rps", *rows]) + "\n", "utf-8")
    return str(path)


def runs(*words: str) -> dict[str, dict[str, object]]:
    ran = leadtime("backtest", *words, "--json")
    assert ran.code == 0, ran.err
    return {run["policy"]: run for run in json.loads(ran.out)["runs"]}


def test_the_recorded_rates_are_played_under_every_policy_of_a_comparison(tmp_path: Path) -> None:
    found = runs(write(tmp_path), "--rates", recorded(tmp_path), "--policies", "hpa_ongoing,ray_serve")
    assert list(found) == ["hpa_ongoing", "ray_serve"]
    assert {run["duration_s"] for run in found.values()} == {600.0}, "the second half of twenty minutes"
    counts = {run["requests"] for run in found.values()}
    assert len(counts) == 1, "the same traffic for everybody"
    assert counts.pop() == pytest.approx(5.0 * 600.0, rel=0.1)


def test_what_was_recorded_before_is_history_and_what_the_scenario_played_is_gone(tmp_path: Path) -> None:
    """`static_mean` without a number sizes by history alone: with ten times the traffic before, more replicas."""
    path = tmp_path / "loud.csv"
    rows = [f"{BIN_S * i:g},{100.0 if i < 30 else 2.0}" for i in range(40)]
    path.write_text("\n".join(["timestamp_s,rps", *rows]) + "\n", "utf-8")
    words = (write(tmp_path), "--from-s", "1800", "--policies", "static_mean")
    loud = runs(*words, "--rates", str(path))
    quiet = runs(*words, "--rates", recorded(tmp_path, 40, rps=2.0))
    assert loud["static_mean"]["requests"] == quiet["static_mean"]["requests"]
    assert loud["static_mean"]["cost_usd"] > quiet["static_mean"]["cost_usd"]  # type: ignore[operator]


def test_lengths_of_requests_are_the_scenarios(tmp_path: Path) -> None:
    run = runs(write(tmp_path), "--rates", recorded(tmp_path), "--policies", "hpa_ongoing")["hpa_ongoing"]
    stated = load_scenario(write(tmp_path)).deployments[0].block.workload.synthetic
    assert stated is not None
    assert stated.output_tokens is not None
    mean = run["output_tokens"] / run["completed"]  # type: ignore[operator]
    assert mean == pytest.approx(stated.output_tokens.mean_s, rel=0.15)


def test_set_has_the_last_word(tmp_path: Path) -> None:
    found = runs(write(tmp_path), "--rates", recorded(tmp_path), "--policies", "hpa_ongoing", "--set", "duration_s=120")
    assert found["hpa_ongoing"]["duration_s"] == 120.0


def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    odd = Path(recorded(tmp_path)).rename(tmp_path / "rates of \U0001f680's \u00e9t\u00e9.csv")
    words = (write(tmp_path), "--rates", str(odd), "--policies", "hpa_ongoing", "--set", "duration_s=30")
    assert runs(*words)["hpa_ongoing"]["duration_s"] == 30.0


def test_of_several_deployments_one_is_named_and_the_others_keep_their_traffic(tmp_path: Path) -> None:
    two = write(tmp_path, TWO_TENANTS)
    names = [str(d.key) for d in load_scenario(two).deployments]
    ran = leadtime("backtest", two, "--rates", recorded(tmp_path))
    assert ran.code == 2
    assert ran.err.strip().endswith(f"--deployment: missing; allowed: {', '.join(names)}")
    words = (two, "--rates", recorded(tmp_path), "--policies", "hpa_ongoing", "--set", "duration_s=60")
    found = runs(*words, "--deployment", names[1])["hpa_ongoing"]
    requests = {name: one["requests"] for name, one in found["deployments"].items()}  # type: ignore[attr-defined]
    assert requests[names[1]] == pytest.approx(300, rel=0.3)
    assert requests[names[0]] > 0


@pytest.mark.parametrize("from_s", ["1200", "-1", "nan"])
def test_a_beginning_outside_of_the_file_is_refused(tmp_path: Path, from_s: str) -> None:
    ran = leadtime("backtest", write(tmp_path), "--rates", recorded(tmp_path), f"--from-s={from_s}")
    assert (ran.code, ran.out) == (2, "")
    assert f"--from-s {from_s}: allowed: seconds from 0 and before 1200" in ran.err


def test_a_scenario_without_lengths_is_told_what_is_missing(tmp_path: Path) -> None:
    text = SMALL.replace("        prompt_tokens: {median: 500, p99: 2000}\n", "")
    assert text != SMALL
    ran = leadtime("backtest", write(tmp_path, text), "--rates", recorded(tmp_path))
    assert ran.code == 2
    assert "prompt_tokens" in ran.err


def test_a_bad_row_is_named_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    path.write_text("timestamp_s,rps\n0,1\n60,minus\n", "utf-8")
    ran = leadtime("backtest", write(tmp_path), "--rates", str(path))
    assert ran.code == 2
    assert "rates.csv" in ran.err
    assert "minus" in ran.err


def test_the_report_names_a_comparison_that_gives_the_same_again(tmp_path: Path) -> None:
    scenario, rates, out = write(tmp_path), recorded(tmp_path), tmp_path / "out"
    ran = leadtime("backtest", scenario, "--rates", rates, "--policies", "hpa_ongoing", "--out", str(out))
    assert ran.code == 0, ran.err
    report = html.unescape((out / "report.html").read_text("utf-8"))
    found = re.search(r"leadtime (compare [^<\n]*)", report)
    assert found is not None
    again = leadtime(*shlex.split(found[1]), "--json")
    assert again.code == 0, again.err
    before, now = json.loads((out / "compare.json").read_text("utf-8")), json.loads(again.out)
    assert now["summary"] == before["summary"]
