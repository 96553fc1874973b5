"""Engines that idle, as a real Ray page shows them: gauges that vanish, counters that stay, decisions that survive."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from autoscaler.core import guards
from autoscaler.core.demand.knowledge import engine_gauges
from autoscaler.core.types import Histogram
from autoscaler.sources import names
from policies.base import ReplicaMetrics
from simulator import run
from simulator.experiments.simulation import simulate
from simulator.run import Choice, Outputs, make_policy
from simulator.scenario.load import load_scenario
from simulator.telemetry.figures import ReplicaFigures
from simulator.telemetry.pages import MetricPages
from simulator.telemetry.processes import DeploymentTelemetry
from simulator.telemetry.spec import PROFILES, TelemetrySpec
from tests.simulator.fleet import fleet, spec
from tests.simulator.scenarios import SMALL, write
from tests.simulator.telemetry.test_pages import Seen, Truth
from tests.simulator.test_faults import journal, ticks

EDGES = (0.1, 1.0, math.inf)


@dataclass
class Work(Truth):
    """An engine that works from 30 to 100 s, with nothing to do before and after; at 50 s it ends its first request."""

    def replica_figures(self, replica_id: str) -> ReplicaFigures:
        done_s = min(max(self.now_s - 30.0, 0.0), 70.0)
        busy = float(30 < self.now_s < 100)
        counts = Histogram(EDGES, (done_s, done_s, done_s))
        return ReplicaFigures(
            busy, busy, 0.0, 0.3 * busy, 50 * done_s, 9 * done_s, 0.0, done_s, 0.0, counts, counts,
            itl_of_requests=self.now_s > 50,
        )  # fmt: skip


def watch(telemetry: TelemetrySpec) -> Seen:
    f = fleet(deployments=(spec(initial=1),))
    f.serve.plane = truth = Work()
    seen = DeploymentTelemetry(f.serve, truth, telemetry, f.queue)
    return Seen(f, f.serve, MetricPages([seen], telemetry, seed=1))


def shows(one: ReplicaMetrics) -> bool:
    gauges = {one.running is None, one.waiting is None, one.kv_usage_fraction is None}
    assert len(gauges) == 1, "all or none"
    return gauges == {False}


def test_an_engine_has_gauges_from_its_first_step_until_twenty_seconds_after_its_last() -> None:
    seen = watch(PROFILES["ray_serve"])
    shown = {}
    for time_s in range(15, 200):
        (one,) = seen.at(float(time_s)).replicas
        assert one.ongoing is not None  # Serve's own gauge is always there
        shown[time_s] = shows(one)
    times_s = [t for t, there in shown.items() if there]
    assert 31 <= times_s[0] <= 42
    assert 120 <= times_s[-1] + 1 <= 132
    assert times_s == list(range(times_s[0], times_s[-1] + 1))


def test_counters_stay_and_the_vanished_engine_is_read_as_idle() -> None:
    seen = watch(PROFILES["ray_serve"])
    metrics = seen.at(180.0)
    assert sum(metrics.prompt_tokens_total.values()) == 50 * 70
    (raw,), (read,) = metrics.replicas, engine_gauges(metrics)
    assert (raw.ongoing, raw.running) == (0.0, None)
    assert (read.running, read.waiting, read.kv_usage_fraction) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("profile", ["ideal", "prometheus_15s"])
def test_vllms_own_page_keeps_its_gauges(profile: str) -> None:
    seen = watch(PROFILES[profile])
    assert all(shows(one) for t in (20.0, 60.0, 180.0) for one in seen.at(t).replicas)


def test_times_between_tokens_are_those_of_requests_once_one_has_ended() -> None:
    seen = watch(PROFILES["ideal"])
    gaps = {names.VLLM_ITL_BUCKET, names.VLLM_ITL_SUM}
    means = {names.VLLM_MEAN_ITL_BUCKET, names.VLLM_MEAN_ITL_SUM}
    for time_s, expected in ((40.0, gaps), (60.0, means)):
        assert len(seen.at(time_s).itl) == 1
        (page,) = [p for n, p in seen.pages._last.items() if n != "head"]
        assert {series.name for series, _ in page.samples} & (gaps | means) == expected


# ---------------------------------------------------------------- decisions

QUIET = SMALL.replace(
    "spikes: [{at_s: 60, width_s: 90, factor: 3}]", "spikes: [{at_s: 120, width_s: 600, factor: 0}]"
).replace("duration_s: 300", "duration_s: 600")


@pytest.mark.parametrize("policy", ["predictive", "hpa_kv", "hpa_queue", "dynamo_v2", "wva", "apa"])
def test_a_fleet_that_falls_idle_is_neither_stale_nor_stuck(tmp_path: Path, policy: str) -> None:
    """With nobody asking any more engines vanish from the page; what is known stays known, and replicas go."""
    path = write(tmp_path, QUIET.replace("initial: 1", "initial: 3"))
    scenario = load_scenario(path, ["telemetry.profile=ray_serve"])
    chosen = make_policy(scenario, Choice(policy))
    scenario_ticks = ticks(journal(path, policy), 200)
    late = scenario_ticks[-1]
    seen = late["signals"]["chat/llm"]
    assert seen["rate_rps"] == pytest.approx(0.0, abs=0.5)
    assert not [g for r in scenario_ticks for g in r["guards"] if g["name"] == guards.UNKNOWN]
    assert simulate(scenario, chosen, Outputs()).document()["failed"] == 0
    assert late["plan"]["deployments"]["chat/llm"] == 1


def test_idle_gauges_change_nothing_for_who_asks_serve_only(tmp_path: Path) -> None:
    path = write(tmp_path)
    before = [r["plan"] for r in ticks(journal(path, "hpa_ongoing"))]
    kept = replace(PROFILES["prometheus_15s"], idle_gauges_s=20.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "PROFILES", {**PROFILES, "prometheus_15s": kept})
        assert [r["plan"] for r in ticks(journal(path, "hpa_ongoing"))] == before
