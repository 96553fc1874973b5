"""The report's second part: the time under each policy, a strip for each: traffic, what was carried, what missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from autoscaler.common import svg as draw
from simulator.experiments.league import Run, Summary
from simulator.report import text as text
from simulator.report.table import Table, row_starts, strips_table
from simulator.report.timeline import Course, course
from simulator.timeline import Strip

_MISS_BINS = 180
_MOST_STRIPS = 8


@dataclass(frozen=True, slots=True)
class Mark:
    """A cold start below a strip: `square` (a TTFT promise was broken meanwhile) or `ring`, at `left` per cent of the
    time.
    """

    kind: str
    left: str


@dataclass(frozen=True, slots=True)
class StripPart:
    """One deployment under one policy."""

    name: str
    figures: str
    picture: Markup
    marks: tuple[Mark, ...]
    exposed: int
    hidden: int
    starts: int
    cancelled: int
    course: Course


@dataclass(frozen=True, slots=True)
class Block:
    """One deployment under every policy; `heading` "" where there is only one deployment."""

    heading: str
    strips: tuple[StripPart, ...]
    table: Table


@dataclass(frozen=True, slots=True)
class Day:
    """The section; `tops` says in words how high each deployment's strips reach."""

    compared: bool
    tops: str
    seed: int
    blocks: tuple[Block, ...]
    clock: tuple[draw.Words, ...]


def day(rows: Sequence[Summary], runs: Sequence[Run]) -> Day | None:
    """The section, of runs with one seed; None where no deployment has a strip."""
    keys = list(runs[0].strips)[:_MOST_STRIPS]
    if not keys:
        return None
    several = len(keys) > 1
    tops = {key: _top(key, runs) for key in keys}
    end_s = runs[0].document["duration_s"]
    starts = [_clock(t, end_s) for t in row_starts(end_s)]
    by_policy = {r.job.policy: r for r in reversed(runs)}
    return Day(
        compared=len(rows) > 1,
        tops=", ".join(f"0 to {tops[k]:.3g} req/s" + (f" ({k})" if several else "") for k in keys),
        seed=runs[0].job.seed,
        blocks=tuple(
            Block(
                heading=key if several else "",
                strips=tuple(_strip(key, row, by_policy[row.policy], tops[key]) for row in rows),
                table=strips_table(key, rows, runs, starts),
            )
            for key in keys
        ),
        clock=tuple(
            draw.words(_clock(end_s * i / 4, end_s), 25.0 * i if i < 4 else None, 0.0, f"tick t{i}", right=0.0)
            for i in range(5)
        ),
    )


def _top(key: str, runs: Sequence[Run]) -> float:
    """One y for all strips of a deployment: the most that traffic or capacity reaches, capacity cut a bit above."""
    traffic = max((max(r.strips[key].arrivals_rps, default=0.0) for r in runs), default=0.0)
    carried = max((_capacity(r, key) * max(r.strips[key].running, default=0) for r in runs), default=0.0)
    return draw.nice_ticks(0, max(traffic, min(carried, 1.3 * traffic), 1e-9))[-1]


def _capacity(run: Run, key: str) -> float:
    return run.capacities_rps.get(key) or 0.0


def _strip(key: str, row: Summary, run: Run, top: float) -> StripPart:
    strip, document = run.strips[key], run.document["deployments"][key]
    end_s = run.document["duration_s"]
    name = text.display_name(row.policy)
    hidden, exposed = document["cold_starts_hidden"], document["cold_starts_exposed"]
    return StripPart(
        name=name,
        figures=_figures(key, run),
        picture=Markup(
            draw.svg(_shapes(key, run, top), f"{name}: {exposed} cold starts felt by users, {hidden} hidden")
        ),
        marks=tuple(
            Mark("square" if kind == "exposed" else "ring", f"{min(t / end_s, 1) * 100:.2f}")
            for t, kind in run.starts.get(key, ())
            if kind != "cancelled"
        ),
        exposed=exposed,
        hidden=hidden,
        starts=document["replica_starts"],
        cancelled=document["cold_starts_cancelled"],
        course=course(strip, end_s, name, _clock),
    )


def _figures(key: str, run: Run) -> str:
    """The whole run's cost, and this deployment's misses."""
    attained = run.document["deployments"][key]["slo_attainment_fraction"]
    cost = text.dollars(run.document["cost_usd"])
    missed = f"{text.percent(None if attained is None else 1 - attained)} miss"
    if len(run.targets) > 1:
        return f"{cost} in all, {missed} ({text.share(1 - run.targets[key])} may)"
    return f"{cost}, {missed}"


def _shapes(key: str, run: Run, top: float) -> list[str]:
    strip, end_s = run.strips[key], run.document["duration_s"]
    x, y = draw.Scale(0, end_s), draw.Scale(0, top, flip=True)
    carried = [_capacity(run, key) * n for n in strip.running]
    capacity = [(x(t), y(v)) for t, v in draw.steps(draw.thin(strip.time_s, carried))]
    traffic = [(x(t), y(v)) for t, v in draw.thin(strip.time_s, strip.arrivals_rps)]
    return [
        draw.area(capacity, 1000, "carry"),
        draw.line(capacity, "carry-line"),
        *_miss_bars(strip, end_s),
        draw.line(traffic, "traffic"),
    ]


def _miss_bars(strip: Strip, end_s: float) -> list[str]:
    """The share of requests that missed, by time, up from 0 to the whole height."""
    missed = draw.bins(strip.time_s, strip.slo_misses, 0, end_s, _MISS_BINS)
    tick_s = [b - a for a, b in zip((0.0, *strip.time_s), strip.time_s, strict=False)]
    arrived = draw.bins(
        strip.time_s, [r * s for r, s in zip(strip.arrivals_rps, tick_s, strict=True)], 0, end_s, _MISS_BINS
    )
    width = 1000 / _MISS_BINS
    bars = []
    for i, (bad, all_of_them) in enumerate(zip(missed, arrived, strict=True)):
        share = min(bad / max(all_of_them, bad, 1e-9), 1.0)
        if share > 0.005:
            bars.append(draw.box(i * width, 1000 * (1 - share), (i + 1) * width, 1000, "missed"))
    return bars


def _clock(time_s: float, whole_s: float) -> str:
    minutes = round(time_s / 60)
    if whole_s < 3 * 3600:
        return f"{time_s / 60:.3g} min"
    return f"{minutes // 60:02d}:{minutes % 60:02d}" if whole_s <= 72 * 3600 else f"day {minutes / 1440:.3g}"
