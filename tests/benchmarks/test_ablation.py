"""The ablation: each part is really out while it is, nothing stays out, and what was played is not played again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoscaler.core.demand import token_mix
from benchmarks.ablation import __main__ as command
from benchmarks.ablation.__main__ import MARKS, main
from benchmarks.ablation.page import Ablation, page
from benchmarks.ablation.runs import asked, play_piece
from benchmarks.ablation.variants import FLAGSHIP, VARIANTS, Bench, Variant
from benchmarks.results.store import Store
from benchmarks.results.table import Entry
from benchmarks.results.world import Pair
from policies.predictive import PredictiveOptions, PredictivePolicy, context, policy, rule_selection
from policies.predictive.rules import sizing
from policies.predictive.rules.family import Family, Floats
from policies.predictive.rules.fleet import COST, MISSED, SHORT, RuleSimulation, SimulationMemory
from policies.predictive.rules.shadow_price import Account, PriceSettings
from policies.predictive.rules.smoothing import OccupancySmoother
from tests.benchmarks.calls import call
from tests.benchmarks.test_results import small_pair

ROOT = Path(__file__).resolve().parents[2]
NAMED = {v.name: v for v in VARIANTS}
PATCHED = [v for v in VARIANTS if v.patch is not None]


# ---------------------------------------------------------------- parts


class _Watched(Bench):
    """Remembers what was patched."""

    def __init__(self, stack: ExitStack) -> None:
        super().__init__(stack)
        self.seen: list[tuple[Any, str, Any]] = []

    def set(self, owner: object, name: str, value: Any) -> None:
        was = owner.__dict__[name]
        super().set(owner, name, value)
        assert owner.__dict__[name] is not was
        self.seen.append((owner, name, was))


@pytest.mark.parametrize("variant", PATCHED, ids=lambda v: v.name)
def test_what_a_variant_patches_is_there_and_comes_back(variant: Variant) -> None:
    assert variant.patch is not None
    with ExitStack() as stack:
        bench = _Watched(stack)
        variant.patch(bench)
        assert bench.seen
    assert all(owner.__dict__[name] is was for owner, name, was in bench.seen)


def test_a_part_that_was_renamed_is_an_error() -> None:
    with ExitStack() as stack, pytest.raises(AttributeError):
        Bench(stack).set(policy, "_NO_SUCH_PART", 1)


def test_every_variant_takes_out_something_else() -> None:
    ways = {(tuple(v.options.items()), v.code) for v in VARIANTS}
    assert len(ways) == len(VARIANTS) == len(NAMED)
    assert (dict(FLAGSHIP.options), FLAGSHIP.patch) == ({}, None)
    for variant in VARIANTS:
        PredictivePolicy(PredictiveOptions(**variant.options))


def followed(family: Family, best: str) -> str:
    """The rule that is followed where one of them is perfect and all others cost and miss more by their number."""
    memory = SimulationMemory()
    shadow = RuleSimulation(memory, family, 1)
    memory.rows, memory.demand_sums, memory.weights = 4000, [1000.0, 1000.0], [2000.0, 2000.0]
    number = 1.0 + np.arange(family.size)
    shadow.record[:, MISSED], shadow.record[:, COST] = number, 2000.0 + number
    place = family.names.index(best)
    shadow.record[:, MISSED, place], shadow.record[:, COST, place] = 0.0, 1000.0
    account = Account()
    sizing.choose(shadow, account, 0.01, 30.0, 4, PriceSettings())
    return family.names[account.rule]


@pytest.mark.parametrize(
    ("variant", "gone", "left"),
    [
        ("only reactive rules", ("hold 0.95", "keep 0.5", "clock vendor 2", "steady 0.1"), "reactive 0.5/60 s"),
        ("no forecast rules", ("hold 0.95", "early 0.1", "clock 0.5", "clock vendor 2"), "steady 0.1"),
        ("no clock rules", ("clock 0.5", "clock vendor 2"), "hold 0.95"),
        ("no steady rules", ("steady 0.1",), "clock 0.5"),
    ],
)
def test_rules_of_a_block_that_is_out_are_not_followed(variant: str, gone: tuple[str, ...], left: str) -> None:
    family = Family()
    with NAMED[variant].at_work():
        assert all(followed(family, rule) != rule for rule in gone)
        assert followed(family, left) == left
    assert all(followed(family, rule) == rule for rule in (*gone, left))


def test_without_room_a_rule_keeps_what_it_wants_and_no_more() -> None:
    def wants_and_keeps() -> tuple[Floats, Floats]:
        some, one = np.full((1, 13), 3.9), np.ones((1, 1))
        return Family().wants(some, some, some, np.full((1, 7), 3.9), np.full((1, 3), 3.9), one)

    with NAMED["no room at the edge"].at_work():
        wants, keeps = wants_and_keeps()
        assert (wants == keeps).all()
    wants, keeps = wants_and_keeps()
    assert (wants < keeps).any()


def test_without_a_cost_neither_starts_nor_what_stays_on_the_bill_count(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(sizing, "choose", lambda *args, **names: seen.update(names, settings=args[-1]))
    with NAMED["no cost of a start"].at_work():
        made = PredictivePolicy(PredictiveOptions()).sizing
        memory = sizing.SizingMemory()
        frame = sizing.Frame(lead_bins=4, bin_s=30.0, bounds=(1, 9), allowed_share=0.01, stop_bins=20)
        shadow = made.shadow(memory, frame)
        shadow.memory.weights[SHORT] = 1000.0
        made._choose(memory, frame)
    assert seen["settings"].start_cost == 0.0
    assert "stop_bins" not in seen


def test_what_else_is_taken_out_is_out() -> None:
    with NAMED["no rehearsal"].at_work():
        assert not PredictivePolicy(PredictiveOptions()).wants_backtest
    assert PredictivePolicy(PredictiveOptions()).wants_backtest
    with NAMED["no feedback"].at_work():
        assert rule_selection._got(sizing.Sizing(), None) is None  # type: ignore[arg-type]
    with NAMED["no watch on the mix"].at_work():
        assert token_mix._NO_CHANCE > 1e9
    with NAMED["no pre-warmed nodes"].at_work():
        assert policy.pool_proposals(None, {}) == {}  # type: ignore[arg-type]
    with NAMED["no reflexes"].at_work():
        assert policy.backlog_term(None) is None  # type: ignore[arg-type]
    effective, counted = (
        OccupancySmoother(np.array([1.0]), np.array([0.1]), 30.0, np.array([0.5, 0.9])),
        np.array([[[4.0, 9.0]]]),
    )
    about = np.array([3.0]), np.array([2.0]), np.array([[300.0]])
    assert effective.quantiles(counted, *about)[0, 0, 1] < 9.0
    for name in ("noise of counts left in", "replay not fitted"):
        with NAMED[name].at_work():
            assert effective.quantiles(counted, *about)[0, 0, 1] == 9.0
    with NAMED["replay not fitted"].at_work():
        assert context._AGE_SHARE == 0.7
        assert PredictivePolicy(PredictiveOptions()).sizing.soft == 0.1


# ---------------------------------------------------------------- runs


def test_a_run_without_a_part_is_another_one_and_the_same_again_when_it_is_played_again(tmp_path: Path) -> None:
    pair = small_pair(tmp_path)
    variants = [FLAGSHIP, NAMED["no shadow rules"], NAMED["no reflexes"]]
    pieces = asked(variants, [pair], (1, 2))
    assert len(pieces) == 6
    assert [p.seed for p in pieces.values()] == [1, 1, 1, 2, 2, 2]
    assert set(pieces) == set(asked(variants, [pair], (1, 2)))
    first = next(iter(pieces.values()))
    one, again = play_piece(first), play_piece(first)
    assert without_clock(one) == without_clock(again)
    assert one["cost_usd"] > 0


def without_clock(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in ("wall", "cpu_s")}


def test_a_call_plays_what_is_not_there_and_shows_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = replace(small_pair(tmp_path), stand_ins=("made-up",))
    monkeypatch.setattr(command, "build", lambda *_: [pair])
    words = ["--only", "no reflexes", "--folder", str(tmp_path / "kept")]
    assert call(main, monkeypatch, *words, "--render") == 0
    assert "**Not played everywhere**: flagship (0 of 1), no reflexes (0 of 1)." in capsys.readouterr().out
    assert call(main, monkeypatch, *words) == 0
    first = capsys.readouterr()
    assert "a generated stand-in for made-up" in first.err
    assert "2 of 2: no reflexes, small, seed 1" in first.err or "2 of 2: no reflexes" in first.err
    assert "| no reflexes | 1.00" in first.out
    target = tmp_path / "page.md"
    target.write_text(f"before\n{MARKS.begin}\n{MARKS.end}\n", "utf-8")
    assert call(main, monkeypatch, *words, "--publish", str(target)) == 0
    again = capsys.readouterr()
    assert "of 2" not in again.err
    assert again.out == first.out
    assert first.out.strip() in target.read_text("utf-8")
    assert len(Store(tmp_path / "kept" / "runs").everything()) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--only", "no clock rule"], "--only no clock rule: unknown; did you mean 'no clock rules'?"),
        (["--on", "nowhere"], "--on nowhere: unknown"),
        (["--seeds", "one"], "argument --seeds: 'one'; allowed: whole numbers, separated by commas"),
        (["--publish", "no-page.md"], "argument --publish: no-page.md: No such file or directory"),
    ],
)
def test_what_was_typed_wrong_is_one_line(
    words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(main, monkeypatch, *words) == 2
    assert says in capsys.readouterr().err


# ---------------------------------------------------------------- the page


def entry(scenario: str, variant: str, cost: float, share: float, starts: int) -> Entry:
    document = {
        "cost_usd": cost,
        "replica_starts": starts,
        "deployments": {"chat/llm": {"slo_attainment_fraction": share}},
    }
    return Entry(scenario, "predictive", variant, [document], {})


def test_the_page_tells_what_a_part_is_worth_and_where() -> None:
    part, other = NAMED["no clock rules"], NAMED["no reflexes"]
    entries = [
        entry("calm", FLAGSHIP.name, 100.0, 0.995, 4),
        entry("storms", FLAGSHIP.name, 200.0, 0.99, 6),
        entry("calm", part.name, 200.0, 0.999, 8),
        entry("storms", part.name, 100.0, 0.8, 12),
        entry("calm", other.name, 100.0, 0.995, 4),
    ]
    known = {(e.setting, e.scenario): e for e in entries}
    targets = {name: {"chat/llm": 0.99} for name in ("calm", "storms")}
    text = page(
        Ablation(
            [FLAGSHIP, part, other, NAMED["no seasons"]], targets, known, (1,), 28800.0, ("made-up",), 60.0, ["abc"]
        )
    )
    assert "| **flagship** | 1.000 |  |  | 0 of 2 | 0.75 | 1.00 storms | 1.00 |" in text
    assert "| no clock rules | 1.000 | 2.00 calm | 0.50 storms | 1 of 2 | 10 | 20 storms | 2.00 |" in text
    assert "| no clock rules | 2.00, 0.10 | **0.50, 20** |" in text
    assert "| no reflexes | 1.000 | 1.00 calm | 1.00 calm | 0 of 1 | 0.50 | 0.50 calm | 1.00 |" in text
    assert "| no reflexes | 1.00, 0.50 | - |" in text
    assert "**Not played everywhere**: no reflexes (1 of 2), no seasons (0 of 2)." in text
    assert "| no seasons | the forecast is" in text, "what it means is told even where it was not played"
    assert "**Generated stand-ins** take the place of the public traces made-up." in text


def test_the_page_has_its_marks_and_is_linked() -> None:
    text = (ROOT / "docs" / "ablation.md").read_text("utf-8")
    assert text.index(MARKS.begin) < text.index(MARKS.end)
    for name in ("README.md", "docs/policy.md"):
        assert "ablation.md" in (ROOT / name).read_text("utf-8")


def test_a_pair_is_all_that_a_piece_needs(tmp_path: Path) -> None:
    pair: Pair = small_pair(tmp_path)
    (piece,) = asked([NAMED["no seasons"]], [pair], (3,)).values()
    assert piece.judge.options == {"forecaster": "last"}
    assert piece.judge.seed == 3


def test_other_processes_can_import_what_they_are_given() -> None:
    """`python -m PACKAGE` has its own __main__, which a spawned process does not know."""
    assert not command.play_piece.__module__.endswith("__main__")
