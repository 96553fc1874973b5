"""The report's plots as tables: the same numbers for whoever cannot, or would rather not, see a picture.

Folded below each plot. A row is a policy (cost against misses) or a twelfth of the time (the day under each policy).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoscaler.common import svg as draw
from simulator.experiments.league import Run, Summary
from simulator.report import text as text
from simulator.timeline import Strip

_ROWS = 12


@dataclass(frozen=True, slots=True)
class Table:
    """Heads of all columns, and for each row its name and its other cells."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def pareto_table(rows: Sequence[Summary], runs: Sequence[Run]) -> Table:
    """Cost against misses."""
    body = []
    for row in rows:
        costs = [r.document["cost_usd"] for r in runs if r.job.policy == row.policy]
        known = [c for c in costs if c is not None]
        span = f"{text.dollars(min(known))} to {text.dollars(max(known))}" if len(known) > 1 else "–"
        cells = (text.dollars(row.cost_usd), span, text.percent(text.miss_fraction(row)))
        body.append((_name(row), (*cells, text.verdict(row, runs[0]))))
    return Table(("Policy", "cost", "over the seeds", "missed the SLO", ""), tuple(body))


def strips_table(key: str, rows: Sequence[Summary], runs: Sequence[Run], clock: Sequence[str]) -> Table:
    """One deployment's time under each policy; `clock` names the beginnings of the rows."""
    strips = {r.job.policy: r.strips[key] for r in runs}
    end_s = runs[0].document["duration_s"]
    heads = ["From", "traffic, req/s"]
    columns: list[list[str]] = [[f"{v:.3g}" for v in _arrivals(strips[runs[0].job.policy], end_s)]]
    columns[0] = [v.replace("nan", "–") for v in columns[0]]
    for row in rows:
        strip = strips[row.policy]
        heads += [f"{text.display_name(row.policy)}: running", "missed"]
        columns += [_running(strip, end_s), _missed(strip, end_s)]
    body = tuple((clock[i], tuple(column[i] for column in columns)) for i in range(_ROWS))
    return Table(tuple(heads), body)


def row_starts(end_s: float) -> list[float]:
    """When each row of `strips_table` begins."""
    return [end_s * i / _ROWS for i in range(_ROWS)]


def _name(row: Summary) -> str:
    return text.display_name(row.policy) + (" (knows the traffic)" if row.clairvoyant else "")


def _ticks_s(strip: Strip) -> list[float]:
    return [b - a for a, b in zip((0.0, *strip.time_s), strip.time_s, strict=False)]


def _arrived(strip: Strip, end_s: float) -> list[float]:
    """Requests of each row."""
    counts = [r * s for r, s in zip(strip.arrivals_rps, _ticks_s(strip), strict=True)]
    return draw.bins(strip.time_s, counts, 0, end_s, _ROWS)


def _arrivals(strip: Strip, end_s: float) -> list[float]:
    seconds = draw.bins(strip.time_s, _ticks_s(strip), 0, end_s, _ROWS)
    return [n / s if s else float("nan") for n, s in zip(_arrived(strip, end_s), seconds, strict=True)]


def _running(strip: Strip, end_s: float) -> list[str]:
    """Mean replicas."""
    seconds = draw.bins(strip.time_s, _ticks_s(strip), 0, end_s, _ROWS)
    weighed = [n * s for n, s in zip(strip.running, _ticks_s(strip), strict=True)]
    return [
        f"{w / s:.3g}" if s else "–"
        for w, s in zip(draw.bins(strip.time_s, weighed, 0, end_s, _ROWS), seconds, strict=True)
    ]


def _missed(strip: Strip, end_s: float) -> list[str]:
    """Share of the requests; a miss counts when it ends, so a quiet row after a bad one can have more than arrived."""
    missed = draw.bins(strip.time_s, strip.slo_misses, 0, end_s, _ROWS)
    shares = [m / max(a, m) if m else 0.0 for m, a in zip(missed, _arrived(strip, end_s), strict=True)]
    return [text.percent(s) if s else "0" for s in shares]
