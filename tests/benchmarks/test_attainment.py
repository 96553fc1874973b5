"""The long traces in a fluid fleet: what who knows it all pays, what the flagship pays, and who reached what."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import attainment
from benchmarks.attainment import MARKS, main, parts
from benchmarks.attainment_fluid import (
    BIN_S,
    DAY,
    HPA,
    Figures,
    Fleet,
    Material,
    Variant,
    case_of,
    oracle,
    play,
    rates_of,
    rivals,
)
from benchmarks.attainment_page import Played, mean, page, verdict
from policies.predictive.rules.family import LEVELS, Family
from tests.benchmarks.calls import call

ROOT = Path(__file__).resolve().parents[2]
HOUR = round(3600.0 / BIN_S)


def steps(bins: int = 10 * HOUR) -> Material:
    """Half an hour at 2 req/s, half an hour at 6; the forecast knows what comes until each of its horizons."""
    rates = np.where(np.arange(bins) % HOUR < HOUR // 2, 2.0, 6.0)
    said = np.zeros((bins, 8, len(LEVELS)), dtype=np.float32)
    for j in range(8):
        width = 2**j
        ahead = [rates[i + 1 : i + 1 + width].max(initial=rates[i]) for i in range(bins)]
        said[:, j] = np.array(ahead)[:, None]
    return Material("steps", rates, said)


# ---------------------------------------------------------------- the fluid fleet


def test_who_knows_it_all_pays_for_need_gaps_shorter_than_a_start_and_starts() -> None:
    need = np.array([1] * 10 + [2] * 5 + [1] * 3 + [2] * 5 + [1] * 30)
    cost, starts = oracle(need, 6 * BIN_S)
    assert cost == pytest.approx(len(need) + 6 + 10 + 3 + 6)
    assert starts == 2


def test_a_fleet_misses_what_comes_before_its_replicas_serve() -> None:
    fleet = Fleet([1] * 128)
    fleet.tell(3, 0.5, 10)
    shares = [fleet.serve(2.0, 4)]
    for _ in range(8):
        fleet.tell(3, 2.0, 10)
        shares.append(fleet.serve(2.0, 4))
    assert shares[:4] == [1.0] * 4
    assert shares[-1] == 0.0
    assert fleet.cost >= 3 * len(shares)


def test_the_flagship_keeps_its_target_near_the_bill_of_who_knows_it_all_where_the_forecast_is_right() -> None:
    material = steps()
    variants = [Variant("all"), Variant("some", without=("clock",)), Variant("strict", target=0.999)]
    figures, alone = play(material, case_of(material, 60.0, 6.0), variants)
    assert [f.name for f in figures] == ["all", "some", "strict"]
    assert figures[0].missed_share <= 0.01
    assert figures[0].cost < 1.25
    assert figures[2].cost >= figures[0].cost
    assert [f.name for f in alone] == list(Family().names)
    assert min(f.cost for f in alone) < figures[0].cost


def test_a_rule_that_may_not_be_followed_is_not_followed() -> None:
    material = steps()
    case = case_of(material, 300.0, 6.0)
    every = tuple(Family().blocks)
    (only, again), alone = play(
        material, case, [Variant("steady", without=tuple(b for b in every if b != "steady")), Variant("all")]
    )
    best = min(f.cost for f in alone if f.name.startswith("steady") and f.missed_share <= 0.01)
    assert only.cost >= best * 0.99
    assert again.cost < only.cost


def test_the_rivals_are_every_hpa_setting_and_every_constant_fleet() -> None:
    case = case_of(steps(), 60.0, 6.0)
    found = {f.name: f for f in rivals(case)}
    assert sum(name.startswith("hpa") for name in found) == len(HPA)
    assert found["constant 7"].missed_share == 0.0
    assert found["constant 6"].missed_share > 0.5, "six at the peak are more than 87 % of six"
    assert found["constant 6"].cost < found["constant 7"].cost


def test_a_trace_in_other_bins_keeps_its_requests(tmp_path: Path) -> None:
    path = write_trace(tmp_path, [6.0, 0.0, 3.0, 9.0, 1.0, 5.0] * 4, bin_s=10)
    assert rates_of(path).tolist() == pytest.approx([3.0, 5.0] * 4)
    wide = write_trace(tmp_path, [2.0, 4.0], bin_s=60)
    assert rates_of(wide).tolist() == pytest.approx([2.0, 2.0, 4.0, 4.0])
    assert len(rates_of(wide, days=2 / DAY)) == 2


# ---------------------------------------------------------------- judging


def figures(name: str, cost: float, missed: float, target: float = 0.99) -> Figures:
    return Figures(name, target, cost, missed, 1.0)


def test_a_target_is_reached_or_out_of_reach_where_no_rival_reaches_it_for_about_our_bill() -> None:
    dear, cheap = figures("hpa a", 1.5, 0.005), figures("hpa b", 1.2, 0.009)
    assert verdict(figures("", 1.1, 0.01), []).reached is True
    assert verdict(figures("", 1.1, 0.011), [dear]).reached is None
    missed = verdict(figures("", 1.1, 0.011), [dear, cheap])
    assert missed.reached is False
    assert missed.words == "hpa b reaches it for 1.09 of our bill"
    assert verdict(figures("", 1.3, 0.011), [dear]).reached is False


def test_a_rival_that_also_misses_the_target_counts_where_it_misses_much_less() -> None:
    ours = figures("", 1.0, 0.02)
    assert verdict(ours, [figures("hpa", 1.1, 0.0185)]).reached is None
    assert verdict(ours, [figures("hpa", 1.1, 0.0175)]).reached is False


def test_the_strictest_target_may_be_missed_by_a_quarter() -> None:
    assert verdict(figures("", 1.0, 0.00125, 0.999), []).reached is True
    assert verdict(figures("", 1.0, 0.0013, 0.999), []).reached is None
    assert verdict(figures("", 1.0, 0.0125, 0.99), []).reached is None


def test_the_page_shows_every_target_and_what_each_part_is_worth() -> None:
    ours = {0.99: figures("0.99", 1.2, 0.008), 0.999: figures("0.999", 1.5, 0.002, 0.999)}
    part = {"no clock rules": figures("no clock rules", 1.32, 0.02)}
    others = [figures("hpa 0.5/60 s", 1.6, 0.009), figures("constant 9", 2.0, 0.0)]
    played = Played("made-up", 14.0, 60.0, 4.0, ours, part, others, [figures("hold 0.9", 1.1, 0.01)])
    text = page([played, replace(played, trace="another")], ["a third"], 60.0, ["abc"])
    assert "**Not played**: a third." in text
    assert "| 99.0 % | 60 | 4 | 2 of 2 | 0 | 0 | 1.20 | 0.75 (2) |" in text
    assert "| 99.9 % | 60 | 4 | 0 of 2 | 2 | 0 | 1.50 | nowhere both |" in text
    assert "| no clock rules | 2 | 1.100 | 2.00 % | 2 | 2 | 1.00 |" in text
    assert "| 1.60 (hpa 0.5/60 s) | 2.00 | 1.10 (hold 0.9) |" in text
    assert mean([1.0, 4.0]) == pytest.approx(2.0)


# ---------------------------------------------------------------- the command


def write_trace(folder: Path, rates: list[float], bin_s: int, name: str = "made-up_60s") -> Path:
    (folder / "rates").mkdir(exist_ok=True)
    path = folder / "rates" / f"{name}.csv.gz"
    lines = ["timestamp_s,rps", *(f"{i * bin_s},{rate}" for i, rate in enumerate(rates))]
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    return path


def test_a_call_plays_what_is_not_there_and_shows_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    minutes = [2.0 + 4.0 * (i % 60 >= 30) for i in range(240)]
    write_trace(tmp_path, minutes, bin_s=60, name="crane_input1_60s")
    words = ["--traces", str(tmp_path), "--folder", str(tmp_path / "kept"), "--least-days", "0", "--ablate"]
    words += ["--lead-times", "60", "--peaks", "4", "--targets", "0.9,0.99", "--jobs", "1"]
    assert call(main, monkeypatch, *words) == 0
    first = capsys.readouterr()
    assert "1 of 1: crane_input1_60s, 60 s, 4 replicas" in first.err
    assert "| no steady rules | 1 |" in first.out
    target = tmp_path / "page.md"
    target.write_text(f"before\n{MARKS.begin}\n{MARKS.end}\n", "utf-8")
    assert call(main, monkeypatch, *words, "--publish", str(target)) == 0
    again = capsys.readouterr()
    assert again.err == ""
    assert again.out == first.out
    assert first.out.strip() in target.read_text("utf-8")
    monkeypatch.setattr(attainment, "_code", lambda: "other code")
    assert call(main, monkeypatch, *words, "--render") == 0
    assert "**Not played**: crane_input1_60s" in capsys.readouterr().out


def test_where_there_are_no_traces_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trace(tmp_path, [1.0] * 600, bin_s=60, name="crane_input1_60s")
    assert call(main, monkeypatch, "--traces", str(tmp_path), "--folder", str(tmp_path / "kept")) == 0
    assert capsys.readouterr().out.startswith("skipped")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--only", "nothing"], "--only nothing: no trace's name holds it (allowed: parts of azure2024_code_10s, "),
        (["--traces", "nowhere"], "--traces nowhere: no such folder"),
        (["--targets", "1"], "argument --targets: '1'; allowed: numbers between 0 and 1, separated by commas"),
        (["--ablate", "--targets", "0.9,0.95"], "--targets 0.9,0.95: --ablate compares at 0.99 (allowed: "),
        (["--days", "-1"], "argument --days: '-1'; allowed: a number >= 0"),
        (["--peaks", "4,x"], "argument --peaks: 'x'; allowed: numbers > 0, separated by commas"),
        (["--publish", "no-page.md"], "argument --publish: no-page.md: No such file or directory"),
    ],
)
def test_what_was_typed_wrong_is_one_line(
    words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(main, monkeypatch, *words) == 2
    assert says in capsys.readouterr().err


def test_every_part_can_be_taken_out_and_has_its_own_name() -> None:
    found = parts()
    assert len({v.name for v in found}) == len(found)
    for variant in found:
        assert len(variant.among(Family())) > 0
        assert replace(variant, name="") != Variant("")


def test_the_page_has_its_marks_and_is_linked() -> None:
    text = (ROOT / "docs" / "attainment.md").read_text("utf-8")
    assert text.index(MARKS.begin) < text.index(MARKS.end)
    for name in ("README.md", "docs/policy.md"):
        assert "attainment.md" in (ROOT / name).read_text("utf-8")
