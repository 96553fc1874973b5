"""Traces of a user's own in a scenario: dates are times, nothing is cut without a word, and gaps are marked."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoscaler.common.errors import InputError
from simulator.environment import arrivals_of
from simulator.scenario.load import Scenario, load_scenario
from simulator.workload.history import history_bins
from tests.simulator.scenarios import SMALL, TWO_TENANTS, write

EPOCH_S = 1794787200
"""2026-11-16 00:00 UTC."""
LENGTHS = "prompt_tokens: {median: 100, p99: 300}, output_tokens: {median: 20, p99: 60}"


def requests(folder: Path, begin_s: float, count: int = 1001, name: str = "own.csv") -> Path:
    path = folder / name
    rows = "".join(f"{begin_s + i},50,10\n" for i in range(count))
    path.write_text("timestamp_s,prompt_tokens,output_tokens\n" + rows)
    return path


def arrivals(scenario: Scenario, index: int = 0) -> list[float]:
    found = arrivals_of(scenario.deployments[index], scenario.duration_s, 1).take(scenario.duration_s)
    return [round(at, 6) for at in found.arrival_s.tolist()]


def typed(path: Path, kind: str = "requests", more: str = "") -> str:
    return f"deployments.0.workload={{{kind}: {path}{more}}}"


@pytest.mark.parametrize("begin_s", [0, EPOCH_S])
def test_a_typed_trace_is_played_whole_whatever_the_scenarios_duration(tmp_path: Path, begin_s: float) -> None:
    scenario = load_scenario(write(tmp_path, SMALL), [typed(requests(tmp_path, begin_s))])
    assert arrivals(scenario) == [float(i) for i in range(1001)]
    assert scenario.notes == ()


def test_a_preset_plays_a_typed_trace_without_the_history_of_its_own_traffic(tmp_path: Path) -> None:
    scenario = load_scenario("preset:quickstart", [typed(requests(tmp_path, EPOCH_S, 2500))])
    assert len(arrivals(scenario)) == 2500
    assert scenario.deployments[0].history is None
    asked = [typed(requests(tmp_path, EPOCH_S, 2500), more=f", start_s: {EPOCH_S + 1000}")]
    assert load_scenario("preset:quickstart", asked).deployments[0].history is not None


def test_what_a_duration_cuts_off_is_said_in_numbers(tmp_path: Path) -> None:
    path = requests(tmp_path, EPOCH_S)
    scenario = load_scenario(write(tmp_path, SMALL), [typed(path), "duration_s=300"])
    assert len(arrivals(scenario)) == 300
    assert scenario.notes == (
        "chat/llm: own.csv: 701 of its 1,001 requests are not played: 701 after the end, 300 s later",
    )
    late = load_scenario(write(tmp_path, SMALL), [typed(path, more=f", start_s: {EPOCH_S + 100}"), "duration_s=300"])
    assert (
        "701 of its 1,001 requests are not played: 100 before start_s, 2026-11-16 00:01:40Z and 601 after"
        in (late.notes[0])
    )


def test_a_file_of_the_scenario_that_is_longer_than_its_duration_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "rates.csv").write_text("timestamp_s,rps\n" + "".join(f"{60 * i},2\n" for i in range(20)))
    synthetic = SMALL[SMALL.index("      synthetic:") : SMALL.index("node_pools:")]
    text = SMALL.replace(synthetic, f"      {{rates: rates.csv, {LENGTHS}}}\n")
    notes = load_scenario(write(tmp_path, text)).notes
    assert notes == (
        "chat/llm: rates.csv: about 1,800 of its 2,400 requests are not played: 1,800 after the end, 300 s later",
    )


def test_a_start_outside_the_trace_is_refused_and_not_played_as_nothing(tmp_path: Path) -> None:
    path = requests(tmp_path, EPOCH_S)
    for more in (", start_s: 0", f", start_s: {EPOCH_S - 1000}"):
        with pytest.raises(InputError, match=r"no row of own\.csv is played: its times go from 1794787200 \(2026"):
            load_scenario(write(tmp_path, SMALL), [typed(path, more=more), "duration_s=300"])


def test_traces_with_dates_keep_their_distance(tmp_path: Path) -> None:
    sooner, later = requests(tmp_path, EPOCH_S, 50, "a.csv"), requests(tmp_path, EPOCH_S + 40, 50, "b.csv")
    texts = [typed(later), typed(sooner).replace("deployments.0", "deployments.1")]
    scenario = load_scenario(write(tmp_path, TWO_TENANTS), texts)
    assert scenario.duration_s == 90
    assert arrivals(scenario, 0)[0] == 40.0
    assert arrivals(scenario, 1)[0] == 0.0


def test_one_typed_trace_of_two_keeps_the_duration_and_says_what_is_cut(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path, TWO_TENANTS), [typed(requests(tmp_path, 0))])
    assert scenario.duration_s == 240
    assert "761 of its 1,001 requests are not played" in scenario.notes[0]


def test_gaps_are_told_and_no_forecaster_is_shown_them(tmp_path: Path) -> None:
    rows = [f"{EPOCH_S + 60 * i},2\n" for i in range(60) if not 10 <= i < 15]
    path = tmp_path / "rates.csv"
    path.write_text("timestamp,rps\n" + "".join(rows))
    more = f", {LENGTHS}, start_s: {EPOCH_S + 1800}"
    overrides = [typed(path, "rates", more), "deployments.0.history={workload: true}"]
    scenario = load_scenario(write(tmp_path, SMALL), overrides)
    assert scenario.notes == (
        "chat/llm: rates.csv: 1 gap of 300 s in all, of 3,600 s, the first at 2026-11-16 00:10:00Z: "
        "played as a straight line between their neighbours",
    )
    ends_s, rates = history_bins(scenario.deployments[0], 60.0, 1)
    assert ends_s == [-1740.0 + 60 * i for i in range(30) if not 10 <= i < 15]
    assert len(rates) == 25
