"""The first hour: ramps are what they say, everybody plays the same, and the verdict follows from the figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bench_first_hour import ENGINES, MARKS, RAMPS, Engine, Outcome, main, page, write_scenario
from simulator.scenario.load import load_scenario
from tests.benchmarks.calls import call

ROOT = Path(__file__).resolve().parents[2]


def test_a_staircase_and_a_straight_line_are_what_they_say() -> None:
    assert [RAMPS["llm-d"].rps(minute) for minute in (0, 5.9, 6, 12, 18, 24, 30, 36, 41.9)] == [
        2, 2, 4, 6, 8, 10, 4, 1, 1,
    ]  # fmt: skip
    assert RAMPS["llm-d"].minutes == 42
    assert [RAMPS["up-5"].rps(minute) for minute in (0, 10, 12.5, 15, 59)] == [2, 2, 5.5, 9, 9]
    assert [RAMPS["spike"].rps(minute) for minute in (24.9, 25, 29.9, 30)] == [4, 10, 10, 4]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", RAMPS)
def test_every_ramp_is_a_scenario_without_history_and_without_prewarming(
    name: str, engine: Engine, tmp_path: Path
) -> None:
    scenario = load_scenario(str(write_scenario(tmp_path, name, RAMPS[name], engine)))
    [deployment], [pool] = scenario.deployments, scenario.pools
    assert scenario.duration_s == 60 * RAMPS[name].minutes
    assert deployment.history is None
    assert pool.prewarm == "none"
    new_node_s = pool.provision_s.median_s + pool.image_pull_s.median_s + pool.worker.start_s.median_s
    own_s = deployment.load_s.median_s + deployment.init_s.median_s
    assert own_s + (new_node_s if engine == "cold" else 0.0) == (100.0 if engine == "cold" else 10.0)


def test_the_verdict_is_against_the_cheapest_rival_that_keeps_the_target() -> None:
    text = page(
        {
            ("llm-d", "predictive"): Outcome(0.96, 5.15, 0.94),
            ("llm-d", "knative"): Outcome(0.95, 5.0, 0.95),
            ("llm-d", "keda"): Outcome(0.94, 4.0, 0.93),
            ("spike", "predictive"): Outcome(0.92, 5.0, 0.91),
            ("spike", "knative"): Outcome(0.9, 5.0, 0.9),
            ("spike", "keda"): Outcome(0.9, 4.0, 0.9),
            ("drop", "predictive"): Outcome(0.99, 5.2, 0.99),
            ("drop", "knative"): Outcome(0.96, 5.0, 0.96),
            ("drop", "keda"): Outcome(0.97, 6.0, 0.97),
        },
        "cold",
        (1, 2),
    )
    assert "| llm-d | 96.0 % @ 5.15 | 95.0 % @ 5.00 | **94.0 % @ 4.00** |" in text
    assert "| llm-d | 5.15 | 0.80 | 94.0 % | knative, 5.00 | 1.030 | yes |" in text
    assert "| spike | 5.00 | 1.60 | 91.0 % | none of them | - | **no** |" in text
    assert "| drop | 5.20 | 0.20 | 99.0 % | knative, 5.00 | 1.040 | **no** |" in text
    assert "in 1 of 3; at most 1.5 times the allowed misses in 2." in text


def test_a_call_plays_every_policy_and_puts_the_tables_into_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "page.md"
    target.write_text(f"before\n{MARKS.begin}\n{MARKS.end}\n", "utf-8")
    words = ["--on", "spike", "--policies", "static,knative", "--seeds", "1", "--engine", "warm"]
    assert call(main, monkeypatch, *words, "--publish", str(target)) == 0
    told = capsys.readouterr()
    assert "spike: knative, seed 1" in told.err
    assert "| ramp | static | knative |" in told.out
    assert told.out.strip() in target.read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--on", "up-50"], "--on up-50: unknown; did you mean 'up-5"),
        (["--policies", "knativ"], "--policies knativ: unknown; did you mean 'knative'"),
    ],
)
def test_what_was_typed_wrong_is_one_line(
    words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(main, monkeypatch, *words) == 2
    assert says in capsys.readouterr().err


def test_the_page_has_its_marks_and_is_linked() -> None:
    text = (ROOT / "docs" / "first-hour.md").read_text("utf-8")
    assert text.index(MARKS.begin) < text.index(MARKS.end)
    assert "first-hour.md" in (ROOT / "docs" / "README.md").read_text("utf-8")
