"""Tuning: the same whatever runs it, broken off and resumed, and written so that everybody accepts it."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from policies import capacity
from policies.base import PolicyError
from simulator.experiments.parallel.workers import InProcess, workers
from simulator.experiments.tuning.identity import of_files
from simulator.experiments.tuning.slice import busiest_slice
from simulator.experiments.tuning.study import Study, Tried, best_first
from simulator.experiments.tuning.trial import Attempt, Course, Score, evaluate
from simulator.experiments.tuning.tuner import Final, Plan, Tuned, Tuner, space_of, trials_for
from simulator.run import Choice, make_policy
from simulator.scenario.load import load_scenario
from tests.cli.helpers import ROOT, leadtime
from tests.simulator.scenarios import SMALL, write

LONG = SMALL.replace("duration_s: 300\ntick_s", "duration_s: 7200\ntick_s").replace(
    "duration_s: 300\n        base_rps: 40\n        spikes: [{at_s: 60, width_s: 90, factor: 3}]",
    "duration_s: 7200\n        base_rps: 4\n        spikes: [{at_s: 5000, width_s: 900, factor: 12}]",
)


def score(cost: float | None, misses: float, **more: Any) -> Score:
    return Score(cost, misses, 3600.0, 0.1, **more)


@pytest.fixture
def small(tmp_path: Path) -> str:
    return str(write(tmp_path, SMALL))


def found_by(small: str, study: Path | None, pool: Any, trials: int = 4) -> Tuned:
    return Tuner(Plan((small,), "hpa_ongoing", trials), study).run(pool)


def test_what_is_found_does_not_depend_on_how_many_look(small: str, tmp_path: Path) -> None:
    alone = found_by(small, None, InProcess())
    with workers(2) as pool:
        together = found_by(small, tmp_path / "study.sqlite", pool)
    assert [t.params for t in alone.tried] == [t.params for t in together.tried]
    assert alone.block() == together.block()
    assert [f.score.misses for f in alone.finals] == [f.score.misses for f in together.finals]


class _Breaks(InProcess):
    """Stops after a few answers, as if it were killed."""

    def __init__(self, after: int) -> None:
        self.left = after

    def each(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for answer in super().each(function, tasks):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield answer


class _Counts(InProcess):
    def __init__(self) -> None:
        self.runs = 0

    def each(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        self.runs += len(tasks)
        return super().each(function, tasks)


def test_a_search_that_was_broken_off_goes_on_and_finds_the_same(small: str, tmp_path: Path) -> None:
    study, counts = tmp_path / "study.sqlite", _Counts()
    with pytest.raises(KeyboardInterrupt):
        found_by(small, study, _Breaks(2))
    again = found_by(small, study, counts)
    assert counts.runs == 2 + 1  # the two that were missing, and the defaults
    assert again.block() == found_by(small, None, InProcess()).block()
    finished = _Counts()
    assert found_by(small, study, finished).block() == again.block()
    assert finished.runs == 0


def test_another_scenario_is_another_study_in_the_same_file(small: str, tmp_path: Path) -> None:
    study = tmp_path / "study.sqlite"
    found_by(small, study, InProcess(), 2)
    other = Tuner(Plan((small,), "hpa_ongoing", 2, ("tick_s=10",)), study)
    assert other.study.tried == []
    assert len(Tuner(Plan((small,), "hpa_ongoing", 2), study).study.tried) == 2


def test_a_trace_that_changed_or_a_policys_own_file_that_did_is_another_study(tmp_path: Path) -> None:
    begin, end = SMALL.index("      synthetic:"), SMALL.index("node_pools:\n")
    scenario = str(write(tmp_path, f"{SMALL[:begin]}      requests: mine.csv\n{SMALL[end:]}"))
    trace, policy = tmp_path / "mine.csv", tmp_path / "mine.py"
    trace.write_text("timestamp_s,prompt_tokens,output_tokens\n1,100,10\n", encoding="utf-8")
    own = "from policies.plugin import PolicyPlugin\n\n\nclass Mine(PolicyPlugin):\n    name = 'mine'\n"
    own += "    def propose(self, fleet, state, now_s): ...\n"
    policy.write_text(own, encoding="utf-8")

    def read() -> str:
        loaded = load_scenario(scenario)
        return of_files([loaded], make_policy(loaded, Choice(f"{policy}:Mine")))

    first = read()
    assert read() == first
    policy.write_text(own + "# another word\n", encoding="utf-8")
    second = read()
    trace.write_text("timestamp_s,prompt_tokens,output_tokens\n1,100,11\n", encoding="utf-8")
    assert len({first, second, read()}) == 3


def test_best_yaml_is_accepted_by_a_scenario_and_by_the_controller(small: str, tmp_path: Path) -> None:
    ran = leadtime(
        "tune", small, "--policy", "hpa_ongoing", "--trials", "2", "--jobs", "1", "--out", str(tmp_path / "o")
    )
    assert ran.code == 0, ran.err
    block = (tmp_path / "o" / "best.yaml").read_text(encoding="utf-8")
    assert list(yaml.safe_load(block)) == ["policy"]
    chosen = yaml.safe_load(block)["policy"]
    assert chosen["name"] == "hpa_ongoing"

    text = SMALL.replace("policy: {name: hpa_ongoing}\n", block)
    scenario = load_scenario(str(write(tmp_path, text, "tuned.yaml")))
    assert scenario.file.policy.options == chosen["options"]
    ran = leadtime("simulate", str(tmp_path / "tuned.yaml"), "--json", "--set", "duration_s=60")
    assert json.loads(ran.out)["policy_options"]["target_fraction"] == chosen["options"].get("target_fraction", 0.8)

    settings = tmp_path / "leadtime.yaml"
    settings.write_text(
        "version: 1\nservices: [{dashboard: 'http://127.0.0.1:8265'}]\n"
        "deployments: [{match: chat/llm, replicas: {max: 4}}]\n" + block,
        encoding="utf-8",
    )
    ran = leadtime("config", "validate", str(settings))
    assert ran.code == 0, ran.err
    with (tmp_path / "o" / "trials.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [r["trial"] for r in rows] == ["0", "1"]
    assert float(rows[0]["target_fraction"]) == 0.8  # it begins with the defaults


def test_the_json_says_what_was_found_and_nothing_else(small: str) -> None:
    ran = leadtime("tune", small, "--policy", "hpa_queue", "--trials", "1", "--jobs", "1", "--json")
    document = json.loads(ran.out)
    assert document["policy"]["name"] == "hpa_queue"
    assert document["trials"] == 1
    assert document["defaults"]["options"] == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--policy", "static"), "policy static: it knows the traffic, so there is nothing to tune"),
        (("--policy", "oracle_lead"), "policy oracle_lead: it knows the traffic, so there is nothing to tune"),
        (("--policy", "hpa_ongoin"), "did you mean 'hpa_ongoing'?"),
        (("--policy", "keda", "--trials", "0"), "--trials 0: allowed: a whole number >= 1"),
        (("--policy", "keda", "--slice-s", "-1"), "--slice-s -1: allowed: seconds > 0"),
    ],
)
def test_what_cannot_be_tuned_is_one_line_and_exit_2(small: str, words: tuple[str, ...], said: str) -> None:
    ran = leadtime("tune", small, *words)
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_file_that_is_no_study_is_told(small: str, tmp_path: Path) -> None:
    (tmp_path / "study.sqlite").write_text("not a database, and long enough to be sure of that" * 50, encoding="utf-8")
    ran = leadtime("tune", small, "--policy", "keda", "--out", str(tmp_path), "--jobs", "1")
    assert ran.code == 1
    assert "study.sqlite: cannot be used as a study" in ran.err


# ---------------------------------------------------------------- the pieces


def test_one_option_gets_fewer_trials() -> None:
    scenario_space = {"a": object()}
    assert trials_for(scenario_space, 40) == 16  # type: ignore[arg-type]
    assert trials_for({**scenario_space, "b": object()}, 40) == 40  # type: ignore[dict-item]


def test_the_slice_is_where_traffic_rises(tmp_path: Path) -> None:
    scenario = load_scenario(str(write(tmp_path, LONG)))
    part = busiest_slice(scenario, 1800.0, 600.0)
    assert part.start_s == 3600.0  # the whole hour before the jump at 5,000 s, which is judged
    sliced = load_scenario(str(tmp_path / "scenario.yaml"), part.overrides(scenario))
    assert (sliced.duration_s, sliced.file.warmup_s) == (2400.0, 600.0)
    assert sliced.deployments[0].block.workload.start_s == 3600.0


def test_a_slice_takes_its_hints_and_stock_outs_along(tmp_path: Path) -> None:
    text = LONG.replace(
        "    workload:", "    hints: [{at_s: 4000, start_s: 5000, end_s: 6000, rps: 40}]\n    workload:"
    )
    text += "    stockouts: [{start_s: 100, end_s: 200}, {start_s: 3000, end_s: 4000, fraction: 0.5}]\n"
    scenario = load_scenario(str(write(tmp_path, text)))
    overrides = busiest_slice(scenario, 1800.0, 600.0).overrides(scenario)
    sliced = load_scenario(str(tmp_path / "scenario.yaml"), overrides)
    [hint] = sliced.deployments[0].block.hints
    assert (hint.at_s, hint.start_s, hint.end_s, hint.rps) == (400.0, 1400.0, 2400.0, 40)
    [out] = sliced.pools[0].stockouts
    assert (out.start_s, out.end_s, out.fraction) == (0.0, 400.0, 0.5)


def test_a_hopeless_trial_is_cut_short_and_a_good_one_is_not(small: str) -> None:
    course = Course.of(load_scenario(small))
    starved = evaluate(Attempt((course,), "static", {"replicas": 1}, stop_at=2.0))
    assert starved.stopped
    assert starved.cost_usd is None
    assert starved.misses > 2.0
    whole = evaluate(Attempt((course,), "static", {"replicas": 1}))
    assert not whole.stopped
    assert whole.misses > starved.misses
    good = evaluate(Attempt((course,), "static", {"replicas": 4}, stop_at=2.0))
    assert not good.stopped
    assert good.misses < 1.0


def test_options_that_do_not_go_together_are_a_refused_trial(small: str) -> None:
    course = Course.of(load_scenario(small))
    told = evaluate(Attempt((course,), "predictive", {"season_s": 10.0, "bin_s": 3600.0}))
    assert told.refused is not None
    study = Study("refused", space_of_policy("hpa_ongoing"), 1)
    [(number, _)] = study.ask(1)
    study.tell(number, told)
    assert study.tried[0].score.refused == told.refused
    assert best_first(study.tried, 1.0) == []


def space_of_policy(name: str) -> Any:
    from policies.registry import create_policy

    return space_of(create_policy(name, {}))


def test_the_cheapest_within_the_allowance_comes_first_then_who_misses_least() -> None:
    tried = [
        Tried(0, {"a": 0}, score(5.0, 0.9)),
        Tried(1, {"a": 1}, score(4.0, 1.2)),
        Tried(2, {"a": 2}, score(6.0, 0.1)),
        Tried(3, {"a": 3}, score(None, 8.0, stopped=True)),
    ]
    assert [t.number for t in best_first(tried, 1.0)] == [0, 2, 1, 3]
    assert best_first(tried, 0.5)[0].number == 2


def test_a_setting_is_chosen_with_some_room_below_the_target() -> None:
    near, safe = Final({"a": 1}, score(4.0, 0.95)), Final({"a": 2}, score(5.0, 0.6))
    assert min([near, safe], key=lambda f: f.rank) is safe
    assert min([near, Final({}, score(9.0, 3.0))], key=lambda f: f.rank) is near


def test_an_unknown_bill_is_never_the_smaller_one() -> None:
    known, unknown = Final({"a": 1}, score(9.0, 3.0)), Final({"a": 2}, score(None, 3.0))
    assert min([unknown, known], key=lambda f: f.rank) is known
    assert min([Final({}, score(None, 0.0)), known], key=lambda f: f.rank).score.bill is None  # it misses less
    tried = [Tried(0, {"a": 0}, score(None, 3.0, stopped=True)), Tried(1, {"a": 1}, score(9.0, 3.0))]
    assert [t.number for t in best_first(tried, 1.0)] == [1, 0]
    assert not score(None, 0.5, stopped=True).reaches_target
    assert score(1.0, 1.0).reaches_target


def test_without_a_price_settings_are_compared_by_gpu_hours_and_the_cost_is_unknown(tmp_path: Path) -> None:
    profile = (Path(capacity.__file__).parent / "presets" / "llama-3.1-8b" / "h100" / "tp1.yaml").read_text("utf-8")
    unpriced = [line for line in profile.splitlines() if not line.startswith("price_usd_per_gpu_hour")]
    (tmp_path / "unpriced.yaml").write_text("\n".join(unpriced), encoding="utf-8")
    text = SMALL.replace("llama-3.1-8b/h100/tp1", "unpriced.yaml").replace("    price_usd_per_hour: 10\n", "")
    path = str(write(tmp_path, text))
    course = Course.of(load_scenario(path))
    one, four = (evaluate(Attempt((course,), "static", {"replicas": n})) for n in (1, 4))
    assert one.cost_usd is None
    assert one.bill is not None
    assert four.bill is not None
    assert one.bill < four.bill
    found = Tuner(Plan((path,), "hpa_ongoing", 2)).run(InProcess())
    assert found.best.score.bill is not None
    assert "this one costs ? USD (" in found.yaml()
    assert "0 USD" not in found.yaml()


STARVED = SMALL.replace("startup: {load_s: 10, init_s: 5}", "startup: {load_s: 200, init_s: 90}").replace(
    "min: 1, max: 4, initial: 1", "min: 0, max: 4, initial: 0"
)
"""No replica can be there before nearly all is over."""


def test_where_nothing_reaches_the_target_the_file_the_screen_and_the_warning_say_so(tmp_path: Path) -> None:
    path = str(write(tmp_path, STARVED))
    words = ("tune", path, "--policy", "hpa_ongoing", "--trials", "3", "--jobs", "1")
    ran = leadtime(*words, "--out", str(tmp_path / "o"))
    assert ran.code == 0
    best = (tmp_path / "o" / "best.yaml").read_text(encoding="utf-8")
    first = best.splitlines()[0]
    said = r"no setting reached the target: the best(, the defaults,)? has \d+(\.\d+)? times the misses that it allows "
    assert re.fullmatch(rf"# MISSES THE TARGET: {said}\(3 of 3 trials cut short\)", first)
    assert ran.err == f"warning: hpa_ongoing: {first.removeprefix('# MISSES THE TARGET: ')}\n"
    assert first in ran.out
    assert not re.search(r"\b0 USD", best)
    assert ran.out.count("(defaults)") == 1
    document = json.loads(leadtime(*words, "--json").out)
    assert document["reaches_target"] is False
    assert document["best"]["misses_over_allowed"] > 1
    assert all(f["cost_usd"] is not None and not f["reaches_target"] for f in document["finals"])  # played to the end


def test_what_equals_the_defaults_is_not_their_rival(tmp_path: Path) -> None:
    calm = str(write(tmp_path, SMALL.replace("min: 1, max: 4, initial: 1", "min: 4, max: 4, initial: 4")))
    found = found_by(calm, None, InProcess(), 1)  # one trial, which begins with the defaults
    assert [dict(f.params) for f in found.finals] == [{}]
    assert found.short_of_target is None
    assert found.yaml().splitlines()[2] == "# (these are the defaults)."


def test_options_that_were_given_with_the_scenario_stand_in_best_yaml_too(small: str) -> None:
    found = Tuner(Plan((small,), "hpa_ongoing", 1, ("policy.options.rate_period_s=30",))).run(InProcess())
    assert found.block()["policy"]["options"]["rate_period_s"] == 30


def test_help_and_page_say_alike_which_hours_are_tried() -> None:
    words = "six hours in which traffic rises the most"
    assert words in " ".join(leadtime("tune", "--help").out.split())
    assert words in " ".join((ROOT / "docs" / "tuning.md").read_text(encoding="utf-8").split())


def test_a_policy_without_a_search_says_how_to_declare_one() -> None:
    from policies.registry import create_policy

    with pytest.raises(PolicyError, match=r"option\(\.\.\., search=\.\.\.\)"):
        space_of(create_policy("static_mean", {}))
