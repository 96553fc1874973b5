"""The league's runner: scenarios that can be made by anybody, work that is never done twice, a table that adds up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoscaler.common.errors import InputError, LeadtimeError
from benchmarks.results import play as room
from benchmarks.results.alone import alone
from benchmarks.results.further import contenders
from benchmarks.results.league import LEAGUE as FILE
from benchmarks.results.league import read_league
from benchmarks.results.paired import Ratio
from benchmarks.results.play import Judge, Refer, play
from benchmarks.results.progress import Costs, Kind, in_words
from benchmarks.results.render import render
from benchmarks.results.session import SHORT, Session, Size
from benchmarks.results.store import ROOT, Store, code_of, key_of, what_it_does
from benchmarks.results.table import Entry, Table
from benchmarks.results.world import FULL, QUICK, Pair, build
from simulator.experiments.parallel.workers import InProcess
from simulator.experiments.references.known import traffic_of
from simulator.scenario.load import load_scenario
from tests.simulator.scenarios import SMALL, write

LEAGUE = read_league()


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    return build(LEAGUE, None, tmp_path_factory.mktemp("quick"), QUICK)


def test_all_twelve_are_made_from_what_ships(quick: list[Pair]) -> None:
    assert len({p.name for p in quick}) == 12
    for pair in quick:
        assert pair.stand_ins
        for path in (pair.train, pair.judge):
            scenario = load_scenario(str(path))
            assert scenario.duration_s == 8 * 3600.0
            assert all(d.history is not None for d in scenario.deployments)


def test_a_scenario_is_sized_by_its_peak_and_judged_after_it_was_trained(tmp_path: Path) -> None:
    for pair, scenario in zip(build(LEAGUE, None, tmp_path, FULL), LEAGUE["scenarios"], strict=True):
        train, judge = load_scenario(str(pair.train)), load_scenario(str(pair.judge))
        assert (train.duration_s, judge.duration_s) == (86400.0, 2 * 86400.0)
        for before, after, wanted in zip(train.deployments, judge.deployments, scenario["deployments"], strict=True):
            begin_s = before.block.workload.start_s
            assert after.block.workload.start_s == begin_s + train.duration_s
            assert 4 <= wanted["peak"] <= 30
            assert wanted["peak"] < after.block.replicas.max <= 37


def test_public_traces_are_used_where_they_are(tmp_path: Path) -> None:
    folder = Path(__file__).resolve().parents[3] / "shared" / "traces"
    if not folder.is_dir():
        pytest.skip("no public traces here")
    assert all(not pair.stand_ins for pair in build(LEAGUE, folder, tmp_path, QUICK))


def test_the_hours_of_the_quick_edition_hold_a_trough_and_a_peak(tmp_path: Path) -> None:
    folder = Path(__file__).resolve().parents[3] / "shared" / "traces"
    if not folder.is_dir():
        pytest.skip("no public traces here")
    for pair in build(LEAGUE, folder, tmp_path, QUICK):
        scenario = load_scenario(str(pair.judge))
        found = [traffic_of(scenario, d).arrival_s for d in scenario.deployments]
        rates = np.mean(
            [np.histogram(times, int(QUICK.judge_s / 900), (0, QUICK.judge_s))[0] for times in found], axis=0
        )
        assert np.sort(rates)[-2] > 1.35 * rates.mean(), pair.name  # else a constant fleet would do


# ---------------------------------------------------------------- work


def small_pair(folder: Path) -> Pair:
    text = SMALL.replace("duration_s: 300\ntick_s", "duration_s: 120\ntick_s")
    rates = folder / "rates.csv"
    rates.write_text("timestamp_s,rps\n" + "".join(f"{60 * i},{4 + 8 * (i % 3)}\n" for i in range(10)), "utf-8")
    begin, end = text.index("      synthetic:"), text.index("node_pools:\n")
    workload = f"      rates: {rates}\n      prompt_tokens: 400\n      output_tokens: 50\n"
    path = Path(write(folder, text[:begin] + workload + text[end:]))
    return Pair("small", "a test", path, path, (), {"chat/llm": 0.99})


class _Remembers(InProcess):
    def __init__(self) -> None:
        self.asked: list[Any] = []

    def each(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        self.asked += tasks
        return super().each(function, tasks)


TINY = Size("tiny", QUICK, ("hpa_ongoing",), (1, 2), 2, 60.0, 3, 3, ())


def test_what_is_finished_is_not_done_again_and_what_is_missing_is_told(tmp_path: Path) -> None:
    session = Session(TINY, tmp_path / "results", [small_pair(tmp_path)])
    before = session.table("make results")
    assert before.missing > 0
    assert "**Not finished**" in render(before)
    first, second = _Remembers(), _Remembers()
    session.run(first)
    tuned = 2 if session.tuned(session.pairs[0], "hpa_ongoing") else 0  # the defaults may be the best
    assert len(first.asked) == 2 + 2 + 2 + 1 + 1 + tuned + 1  # oracle, static, default, lead, tune, tuned, hindsight
    Session(TINY, tmp_path / "results", session.pairs).run(second)
    assert second.asked == []
    table = session.table("make results")
    assert table.missing == 0
    assert table.cpu_s > 0
    session.store.put("of-former-code", {"kind": {"what": "judge", "policy": "x", "scenario": "y"}, "cpu_s": 1e6})
    assert session.table("make results").cpu_s == table.cpu_s
    assert table.elapsed_s > 0
    page = render(table)
    for label in (
        "oracle *",
        "oracle_lead *",
        "hindsight *",
        "static *",
        "hpa_ongoing | default",
        "hpa_ongoing | tuned",
    ):
        assert f"| {label}" in page
    assert "**Not finished**" not in page


def test_a_rival_can_be_left_for_later_and_stays_missing(tmp_path: Path) -> None:
    session = Session(TINY, tmp_path / "results", [small_pair(tmp_path)], without=["hpa_ongoing"])
    workers = _Remembers()
    session.run(workers)
    assert {piece.policy for piece in workers.asked} == {"oracle", "static", "oracle_lead"}
    assert {(k.what, k.policy) for k in session.missing()} == {
        ("judge", "hpa_ongoing"),
        ("tune", "hpa_ongoing"),
        ("search", "hindsight"),  # which meets what was tuned
    }


def test_defaults_come_before_any_tuning_where_that_is_wanted(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    pairs = [replace(small_pair(tmp_path / name), name=name) for name in ("a", "b")]
    pairs[1].judge.write_text(pairs[1].judge.read_text("utf-8") + "# another one\nwarmup_s: 1\n", "utf-8")
    workers = _Remembers()
    Session(TINY, tmp_path / "results", pairs, defaults_first=True).run(workers)
    kinds = [type(piece).__name__ for piece in workers.asked]
    first = kinds.index("Tune")
    assert {Path(p.scenario).parent.name for p in workers.asked[:first]} == {"a", "b"}
    assert "Tune" not in kinds[:first]
    assert kinds[first:].count("Tune") == 2


def test_what_is_left_is_told_by_what_pieces_of_the_kind_took(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    costs = Costs()
    assert costs.left_s([Kind("judge", "keda", "a")]) is None
    costs.learn(Kind("judge", "keda", "a"), 10.0)
    costs.learn(Kind("judge", "keda", "b"), 30.0)
    costs.learn(Kind("tune", "keda", "a"), 200.0)
    assert costs.expected_s(Kind("judge", "keda", "a")) == 10.0
    assert costs.expected_s(Kind("judge", "keda", "c")) == 20.0
    assert costs.expected_s(Kind("judge", "wva", "a")) == 20.0
    assert (
        costs.left_s([Kind("judge", "keda", "a"), Kind("tune", "wva", "c"), Kind("search", "x", "a")]) == 10 + 200 + 80
    )
    assert (in_words(None), in_words(20.0), in_words(4000.0)) == (
        "no telling yet how long",
        "about 1 min left",
        "about 1 h 07 min left",
    )
    Session(TINY, tmp_path / "results", [small_pair(tmp_path)]).run(InProcess())
    lines = capsys.readouterr().err.splitlines()
    assert "small: oracle, seed 1 done;" in lines[0]
    assert lines[-1].endswith("0 to go, about 1 min left")


def test_ctrl_c_ends_it_in_one_line_and_leaves_what_is_done(tmp_path: Path) -> None:
    """In a process group of its own, as a terminal does: all of its processes get the signal."""
    words = [sys.executable, "-m", "benchmarks.results", "--quick", "--jobs", "2"]  # minutes of work
    (tmp_path / "none").mkdir()
    folder = ["--folder", str(tmp_path), "--traces", str(tmp_path / "none")]
    with subprocess.Popen(
        [*words, *folder], cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        told, first = process.stderr.readline(), process.stderr.readline()
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stderr.read().splitlines()
    assert told.startswith("no public trace rates/NAME.csv.gz: a generated stand-in for ")
    assert "done;" in first
    assert process.returncode == 130
    assert [line for line in rest if "done;" not in line] == [
        f"stopped; `make results-quick` goes on from here, what is there is in {tmp_path}/quick/results.markdown"
    ]
    assert any((tmp_path / "quick" / "runs").glob("*.json"))


def results(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.results", "--quick", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--only", "smooth-cod"), "--only smooth-cod: unknown; did you mean 'smooth-code'? (allowed: smooth-code, "),
        (("--without", "kedo"), "--without kedo: unknown; did you mean 'keda'? (allowed: predictive, "),
        (("--jobs", "-1"), "--jobs -1; allowed: a whole number >= 0"),
        (("--fresh", "--only", "stock-out"), "--fresh with --only: it would throw away the other scenarios too"),
        (("--traces", "no-such-folder"), "--traces no-such-folder: no such folder; without --traces, generated"),
        (("--publish", "no-such-folder/x.md"), "--publish no-such-folder/x.md: there is no such folder"),
    ],
)
def test_what_was_typed_wrong_is_one_line_before_anything_is_made(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    ran = results("--folder", str(tmp_path), *words)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(said)
    assert ran.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_a_second_one_in_the_same_folder_is_refused_and_a_look_is_not(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    words = ("--folder", str(tmp_path), "--traces", str(tmp_path / "none"), "--only", "smooth-mild-day")
    with alone(tmp_path / "quick.lock", "make results-quick"):
        ran = results(*words)
        assert ran.returncode == 1
        assert ran.stderr == f"{tmp_path}/quick.lock: another `make results-quick` is at work there\n"
        assert results(*words, "--render").returncode == 0
    with alone(tmp_path / "quick.lock", "make results-quick"):
        pass


def test_a_piece_that_was_spoilt_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for text in ("", "{", "[1]"):
        (tmp_path / "a.json").write_text(text, "utf-8")
        with pytest.raises(LeadtimeError, match=r"a\.json: is no finished run any more; without the file it is played"):
            store.get("a")
        with pytest.raises(LeadtimeError):
            store.everything()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("peak: 6}", "peek: 6}"), ":14: scenarios[0].deployments[0].peek: unknown key; did you mean 'peak'?"),
        (("peak: 6}", "peak: -6}"), "scenarios[0].deployments[0].peak: -6; allowed: a number > 0"),
        (("train_day: 3, ", ""), "scenarios[0].train_day: missing; allowed: a whole number >= 0"),
        (("name: smooth-strong-day", "name: smooth-code"), "scenarios[0].name: 'smooth-code' more than once"),
        (("name: smooth-code", "name: ../code"), "scenarios[0].name: '../code'; allowed: letters, digits"),
        (
            ("target_fraction: 0.99}", "target_fraction: 1.5}"),
            "slo.target_fraction: 1.5; allowed: a number >= 0.5 and < 1",
        ),
        (("\nscenarios:", "\nscenario:"), ":13: scenario: unknown key; did you mean 'scenarios'?"),
        (("\nscenarios:", "\nscenarios: ["), "not valid YAML"),
    ],
)
def test_a_wrong_league_is_one_line_with_its_place(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    path = tmp_path / "league.yaml"
    path.write_text(FILE.read_text("utf-8").replace(*change, 1), "utf-8")
    with pytest.raises(InputError) as caught:
        read_league(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_words_and_places_are_no_change_of_a_policy() -> None:
    before = 'from policies.a import b\n\n"""Doc."""\n\n\ndef f(x):\n    """Doc."""\n    return b(x)\n'
    moved = "# other words\nfrom policies.room.a import (\n    b,\n)\n\n\ndef f(x):\n    return b(x)\n"
    assert what_it_does(before) == what_it_does(moved)
    assert what_it_does(before) != what_it_does(moved.replace("b(x)", "b(x + 1)"))


def test_a_key_is_of_content_not_of_place_and_of_the_policys_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one, other = small_pair(tmp_path / "a"), small_pair(tmp_path / "b")
    assert key_of("judge", one.judge, "keda", {}, 1) == key_of("judge", other.judge, "keda", {}, 1)
    assert key_of("judge", one.judge, "keda", {}, 1) != key_of("judge", one.judge, "keda", {}, 2)
    assert key_of("judge", one.judge, "keda", {}, 1) != key_of("judge", one.judge, "hpa_kv", {}, 1)
    assert code_of("keda") != code_of("hpa_kv")


def test_a_file_of_the_store_is_whole_or_not_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "broken.part").write_text("{", "utf-8")
    assert store.get("broken") is None
    store.put("good", {"a": 1})
    assert (store.get("good") or {})["a"] == 1


def test_a_searched_reference_is_one_setting_on_all_seeds(tmp_path: Path) -> None:
    scenario = str(small_pair(tmp_path).judge)
    found = play(Refer(scenario, "hindsight", (1, 2), 3, ({"target_fraction": 0.4},)))
    assert [d["seed"] for d in found["documents"]] == [1, 2]
    assert found["documents"][0]["policy_options"] == found["documents"][1]["policy_options"] == found["options"]
    tuned = [play(Judge(scenario, "hpa_ongoing", {"target_fraction": 0.4}, seed)) for seed in (1, 2)]
    if all(t["reaches_target"] for t in tuned):
        assert sum(d["cost_usd"] for d in found["documents"]) <= sum(t["cost_usd"] for t in tuned) + 1e-6


def test_only_a_constant_fleet_may_fail_to_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from autoscaler.common.errors import ScenarioError

    def simulate(*_: Any) -> Any:
        raise ScenarioError("does not fit")

    scenario = str(small_pair(tmp_path).judge)
    monkeypatch.setattr(room, "simulate", simulate)
    assert play(Judge(scenario, "static", {}, 1))["impossible"] == "does not fit"
    with pytest.raises(ScenarioError):
        play(Judge(scenario, "keda", {}, 1))


# ---------------------------------------------------------------- the table


def document(cost: float, attained: float) -> dict[str, Any]:
    return {
        "cost_usd": cost,
        "requests": 1000,
        "slo_attainment_fraction": attained,
        "ttft_s": {"p99": 1.0},
        "cold_starts_hidden": 1,
        "cold_starts_exposed": 2,
        "deployments": {"chat/llm": {"slo_attainment_fraction": attained}},
    }


def entry(policy: str, setting: str, costs: Sequence[float], attained: float) -> Entry:
    return Entry("s", policy, setting, [document(c, attained) for c in costs], {"target": 1.0})


def table(*entries: Entry) -> Table:
    return Table(
        "quick", {"s": "a test"}, (), entries, (1, 2), 3600.0, 3600.0, 6, 3600.0, 0, 60.0, None, 60.0, ("abc",),
        "make results-quick", {"s": {"chat/llm": 0.99}},
    )  # fmt: skip


def test_ratios_are_paired_by_seed() -> None:
    page = render(table(entry("oracle_lead", "", (10, 100), 1.0), entry("keda", "default", (20, 200), 1.0)))
    assert "| keda | default | 110 ± 1,144 | 2.00 ± 0.00 | 100.00 % |" in page


def test_relations_say_no_where_they_do_not_hold() -> None:
    good = render(
        table(
            entry("oracle", "", (8, 8), 1.0),
            entry("oracle_lead", "", (10, 10), 1.0),
            entry("static", "", (20, 20), 1.0),
            entry("hindsight", "", (12, 12), 1.0),
            entry("hpa_ongoing", "tuned", (13, 13), 0.995),
            entry("keda", "default", (5, 5), 0.9),
        )
    )
    assert "| s | yes, 0.80 | yes, hindsight 1.20 | yes, 0.92 | yes, 2.00 |" in good
    assert "| keda | default | 5 ± 0 | 0.50 ± 0.00 | 90.00 %, misses |" in good
    bad = render(
        table(
            entry("oracle", "", (11, 11), 1.0),
            entry("oracle_lead", "", (10, 10), 1.0),
            entry("static", "", (9, 9), 1.0),
            entry("hindsight", "", (14, 14), 1.0),
            entry("hpa_ongoing", "tuned", (13, 13), 0.995),
        )
    )
    assert "| s | **no**, 1.10 | **no**, static 0.90 | **no**, 1.08 | **no**, 0.90 |" in bad


def test_what_the_flagship_is_worth_is_held_against_who_reaches_the_target() -> None:
    others = (
        entry("oracle_lead", "", (10, 10), 1.0),
        entry("static", "", (20, 20), 1.0),
        entry("hindsight", "", (13, 13), 0.99),
        entry("keda", "default", (5, 5), 0.9),
        entry("wva", "default", (12, 12), 0.995),
        entry("knative", "tuned", (11, 11), 0.995),
    )
    kept = render(table(entry("predictive", "default", (11, 11), 0.9875 + 1e-9), *others))
    assert (
        "| s | 0.917 (0.92-0.92) wva | 1.000 (1.00-1.00) knative | 0.846 (0.85-0.85) | 2 / 2 / 2 | 90 % | 1.25 |"
        in kept
    )
    assert "On average over `hindsight` 0.85 (geometric mean of 1; 0.9 promised), saved 90 %." in kept
    broken = render(table(entry("predictive", "default", (14, 14), 0.98), *others))
    bold = ("**1.167 (1.17-1.17) wva**", "**1.273 (1.27-1.27) knative**", "**1.077 (1.08-1.08)**")
    assert f"| s | {' | '.join(bold)} | 2 / 2 / 2 | **60 %** | **2.00** |" in broken
    assert "What `predictive` promises" not in render(table(*others))


def test_a_ratio_is_the_geometric_mean_of_its_seeds_with_an_interval() -> None:
    ratio = Ratio.of((10.0, 40.0), (20.0, 20.0))  # a half and twice
    assert ratio.mean == pytest.approx(1.0)
    assert ratio.interval is not None
    assert ratio.interval[1] == pytest.approx(np.exp(12.706 * np.log(2.0)), rel=1e-3)  # t of one degree of freedom
    assert Ratio.of((3.0,), (2.0,)).words == "1.500"
    with pytest.raises(ValueError, match="zip"):
        Ratio.of((1.0, 2.0), (1.0,))


def test_more_seeds_decide_the_promise_where_both_have_played_them() -> None:
    ours, wva, knative = (
        entry("predictive", "default", (10, 10), 1.0),
        entry("wva", "default", (10, 10), 1.0),
        entry("knative", "default", (12, 12), 1.0),
    )
    three = table(entry("oracle_lead", "", (10, 10), 1.0), ours, wva, knative)
    longer = replace(ours, documents=[document(c, a) for c, a in ((10, 1.0), (10, 1.0), (9, 0.98))])
    cheaper = replace(wva, documents=[document(c, 1.0) for c in (10, 10, 8)])
    alone = render(replace(three, further=(cheaper,), further_seeds=(3,)))
    assert "| s | 1.000 (1.00-1.00) wva | nobody reaches it | nobody reaches it | 2 / - / - |" in alone
    both = render(replace(three, further=(longer, cheaper), further_seeds=(3,)))
    assert "| s | **1.040 (0.88-1.23) wva** | nobody reaches it | nobody reaches it | 3 / - / - |" in both
    assert "| **2.00** |" in both  # the worst seed is the third
    assert "Seeds 3 are played by `predictive`" in both
    misses = replace(wva, documents=[document(c, 0.97) for c in (10, 10, 8)])
    fallen = render(replace(three, further=(longer, misses), further_seeds=(3,)))
    assert "| s | 0.833 (0.83-0.83) knative | nobody reaches it | nobody reaches it | 2 / - / - |" in fallen


def test_who_is_far_from_the_target_or_from_cheap_plays_no_more_seeds() -> None:
    entries = [
        entry("predictive", "default", (1, 1), 1.0),
        entry("oracle_lead", "", (1, 1), 1.0),
        entry("wva", "default", (100, 100), 0.99),
        entry("knative", "default", (114, 114), 1.0),
        entry("ray_serve", "default", (120, 120), 1.0),
        entry("keda", "default", (50, 50), 0.9876),  # with luck it reaches the target
        entry("phpa", "default", (50, 50), 0.9874),
        *(entry(f"tuned {c}", "tuned", (c, c), 1.0) for c in (73, 71, 72)),
        entry("tuned and under it", "tuned", (70, 70), 0.9876),
    ]
    found = [e.policy for e in contenders(entries, {"chat/llm": 0.99})]
    assert found == ["wva", "knative", "keda", "tuned 71", "tuned 72"]
    assert contenders(entries[:2], {"chat/llm": 0.99}) == []


def test_further_seeds_are_played_last_by_who_is_close_and_by_nobody_else(tmp_path: Path) -> None:
    pair = replace(small_pair(tmp_path), targets={"chat/llm": 1e-9})  # everybody reaches it
    three = ("predictive", "hpa_ongoing", "ray_serve")
    size = replace(TINY, rivals=three)
    session = Session(size, tmp_path / "results", [pair])
    for policy, cost in zip(three, (1.0, 2.0, 3.0), strict=True):
        for key in session.judged(pair, policy, {}):
            kind = {"what": "judge", "policy": policy, "scenario": "small"}
            session.store.put(key, {**document(cost, 1.0), "cpu_s": 1.0, "kind": kind})
    before = {path.name: path.read_bytes() for path in session.store.folder.iterdir()}
    further = Session(replace(size, further=(7, 8)), tmp_path / "results", [pair])
    assert {(p.policy, p.seed) for p in further.further(pair).values() if isinstance(p, Judge)} == {
        ("predictive", 7), ("predictive", 8), ("hpa_ongoing", 7), ("hpa_ongoing", 8),
    }  # fmt: skip
    assert len(further.missing()) == len(session.missing()) + 4
    assert further.further(pair).keys().isdisjoint(session.defaults(pair) | session.tunings(pair))
    assert further.table("make results").further == ()
    for key, piece in further.further(pair).items():
        kind = {"what": "judge", "policy": piece.policy, "scenario": "small"}
        further.store.put(key, {**document(4.0, 1.0), "cpu_s": 1.0, "kind": kind})
    assert before.items() <= {path.name: path.read_bytes() for path in session.store.folder.iterdir()}.items()
    assert len(further.missing()) == len(session.missing())
    longer = further.table("make results").further
    assert [(e.policy, e.costs) for e in longer] == [
        ("predictive", [1.0, 1.0, 4.0, 4.0]), ("hpa_ongoing", [2.0, 2.0, 4.0, 4.0]),
    ]  # fmt: skip


def test_who_misses_comes_after_who_reaches_the_target() -> None:
    page = render(
        table(
            entry("oracle_lead", "", (10, 10), 1.0),
            entry("keda", "default", (5, 5), 0.9),
            entry("wva", "default", (50, 50), 0.999),
        )
    )
    rows = [line for line in page.splitlines() if "| default |" in line]
    assert [row.split("|")[1].strip() for row in rows] == ["wva", "keda", "wva", "keda"]


def test_the_quick_edition_is_named_as_such() -> None:
    assert SHORT.name == "quick"
    assert "quick edition" in render(table(entry("oracle_lead", "", (1, 1), 1.0)))
