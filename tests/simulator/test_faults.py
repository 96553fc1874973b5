"""Faults in whole runs: what users feel, what the controller sees and does, and that luck stays the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autoscaler.cli.replay import replay
from policies.base import DeploymentKey
from simulator.experiments.simulation import simulate
from simulator.result import to_json
from simulator.run import Choice, Outputs, make_policy
from simulator.scenario.load import load_scenario
from tests.simulator.scenario.test_scenario_faults import with_faults
from tests.simulator.scenarios import TWO_TENANTS
from tests.simulator.test_run import KEY, play

Record = dict[str, Any]


def journal(path: str, policy: str | None = None, **options: Any) -> list[Record]:
    """Every record that a run of a scenario writes."""
    scenario = load_scenario(path)
    lines: list[bytes] = []
    simulate(scenario, make_policy(scenario, Choice(policy, options)), Outputs(journal=lines.append))
    return [json.loads(line) for line in lines]


def ticks(records: list[Record], begin_s: float = 0.0, end_s: float = 1e9) -> list[Record]:
    return [r for r in records if r["kind"] == "tick" and begin_s <= r["now_s"] < end_s]


def source(tick: Record, name: str) -> Record:
    found: Record = next(s for s in tick["sources"] if s["name"] == name)
    return found


# ---------------------------------------------------------------- crash


def test_a_crash_fails_requests_and_serve_starts_another(tmp_path: Path) -> None:
    calm, _, _ = play(load_scenario(with_faults(tmp_path)), "static", replicas=3)
    path = with_faults(tmp_path, "at_s: 100, kind: replica_crash, deployment: chat/llm, replicas: 2")
    document, requests, rows = play(load_scenario(path), "static", replicas=3)
    assert (calm["failed"], calm["replica_starts"]) == (0, 0)
    assert document["failed"] > 0
    assert document["replica_starts"] == 2
    assert document["requests"] == calm["requests"]
    failed_s = [e.end_s[e.status == 1] for key, e in requests.ended if key == KEY]
    assert all(100.0 <= t <= 100.01 for times in failed_s for t in times.tolist())
    assert {r.running for r in rows.rows if r.time_s <= 100} == {3}
    assert rows.rows[-1].running == 3


def test_the_same_crash_meets_every_policy(tmp_path: Path) -> None:
    path = with_faults(tmp_path, "at_s: 120, kind: replica_crash, deployment: chat/llm")
    documents = [[play(load_scenario(path), p) for _ in range(2)] for p in ("predictive", "hpa_ongoing")]
    for first, again in documents:
        assert to_json({**first[0], "wall": {}}) == to_json({**again[0], "wall": {}})
    assert documents[0][0][1].arrivals(KEY) == documents[1][0][1].arrivals(KEY)


def test_a_dead_process_reports_no_more_and_its_replica_is_soon_replaced(tmp_path: Path) -> None:
    records = journal(
        with_faults(tmp_path, "at_s: 50, kind: replica_crash, deployment: chat/llm"), "static", replicas=2
    )
    listed = [r["signals"]["chat/llm"]["inventory"]["dead_replicas"] for r in ticks(records)]
    assert listed[10] == 0
    assert listed[-1] == 1
    assert 10 < listed.index(1) <= 13  # a health check within 10 s, shown at the tick after


# ---------------------------------------------------------------- sources and writes


def test_metrics_that_cannot_be_read_age_and_nothing_is_scaled_down_on_them(tmp_path: Path) -> None:
    path = with_faults(tmp_path, "at_s: 140, kind: source_down, source: node_metrics, duration_s: 120")
    records = journal(path, "predictive")
    down = ticks(records, 145, 260)
    assert {source(r, "node_metrics")["up"] for r in down} == {False}
    assert {source(r, "node_metrics")["as_of_s"] for r in down} == {135.0}
    assert {r["signals"]["chat/llm"]["as_of_s"] for r in down} == {135.0}
    targets = [r["plan"]["deployments"]["chat/llm"] for r in down if r["plan"]["deployments"]["chat/llm"] is not None]
    assert targets == sorted(targets)  # the spike ends at 150 s, and nobody knows
    fresh = ticks(records, 260)[0]
    assert source(fresh, "node_metrics")["up"]
    assert fresh["signals"]["chat/llm"]["as_of_s"] == fresh["now_s"]


def test_an_inventory_that_cannot_be_read_is_the_last_one(tmp_path: Path) -> None:
    path = with_faults(tmp_path, "at_s: 62, kind: source_down, source: ray_dashboard, duration_s: 60")
    down = ticks(journal(path), 65, 122)
    assert {r["signals"]["chat/llm"]["inventory"]["as_of_s"] for r in down} == {60.0}
    assert {source(r, "ray_dashboard")["why"] for r in down} == {"no answer (a fault of the scenario)"}


def test_what_was_never_read_is_unknown(tmp_path: Path) -> None:
    faults = [f"at_s: 0, kind: source_down, source: {s}, duration_s: 30" for s in ("ray_dashboard", "kubernetes")]
    records = journal(with_faults(tmp_path, *faults))
    assert all(r["signals"] == {} and r["pools"] == [] for r in ticks(records, 0, 30))
    assert ticks(records, 30)[0]["signals"] != {}


def test_a_write_that_fails_is_an_outcome_and_is_tried_again(tmp_path: Path) -> None:
    path = with_faults(tmp_path, "at_s: 0, kind: api_errors, duration_s: 150, deployment: chat/llm")
    records = journal(path)
    outcomes = [(r["now_s"], r["applied"]["chat/llm"]["outcome"]) for r in ticks(records) if "chat/llm" in r["applied"]]
    assert {o for t, o in outcomes if t < 150} == {"unchanged", "unavailable"}
    shown = {r["signals"]["chat/llm"]["inventory"]["target"] for r in ticks(records, 0, 151)}
    assert shown == {1}
    assert "ok" in {o for t, o in outcomes if t >= 150}


def test_a_share_of_the_writes_fails_by_lot(tmp_path: Path) -> None:
    path = with_faults(tmp_path, "at_s: 0, kind: api_errors, duration_s: 300, api: kubernetes, fraction: 0.5")
    outcomes = [
        a["outcome"] for r in ticks(journal(path, "predictive")) for w, a in r["applied"].items() if w == "h100"
    ]
    assert 10 < outcomes.count("unavailable") < len(outcomes) - 10


# ---------------------------------------------------------------- restarts


@pytest.mark.parametrize("policy", ["predictive", "hpa_ongoing"])
def test_a_controller_that_restarts_goes_on_with_its_saved_state(tmp_path: Path, policy: str) -> None:
    records = journal(with_faults(tmp_path, "at_s: 97, kind: controller_restart, duration_s: 21"), policy)
    assert [r["kind"] for r in records].count("checkpoint") == 2
    times_s = [r["now_s"] for r in ticks(records)]
    assert [t for t in times_s if 90 < t < 130] == [95.0, 118.0, 123.0, 128.0]
    numbers = [r["tick"] for r in ticks(records)]
    assert numbers == list(range(1, len(numbers) + 1))
    calm = journal(with_faults(tmp_path), policy)
    rates = [r["signals"]["chat/llm"]["rate_rps"] for r in (ticks(records, 118, 119)[0], ticks(calm, 120, 121)[0])]
    assert rates[0] == pytest.approx(rates[1], rel=0.25)  # near what it knew had it not been away


def test_a_restart_that_nothing_was_saved_for_begins_anew(tmp_path: Path) -> None:
    records = journal(with_faults(tmp_path, "at_s: 97, kind: controller_restart, state: lost"), "predictive")
    again = ticks(records, 97)[0]
    assert (again["tick"], again["now_s"]) == (1, 107.0)
    assert again["signals"]["chat/llm"]["rate_rps"] is None
    assert again["plan"]["deployments"]["chat/llm"] >= ticks(records, 95, 96)[0]["plan"]["observed"]["chat/llm"]


def test_the_journal_of_a_run_with_restarts_replays_to_the_same_decisions(tmp_path: Path) -> None:
    faults = ("at_s: 60, kind: controller_restart", "at_s: 150, kind: controller_restart, duration_s: 33")
    path = with_faults(tmp_path, *faults, "at_s: 100, kind: redeploy, deployment: chat/llm")
    scenario = load_scenario(path)
    file = tmp_path / "journal.jsonl"
    with file.open("wb") as out:
        simulate(scenario, make_policy(scenario, Choice("predictive")), Outputs(journal=out.write))
    report = replay(file)
    assert (report.ticks, report.differing) == (len(ticks(_read(file))), 0)


def _read(file: Path) -> list[Record]:
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def test_a_restart_after_the_end_and_one_that_lasts_beyond_it_are_harmless(tmp_path: Path) -> None:
    faults = ("at_s: 290, kind: controller_restart, duration_s: 60", "at_s: 900, kind: controller_restart")
    records = journal(with_faults(tmp_path, *faults))
    assert ticks(records)[-1]["now_s"] == 285.0


def test_serves_own_autoscaler_is_not_touched_by_what_lies_outside_serve(tmp_path: Path) -> None:
    faults = (
        "at_s: 50, kind: controller_restart, duration_s: 100",
        "at_s: 50, kind: api_errors, duration_s: 200",
        "at_s: 50, kind: source_down, source: ray_dashboard, duration_s: 200",
    )
    calm, troubled = (play(load_scenario(with_faults(tmp_path, *f)), "ray_serve")[0] for f in ((), faults))
    assert to_json({**calm, "wall": {}}) == to_json({**troubled, "wall": {}})


# ---------------------------------------------------------------- redeploy


def test_after_a_redeploy_the_controller_puts_its_own_level_back(tmp_path: Path) -> None:
    path = with_faults(tmp_path, "at_s: 131, kind: redeploy, deployment: chat/llm")
    records = journal(path, "predictive")
    before, after, next_one = ticks(records, 125)[0], *ticks(records, 131)[:2]
    ours = before["plan"]["deployments"]["chat/llm"]
    assert ours > 1
    assert after["signals"]["chat/llm"]["inventory"]["target"] == 1
    assert "target_reset" in {g["name"] for g in after["guards"]}
    assert after["plan"]["deployments"]["chat/llm"] >= ours - 1
    assert next_one["signals"]["chat/llm"]["inventory"]["target"] == after["plan"]["deployments"]["chat/llm"]


def test_how_many_replicas_serve_meanwhile_is_the_configurations_choice(tmp_path: Path) -> None:
    fewest = {}
    attained = {}
    for name, more in (
        ("plain", ", replicas: 1"),
        ("named", ", replicas: 3"),
        ("surge", ", replicas: 3, max_surge_fraction: 1.0"),
    ):
        path = with_faults(tmp_path, f"at_s: 71, kind: redeploy, deployment: chat/llm{more}")
        document, _, rows = play(load_scenario(path), "static", replicas=3)
        fewest[name] = min(r.running for r in rows.rows)
        attained[name] = document["slo_attainment_fraction"]
        assert rows.rows[-1].running == 3
    assert fewest == {"plain": 0, "named": 2, "surge": 3}
    assert attained["surge"] > max(attained["plain"], attained["named"])


@pytest.mark.parametrize("policy", ["hpa_ongoing", "predictive", "ray_serve"])
def test_two_tenants_survive_everything_at_once(tmp_path: Path, policy: str) -> None:
    faults = (
        "at_s: 30, kind: replica_crash, deployment: chat/llm",
        "at_s: 45, kind: redeploy, deployment: code/llm, new_image: true",
        "at_s: 50, kind: source_down, source: node_metrics, duration_s: 40",
        "at_s: 60, kind: api_errors, duration_s: 60, fraction: 0.5",
        "at_s: 80, kind: controller_restart",
        "at_s: 90, kind: redeploy, deployment: chat/llm, max_surge_fraction: 1.0, replicas: 2",
        "at_s: 120, kind: replica_crash, deployment: code/llm, replicas: 5",
    )
    path = with_faults(tmp_path, *faults, text=TWO_TENANTS)
    document, requests, rows = play(load_scenario(path), policy)
    counts = [document[k] for k in ("completed", "failed", "timed_out", "unfinished")]
    assert document["requests"] == sum(counts) == sum(len(e) for _, e in requests.ended)
    for row in rows.rows:
        assert min(row.target, row.running, row.starting, row.draining, row.waiting, row.ongoing) >= 0
    assert document["gpu_hours"]["allocated"] <= document["gpu_hours"]["billed"] + 1e-9
    assert rows.rows[-1].running > 0
    again, _, _ = play(load_scenario(path), policy)
    assert to_json({**document, "wall": {}}) == to_json({**again, "wall": {}})


def test_faults_of_one_deployment_leave_the_others_luck_alone(tmp_path: Path) -> None:
    code = DeploymentKey.parse("code/llm")
    calm = play(load_scenario(with_faults(tmp_path, text=TWO_TENANTS)), "static", replicas=1)
    crash = "at_s: 100, kind: replica_crash, deployment: chat/llm"
    troubled = play(load_scenario(with_faults(tmp_path, crash, text=TWO_TENANTS)), "static", replicas=1)
    assert calm[0]["deployments"][str(code)] == troubled[0]["deployments"][str(code)]
