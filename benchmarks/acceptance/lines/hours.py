"""g: no clock hour far below the target without a cause that can be named, over the runs of c and d."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.acceptance.counting import LEAST_REQUESTS, bad_hours, judged_hours
from benchmarks.acceptance.lines.repeating import KINDS, SWEEP, TARGETS, case, name
from benchmarks.acceptance.runs import Case
from benchmarks.acceptance.section import Check, Finder, Line, Section, percent, table

_WORLDS = list(dict.fromkeys([*KINDS, *SWEEP]))


def _cases(seeds: Sequence[int]) -> list[Case]:
    return [case(*one, "predictive", seed) for one in _WORLDS for seed in seeds]


def _judge(found: Finder, seeds: Sequence[int]) -> Section:
    rows, judged, unnamed, lowest = [], 0, 0, 1.0
    for one in _WORLDS:
        for seed in seeds:
            run = found[name(*one, "predictive", seed)]
            judged += judged_hours(run)
            lowest = min(lowest, float(run.result["worst_hour_attainment_fraction"]))
            for bad in bad_hours(run, TARGETS):
                unnamed += bad.cause is None
                cause = bad.cause or f"none; {bad.evidence}"
                rows.append([f"{one[0]}, {one[1]:g} s, seed {seed}", bad.hour, bad.requests, percent(bad.share), cause])
    words = f"{len(rows)} of {judged} hours, {unnamed} without a cause; the lowest hour {percent(lowest)}"
    check = Check(
        f"no hour with {LEAST_REQUESTS} requests or more below 90 % without a named cause", words, not unnamed
    )
    names = ["run", "hour", "requests", "within SLO", "cause"]
    return Section((check,), (table(names, rows),) if rows else ())


LINE = Line(
    "g",
    "No bad hour without a cause",
    "Every clock hour of `predictive`'s runs of c and d. 1 - 10 x (1 - 0.99) is 90 %. The only cause that the "
    "command names by itself is that all replicas that a deployment may have were running while most of the "
    "requests missed.",
    _cases,
    _judge,
)
