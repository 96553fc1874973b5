"""The acceptance command: what it counts, how it judges, and that a call which was broken off goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.acceptance import runs
from benchmarks.acceptance.__main__ import LINES, _cases, _play, main, page
from benchmarks.acceptance.counting import (
    Change,
    bad_hours,
    busiest_hour,
    changes,
    judged_hours,
    reversals,
    started,
    stopped,
    too_late,
)
from benchmarks.acceptance.lines import constant, repeating, starts, sweep
from benchmarks.acceptance.page import MARKS
from benchmarks.acceptance.runs import Case, Found, Track, kept, newest
from benchmarks.acceptance.section import Line, because
from benchmarks.acceptance.worlds import HOUR_S, Service, Start, world
from benchmarks.results.store import Store
from simulator.experiments.parallel.workers import InProcess
from simulator.scenario.load import load_scenario

MINUTE_S = 60.0
ROOT = Path(__file__).resolve().parents[2]


def steps(*levels: int, every_s: float = MINUTE_S) -> list[Change]:
    """The changes of a level that is looked at every minute."""
    return changes([every_s * i for i in range(len(levels))], levels)


def test_changes_are_those_of_the_level_and_begin_where_it_has_settled() -> None:
    time_s, level = [0.0, 60.0, 120.0, 180.0], [4, 6, 6, 5]
    assert changes(time_s, level) == [Change(60.0, 4, 6), Change(180.0, 6, 5)]
    assert changes(time_s, level, from_s=100.0) == [Change(180.0, 6, 5)]


def test_a_change_is_taken_back_when_the_next_one_goes_the_other_way_too_soon() -> None:
    assert len(reversals(steps(4, 5, 4), within_s=61.0)) == 1
    assert not reversals(steps(4, 5, 4), within_s=60.0), "exactly the break-even time is enough"
    assert not reversals(steps(4, 5, 6, 7), within_s=1e9), "further in the same direction takes nothing back"
    assert len(reversals(steps(4, 5, 5, 4, 5), within_s=1e9)) == 2


def test_the_busiest_hour_is_any_sixty_minutes_and_not_a_clock_hour() -> None:
    assert busiest_hour([]) == 0
    around = [Change(at, 1, 2) for at in (0.9 * HOUR_S, 1.1 * HOUR_S, 1.8 * HOUR_S, 3.0 * HOUR_S)]
    assert busiest_hour(around) == 3


def test_replicas_are_counted_and_not_decisions() -> None:
    found = steps(2, 6, 5, 4, 8)
    assert (started(found), stopped(found)) == (8, 2)


def test_what_is_wanted_may_take_its_time_each_time_anew() -> None:
    time_s = [10.0 * i for i in range(8)]
    wanted = [True, True, True, False, True, True, True, True]
    held = [False, False, True, False, False, False, False, True]
    assert too_late(time_s, wanted, held, within_s=30.0) == 0
    assert too_late(time_s, wanted, held, within_s=20.0) == 1
    assert too_late(time_s, wanted, held, within_s=10.0) == 3


# ---------------------------------------------------------------- hours


def found_of(hours: list[list[int]], track: Track | None = None, case: Case | None = None, **result: Any) -> Found:
    quiet = Track([0.0], [1.0], [2], [2], [0], [0], [0], [0])
    scenario = {"deployments": [{"name": "chat/llm", "replicas": {"max": 5}}]}
    return Found(
        case or Case("one", scenario),
        {"worst_hour_attainment_fraction": 0.99, **result},
        {"chat/llm": hours},
        {"chat/llm": track or quiet},
        {},
        {},
        {},
        "abc",
        1.0,
    )


def hour_of(misses: list[int], running: list[int], starting: list[int], target: list[int]) -> Track:
    """An hour in ticks of ten minutes."""
    time_s = [600.0 * i for i in range(len(misses))]
    nothing = [0] * len(misses)
    return Track(time_s, [1.0] * len(misses), target, running, starting, nothing, nothing, misses)


def test_an_hour_is_bad_below_ten_times_the_allowed_misses_and_only_with_enough_requests() -> None:
    hours = [[1000, 900], [1000, 899], [499, 0], [500, 449], [0, 0]]
    run = found_of(hours)
    assert [h.hour for h in bad_hours(run, {"chat/llm": 0.99})] == [1, 3]
    assert [h.hour for h in bad_hours(run, {"chat/llm": 0.95})] == [], "the limit goes with the target"
    assert judged_hours(run) == 3


def test_a_fleet_at_its_maximum_is_a_cause_and_starts_under_way_are_none() -> None:
    limited = hour_of([0, 80, 40], running=[5, 5, 5], starting=[0, 0, 0], target=[5, 5, 5])
    (bad,) = bad_hours(found_of([[1000, 880]], limited), {"chat/llm": 0.99})
    assert bad.cause == "all 5 replicas that it may have were running"
    late = hour_of([0, 80, 40], running=[2, 2, 4], starting=[0, 2, 0], target=[2, 4, 4])
    (bad,) = bad_hours(found_of([[1000, 880]], late), {"chat/llm": 0.99})
    assert bad.cause is None
    assert bad.starting == pytest.approx(80 / 120)
    assert bad.asked_first_s == 0.0


def test_the_line_of_hours_is_not_reached_by_a_bad_hour_without_a_cause() -> None:
    (hours,) = (line for line in LINES if line.letter == "g")
    found = {case.name: found_of([[1000, 995]], case=case) for case in hours.cases((1,))}
    assert hours.judge(found, (1,)).checks[0].reached
    one = next(iter(found))
    found[one] = replace(found[one], hours={"chat/llm": [[1000, 500]]})
    assert not hours.judge(found, (1,)).checks[0].reached


# ---------------------------------------------------------------- judging


def track_of(level: list[int], every_s: float) -> Track:
    nothing = [0] * len(level)
    time_s = [every_s * i for i in range(len(level))]
    return Track(time_s, [1.0] * len(level), level, level, nothing, nothing, nothing, nothing)


def test_constant_demand_is_judged_after_its_first_hour() -> None:
    every_s, ticks = 600.0, 36
    calm = [8, 4, 4, 4, 4, 4, *[4] * (ticks - 6)]
    restless = [*[4] * 10, 5, 4, 5, *[5] * (ticks - 13)]
    result = {"slo_attainment_fraction": 1.0}
    found = {c.name: found_of([], track_of(calm, every_s), **result) for c in constant.LINE.cases((1,))}
    assert [c.reached for c in constant.LINE.judge(found, (1,)).checks] == [True, True]
    one = next(iter(found))
    found[one] = replace(found[one], tracks={"chat/llm": track_of(restless, every_s)})
    quickly, often = constant.LINE.judge(found, (1,)).checks
    assert quickly.reached, "ten minutes are longer than the break-even time"
    assert not often.reached
    assert often.measured == "3"


def sweep_of(costs: Mapping[float, float], share: float = 0.995) -> dict[str, Found]:
    found = {}
    for case in sweep.LINE.cases((1,)):
        lead_s = next(s for s in costs if f", {s:g} s," in case.name)
        result = {"cost_usd": costs[lead_s], "slo_attainment_fraction": share, "ttft_s": {"p90": 1.0, "p99": 2.0}}
        found[case.name] = found_of([], **result)
    return found


def test_a_sweep_without_a_cliff_is_reached_and_one_with_a_cliff_is_not() -> None:
    smooth = {lead_s: 100.0 + 2.0 * i for i, lead_s in enumerate(repeating.STARTS_S)}
    assert [c.reached for c in sweep.LINE.judge(sweep_of(smooth), (1,)).checks] == [True, True, True]
    cliff = {lead_s: 100.0 if lead_s < 240 else 120.0 for lead_s in repeating.STARTS_S}
    assert [c.reached for c in sweep.LINE.judge(sweep_of(cliff), (1,)).checks] == [True, False, True]
    missed = sweep.LINE.judge(sweep_of(smooth, share=0.98), (1,)).checks
    assert [c.reached for c in missed] == [False, True, True]


def test_starts_and_waste_are_held_against_the_oracles() -> None:
    found = {}
    for case in starts.LINE.cases((1,)):
        ours = case.policy == "predictive"
        result = {
            "node_hours": 10.0,
            "cost_usd": 220.0,
            "prewarm_wasted_node_s": 7200.0 if ours else 0.0,
            "cold_start_miss_fraction": 0.0005 if ours else 0.004,
            "scale_ups": 2,
            "scale_downs": 2,
            "replica_starts": 3,
            "cold_starts_hidden": 3,
            "cold_starts_exposed": 1,
        }
        level = [2, 5, 2] if ours else [2, 4, 2]
        found[case.name] = found_of([], track_of(level, 600.0), **result)
    made, effective, waste = starts.LINE.judge(found, (1,)).checks
    assert (made.reached, effective.reached, waste.reached) == (True, True, False)
    assert made.measured.startswith("worst 1.50")
    assert waste.measured.startswith("worst 20.0%")


# ---------------------------------------------------------------- running


def test_every_scenario_of_every_line_can_be_read(tmp_path: Path) -> None:
    cases = [case for line in LINES for case in line.cases((1,))]
    path = tmp_path / "scenario.yaml"
    for text in {yaml.safe_dump(dict(case.scenario)) for case in cases}:
        path.write_text(text, "utf-8")
        load_scenario(str(path))
    by_name: dict[str, set[str]] = {}
    for case in cases:
        by_name.setdefault(case.name, set()).add(case.key)
    assert all(len(keys) == 1 for keys in by_name.values()), "a name stands for one run, in whatever line"


def test_lines_that_speak_of_the_same_runs_play_them_once() -> None:
    by_letter = {line.letter: line for line in LINES}
    together = _cases([by_letter["c"], by_letter["d"], by_letter["g"]], (1,))
    alone = sum(len(_cases([by_letter[letter]], (1,))) for letter in "cdg")
    assert len(together) < alone


def short_case(policy: str = "predictive", decisions: bool = True) -> Case:
    service = Service("chat/llm", 4.0, Start(60.0), 4, 2)
    return Case(f"short, {policy}", world("short", 1 / 30, [service], 1), policy, decisions=decisions)


def test_a_run_is_kept_and_found_again_with_what_was_decided(tmp_path: Path) -> None:
    store, case = Store(tmp_path), short_case()
    assert kept(store, case) is None
    store.put(case.key, runs.play(case))
    run = kept(store, case)
    assert run is not None
    assert run.value("requests") > 200
    assert len(run.track.time_s) == len(run.proposed["chat/llm"]) == len(run.planned["chat/llm"]) == 12
    assert run.hours["chat/llm"][0][0] == run.value("requests")


def test_a_run_with_earlier_code_stands_in_only_where_it_is_said_to(tmp_path: Path) -> None:
    store, case = Store(tmp_path), short_case("static")
    case = replace(case, options={"replicas": 2})
    played = runs.play(case)
    store.put("of-earlier-code", played)
    store.put("of-another-form", {**played, "form": 1, "name": "another"})
    assert kept(store, case) is None
    assert newest(store) == {case.name: "of-earlier-code"}
    assert kept(store, case, newest(store)) is not None


def test_what_was_asked_for_is_counted_by_the_argument_that_won() -> None:
    decisions = runs._Decisions()
    for planned, why in ((2, "rule"), (5, "backlog"), (5, "rule"), (4, "rule"), (5, "saturation"), (7, "backlog")):
        reasons = {"chat/llm": {"terms": [{"name": why}, {"name": "min_replicas"}]}}
        plan = {"deployments": {"chat/llm": planned}}
        record = {"kind": "tick", "proposals": {"chat/llm": planned}, "plan": plan, "reasons": reasons}
        decisions.write(json.dumps(record).encode())
    assert decisions.raised == {"chat/llm": {"backlog": 5, "saturation": 1}}
    assert because(decisions.raised["chat/llm"]) == "backlog 5, saturation 1"
    assert because({}) == "-"


def test_a_run_is_another_one_when_its_scenario_its_policy_or_the_code_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    one = short_case()
    assert one.key == short_case().key
    others = [
        short_case("hpa_ongoing"),
        replace(one, scenario={**one.scenario, "seed": 2}),
        replace(one, options={"follow": False}),
        replace(one, decisions=False),
    ]
    assert len({one.key, *(other.key for other in others)}) == 5
    before = one.key
    monkeypatch.setattr(runs, "code_of", lambda policy: f"another {policy}")
    assert one.key != before
    monkeypatch.undo()
    monkeypatch.setattr(runs, "code_behind", lambda reference: "another simulator")
    assert one.key != before


def test_a_call_that_was_broken_off_plays_only_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (Case(name, {"deployments": []}, "static") for name in ("one", "two"))
    two = replace(two, options={"replicas": 2})
    played: list[str] = []

    def play(case: Case) -> dict[str, Any]:
        played.append(case.name)
        return {"name": case.name, "cpu_s": 1.0}

    monkeypatch.setattr("benchmarks.acceptance.__main__.play", play)
    store = Store(tmp_path)
    _play(InProcess(), store, {one.key: one})
    _play(InProcess(), store, {one.key: one, two.key: two})
    assert played == ["one", "two"]
    assert "1 of 1: two" in capsys.readouterr().err


def test_a_line_without_all_of_its_runs_is_said_to_be_missing(tmp_path: Path) -> None:
    line: Line = next(line for line in LINES if line.letter == "b")
    text = page(Store(tmp_path), [line], (1,), {}).text()
    assert "**Not played**: b." in text
    assert "## b." not in text


def test_publishing_leaves_the_words_around_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"before\n\n{MARKS.begin}\nold\n{MARKS.end}\n\nafter\n", "utf-8")
    MARKS.publish(path, "new")
    assert path.read_text("utf-8") == f"before\n\n{MARKS.begin}\n\nnew\n\n{MARKS.end}\n\nafter\n"
    path.write_text("no marks", "utf-8")
    with pytest.raises(ValueError, match="it lacks a line"):
        MARKS.publish(path, "new")


def test_the_page_has_its_marks_and_is_linked() -> None:
    text = (ROOT / "docs" / "acceptance.md").read_text("utf-8")
    assert text.index(MARKS.begin) < text.index(MARKS.end)
    for name in ("README.md", "docs/policy.md"):
        assert "acceptance.md" in (ROOT / name).read_text("utf-8")


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (None, "No such file or directory; allowed: a page with the marks"),
        (b"no marks", "it lacks a line"),
        (f"{MARKS.end} {MARKS.begin}".encode(), "it lacks a line"),
        (b"\xff\xfe", "it is no text"),
    ],
)
def test_a_page_that_cannot_be_published_into_is_refused_before_anything_is_played(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    written: bytes | None,
    says: str,
) -> None:
    path, folder = tmp_path / "page.md", tmp_path / "runs"
    if written is not None:
        path.write_bytes(written)
    monkeypatch.setattr("sys.argv", ["acceptance", "--publish", str(path), "--folder", str(folder)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert f"--publish: {path}: {says}" in capsys.readouterr().err
    assert not folder.exists()
