"""Constant settings of the flagship: one rule is really followed, another target is told, the judged one stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.constant import __main__ as command
from benchmarks.constant.__main__ import MARKS, SMOOTH, main
from benchmarks.constant.page import Constant, page
from benchmarks.constant.runs import asked, found
from benchmarks.constant.settings import FLAGSHIP, SETTINGS, Setting
from benchmarks.results.league import read_league
from benchmarks.results.store import Store
from benchmarks.results.table import Entry
from policies.predictive.rules import sizing
from policies.predictive.rules.family import Family
from policies.predictive.rules.fleet import COST, MISSED, RuleSimulation, SimulationMemory
from policies.predictive.rules.shadow_price import Account, PriceSettings
from tests.benchmarks.calls import call
from tests.benchmarks.test_results import document, small_pair

ROOT = Path(__file__).resolve().parents[2]
RULES = [s for s in SETTINGS if s.rule is not None]
TOLD = Setting("told 0.9", "believes in 90 %", told=0.9)
RULE = Setting("keep 0.5", "keeps", rule="keep 0.5")


# ---------------------------------------------------------------- settings


def chosen(best: str) -> str:
    """What is followed where one rule of the family is perfect and the others cost and miss more."""
    family = Family()
    shadow = RuleSimulation(SimulationMemory(), family, 1)
    shadow.record[:, COST] = shadow.record[:, MISSED] = 100.0
    shadow.record[:, :, family.names.index(best)] = 0.0
    shadow.memory.demand_sums = [1000.0, 1000.0]
    shadow.memory.weights = [100.0, 100.0]
    account = Account()
    which = sizing.choose(shadow, account, 0.01, 30.0, 8, PriceSettings())
    assert account.rule == which
    return family.names[which]


@pytest.mark.parametrize("setting", RULES, ids=lambda s: s.name)
def test_a_fixed_rule_is_followed_whatever_is_cheapest_and_only_while_it_is_fixed(setting: Setting) -> None:
    assert setting.rule is not None
    before = sizing.choose, sizing._FIRST_RULE
    assert chosen("steady 0") == "steady 0"
    with setting.at_work():
        assert chosen("steady 0") == setting.rule
        assert setting.rule == sizing._FIRST_RULE
    assert (sizing.choose, sizing._FIRST_RULE) == before


def test_a_rule_that_is_not_of_the_family_is_an_error() -> None:
    with Setting("x", "x", rule="hold 2").at_work(), pytest.raises(ValueError, match="not in tuple"):
        chosen("steady 0")


def test_every_setting_differs_and_scenarios_are_of_the_league() -> None:
    assert len({s.name for s in SETTINGS}) == len({(s.told, s.rule) for s in SETTINGS}) == len(SETTINGS)
    assert (FLAGSHIP.told, FLAGSHIP.rule) == (None, None)
    league = {s["name"]: s for s in read_league()["scenarios"]}
    judged = {d.get("target_fraction", read_league()["slo"]["target_fraction"]) for name in SMOOTH for d in
              league[name]["deployments"]}  # fmt: skip
    assert judged.isdisjoint({s.told for s in SETTINGS})


# ---------------------------------------------------------------- runs


def test_another_target_is_told_in_a_file_of_its_own_and_judged_by_the_scenarios(tmp_path: Path) -> None:
    pair = small_pair(tmp_path)
    before = pair.judge.read_text("utf-8")
    pieces = asked([FLAGSHIP, TOLD, RULE], [pair], (1, 2))
    assert len(pieces) == 6
    assert set(pieces) == set(asked([FLAGSHIP, TOLD, RULE], [pair], (1, 2)))
    assert pair.judge.read_text("utf-8") == before
    files = {p.setting.name: p.scenario for p in pieces.values()}
    assert files["flagship"] == files["keep 0.5"] == str(pair.judge)
    told, judged = (yaml.safe_load(Path(files[name]).read_text("utf-8")) for name in ("told 0.9", "flagship"))
    assert [d["slo"].pop("target_fraction") for d in told["deployments"]] == [0.9]
    assert "slo" not in judged["deployments"][0]
    assert told["deployments"][0].pop("slo") == {}
    assert told == judged
    store = Store(tmp_path / "runs")
    for key, piece in pieces.items():
        store.put(key, {**document(2.0 if piece.setting is FLAGSHIP else 1.0, 0.95), "cpu_s": 1.0})
    entries = found(store, pieces, [FLAGSHIP, TOLD, RULE], [pair], (1, 2)).entries
    assert entries["told 0.9", "small"].costs == [1.0, 1.0]
    assert not entries["told 0.9", "small"].reaches(pair.targets)


def test_a_setting_counts_where_all_seeds_were_played_and_another_rule_is_another_run(tmp_path: Path) -> None:
    pair = small_pair(tmp_path)
    other = replace(RULE, rule="keep 0.7")
    assert len(asked([FLAGSHIP, RULE, other], [pair], (1,))) == 3
    pieces = asked([FLAGSHIP, RULE], [pair], (1, 2))
    store = Store(tmp_path / "own")
    for key, piece in pieces.items():
        if piece.setting is FLAGSHIP or piece.seed == 1:
            store.put(key, {**document(7.0, 1.0), "cpu_s": 1.0})
    there = found(store, pieces, [FLAGSHIP, RULE], [pair], (1, 2))
    assert set(there.entries) == {("flagship", "small")}
    assert there.missing() == ["keep 0.5 (0 of 1)"]
    assert there.cpu_s == 3.0


def test_a_call_plays_what_is_not_there_and_shows_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = replace(small_pair(tmp_path), targets={"chat/llm": 1e-9})  # everybody reaches it
    monkeypatch.setattr(command, "build", lambda *_: [pair])
    monkeypatch.setattr(command, "SETTINGS", (FLAGSHIP, TOLD, RULE))
    words = ["--folder", str(tmp_path / "kept"), "--only", "told 0.9"]
    assert call(main, monkeypatch, *words) == 0
    first = capsys.readouterr()
    assert "2 of 2: small, told 0.9, seed 1" in first.err
    assert "| small | " in first.out
    target = tmp_path / "page.md"
    target.write_text(f"before\n{MARKS.begin}\n{MARKS.end}\n", "utf-8")
    assert call(main, monkeypatch, *words, "--publish", str(target)) == 0
    again = capsys.readouterr()
    assert (again.err, again.out) == ("", first.out)
    assert first.out.strip() in target.read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--only", "told 0.99"], "--only told 0.99: unknown; did you mean 'told 0.98"),
        (["--on", "stock-out"], "--on stock-out: unknown"),
    ],
)
def test_what_was_typed_wrong_is_one_line(
    words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(main, monkeypatch, *words) == 2
    assert says in capsys.readouterr().err


# ---------------------------------------------------------------- the page


def constant(*rows: tuple[str, str, Sequence[float], float]) -> Constant:
    """Rows: setting, scenario, bills by seed, share within the SLO."""
    entries = {
        (s, on): Entry(on, "predictive", s, [document(c, share) for c in costs], {}) for s, on, costs, share in rows
    }
    names = dict.fromkeys(on for _, on in entries)
    targets = {on: {"chat/llm": 0.99} for on in names}
    return Constant([FLAGSHIP, TOLD, RULE], targets, entries, (1, 2), ("made-up",), 60.0, ["abc"])


def test_it_is_held_against_the_cheapest_that_reaches_the_target() -> None:
    text = page(
        constant(
            ("flagship", "calm", (104.0, 104.0), 0.995),
            ("told 0.9", "calm", (50.0, 50.0), 0.98),
            ("keep 0.5", "calm", (100.0, 100.0), 0.99),
            ("flagship", "day", (106.0, 106.0), 0.995),
            ("told 0.9", "day", (100.0, 100.0), 0.991),
            ("keep 0.5", "day", (101.0, 101.0), 0.991),
            ("flagship", "hard", (10.0, 10.0), 0.995),
            ("told 0.9", "hard", (5.0, 5.0), 0.9),
        )
    )
    assert "| calm | 104 | 0.50 | keep 0.5 | 1.00 | 1.040 (1.04-1.04) | yes |" in text
    assert "| day | 106 | 0.50 | told 0.9 | 0.90 | 1.060 (1.06-1.06) | **no** |" in text
    assert "| hard | 10 | 0.50 | none of these |  |  | nothing to judge |" in text
    mean = np.sqrt(1.04 * 1.06)
    assert f"On average {mean:.3f} (geometric mean of 2), at worst 1.060." in text
    assert "| told 0.9 | **0.481, 98.00 %** | 0.943, 99.10 % | **0.500, 90.00 %** |" in text
    assert "| keep 0.5 | 0.962, 99.00 % | 0.953, 99.10 % | - |" in text
    assert "**Not played everywhere**: keep 0.5 (2 of 3)." in text
    assert "**Generated stand-ins** take the place of the public traces made-up." in text


def test_nothing_is_judged_before_the_flagship_was_played() -> None:
    text = page(constant(("told 0.9", "calm", (50.0, 50.0), 1.0)))
    assert "at most 1.05" not in text
    assert "| keep 0.5 | keeps |" in text


def test_the_page_has_its_marks_and_is_linked() -> None:
    text = (ROOT / "docs" / "constant.md").read_text("utf-8")
    assert text.index(MARKS.begin) < text.index(MARKS.end)
    for name in ("docs/policy.md", "docs/acceptance.md", "README.md"):
        assert "constant.md" in (ROOT / name).read_text("utf-8")
