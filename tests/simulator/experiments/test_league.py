"""The league: paired, judged with its uncertainty, and honest about scenarios in which nothing is decided."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from autoscaler.common.errors import LeadtimeError, ScenarioError
from policies.base import PolicyError
from simulator.experiments.league import Job, Run, Summary, jobs_of, judge, play_all
from simulator.experiments.parallel.workers import InProcess, workers
from simulator.report.page import render
from simulator.report.text import MINUS, NARROW, change, dollars, headline, percent
from simulator.timeline import Row, Strip
from tests.simulator.scenarios import SMALL, write

TARGETS = {"chat/llm": 0.99}


def run(policy: str, seed: int, cost: float | None, attained: float, clairvoyant: bool = False) -> Run:
    own = {
        "slo_attainment_fraction": attained,
        "cold_starts_hidden": 1,
        "cold_starts_exposed": 2,
        "cold_starts_cancelled": 0,
        "replica_starts": 3,
    }
    document: dict[str, Any] = {
        "scenario": "s",
        "policy": policy,
        "cost_usd": cost,
        "clairvoyant": clairvoyant,
        "slo_attainment_fraction": attained,
        "deployments": {"chat/llm": own},
        "duration_s": 3600.0,
        "gpu_hours": {"billed": 2.0},
        "gpu_utilization_fraction": 0.5,
        "prewarm_wasted_node_s": 0.0,
        "cost_usd_per_million_tokens": 1.0,
        "ttft_s": {"p99": 1.0},
        "cold_starts_hidden": 1,
        "cold_starts_exposed": 2,
        "scale_ups": 1,
        "scale_downs": 1,
    }
    strip = Strip()
    for i in range(1, 5):
        strip.add(tick(i, forecasts=policy == "predictive"))
    starts = {"chat/llm": ((900.0, "hidden"), (2700.0, "exposed"))}
    return Run(Job("s.yaml", (), policy, seed), document, TARGETS, {"chat/llm": strip}, {"chat/llm": 12.0}, starts)


def tick(i: int, forecasts: bool) -> Row:
    """A quarter of an hour; in the third one requests miss, and nobody knows when first tokens came."""
    expected = [10.0 * i + more if forecasts and i != 2 else None for more in (0.0, 2.0, 4.0, 8.0)]
    return Row(
        900.0 * i, "chat/llm", 10.0 * i, *expected, target=i + 1, running=i, starting=1, draining=0, waiting=5 * i,
        ongoing=20, kv_usage_fraction=0.5, nodes_ready=i + 1, nodes_starting=0, nodes_prewarmed=1,
        ttft_p99_s=None if i == 3 else 0.5 * i, slo_misses=2000 if i == 3 else 0, cost_usd=1.0,
    )  # fmt: skip


def rows(*runs: Run) -> dict[str, Summary]:
    return {s.policy: s for s in judge(runs).summaries}


def test_costs_are_averaged_over_seeds_and_differences_are_paired() -> None:
    seeds = range(4)
    luck = [0.0, 100.0, 20.0, 60.0]  # what the traffic of a seed costs anybody
    ours = [run("predictive", s, 50 + luck[s], 0.995) for s in seeds]
    theirs = [run("hpa_ongoing", s, 60 + luck[s], 0.995) for s in seeds]
    found = rows(*ours, *theirs)
    assert found["predictive"].cost_usd == pytest.approx(95.0)
    assert found["hpa_ongoing"].cost_difference_usd == pytest.approx(10.0)
    low, high = found["hpa_ongoing"].cost_difference_usd_ci95 or (0, 0)
    assert high - low < 1e-9  # the difference is certain,
    low, high = found["hpa_ongoing"].cost_usd_ci95 or (0, 0)
    assert high - low > 100  # though each cost is not
    assert found["hpa_ongoing"].cheaper_and_reaching == ("predictive",)
    assert found["predictive"].cheaper_and_reaching == ()


def test_one_seed_has_no_interval() -> None:
    assert rows(run("static", 1, 5.0, 1.0))["static"].cost_usd_ci95 is None


def test_a_policy_reaches_the_target_on_average_or_not_at_all() -> None:
    found = rows(
        run("a", 1, 5.0, 0.985),
        run("a", 2, 5.0, 0.997),
        run("b", 1, 3.0, 0.98),
        run("b", 2, 3.0, 0.99),
        run("c", 1, None, 1.0),
    )
    assert found["a"].reaches_target
    assert not found["b"].reaches_target
    assert found["a"].cheaper_and_reaching == ()  # b is cheaper, but does not reach it
    assert found["c"].cost_usd is None


def test_it_warns_where_a_constant_fleet_is_as_cheap() -> None:
    close = judge([run("predictive", 1, 97.0, 1.0), run("static", 1, 100.0, 1.0, True)])
    assert "little to decide" in close.warnings[0]
    assert "3.0% less than static" in close.warnings[0]
    dearer = judge([run("predictive", 1, 120.0, 1.0), run("static", 1, 100.0, 1.0, True)])
    assert "nobody meets the target for less than static" in dearer.warnings[0]
    assert judge([run("predictive", 1, 90.0, 1.0), run("static", 1, 100.0, 1.0, True)]).warnings == ()


def test_headlines_are_computed_and_say_when_we_lose() -> None:
    def title(*runs: Run) -> str:
        return headline(judge(runs).summaries, runs[0])[0].replace(NARROW, " ")

    ours, static = run("predictive", 1, 80.0, 0.995), run("static", 1, 100.0, 1.0, True)
    assert (
        title(ours, static)
        == "leadtime meets the 99 % target for 20 % less than static peak, the cheapest other that does"
    )
    assert title(ours, run("hpa_ongoing", 1, 40.0, 0.9)) == "leadtime meets the 99 % target; nobody else does"
    assert (
        title(ours, run("ray_serve", 1, 64.0, 1.0))
        == "leadtime meets the 99 % target, but costs 25 % more than Ray Serve"
    )
    assert title(run("predictive", 1, 80.0, 0.9), static) == "leadtime misses the 99 % target; static peak meets it"
    assert "10.00 % of requests got less" in title(run("predictive", 1, 80.0, 0.9))
    assert title(ours) == "leadtime meets the 99 % target for $80"
    assert title(ours, run("oracle", 1, 10.0, 1.0, True)) == "leadtime meets the 99 % target; nobody else does"


def test_numbers_are_written_as_people_read_them() -> None:
    assert [dollars(v) for v in (None, 0, 0.052, 4.5, 84.84, 4363.4, -12)] == [
        "?",
        "$0",
        "$0.05",
        "$4.5",
        "$84.8",
        "$4,363",
        f"{MINUS}$12",
    ]
    assert percent(0.0039) == f"0.39{NARROW}%"
    assert percent(0.99999) == f"> 99.99{NARROW}%"
    assert percent(0.00001) == f"< 0.01{NARROW}%"
    assert (percent(None), change(None)) == ("?", "–")
    assert change(-0.484) == f"{MINUS}48{NARROW}%"


def test_the_page_needs_nothing_from_anywhere_and_escapes_names() -> None:
    page = render(judge([run("predictive", 1, 80.0, 0.995), run("static", 1, 100.0, 1.0, True)]), "leadtime <x> & y")
    assert page.startswith("<!doctype html>")
    for outside in ("http:", "https:", "<script", "@import", "url("):
        assert outside not in page
    assert "leadtime &lt;x&gt; &amp; y" in page
    assert page.count("<h1") == 1
    assert page.count('role="img"') == 3 + 2 * 5  # the plot, two strips and what is behind each, all with words
    assert page.count("aria-label") == 3 + 2 * 5
    assert page.count('class="square"') == 1 + 2  # in the legend, and one felt start in each strip
    assert 'class="missed"' in page


def test_what_is_behind_a_strip_breaks_where_a_value_is_unknown() -> None:
    ours, theirs = run("predictive", 1, 80.0, 0.995), run("static", 1, 100.0, 1.0, True)
    page = render(judge([ours, theirs]), "leadtime compare")
    found = dict(re.findall(r'aria-label="(\w+)[^"]*: ([^"]*forecast[^"]*)"', page))
    assert found == {
        "leadtime": "traffic up to 40 req/s, forecast up to 48 req/s",
        "static": "traffic up to 40 req/s, no forecast",
    }
    own, other = re.findall(r'<details class="course">.*?</details>', page, re.DOTALL)
    assert own.count('class="median"') == own.count('class="fan"') == 2  # before and after the second tick
    assert other.count('class="median"') == other.count('class="fan"') == 0
    first_tokens = own.index("TTFT p99")
    assert own[first_tokens:].count('class="traffic"') == 2  # before and after the third
    assert "up to 4 replicas running, target up to 5" in own
    assert "up to 5 nodes ready, 1 of them empty" in own
    assert "up to 20 requests wait" in own


def test_the_table_behind_a_strip_says_unknown_and_not_zero() -> None:
    page = render(judge([run("predictive", 1, 80.0, 0.995)]), "leadtime simulate")
    course = re.findall(r'<details class="course">.*?</details>', page, re.DOTALL)[0]
    cells = dict(re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', course))
    at = [cells[f"{minutes} min"].replace("</td>", "").split("<td>")[1:] for minutes in (10, 25, 40)]
    assert at[0] == ["14", "1", "1", "0", "2", "1", "5", "0.5"]
    assert at[1][0] == "?"
    assert at[2][-2:] == ["15", "?"]


@pytest.mark.parametrize("count", [2, 17, 40])
def test_labels_stay_in_the_picture_in_the_order_of_their_dots(count: int) -> None:
    many = [run(f"p{i:02}", 1, 80.0 - 0.01 * i, 0.995) for i in range(count)]
    page = render(judge([*many, run("dear", 1, 800.0, 1.0)]), "x")
    found = re.findall(r'class="label [^"]*" style="[^"]*top:([\d.]+)%[^"]*">(\w+)<', page)
    tops = [float(top) for top, _ in found]
    assert [name for _, name in found] == ["dear", *(f"p{i:02}" for i in range(count))]
    assert 0 <= tops[0] < tops[-1] <= 98.5
    assert min(b - a for a, b in pairwise(tops)) > min(4.9, 98 / count)


def test_runs_come_back_in_order_whatever_ends_first(tmp_path: Path) -> None:
    path = write(tmp_path)
    jobs = jobs_of(
        [path], ["duration_s=60", "deployments.0.workload.rate_scale=0.2"], ["predictive", "hpa_ongoing"], 2, None
    )
    assert [(j.policy, j.seed) for j in jobs] == [
        ("predictive", 1),
        ("hpa_ongoing", 1),
        ("predictive", 2),
        ("hpa_ongoing", 2),
    ]
    done: list[Job] = []
    alone = play_all(jobs, InProcess(), done.append)
    with workers(2) as pool:
        together = play_all(jobs, pool, done.append)
    assert len(done) == 8
    for one, other in zip(alone, together, strict=True):
        assert one.job == other.job
        assert {**one.document, "wall": 0} == {**other.document, "wall": 0}
        assert one.strips["chat/llm"].running == other.strips["chat/llm"].running


def ends_itself(_: int) -> int:
    os._exit(7)


def test_a_process_that_was_ended_is_told_in_one_line() -> None:
    with workers(2) as pool, pytest.raises(LeadtimeError, match="one of the processes that make the runs was ended"):
        list(pool.each(ends_itself, [1, 2]))


def test_everything_is_checked_before_anything_runs(tmp_path: Path) -> None:
    good, bad = write(tmp_path), write(tmp_path, SMALL.replace("tick_s", "tik_s"), "bad.yaml")
    with pytest.raises(ScenarioError, match="tik_s"):
        jobs_of([good, bad], [], ["predictive"], 1, None)
    with pytest.raises(PolicyError, match="hpa_ongoing"):
        jobs_of([good], [], ["predictive", "hpa_ongoin"], 1, None)


def test_two_scenarios_of_one_name_are_refused_since_nobody_could_tell_them_apart(tmp_path: Path) -> None:
    one, other = write(tmp_path), write(tmp_path, SMALL, "other.yaml")
    with pytest.raises(ScenarioError, match=r"other\.yaml: name: 'small', as in .*; allowed: another name for each"):
        jobs_of([one, other], [], ["hpa_ongoing"], 1, None)
