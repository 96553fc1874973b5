"""What was behind a policy's time: its forecast, replicas by state, nodes, the queue and first tokens.

Folded below the policy's strip, on the same time axis, with the same numbers as a table. An unknown value breaks a
line and is never 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from autoscaler.common import svg as draw
from simulator.report import text as text
from simulator.report.table import Table, row_starts
from simulator.timeline import Strip

_POINTS = 200
_Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class _Plot:
    """One picture: `kind` names what is seen, `label` says it in words."""

    kind: str
    label: str
    unit: str
    most: float
    shapes: Callable[[draw.Scale, draw.Scale], list[str]]


@dataclass(frozen=True, slots=True)
class CoursePlot:
    """One picture as it is shown: from 0 to `top` `unit`."""

    kind: str
    picture: Markup
    top: str
    unit: str


@dataclass(frozen=True, slots=True)
class Course:
    """The folded part of one deployment under one policy."""

    name: str
    plots: tuple[CoursePlot, ...]
    table: Table


def course(strip: Strip, end_s: float, name: str, clock: Callable[[float, float], str]) -> Course:
    """The folded part of one deployment under the policy `name`; `clock(time_s, end_s)` names a time."""
    x = draw.Scale(0, end_s)
    plots = []
    for plot in (_traffic(strip), _replicas(strip), _nodes(strip), _queue(strip), _first_tokens(strip)):
        top = draw.nice_ticks(0, max(plot.most, 1e-9))[-1] if plot.most > 0 else 1.0
        picture = Markup(draw.svg(plot.shapes(x, draw.Scale(0, top, flip=True)), f"{name}: {plot.label}"))
        plots.append(CoursePlot(plot.kind, picture, f"{top:.3g}", plot.unit))
    starts = [clock(t, end_s) for t in row_starts(end_s)]
    return Course(name, tuple(plots), Table(_HEADS, tuple(zip(starts, _rows(strip, end_s), strict=True))))


# ---------------------------------------------------------------- pictures


def _traffic(strip: Strip) -> _Plot:
    known = [v for v in strip.forecast_q99_rps if not math.isnan(v)]
    kind = "traffic" if known else "traffic_without_forecast"

    def shapes(x: draw.Scale, y: draw.Scale) -> list[str]:
        levels = [
            _lines(strip, q, x, y) for q in (strip.forecast_q50_rps, strip.forecast_q95_rps, strip.forecast_q99_rps)
        ]
        bands = [draw.band(low, high, "fan") for low, high in zip(levels[0], levels[1], strict=True)]
        bands += [draw.band(low, high, "fan far") for low, high in zip(levels[1], levels[2], strict=True)]
        medians = [draw.line(points, "median") for points in levels[0]]
        return [*bands, *medians, *(draw.line(points, "traffic") for points in _lines(strip, strip.arrivals_rps, x, y))]

    most = max((*known, *strip.arrivals_rps), default=0.0)
    said = f"forecast up to {max(known):.3g} req/s" if known else "no forecast"
    return _Plot(
        kind, f"traffic up to {max(strip.arrivals_rps, default=0.0):.3g} req/s, {said}", " req/s", most, shapes
    )


def _replicas(strip: Strip) -> _Plot:
    stack = _stacked(strip.running, strip.starting, strip.draining)

    def shapes(x: draw.Scale, y: draw.Scale) -> list[str]:
        areas = [
            draw.area(_steps(strip, values, x, y), 1000, kind)
            for values, kind in zip(reversed(stack), ("draining", "starting", "running"), strict=True)
        ]
        return [*areas, draw.line(_steps(strip, strip.target, x, y), "traffic")]

    label = f"up to {max(strip.running, default=0)} replicas running, target up to {max(strip.target, default=0)}"
    return _Plot("replicas", label, "", max((*stack[-1], *strip.target), default=0), shapes)


def _nodes(strip: Strip) -> _Plot:
    busy = [r - p for r, p in zip(strip.nodes_ready, strip.nodes_prewarmed, strict=True)]
    stack = _stacked(busy, strip.nodes_prewarmed, strip.nodes_starting)

    def shapes(x: draw.Scale, y: draw.Scale) -> list[str]:
        kinds = ("starting", "prewarmed", "running")
        return [draw.area(_steps(strip, v, x, y), 1000, k) for v, k in zip(reversed(stack), kinds, strict=True)]

    label = (
        f"up to {max(strip.nodes_ready, default=0)} nodes ready, {max(strip.nodes_prewarmed, default=0)} of them empty"
    )
    return _Plot("nodes", label, "", max(stack[-1], default=0), shapes)


def _queue(strip: Strip) -> _Plot:
    most = max(strip.waiting, default=0)

    def shapes(x: draw.Scale, y: draw.Scale) -> list[str]:
        points = _steps(strip, strip.waiting, x, y)
        return [draw.area(points, 1000, "carry"), draw.line(points, "carry-line")]

    return _Plot("queue", f"up to {most} requests wait", "", most, shapes)


def _first_tokens(strip: Strip) -> _Plot:
    known = [v for v in strip.ttft_p99_s if not math.isnan(v)]

    def shapes(x: draw.Scale, y: draw.Scale) -> list[str]:
        return [draw.line(points, "traffic") for points in _lines(strip, strip.ttft_p99_s, x, y)]

    label = f"TTFT p99 of a tick up to {max(known):.3g} s" if known else "TTFT unknown"
    return _Plot("first_tokens", label, " s", max(known, default=0.0), shapes)


def _stacked(*layers: Sequence[int]) -> list[list[int]]:
    """Sums of the first one, the first two, ..."""
    sums = [list(layers[0])]
    for layer in layers[1:]:
        sums.append([a + b for a, b in zip(sums[-1], layer, strict=True)])
    return sums


def _steps(strip: Strip, values: Sequence[float], x: draw.Scale, y: draw.Scale) -> _Points:
    return [(x(t), y(v)) for t, v in draw.steps(draw.thin(strip.time_s, values, _POINTS))]


def _lines(strip: Strip, values: Sequence[float], x: draw.Scale, y: draw.Scale) -> list[_Points]:
    """A line for each stretch of time in which the value is known."""
    return [
        [(x(t), y(v)) for t, v in draw.thin(strip.time_s[a:b], values[a:b], _POINTS)] for a, b in _stretches(values)
    ]


def _stretches(values: Sequence[float]) -> Iterator[tuple[int, int]]:
    begin: int | None = None
    for i, value in enumerate(values):
        if math.isnan(value):
            if begin is not None:
                yield begin, i
            begin = None
        elif begin is None:
            begin = i
    if begin is not None:
        yield begin, len(values)


# ---------------------------------------------------------------- the same as a table

_HEADS = (
    "From", "forecast q0.95, req/s", "running", "starting", "draining", "nodes ready", "empty", "most waiting",
    "TTFT p99 at most, s",
)  # fmt: skip


def _rows(strip: Strip, end_s: float) -> list[tuple[str, ...]]:
    """Means, but for the queue and first tokens: the most of a tick."""
    starts = [*row_starts(end_s), end_s]
    rows = []
    for low_s, high_s in pairwise(starts):
        inside = [i for i, t in enumerate(strip.time_s) if low_s < t <= high_s or (low_s == 0.0 == t)]
        means = (strip.forecast_q95_rps, strip.running, strip.starting, strip.draining, strip.nodes_ready)
        cells = [_mean([column[i] for i in inside]) for column in (*means, strip.nodes_prewarmed)]
        cells.append(str(max((strip.waiting[i] for i in inside), default=0)) if inside else "–")
        first_s = [strip.ttft_p99_s[i] for i in inside if not math.isnan(strip.ttft_p99_s[i])]
        rows.append((*cells, text.seconds(max(first_s, default=None))))
    return rows


def _mean(values: Sequence[float]) -> str:
    known = [v for v in values if not math.isnan(v)]
    return f"{sum(known) / len(known):.3g}" if known else "?"
