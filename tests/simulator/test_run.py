"""Whole runs: nothing is lost or invented, the same seed gives the same bytes, and policies meet the same luck."""

from __future__ import annotations

import gc
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.base import DeploymentKey
from simulator.environment import Environment
from simulator.experiments.references.constant import attained_by, smallest_constant_fleet
from simulator.experiments.simulation import simulate
from simulator.kernel.outcomes import Ended
from simulator.outputs import RunFolder
from simulator.result import to_json
from simulator.run import Choice, Outputs, make_policy
from simulator.scenario.load import Scenario, load_scenario
from simulator.timeline import Row
from tests.simulator.scenarios import SMALL, TWO_TENANTS, write

KEY = DeploymentKey.parse("chat/llm")


class Requests:
    """Every request of a run, as it ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[DeploymentKey, Ended]] = []

    def write(self, key: DeploymentKey, ended: Ended) -> None:
        self.ended.append((key, ended))

    def arrivals(self, key: DeploymentKey) -> list[tuple[float, int]]:
        own = [e for k, e in self.ended if k == key]
        pairs = [(a, p) for e in own for a, p in zip(e.arrival_s.tolist(), e.prompt_tokens.tolist(), strict=True)]
        return sorted(pairs)


class Rows:
    def __init__(self) -> None:
        self.rows: list[Row] = []

    def write(self, row: Row) -> None:
        self.rows.append(row)


def play(scenario: Scenario, policy: str, **options: Any) -> tuple[dict[str, Any], Requests, Rows]:
    requests, rows = Requests(), Rows()
    chosen = make_policy(scenario, Choice(policy, options))
    result = simulate(scenario, chosen, Outputs(timeline=rows, requests=requests))
    return result.document(), requests, rows


def plain(document: dict[str, Any]) -> str:
    return to_json({k: v for k, v in document.items() if k != "wall"})


# ---------------------------------------------------------------- conservation


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000),
    policy=st.sampled_from(["hpa_ongoing", "ray_serve", "predictive", "static"]),
    text=st.sampled_from([SMALL, TWO_TENANTS]),
    timeout_s=st.sampled_from([20, 600]),
)
def test_nothing_is_lost_or_invented(tmp_path: Path, seed: int, policy: str, text: str, timeout_s: int) -> None:
    text = text.replace("replicas:", f"request_timeout_s: {timeout_s}\n    replicas:")
    scenario = load_scenario(write(tmp_path, text), seed=seed)
    options = {"replicas": 2} if policy == "static" else {}
    document, requests, rows = play(scenario, policy, **options)
    counts = [document[k] for k in ("completed", "failed", "timed_out", "unfinished")]
    assert document["requests"] == sum(counts) == sum(len(e) for _, e in requests.ended)
    assert document["requests"] == sum(d["requests"] for d in document["deployments"].values())
    hours = document["gpu_hours"]
    assert 0 <= hours["busy"] <= hours["allocated"] + 1e-9
    assert hours["allocated"] <= hours["billed"] + 1e-9
    starts = ("cold_starts_hidden", "cold_starts_exposed", "cold_starts_cancelled")
    assert document["replica_starts"] == sum(document[k] for k in starts)
    assert 0 <= document["slo_attainment_fraction"] <= 1
    for _, ended in requests.ended:
        assert np.all(ended.end_s >= ended.arrival_s)
        assert not np.any(ended.ttft_s > ended.e2e_s + 1e-9)
        assert np.all(np.isin(ended.status, (0, 1, 2, 3)))
    for row in rows.rows:
        assert min(row.target, row.running, row.starting, row.draining, row.waiting, row.ongoing) >= 0
        assert row.kv_usage_fraction is None or 0 <= row.kv_usage_fraction <= 1


def test_every_request_of_the_trace_ends_exactly_once(tmp_path: Path) -> None:
    times = np.sort(np.random.default_rng(4).uniform(0, 280, 2500))
    lines = "".join(f"{t:.3f},{200 + i},{20 + i % 30}\n" for i, t in enumerate(times))
    (tmp_path / "r.csv").write_text("timestamp_s,prompt_tokens,output_tokens\n" + lines)
    synthetic = SMALL[SMALL.index("      synthetic:") : SMALL.index("node_pools:")]
    scenario = load_scenario(write(tmp_path, SMALL.replace(synthetic, "      requests: r.csv\n")))
    _, requests, _ = play(scenario, "hpa_ongoing")
    assert [p for _, p in requests.arrivals(KEY)] == [200 + i for i in range(2500)]


def test_a_completed_request_has_a_first_token_also_when_it_is_its_only_one(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path), ["deployments.0.workload.output_tokens=1"])
    document, requests, _ = play(scenario, "static", replicas=2)
    assert all(not np.isnan(e.select(e.status == 0).ttft_s).any() for _, e in requests.ended)
    assert document["ttft_s"]["mean"] > 0
    assert document["itl_s"]["mean"] is None


def test_no_replica_serves_faster_than_its_profile_allows(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path))
    _, requests, _ = play(scenario, "static", replicas=4)
    profile = scenario.deployment(KEY).profile
    for _, ended in requests.ended:
        done = ended.select(ended.status == 0)
        assert np.all(done.ttft_s >= profile.api_s + profile.step.a_s)
        longer = done.select(done.output_tokens > 1)
        assert np.all(longer.mean_itl_s >= profile.step.a_s - 1e-9)


def test_littles_law_holds_for_requests_in_flight(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path), ["deployments.0.workload.synthetic.spikes=[]", "tick_s=0.5"])
    document, requests, rows = play(scenario, "static", replicas=2)
    inside = sum(r.ongoing for r in rows.rows) / len(rows.rows)
    everybody = np.concatenate([e.e2e_s for _, e in requests.ended])
    assert inside == pytest.approx(document["requests"] / 300 * everybody.mean(), rel=0.05)


# ---------------------------------------------------------------- the same again


@pytest.mark.parametrize("policy", ["hpa_ongoing", "ray_serve", "predictive"])
def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(tmp_path: Path, policy: str) -> None:
    for text in (SMALL, TWO_TENANTS):
        path = write(tmp_path, text)
        first, again = (plain(play(load_scenario(path), policy)[0]) for _ in range(2))
        assert first == again
        assert plain(play(load_scenario(path, seed=2), policy)[0]) != first


def test_all_files_of_a_run_are_the_same_bytes_again_but_for_wall_times(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path))
    for name in ("one", "two"):
        with RunFolder(tmp_path / name, requests=True) as folder:
            result = simulate(scenario, make_policy(scenario, Choice()), folder.outputs)
            folder.finish({**result.document(), "wall": {}}, "report")
    for file in ("timeline.csv", "requests.csv.gz", "result.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    ticks = [_without_wall(tmp_path / name / "journal.jsonl") for name in ("one", "two")]
    assert ticks[0] == ticks[1]
    assert len(ticks[0]) == 1 + 300 // 5


def _without_wall(path: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        record.pop("wall", None)
    return records


def test_every_policy_meets_the_same_requests(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path, TWO_TENANTS))
    plays = [play(scenario, policy)[1] for policy in ("hpa_ongoing", "ray_serve", "predictive")]
    for key in ("chat/llm", "code/llm"):
        seen = [p.arrivals(DeploymentKey.parse(key)) for p in plays]
        assert seen[0] == seen[1] == seen[2]


# ---------------------------------------------------------------- history


def test_what_lies_after_the_start_is_never_seen_beforehand(tmp_path: Path) -> None:
    """Rows of the history from the start on may hold anything; results do not move by a bit."""
    past = "".join(f"{t},{10 + 5 * ((t // 600) % 2)}\n" for t in range(0, 7200, 60))
    good = "timestamp_s,rps\n" + past
    text = SMALL.replace(
        "    workload:\n", "    history: {rates: past.csv, rate_scale: 1}\n    workload:\n      start_s: 7200\n"
    )
    text = text.replace("duration_s: 300\n        base", "duration_s: 7500\n        base").replace(
        "at_s: 60,", "at_s: 7260,"
    )
    seen = set()
    for tail in ("7200,12\n7260,12\n", "7200,99999\n7260,0\n", "7200,garbage\n-5,nan\n", ""):
        (tmp_path / "past.csv").write_text(good + tail)
        seen.add(plain(play(load_scenario(write(tmp_path, text)), "predictive")[0]))
    assert len(seen) == 1
    (tmp_path / "past.csv").write_text(good.replace("6600,", "6600,9"))  # while the past itself does matter
    document, _, rows = play(load_scenario(write(tmp_path, text)), "predictive")
    assert plain(document) not in seen or any(r.forecast_q99_rps for r in rows.rows)


# ---------------------------------------------------------------- constant fleets, warm-up, result


def test_static_without_a_number_is_the_smallest_fleet_that_reaches_the_target(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path))
    size = smallest_constant_fleet(scenario)["chat/llm"]
    d = scenario.deployment(KEY)
    assert 1 < size <= 4
    assert (attained_by(scenario, d, size) or 0) >= 0.99 > (attained_by(scenario, d, size - 1) or 0)
    document, _, rows = play(scenario, "static")
    assert (document["clairvoyant"], document["reaches_target"]) == (True, True)
    assert document["policy_options"] == {"replicas": {"chat/llm": size}}
    assert document["replica_starts"] == 0
    assert {r.running for r in rows.rows} == {size}
    assert document["slo_attainment_fraction"] == attained_by(scenario, d, size)


def test_where_no_constant_fleet_is_enough_it_is_the_largest_and_marked(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path), ["deployments.0.replicas.max=1"])
    document, _, _ = play(scenario, "static")
    assert document["policy_options"] == {"replicas": {"chat/llm": 1}}
    assert document["reaches_target"] is False


def test_a_fleet_that_does_not_fit_at_the_start_is_refused(tmp_path: Path) -> None:
    from autoscaler.common.errors import ScenarioError

    scenario = load_scenario(write(tmp_path), ["node_pools.0.nodes.max=2", "deployments.0.replicas.initial=3"])
    with pytest.raises(ScenarioError, match=r"chat/llm: its 3 initial replicas do not fit on nodes.max of h100"):
        play(scenario, "hpa_ongoing")


def test_the_window_begins_after_the_warm_up(tmp_path: Path) -> None:
    path = write(tmp_path)
    whole, requests, _ = play(load_scenario(path), "static", replicas=2)
    later, _, _ = play(load_scenario(path, ["warmup_s=100"]), "static", replicas=2)
    assert later["requests"] == sum(1 for t, _ in requests.arrivals(KEY) if t >= 100)
    assert later["cost_usd"] == pytest.approx(whole["cost_usd"] * 2 / 3)
    assert later["gpu_hours"]["busy"] < whole["gpu_hours"]["busy"]


def test_an_unknown_price_is_unknown_and_not_nothing(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path, SMALL.replace("    price_usd_per_hour: 10\n", "")))
    profile = replace(scenario.deployments[0].profile, price_usd_per_gpu_hour=None)
    unpriced = replace(scenario, deployments=(replace(scenario.deployments[0], profile=profile),))
    document, _, rows = play(unpriced, "hpa_ongoing")
    assert document["cost_usd"] is None
    assert document["cost_usd_per_million_tokens"] is None
    assert rows.rows[-1].cost_usd is None


def test_a_hint_is_told_from_its_announcement_on(tmp_path: Path) -> None:
    hint = "    hints: [{at_s: 30, start_s: 60, end_s: 150, rps: 120}]\n"
    scenario = load_scenario(write(tmp_path, SMALL.replace("    workload:\n", hint + "    workload:\n")))
    lines: list[bytes] = []
    simulate(scenario, make_policy(scenario, Choice()), Outputs(journal=lines.append))
    told = [(r["now_s"], len(r["hints"])) for r in map(json.loads, lines) if r["kind"] == "tick"]
    assert {now_s for now_s, count in told if count} == {float(t) for t in range(30, 150, 5)}


@pytest.mark.parametrize(
    ("policy", "least", "times_s"),
    [
        ("ray_serve", "null", [0.0, 1.0, 2.0]),
        ("ray_serve", "3", [0.0, 3.0, 6.0]),
        ("ray_serve", "60", [0.0, 5.0, 10.0]),  # never less often than the tick
        ("hpa_ongoing", "3", [0.0, 5.0, 10.0]),
    ],
)
def test_a_policys_own_period_is_kept_unless_it_is_too_short(
    tmp_path: Path, policy: str, least: str, times_s: list[float]
) -> None:
    scenario = load_scenario(write(tmp_path), [f"least_period_s={least}"])
    lines: list[bytes] = []
    simulate(scenario, make_policy(scenario, Choice(policy)), Outputs(journal=lines.append))
    times = [r["now_s"] for r in map(json.loads, lines) if r["kind"] == "tick"]
    assert times[:3] == times_s


def test_a_constant_fleet_is_the_same_whether_or_not_anybody_measures_it(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path))
    for name in ("static", "oracle_lead"):
        chosen = make_policy(scenario, Choice(name))
        seen, unseen = simulate(scenario, chosen, Outputs(journal=lambda line: None)), simulate(scenario, chosen)
        assert {**seen.document(), "wall": None} == {**unseen.document(), "wall": None}


def test_cold_starts_are_told_apart(tmp_path: Path) -> None:
    """A fleet that starts far too late is felt by users; one with replicas to spare is not."""
    late = load_scenario(write(tmp_path))
    document, _, _ = play(late, "hpa_ongoing")
    assert document["cold_starts_exposed"] > 0
    assert document["cold_start_miss_fraction"] > 0
    easy = load_scenario(
        write(tmp_path), ["deployments.0.workload.rate_scale=0.05", "deployments.0.replicas.initial=2"]
    )
    document, _, _ = play(easy, "predictive")
    assert document["cold_starts_exposed"] == 0
    assert document["cold_start_wait_s"] == 0


def test_the_worlds_of_earlier_runs_do_not_pile_up(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path, SMALL), ["duration_s=60"])
    for _ in range(20):
        simulate(scenario, make_policy(scenario, Choice("static", {"replicas": 1})))
    assert sum(isinstance(thing, Environment) for thing in gc.get_objects()) <= 9


def test_a_run_leaves_garbage_collection_as_it_was(tmp_path: Path) -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    scenario = load_scenario(write(tmp_path, SMALL), ["duration_s=60"])
    simulate(scenario, make_policy(scenario, Choice("static", {"replicas": 1})))
    assert (gc.get_threshold(), gc.get_freeze_count()) == before
