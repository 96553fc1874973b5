"""The simulator's commands as others script against them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.helpers import leadtime, leadtime_process
from tests.simulator.scenarios import SMALL, TWO_TENANTS, write

QUICK = ("--set", "duration_s=60", "--set", "deployments.0.workload.rate_scale=0.3")

_PROMISED = """
version scenario policy policy_options clairvoyant seed duration_s requests completed failed timed_out unfinished
prompt_tokens output_tokens ttft_s itl_s e2e_s queue_s slo_attainment_fraction worst_hour_attainment_fraction
throughput_rps throughput_tokens_per_s gpu_hours node_hours cost_usd cost_usd_per_million_tokens
gpu_utilization_fraction capacity_utilization_fraction replica_starts cold_starts_hidden cold_starts_exposed
cold_starts_cancelled cold_start_miss_fraction cold_start_wait_s nodes_started nodes_prewarmed
prewarm_wasted_node_s nodes_refused nodes_preempted scale_ups scale_downs preemptions recomputed_tokens
dropped_by_guard wall deployments
"""
RESULT_KEYS = set(_PROMISED.split())
"""What docs promise to scripts."""


def test_simulate_json_is_one_object_and_nothing_else(tmp_path: Path) -> None:
    ran = leadtime_process("simulate", write(tmp_path), *QUICK, "--json", timeout_s=300)
    assert (ran.code, ran.err) == (0, "")
    document = json.loads(ran.out)
    assert ran.out.count("\n") == 1
    assert set(document) >= RESULT_KEYS
    assert set(document["ttft_s"]) == {"mean", "p50", "p90", "p95", "p99", "max"}
    assert set(document["gpu_hours"]) == {"billed", "allocated", "busy"}
    assert set(document["wall"]) == {"wall_s", "simulated_s_per_wall_s", "requests_per_wall_s"}
    assert document["policy"] == "hpa_ongoing"


def test_simulate_without_json_is_for_people(tmp_path: Path) -> None:
    ran = leadtime("simulate", write(tmp_path), *QUICK, "--policy", "predictive", "--seed", "3")
    assert ran.code == 0
    assert ran.out.startswith("small under predictive, seed 3\n")
    assert "within the SLO" in ran.out


def test_nodes_that_nobody_had_or_that_were_taken_away_are_counted(tmp_path: Path) -> None:
    stock_out = "node_pools.0.stockouts.0={start_s: 5, end_s: 240, fraction: 1.0}"
    asked = (write(tmp_path, TWO_TENANTS), "--set", "deployments.0.node_pools=[spot]", "--set", stock_out)
    counts = json.loads(leadtime("simulate", *asked, "--json").out)
    assert counts["nodes_refused"] > 0
    assert counts["nodes_preempted"] > 0
    told = " ".join(leadtime("simulate", *asked).out.split())
    refused, taken = counts["nodes_refused"], counts["nodes_preempted"]
    assert f"{refused} refused for want of stock; {taken} taken away" in told


def test_out_writes_everything_and_the_report_can_be_made_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = leadtime("simulate", write(tmp_path), *QUICK, "--out", str(out), "--requests", "--json")
    assert sorted(os.listdir(out)) == ["journal.jsonl", "report.html", "requests.csv.gz", "result.json", "timeline.csv"]
    assert json.loads((out / "result.json").read_text())["requests"] == json.loads(ran.out)["requests"]
    report = (out / "report.html").read_text()
    assert "leadtime simulate" in report
    assert "--set duration_s=60" in report
    header = (out / "timeline.csv").read_text().splitlines()[0]
    assert header.startswith("time_s,deployment,arrivals_rps,forecast_q50_rps")
    assert len((out / "timeline.csv").read_text().splitlines()) == 1 + 60 / 5


def test_a_simulated_journal_replays_to_the_same_decisions(tmp_path: Path) -> None:
    for policy in ("predictive", "hpa_ongoing", "ray_serve"):
        out = tmp_path / policy
        assert leadtime("simulate", write(tmp_path), "--policy", policy, "--out", str(out)).code == 0
        ran = leadtime("replay", str(out / "journal.jsonl"), "--strict", "--json")
        assert ran.code == 0, ran.out + ran.err


def test_a_failed_run_leaves_no_half_written_files(tmp_path: Path) -> None:
    path = write(tmp_path)
    ran = leadtime(
        "simulate",
        path,
        "--set",
        "node_pools.0.nodes.max=1",
        "--set",
        "deployments.0.replicas.initial=4",
        "--out",
        str(tmp_path / "out"),
    )
    assert ran.code == 2
    assert "do not fit" in ran.err
    assert not (tmp_path / "out").exists() or os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("simulate", "nothing.yaml"), "nothing.yaml: no such file"),
        (("simulate", "preset:quickstrat"), "did you mean 'preset:quickstart'?"),
        (("simulate", "{path}", "--policy", "statik"), "did you mean 'static'?"),
        (("simulate", "{path}", "--set", "tik_s=1"), "did you mean 'tick_s'?"),
        (("simulate", "{path}", "--requests"), "--requests needs --out"),
        (("simulate", "{path}", "--seed", "-1"), "--seed -1: allowed: a whole number >= 0"),
        (("simulate", "{path}", "--sed", "1"), "did you mean '--seed'?"),
        (("simulate", "{path}", "--set", "policy={name: predictive, options: {colour: red}}"), "colour"),
        (("compare", "{path}", "--seeds", "0"), "--seeds 0: allowed: a whole number >= 1"),
        (("compare", "{path}", "--policies", ","), "allowed: names with commas between them, or all"),
        (("compare", "{path}", "--policies", "static,ray_serv"), "did you mean 'ray_serve'?"),
        (("trace", "describe", "nothing.csv"), "nothing.csv: no such file"),
        (("trace", "generate", "{path}", "x.csv"), "unknown key"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    ran = leadtime(*(w.format(path=write(tmp_path)) if w == "{path}" else w for w in words))
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_compare_runs_every_policy_and_sums_up(tmp_path: Path) -> None:
    words = ("compare", write(tmp_path), *QUICK, "--policies", "predictive,static", "--seeds", "2", "--jobs", "1")
    ran = leadtime(*words, "--json", "--out", str(tmp_path / "out"))
    assert ran.code == 0
    document = json.loads(ran.out)
    assert ran.out.count("\n") == 1
    assert [(r["policy"], r["seed"]) for r in document["runs"]] == [
        ("predictive", 1), ("static", 1), ("predictive", 2), ("static", 2)
    ]  # fmt: skip
    wanted = {"policy", "scenario", "clairvoyant", "seeds", "cost_usd", "cost_usd_ci95", "slo_attainment_fraction"}
    wanted |= {"reaches_target", "cheaper_and_reaching"}
    assert all(set(row) >= wanted for row in document["summary"])
    assert [row["clairvoyant"] for row in document["summary"]] == [False, True]
    assert (tmp_path / "out" / "compare.json").read_text() == ran.out
    assert "leadtime compare" in (tmp_path / "out" / "report.html").read_text()


def test_a_scenario_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    path = write(tmp_path)
    ran = leadtime("compare", path, path, *QUICK, "--policies", "hpa_ongoing", "--jobs", "1", "--json")
    document = json.loads(ran.out)
    assert len(document["runs"]) == 1
    assert [(row["seeds"], row["cost_usd_ci95"]) for row in document["summary"]] == [(1, None)]


@pytest.mark.parametrize("words", [("compare", "--policies", "keda,wva"), ("tune", "--policy", "keda")])
def test_options_that_nobody_would_hear_of_are_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    command, *rest = words
    ran = leadtime(command, write(tmp_path), *rest, "--set", "policy.options.threshold=3")
    assert (ran.code, ran.out) == (2, "")
    said = "--set policy.options.threshold: these are options of hpa_ongoing, which does not play; allowed: with "
    assert ran.err.startswith(said + "--set policy.name=keda")
    words = ("compare", write(tmp_path), *QUICK, "--policies", "keda", "--jobs", "1", "--json")
    ran = leadtime(*words, "--set", "policy.name=keda", "--set", "policy.options.threshold=3")
    assert json.loads(ran.out)["runs"][0]["policy_options"]["threshold"] == 3


def test_a_name_with_brackets_is_printed_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL.replace("name: small", 'name: "a [/b] c"'))
    ran = leadtime("compare", path, *QUICK, "--policies", "hpa_ongoing", "--jobs", "1")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("a [/b] c, 1 seed")


@pytest.mark.parametrize("words", [("compare", "--policies", "hpa_ongoing"), ("tune", "--policy", "hpa_ongoing")])
def test_a_place_that_cannot_be_written_is_named_before_anything_runs(tmp_path: Path, words: tuple[str, ...]) -> None:
    for name in ("report.html", "best.yaml"):
        (tmp_path / "out" / name).mkdir(parents=True)
    command, *rest = words
    ran = leadtime(command, write(tmp_path), *rest, "--out", str(tmp_path / "out"))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.endswith(": is a folder, and a file of the run has this name\n")
    (tmp_path / "file").write_text("a person's own")
    ran = leadtime(command, write(tmp_path), *rest, "--out", str(tmp_path / "file"))
    assert (ran.code, ran.err) == (1, f"leadtime: {tmp_path / 'file'}: File exists\n")


def test_compare_prints_a_table_and_its_warnings_on_the_side(tmp_path: Path) -> None:
    ran = leadtime("compare", write(tmp_path), *QUICK, "--policies", "static", "--jobs", "1")
    assert ran.code == 0
    assert "static *" in ran.out
    assert "warning: small: nobody meets the target for less than static" in ran.err


RECIPE = """
bin_s: 60
duration_s: 345600
base_rps: 5
day: {amplitude_fraction: 0.8, peak_hour: 12}
noise_fraction: 0.05
prompt_tokens: {median: 100, p99: 400}
output_tokens: 20
"""


def test_a_generated_trace_can_be_described_and_simulated(tmp_path: Path) -> None:
    recipe = write(tmp_path, RECIPE, "recipe.yaml")
    for name, extra in (("rates.csv.gz", ()), ("requests.csv", ("--requests", "--seed", "7"))):
        assert leadtime("trace", "generate", recipe, str(tmp_path / name), *extra).code == 0
        first = (tmp_path / name).read_bytes()
        assert leadtime("trace", "generate", recipe, str(tmp_path / name), *extra).code == 0
        assert (tmp_path / name).read_bytes() == first
    rates = json.loads(leadtime("trace", "describe", str(tmp_path / "rates.csv.gz"), "--json").out)
    assert (rates["kind"], rates["bins"], rates["bin_s"]) == ("rates", 5760, 60.0)
    assert rates["rps"]["mean"] == pytest.approx(5.0, rel=0.02)
    assert rates["day_strength"] > 0.9
    requests = json.loads(leadtime("trace", "describe", str(tmp_path / "requests.csv"), "--json").out)
    assert requests["requests"] == pytest.approx(rates["requests_expected"], rel=0.01)
    assert requests["prompt_tokens"]["p50"] == pytest.approx(100, abs=2)
    assert "day_strength" in leadtime("trace", "describe", str(tmp_path / "rates.csv.gz")).out
    synthetic = SMALL[SMALL.index("      synthetic:") : SMALL.index("node_pools:")]
    scenario = write(tmp_path, SMALL.replace(synthetic, "      {requests: requests.csv, start_s: 40000}\n"))
    assert leadtime("simulate", scenario, "--set", "duration_s=60").code == 0


def test_options_typed_with_a_policy_are_that_policys(tmp_path: Path) -> None:
    words = ("simulate", write(tmp_path), *QUICK, "--json", "--policy", "static")
    ran = leadtime(*words, "--set", "policy.options.replicas=2")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["policy_options"] == {"replicas": 2}
    wrong = leadtime(*words, "--set", "policy.options.replica=2")
    assert wrong.code == 2
    assert "did you mean 'replicas'" in wrong.err


def test_a_fleet_that_the_simulator_found_replays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = leadtime("simulate", write(tmp_path), *QUICK, "--policy", "static", "--out", str(out))
    assert ran.code == 0, ran.err
    again = leadtime("replay", str(out / "journal.jsonl"), "--strict")
    assert again.code == 0, again.out + again.err


def test_a_new_run_leaves_no_requests_of_an_earlier_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("simulate", write(tmp_path), "--set", "duration_s=60", "--policy", "hpa_ongoing", "--out", str(out))
    assert leadtime(*words, "--requests").code == 0
    assert (out / "requests.csv.gz").is_file()
    (out / "notes.txt").write_text("a person's own")
    assert leadtime(*words, "--seed", "2").code == 0
    assert sorted(os.listdir(out)) == ["journal.jsonl", "notes.txt", "report.html", "result.json", "timeline.csv"]


def test_a_folder_in_the_way_of_a_file_is_named_before_anything_runs(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "result.json").mkdir(parents=True)
    ran = leadtime("simulate", write(tmp_path), "--out", str(out))
    assert (ran.code, ran.err) == (2, f"{out / 'result.json'}: is a folder, and a file of the run has this name\n")
    assert os.listdir(out) == ["result.json"]


def test_a_computed_bill_has_no_journal_and_no_requests_and_says_so(tmp_path: Path) -> None:
    path, out = write(tmp_path), tmp_path / "out"
    words = ("simulate", path, "--set", "duration_s=60", "--out", str(out), "--requests")
    assert leadtime(*words, "--policy", "hpa_ongoing").code == 0
    ran = leadtime(*words, "--policy", "oracle")
    assert sorted(os.listdir(out)) == ["report.html", "result.json", "timeline.csv"]  # those of the run before are gone
    assert "not written: journal.jsonl, requests.csv.gz (the bill was computed, nobody decided" in ran.out
