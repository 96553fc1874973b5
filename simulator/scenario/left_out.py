"""What of a scenario's traces is not played, or was never recorded, in numbers. Not for reading them (reading.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoscaler.settings.document.problems import Problem
from policies.options import exact
from simulator.scenario.reading import Traffic, first_s
from simulator.workload.synthetic import Synthetic
from simulator.workload.trace_text import shown_time
from simulator.workload.traces import RateTrace, RequestTrace


@dataclass(frozen=True, slots=True)
class Played:
    """A deployment's traffic, and which part of it the scenario plays: from `start_s` of the trace's clock on."""

    name: str
    traffic: Traffic
    start_s: float
    repeat: bool
    has_history: bool


def plays_nothing(deployments: Sequence[Played], duration_s: float) -> list[Problem]:
    """A problem for each trace, where no deployment has any row of a trace within the scenario."""
    if not all(_outside(d, duration_s) for d in deployments):
        return []
    return [_nothing(i, d, duration_s) for i, d in enumerate(deployments)]


def _outside(d: Played, duration_s: float) -> bool:
    trace = d.traffic
    if isinstance(trace, Synthetic) or d.repeat:
        return False
    end_s = d.start_s + duration_s
    if isinstance(trace, RateTrace):
        return trace.start_s >= end_s or trace.end_s <= d.start_s
    return not bool(((trace.time_s >= d.start_s) & (trace.time_s < end_s)).any())


def _nothing(index: int, d: Played, duration_s: float) -> Problem:
    assert not isinstance(d.traffic, Synthetic)
    first, end_s = first_s(d.traffic), d.traffic.end_s
    text = (
        f"{exact(d.start_s)}: no row of {Path(d.traffic.source).name} is played: its times go from {exact(first)} "
        f"({shown_time(first)}) to {exact(end_s)}, and {exact(duration_s)} s are played; allowed: a time within them"
    )
    at = ("deployments", index, "workload")
    return Problem((*at, "start_s"), text, (("duration_s",), at, (*at, "requests"), (*at, "rates")))


def left_out(d: Played, duration_s: float) -> Iterator[str]:
    """How many requests of a trace lie before the start (and are no history) or after the end."""
    trace = d.traffic
    if isinstance(trace, Synthetic):
        return
    end_s = d.start_s + duration_s
    before, total = _count(trace, d.start_s), _count(trace, np.inf)
    after = 0.0 if d.repeat else total - _count(trace, end_s)
    before = 0.0 if d.has_history or d.repeat else before
    parts = [
        f"{_shown(count)} {where}"
        for count, where in (
            (before, f"before start_s, {shown_time(d.start_s)}"),
            (after, f"after the end, {_span(duration_s)} later"),
        )
        if round(count) >= 1
    ]
    if parts:
        about = "about " if isinstance(trace, RateTrace) else ""
        yield (
            f"{d.name}: {Path(trace.source).name}: {about}{_shown(before + after)} of its {_shown(total)} requests "
            f"{'is' if round(before + after) == 1 else 'are'} not played: {' and '.join(parts)}"
        )


def gap_notes(d: Played) -> Iterator[str]:
    """Bins of a rates file that were not recorded."""
    trace = d.traffic
    if isinstance(trace, RateTrace) and trace.gaps:
        count, first = len(trace.gaps), trace.start_s + trace.bin_s * trace.gaps[0][0]
        of = f"{_span(trace.gap_s)} in all, of {_span(trace.end_s - trace.start_s)}"
        yield (
            f"{d.name}: {Path(trace.source).name}: {count} gap{'s' if count > 1 else ''} of {of}, the first at "
            f"{shown_time(first)}: played as a straight line between their neighbours"
        )


def _count(trace: RequestTrace | RateTrace, before_s: float) -> float:
    """Requests before a time of the trace's clock (of rates: expected)."""
    if isinstance(trace, RequestTrace):
        return float(np.searchsorted(trace.time_s, before_s, side="left"))
    share = np.clip((before_s - trace.start_s) / trace.bin_s - np.arange(len(trace.rps)), 0.0, 1.0)
    return float((trace.rps * share).sum() * trace.bin_s)


def _shown(count: float) -> str:
    return f"{round(count):,}"


def _span(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
