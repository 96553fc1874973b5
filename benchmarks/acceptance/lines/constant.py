"""a: demand is constant, and everything that is measured is up to 5 % off. Nothing should move."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.acceptance.counting import busiest_hour, changes, reversals
from benchmarks.acceptance.runs import Case
from benchmarks.acceptance.section import Check, Finder, Line, Section, because, percent, table
from benchmarks.acceptance.worlds import DAY_S, HOUR_S, Service, Start, world

_RATES_RPS = (8.0, 9.5, 11.0, 12.5, 16.0)
"""From about three to six replicas in small steps: at some of them demand lies near the edge between two numbers."""
_LEAD_S = 240.0
_SETTLED_S = HOUR_S
_HOURS = 6.0
_HISTORIES = {"three days of history": 3 * DAY_S, "no history": 0.0}


def _name(rate_rps: float, history: str, seed: int) -> str:
    return f"constant {rate_rps:g} req/s, {history}, seed {seed}"


def _case(rate_rps: float, history: str, seed: int) -> Case:
    initial = round(rate_rps / 2.5)
    service = Service("chat/llm", rate_rps, Start(_LEAD_S), 12, initial, _HISTORIES[history])
    telemetry = {"profile": "ray_serve", "noise_fraction": 0.05}
    return Case(
        _name(rate_rps, history, seed), world("constant", _HOURS, [service], seed, telemetry=telemetry), decisions=True
    )


def _each(seeds: Sequence[int]) -> list[tuple[float, str, int]]:
    return [(rate, history, seed) for rate in _RATES_RPS for history in _HISTORIES for seed in seeds]


def _cases(seeds: Sequence[int]) -> list[Case]:
    return [_case(*one) for one in _each(seeds)]


def _judge(found: Finder, seeds: Sequence[int]) -> Section:
    rows, back, busiest = [], 0, 0
    for one in _each(seeds):
        run = found[_name(*one)]
        made = changes(run.track.time_s, run.track.target)
        settled = [c for c in made if c.at_s >= _SETTLED_S]
        taken_back = reversals(settled, _LEAD_S)
        back, busiest = back + len(taken_back), max(busiest, busiest_hour(settled))
        levels = sorted(set(run.track.target[len(run.track.target) // 6 :]))
        rows.append(
            [
                f"{one[0]:g}",
                one[1],
                one[2],
                len(made) - len(settled),
                len(settled),
                busiest_hour(settled),
                len(taken_back),
                "-".join(dict.fromkeys((str(levels[0]), str(levels[-1])))),
                percent(run.value("slo_attainment_fraction")),
                because(run.raised.get("chat/llm", {})),
            ]
        )
    names = ["req/s", "history", "seed", "changes in the first hour", "later", "busiest hour", "taken back"]
    return Section(
        (
            Check(
                "no change is taken back within the break-even time (240 s) after the first hour", str(back), not back
            ),
            Check("at most one change in any hour after the first", str(busiest), busiest <= 1),
        ),
        (table([*names, "replicas", "within SLO", "asked for because of"], rows),),
    )


LINE = Line(
    "a",
    "Constant demand, all signals up to 5 % off",
    "Poisson arrivals at a constant rate for six hours, `telemetry.noise_fraction: 0.05`, a lead time of 240 s. "
    "The break-even time is the median lead time, as where `break_even_s` is not set.",
    _cases,
    _judge,
)
