"""A scenario's hints reach the controller as live ones would, and hide the cold starts of a launch."""

from __future__ import annotations

from pathlib import Path

from simulator.experiments.simulation import simulate
from simulator.result import Result
from simulator.run import Choice, make_policy
from simulator.scenario.load import load_scenario
from tests.simulator.scenarios import SMALL, write

LAUNCH = (
    SMALL.replace("initial: 1", "initial: 0")
    .replace("min: 1, max: 4", "min: 0, max: 4")
    .replace("base_rps: 40", "base_rps: 0.000001")
    .replace("{at_s: 60, width_s: 90, factor: 3}", "{at_s: 150, width_s: 100, factor: 150000000}")
    .replace("policy: {name: hpa_ongoing}", "policy: {name: predictive}")
)
HINT = "    hints: [{at_s: 0, start_s: 150, end_s: 250, rps: 150}]\n    workload:"


def run(folder: Path, text: str) -> Result:
    scenario = load_scenario(write(folder, text))
    return simulate(scenario, make_policy(scenario, Choice()))


def test_a_hinted_launch_finds_its_replicas_running(tmp_path: Path) -> None:
    surprised = run(tmp_path, LAUNCH).document()
    hinted = run(tmp_path, LAUNCH.replace("    workload:", HINT)).document()
    assert hinted["slo_attainment_fraction"] > 0.99
    assert surprised["slo_attainment_fraction"] < 0.95
    assert hinted["cold_starts_exposed"] == 0
    assert surprised["cold_starts_exposed"] > 0


def test_a_launch_of_a_schedule_finds_its_replicas_running(tmp_path: Path) -> None:
    """Time 0 is a Monday, 0:00 UTC: 1:02 in Berlin is 120 s later; what begins in a week changes nothing."""
    block = '[{name: launch, cron: "2 1 * * %s", time_zone: Europe/Berlin, duration_s: 300, rps: 150}]'
    texts = [LAUNCH.replace("    workload:", f"    schedule: {block % day}\n    workload:") for day in ("MON", "SUN")]
    scheduled, other = (run(tmp_path, text).document() for text in texts)

    assert scheduled["slo_attainment_fraction"] > 0.99
    assert scheduled["cold_starts_exposed"] == 0
    assert other["slo_attainment_fraction"] < 0.95
