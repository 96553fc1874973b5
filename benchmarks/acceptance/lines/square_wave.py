"""b: demand jumps up and down with the period of the lead time, and of twice the lead time. Nothing should resonate."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.acceptance.counting import Change, changes, started, stopped
from benchmarks.acceptance.runs import Case, Found
from benchmarks.acceptance.section import Check, Finder, Line, Section, because, percent, table
from benchmarks.acceptance.worlds import DAY_S, HOUR_S, TARGET_FRACTION, Document, Service, Start, world

_LEAD_S = 240.0
_HOURS = 6.0
_SETTLED_S = 1800.0
_PERIODS = {"L": _LEAD_S, "2 L": 2 * _LEAD_S}
_HISTORIES = {"three days of history": 3 * DAY_S, "no history": 0.0}
_REFERENCES = ("static", "oracle_lead")
_KNOWN = "three days of history"
"""The references look at nothing: one of them stands for both."""


def _name(policy: str, period: str, history: str, seed: int) -> str:
    return f"square wave {period}, {history}, {policy}, seed {seed}"


def _world(period: str, history: str, seed: int) -> Document:
    every_s = _PERIODS[period]
    wave = {"spikes": [{"at_s": 0, "every_s": every_s, "width_s": every_s / 2, "factor": 4}]}
    service = Service("chat/llm", 3.0, Start(_LEAD_S), 8, 5, _HISTORIES[history], wave)
    return world(f"square wave {period}", _HOURS, [service], seed, warmup_s=_SETTLED_S)


def _cases(seeds: Sequence[int]) -> list[Case]:
    cases = []
    for seed in seeds[:1]:
        for period in _PERIODS:
            cases += [
                Case(_name("predictive", period, history, seed), _world(period, history, seed), decisions=True)
                for history in _HISTORIES
            ]
            known = _world(period, _KNOWN, seed)
            cases += [Case(_name(policy, period, _KNOWN, seed), known, policy) for policy in _REFERENCES]
    return cases


def _judge(found: Finder, seeds: Sequence[int]) -> Section:
    seed, rows, checks = seeds[0], [], []
    for period in _PERIODS:
        fixed, oracle = (found[_name(policy, period, _KNOWN, seed)] for policy in _REFERENCES)
        for history in _HISTORIES:
            run = found[_name("predictive", period, history, seed)]
            rows.append(_row(period, f"predictive, {history}", run, fixed))
            made, reference = _made(run), _made(oracle)
            waves = (_HOURS * HOUR_S - _SETTLED_S) / _PERIODS[period]
            checks += [
                Check(
                    f"period {period}, {history}: at most 5 % dearer than the constant fleet, and within the SLO",
                    f"{run.value('cost_usd') / fixed.value('cost_usd'):.3f}, "
                    f"{percent(run.value('slo_attainment_fraction'))}",
                    run.value("cost_usd") <= 1.05 * fixed.value("cost_usd")
                    and run.value("slo_attainment_fraction") >= TARGET_FRACTION,
                ),
                Check(
                    f"period {period}, {history}: starts and stops at most twice the oracle's, or one in ten waves",
                    f"{made} in {waves:.0f} waves, the oracle's {reference}",
                    made <= max(2 * reference, waves / 10),
                ),
            ]
        rows += [_row(period, "constant fleet", fixed, fixed), _row(period, "oracle_lead", oracle, fixed)]
    names = [
        "period",
        "policy",
        "cost / constant",
        "within SLO",
        "replicas",
        "asked for",
        "given up",
        "asked for because of",
    ]
    return Section(tuple(checks), (table(names, rows),))


def _made(run: Found) -> int:
    found = _changes(run)
    return started(found) + stopped(found)


def _changes(run: Found) -> list[Change]:
    return changes(run.track.time_s, run.track.target, _SETTLED_S)


def _row(period: str, who: str, run: Found, fixed: Found) -> list[object]:
    made = _changes(run)
    levels = [run.track.target[i] for i in run.track.at(_SETTLED_S, _HOURS * HOUR_S)]
    return [
        period,
        who,
        f"{run.value('cost_usd') / fixed.value('cost_usd'):.3f}",
        percent(run.value("slo_attainment_fraction")),
        f"{min(levels)}-{max(levels)}",
        started(made),
        stopped(made),
        because(run.raised.get("chat/llm", {})),
    ]


LINE = Line(
    "b",
    "A square wave at the lead time's period",
    "Three requests a second and four times as many, each for half a period; L is 240 s. The first half hour does "
    "not count. The constant fleet is the smallest that reaches the target on this very traffic, so it is the size "
    "of the upper half. Replicas by the target, asked for and given up.",
    _cases,
    _judge,
)
