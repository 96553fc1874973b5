"""d: what is started and stopped, what users feel of it, and what warm nodes cost, beside who knows all arrivals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmarks.acceptance.counting import changes, started, stopped
from benchmarks.acceptance.lines.repeating import HOURS, KINDS, SHAPES, SWEEP, name, pairs
from benchmarks.acceptance.runs import Case, Found
from benchmarks.acceptance.section import Check, Finder, Line, Section, because, percent, table

_MOST_STARTS = 2.0
_MOST_FELT = 0.001
_MOST_WASTE = 0.1
_LEAST_BEYOND = 0.02
"""Where less than this share is billed beyond the oracle's, nothing is told as a share of it."""
_WORLDS = list(dict.fromkeys([*KINDS, *SWEEP]))


def _cases(seeds: Sequence[int]) -> list[Case]:
    return pairs(_WORLDS, seeds)


def _judge(found: Finder, seeds: Sequence[int]) -> Section:
    rows = []
    ratios, effective, wastes = dict[str, float](), dict[str, float](), dict[str, float]()
    for shape, lead_s in _WORLDS:
        own, oracle = (
            [found[name(shape, lead_s, policy, seed)] for seed in seeds] for policy in ("predictive", "oracle_lead")
        )
        label = f"{shape}, {lead_s:g} s"
        ratios[label] = _total(own) / max(_total(oracle), 1)
        effective[label] = _felt(own)
        billed_s = 3600.0 * _sum(own, "node_hours")
        beyond_s = billed_s - 3600.0 * _sum(oracle, "node_hours")
        waste_s = _sum(own, "prewarm_wasted_node_s")
        wastes[label] = (waste_s - _sum(oracle, "prewarm_wasted_node_s")) / billed_s
        rows.append(
            [
                label,
                f"{_sum(own, 'cost_usd') / _sum(oracle, 'cost_usd'):.2f}",
                f"{_total(own)} / {_total(oracle)}",
                f"{ratios[label]:.2f}",
                f"{_events(own):.0f} / {_events(oracle):.0f}",
                f"{_per_day(own):.0f} / {_per_day(oracle):.0f}",
                f"{_hidden(own)} / {_hidden(oracle)}",
                f"{percent(effective[label], 3)} / {percent(_felt(oracle), 3)}",
                because(_raised(own)),
                percent(waste_s / billed_s, 1),
                percent(waste_s / beyond_s, 0) if beyond_s > _LEAST_BEYOND * billed_s else "-",
            ]
        )
    names = [
        "service, start-up",
        "cost / oracle_lead",
        "started + stopped, ours / oracle's",
        "ratio",
        "changes of the target",
    ]
    names += [
        "starts a day",
        "hidden",
        "felt by",
        "asked for because of",
        "pre-warm waste / billed",
        "/ billed beyond the oracle's",
    ]
    about = [[shape, one.about] for shape, one in SHAPES.items()]
    return Section(
        (
            _worst("replicas started and stopped: at most 2 x oracle_lead's", ratios, _MOST_STARTS, "{:.2f}"),
            _worst("`cold_start_miss_fraction` at most 0.1 %", effective, _MOST_FELT, "{:.3%}"),
            _worst(
                "pre-warm waste beyond the oracle's: at most 10 % of billed node time", wastes, _MOST_WASTE, "{:.1%}"
            ),
        ),
        (table(names, rows), table(["service", "traffic"], about)),
    )


def _worst(what: str, values: dict[str, float], limit: float, form: str) -> Check:
    label = max(values, key=lambda one: values[one])
    over = [one for one in values if values[one] > limit]
    words = f"worst {form.format(values[label])} ({label})"
    return Check(what, words + (f"; over it in {len(over)} of {len(values)}" if over else ""), not over)


def _made(run: Found) -> tuple[int, int]:
    found = changes(run.track.time_s, run.track.target)
    return started(found), stopped(found)


def _total(runs: Sequence[Found]) -> int:
    return sum(sum(_made(run)) for run in runs)


def _events(runs: Sequence[Found]) -> float:
    return _sum(runs, "scale_ups") + _sum(runs, "scale_downs")


def _sum(runs: Sequence[Found], what: str) -> float:
    return sum(run.value(what) for run in runs)


def _per_day(runs: Sequence[Found]) -> float:
    return _sum(runs, "replica_starts") / len(runs) * 24.0 / HOURS


def _raised(runs: Sequence[Found]) -> Counter[str]:
    return sum((Counter(run.raised.get("chat/llm", {})) for run in runs), Counter[str]())


def _felt(runs: Sequence[Found]) -> float:
    return sum(run.value("cold_start_miss_fraction") for run in runs) / len(runs)


def _hidden(runs: Sequence[Found]) -> str:
    hidden, exposed = _sum(runs, "cold_starts_hidden"), _sum(runs, "cold_starts_exposed")
    return percent(hidden / (hidden + exposed), 0) if hidden + exposed else "no start"


LINE = Line(
    "d",
    "Starts, stops, what is felt of them, warm nodes",
    "Eight hours each, five days of history; sums over the seeds. *Hidden* and *felt by* as in docs/scenarios.md: "
    "a start is hidden when no promise of a first token was broken while it was pending or could have been. "
    "`oracle_lead` may miss what the SLO allows and does, so it hides few.",
    _cases,
    _judge,
)
