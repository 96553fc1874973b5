"""The comparison's arithmetic and its words: whoever loses is named, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from leadtime.demo.report import report
from leadtime.demo.spec import Spec
from leadtime.demo.summary import SERVE, Moment, Outcome, causes, causes_words, outcome, percentile, table, verdict
from leadtime.demo.users import Served


def user(ttft_s: float | None, status: str = "ok", last_s: float | None = None, tokens: int = 1) -> Served:
    return Served("chat", 10.0, status, ttft_s, last_s, tokens)  # type: ignore[arg-type]


def result(late: int, replica_seconds: float, who: str = "leadtime") -> Outcome:
    return Outcome(who, "live", 100, late, 0, {0.5: 0.2, 0.95: 0.5, 0.99: None}, 0.1, replica_seconds)


def test_late_are_the_slow_the_failed_and_those_who_never_got_an_answer() -> None:
    served = [user(0.5), user(1.0), user(1.1), user(None, "failed"), user(None, "unfinished")]
    found = outcome("leadtime", "live", served, 100.0, ttft_s=1.0)
    assert (found.requests, found.late, found.failed) == (5, 3, 2)


def test_an_answer_that_began_in_time_and_then_broke_off_is_failed_but_not_late() -> None:
    found = outcome("leadtime", "live", [user(0.5, "failed")], 1.0, ttft_s=1.0)
    assert (found.late, found.failed) == (0, 1)


@pytest.mark.parametrize(
    ("level", "expected"), [(0.5, 2.0), (0.75, 3.0), (0.76, 4.0), (0.99, 4.0), (1.0, 4.0), (0.25, 1.0)]
)
def test_a_percentile_is_a_value_that_was_seen(level: float, expected: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], level) == expected


def test_the_percentile_of_nothing_is_unknown() -> None:
    assert percentile([], 0.5) is None
    found = outcome("leadtime", "live", [], 0.0, ttft_s=1.0)
    assert found.ttft_s[0.5] is None


def test_time_between_tokens_is_over_the_gaps_not_the_tokens() -> None:
    assert user(1.0, last_s=2.0, tokens=11).mean_itl_s == pytest.approx(0.1)
    assert user(1.0, last_s=1.0, tokens=1).mean_itl_s is None


def test_fewer_late_at_less_cost_is_said_plainly() -> None:
    assert verdict(result(2, 90), result(50, 100), "") == [
        "leadtime: fewer users waited (2 late against 50) at 10% fewer replica-seconds."
    ]


def test_fewer_late_at_more_cost_is_no_win_on_both() -> None:
    lines = verdict(result(2, 130), result(50, 100), "")
    assert lines[0] == "leadtime: fewer users waited (2 late against 50), but at 30% more replica-seconds."
    assert "did not win on both" in lines[1]


@pytest.mark.parametrize("cost", [50.0, 100.0, 200.0])
def test_more_late_is_never_called_a_win_and_says_why(cost: float) -> None:
    text = " ".join(verdict(result(60, cost), result(50, 100), "60 came while a replica was still starting"))
    assert "did not win" in text or "lost" in text
    assert "60 came while a replica was still starting" in text


def test_as_many_late_at_more_cost_is_lost() -> None:
    assert verdict(result(5, 120), result(5, 100), "")[0].startswith("leadtime lost")


def test_causes_of_lateness_are_counted_largest_first() -> None:
    moments = [Moment(1, 1, 3), Moment(1, 1, 3), Moment(3, 0, 3), Moment(2, 0, 3)]
    found = causes(moments)
    assert found == {
        "while a replica was still starting": 2,
        "at the most replicas allowed": 1,
        "with no start under way": 1,
    }
    assert causes_words(found).startswith("2 came while a replica was still starting, ")
    assert causes_words(causes([])) == ""


def test_the_table_has_a_column_for_each_pass_and_a_dash_for_the_unknown() -> None:
    lines = table([result(2, 1234.5), result(50, 100, "Serve's default")], 1.0)
    assert golden(lines) == [
        "leadtime Serve's default",
        "live live",
        "requests 100 100",
        "first token, p50 0.20 s 0.20 s",
        "first token, p95 0.50 s 0.50 s",
        "first token, p99 – –",
        "first token later than 1 s 2 (2.0 %) 50 (50.0 %)",
        "between tokens, p95 0.10 s 0.10 s",
        "failed or unfinished 0 0",
        "replica-seconds held 1,234 100",
    ]
    assert max(len(line) for line in lines) <= 96


def golden(lines: Sequence[str]) -> list[str]:
    return [" ".join(line.split()) for line in lines]


def test_the_report_names_late_causes_serves_defaults_and_where_everything_is(tmp_path: Path) -> None:
    spec = Spec()
    lost = [result(60, 130), result(50, 100, SERVE)]
    lines = report(spec, lost, [Moment(1, 1, 3)] * 60, tmp_path, 1_600_000_000)
    text = "\n".join(lines)
    assert "leadtime lost" in text
    assert "60 came while a replica was still starting" in text
    assert "within 150 s of traffic it gives nothing back" in text
    assert "Most memory: 1.6 GB" in text
    assert f"    leadtime explain {tmp_path / 'leadtime' / 'journal'}" in lines
    assert "leadtime compare" not in text  # both passes were live


def test_a_simulated_comparison_shows_leadtime_in_the_simulator_too(tmp_path: Path) -> None:
    simulated = [replace(result(7, 90), how="simulated"), replace(result(50, 100, SERVE), how="simulated")]
    text = "\n".join(report(Spec(), [result(2, 90), *simulated], [], tmp_path, 0))
    assert "Simulated against simulated: 7 late against 50." in text
    assert f"leadtime compare {tmp_path / 'scenario' / 'scenario.yaml'}" in text
