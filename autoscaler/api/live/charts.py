"""Charts of one deployment over one time axis with one "now", as SVG in percent space with words placed beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from autoscaler.api.live.history import KEPT_S, Point
from autoscaler.api.live.words import clock, number, percent
from autoscaler.common import svg
from policies.base import Forecast, StartView

_SHORTEST_S, _BACK, _AHEAD = 600.0, 8.0, 4.0
_STEP_S = 300.0
_MOST_POINTS = 120
"""Columns of a line, each with its lowest and highest point."""
_APART = 9.0
"""Labels at the right are pushed apart by so many per cent of a tall chart."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The time axis of all charts of a deployment: `now_s` and `lead_s` are the two lines through all of them."""

    from_s: float
    to_s: float
    now_s: float
    lead_s: float | None
    usual_s: float = 30.0
    """Time between two points; what is three times as long is a gap."""

    def __call__(self, time_s: float) -> float:
        share = (time_s - self.from_s) / (self.to_s - self.from_s)
        return 1000.0 * min(max(share, 0.0), 1.0)

    def per_cent(self, time_s: float) -> float:
        return self(time_s) / 10.0


@dataclass(frozen=True, slots=True)
class Label:
    """Words beside or over a chart; `place` is CSS in per cent."""

    text: str
    kind: str
    place: str


@dataclass(frozen=True, slots=True)
class Chart:
    """`picture` is an SVG that says in words what it shows; `height_px` as the design has it."""

    title: str
    unit: str
    picture: Markup
    labels: tuple[Label, ...]
    height_px: int


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table that says the same as the charts."""

    at_s: float
    rate: str
    capacity: str
    running: str
    starting: str
    waiting: str
    kv: str
    missed: str


def axis_of(now_s: float, lead_s: float | None, points: Sequence[Point] = ()) -> Axis:
    """8 lead times back and 4 ahead, in whole five minutes, within what is remembered."""
    lead = _SHORTEST_S / _BACK if lead_s is None or not math.isfinite(lead_s) else lead_s
    back_s = min(max(math.ceil(_BACK * lead / _STEP_S) * _STEP_S, _SHORTEST_S), KEPT_S)
    ahead_s = min(max(math.ceil(_AHEAD * lead / _STEP_S) * _STEP_S, _STEP_S), KEPT_S / 2.0)
    steps = sorted(b.now_s - a.now_s for a, b in pairwise(points[-64:]))
    usual_s = max(steps[len(steps) // 2], 1.0) if steps else 30.0
    return Axis(now_s - back_s, now_s + ahead_s, now_s, lead_s, usual_s)


def charts(
    points: Sequence[Point],
    axis: Axis,
    forecast: Forecast | None,
    each_rps: float | None,
    starting: Sequence[StartView],
    allowed_fraction: float | None,
) -> tuple[Chart, ...]:
    """Traffic, replicas, queue, KV cache, misses; `each_rps`: what one replica carries."""
    return (
        _traffic(points, axis, forecast, each_rps, starting),
        _replicas(points, axis, starting),
        _gauge("Queue", "requests waiting", points, axis, lambda p: p.waiting, lambda v: f"{number(v)} now"),
        _gauge(
            "KV cache", "share in use, fullest replica", points, axis, lambda p: p.kv_usage_fraction,
            lambda v: f"{percent(v)} now", 1.0,
        ),
        _misses(points, axis, allowed_fraction),
    )  # fmt: skip


def ticks(axis: Axis) -> tuple[tuple[float, Markup], ...]:
    """Places in per cent, and times of day, of some four round times."""
    span_s = axis.to_s - axis.from_s
    step_s = next((s for s in (120.0, 300.0, 600.0, 1800.0, 3600.0) if span_s / s <= 7.0), 3600.0)
    first_s = math.ceil(axis.from_s / step_s) * step_s
    times = [first_s + i * step_s for i in range(int((axis.to_s - first_s) / step_s) + 1)]
    return tuple((axis.per_cent(t), clock(t)) for t in times if 2.0 < axis.per_cent(t) < 98.0)


def spark(points: Sequence[Point], axis: Axis, forecast: Forecast | None) -> Markup:
    """A small line of traffic with what is expected; hidden from screen readers, since the row says it in numbers."""
    known = [(p.now_s, p.rate_rps) for p in points if not math.isnan(p.rate_rps)]
    fan = _fan(forecast, axis, ((0.5, 0.99),))
    most = max([r for _, r in known] + [v for _, upper in fan for _, v in upper], default=1.0)
    y = svg.Scale(0.0, max(most, 1e-9) * 1.05, flip=True)
    parts = [svg.band(_placed(low, axis, y), _placed(high, axis, y), "fan") for low, high in fan]
    parts += [svg.line(piece, "seen") for piece in _pieces(points, axis, y, lambda p: p.rate_rps, 60)]
    parts.append(svg.rule(axis(axis.now_s), 0, axis(axis.now_s), 1000, "nowline"))
    body = "".join(parts)
    return Markup(f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">{body}</svg>')


def table(points: Sequence[Point], axis: Axis, rows: int = 12) -> tuple[Row, ...]:
    """Some of the points, the newest first, in words."""
    inside = [p for p in points if p.now_s >= axis.from_s]
    step = max(1, math.ceil(len(inside) / rows))
    chosen = inside[::-1][::step]
    older = [*chosen[1:], None]
    return tuple(
        Row(
            p.now_s, number(p.rate_rps), number(p.capacity_rps), number(p.running), number(p.starting),
            number(p.waiting), percent(p.kv_usage_fraction), percent(_missed_share(before, p)),
        )
        for p, before in zip(chosen, older, strict=True)
    )  # fmt: skip


# ---------------------------------------------------------------- single charts


def _traffic(
    points: Sequence[Point], axis: Axis, forecast: Forecast | None, each_rps: float | None,
    starting: Sequence[StartView],
) -> Chart:  # fmt: skip
    fan = _fan(forecast, axis, ((0.5, 0.9), (0.9, 0.99)))
    ahead = _capacity_ahead(points, axis, each_rps, starting)
    values = [v for p in points for v in (p.rate_rps, p.capacity_rps, p.ahead_p99_rps) if not math.isnan(v)]
    values += [v for _, upper in fan for _, v in upper] + [v for _, v in ahead]
    y, grid, scale = _scale(max(values, default=1.0) * 1.1)
    parts = grid
    said = [(p.now_s + p.ahead_s, p.ahead_p99_rps) for p in points if not math.isnan(p.ahead_p99_rps + p.ahead_s)]
    said = [(t, v) for t, v in said if axis.from_s <= t <= axis.now_s]
    if said:
        parts.append(svg.area(_placed(said, axis, y), 1000.0, "past"))
    for (low, high), kind in zip(fan, ("fan", "fan far"), strict=False):
        parts.append(svg.band(_placed(low, axis, y), _placed(high, axis, y), kind))
    if fan:
        parts.append(svg.line(_placed(fan[0][0], axis, y), "middle"))
    for piece in _pieces(points, axis, y, lambda p: p.capacity_rps, _MOST_POINTS):
        parts.append(svg.line(svg.steps(piece), "carry"))
    parts.append(svg.line(svg.steps(_placed(ahead, axis, y)), "carry dashed"))
    parts += [svg.line(piece, "seen") for piece in _pieces(points, axis, y, lambda p: p.rate_rps, _MOST_POINTS)]
    labels = list(scale)
    newest = points[-1] if points else None
    if newest is not None and not math.isnan(newest.rate_rps):
        parts.append(svg.dot(axis(newest.now_s), y(newest.rate_rps), "point"))
    if axis.lead_s is not None and forecast is not None and fan:
        expected = forecast.quantile(axis.lead_s, 0.99)
        parts.append(svg.dot(axis(axis.now_s + axis.lead_s), y(expected), "point ahead"))
    ends = [(f"p{round(level * 100)} {number(upper[-1][1])}", upper[-1][1], "expected")
            for level, (_, upper) in zip((0.9, 0.99), fan, strict=False)]  # fmt: skip
    if fan:
        ends.append((f"p50 {number(fan[0][0][-1][1])}", fan[0][0][-1][1], "expected"))
    if ahead:
        ends.append((f"capacity {number(ahead[-1][1])}", ahead[-1][1], "carries"))
    labels += _at_right([(text, y(value) / 10.0, kind) for text, value, kind in ends], _APART)
    words = f"Traffic over time, now {number(newest.rate_rps if newest else None)} requests per second"
    if newest is not None:
        words += f", replicas carry {number(newest.capacity_rps)}"
    if fan:
        words += f"; expected in the end at most {number(fan[-1][1][-1][1])} with a chance of 99 per cent"
    parts = _frame(parts, points, axis)
    return Chart("Traffic", "req/s, against what running replicas carry within the SLO", _svg(parts, words),
                 tuple(labels), 208)  # fmt: skip


def _replicas(points: Sequence[Point], axis: Axis, starting: Sequence[StartView]) -> Chart:
    newest = points[-1] if points else None
    tops = [p.running + p.starting + _zero(p.draining) for p in points if not math.isnan(p.running)]
    targets = [p.target for p in points if not math.isnan(p.target)]
    y, parts, labels = _scale(max(tops + targets + [1.0]) * 1.1, whole=True)
    known = [p for p in points if p.now_s >= axis.from_s and not math.isnan(p.running)]
    low = [0.0] * len(known)
    for kind, get in (("run", _running), ("start", _starting), ("drain", _draining)):
        high = [base + get(p) for base, p in zip(low, known, strict=True)]
        for one in _runs(known, axis):
            upper = svg.steps([(axis(known[i].now_s), y(high[i])) for i in one])
            lower = svg.steps([(axis(known[i].now_s), y(low[i])) for i in one])
            if any(high[i] > low[i] for i in one):
                parts.append(svg.band(lower, upper, kind))
        low = high
    ahead = _replicas_ahead(newest, axis, starting)
    if ahead:
        parts.append(svg.area(svg.steps(_placed(ahead, axis, y)), 1000.0, "run later"))
    parts += [
        svg.line(svg.steps(piece), "target") for piece in _pieces(points, axis, y, lambda p: p.target, _MOST_POINTS)
    ]
    ends = []
    words = "Replicas over time"
    if newest is not None:
        words += f", {number(newest.running)} run, {number(newest.starting)} start, target {number(newest.target)}"
        if not math.isnan(newest.target):
            ends.append((f"target {number(newest.target)}", y(newest.target) / 10.0, "carries"))
        if ahead and starting:
            ends.append((f"{number(ahead[-1][1])} running then", y(ahead[-1][1]) / 10.0, "quiet"))
    labels += _at_right(ends, 20.0)
    return Chart("Replicas", "running, starting, draining", _svg(_frame(parts, points, axis), words), tuple(labels), 92)


def _gauge(
    title: str, unit: str, points: Sequence[Point], axis: Axis, get: Callable[[Point], float],
    said: Callable[[float | None], str], most: float | None = None,
) -> Chart:  # fmt: skip
    values = [v for p in points if not math.isnan(v := get(p))]
    y, parts, labels = _scale(most if most is not None else max([*values, 1.0]) * 1.1, few=True, share=most == 1.0)
    for piece in _pieces(points, axis, y, get, _MOST_POINTS):
        parts += [svg.area(piece, 1000.0, "amount"), svg.line(piece, "seen thin")]
    newest = get(points[-1]) if points else None
    now = said(newest)
    place = 50.0 if newest is None or math.isnan(newest) else y(newest) / 10.0
    labels += _at_right([(now, place, "carries")], 20.0)
    return Chart(title, unit, _svg(_frame(parts, points, axis), f"{title} over time: {now}"), tuple(labels), 48)


def _misses(points: Sequence[Point], axis: Axis, allowed: float | None) -> Chart:
    shares = [(b.now_s, share) for a, b in pairwise(points) if (share := _missed_share(a, b)) is not None]
    top = max([s for _, s in shares] + [2.0 * (allowed or 0.0), 0.01])
    y, parts, labels = _scale(min(1.0, top), few=True, share=True)
    width = max(1.5, 1000.0 / max(len(points), 1) * 0.5)
    for at_s, share in shares:
        if share > 0.0 and at_s >= axis.from_s:
            parts.append(svg.box(axis(at_s) - width / 2, y(share), axis(at_s) + width / 2, 1000.0, "bad"))
    if allowed is not None:
        parts.append(svg.rule(0, y(allowed), 1000, y(allowed), "limit"))
        labels += _at_right([(f"allowed {percent(allowed, 1)}", y(allowed) / 10.0, "quiet")], 20.0)
    lately = shares[-1][1] if shares else None
    words = f"Share of requests that missed the SLO over time, lately {percent(lately, 1)}"
    return Chart("SLO misses", "share of requests", _svg(_frame(parts, points, axis), words), tuple(labels), 40)


# ---------------------------------------------------------------- parts of them


def _svg(parts: Iterable[str], words: str) -> Markup:
    return Markup(svg.svg(parts, words))  # its words are escaped there


def _frame(parts: list[str], points: Sequence[Point], axis: Axis) -> list[str]:
    """What runs through all charts: where nothing is known, the committed window, now, and now + lead time."""
    under = [svg.box(axis(a), 0, axis(b), 1000, "nodata") for a, b in _gaps(points, axis)]
    over = [svg.rule(axis(axis.now_s), 0, axis(axis.now_s), 1000, "nowline")]
    if axis.lead_s is not None:
        then = axis(axis.now_s + axis.lead_s)
        under.append(svg.box(axis(axis.now_s), 0, then, 1000, "committed"))
        over.append(svg.rule(then, 0, then, 1000, "leadline"))
    return [*under, *parts, *over]


def _gaps(points: Sequence[Point], axis: Axis) -> Iterator[tuple[float, float]]:
    """Times of which no tick tells, or whose traffic is unknown."""
    before_s = axis.from_s
    usual_s = axis.usual_s
    for p in points:
        if p.now_s < axis.from_s:
            continue
        if p.now_s - before_s > 3.0 * usual_s or math.isnan(p.rate_rps):
            yield before_s, p.now_s
        before_s = p.now_s
    if axis.now_s - before_s > 3.0 * usual_s:
        yield before_s, axis.now_s


def _pieces(
    points: Sequence[Point], axis: Axis, y: svg.Scale, get: Callable[[Point], float], most: int
) -> Iterator[list[tuple[float, float]]]:
    """Lines of a quantity, broken where it is unknown."""
    usual_s, piece, last_s = axis.usual_s, list[tuple[float, float]](), -math.inf
    for p in points:
        value = get(p)
        if p.now_s < axis.from_s:
            continue
        if math.isnan(value) or p.now_s - last_s > 3.0 * usual_s:
            if piece:
                yield _thin(piece, most)
            piece = []
        if not math.isnan(value):
            piece.append((axis(p.now_s), y(value)))
        last_s = p.now_s
    if piece:
        yield _thin(piece, most)


def _thin(piece: list[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    return svg.thin([x for x, _ in piece], [v for _, v in piece], most)


def _runs(known: Sequence[Point], axis: Axis) -> Iterator[range]:
    """Indexes of points without a gap between them."""
    usual_s, first = axis.usual_s, 0
    for i in range(1, len(known) + 1):
        if i == len(known) or known[i].now_s - known[i - 1].now_s > 3.0 * usual_s:
            yield range(first, i)
            first = i


def _fan(
    forecast: Forecast | None, axis: Axis, bands: Sequence[tuple[float, float]]
) -> list[tuple[list[tuple[float, float]], list[tuple[float, float]]]]:
    """Bands between two levels, from now to the end of the axis; empty where the forecast is not to be trusted."""
    if forecast is None or not forecast.calibrated or not forecast.values_rps:
        return []
    span_s = axis.to_s - axis.now_s
    ahead = [span_s * i / 16.0 for i in range(17)]
    fans = []
    for low, high in bands:
        pairs = [forecast.quantiles(s, (low, high)) for s in ahead]
        times = [axis.now_s + s for s in ahead]
        fans.append(
            ([(t, p[0]) for t, p in zip(times, pairs, strict=True)],
             [(t, p[1]) for t, p in zip(times, pairs, strict=True)])
        )  # fmt: skip
    return fans


def _capacity_ahead(
    points: Sequence[Point], axis: Axis, each_rps: float | None, starting: Sequence[StartView]
) -> list[tuple[float, float]]:
    if each_rps is None:
        return []
    return [(t, n * each_rps) for t, n in _replicas_ahead(points[-1] if points else None, axis, starting)]


def _replicas_ahead(newest: Point | None, axis: Axis, starting: Sequence[StartView]) -> list[tuple[float, float]]:
    """Running replicas from now on, as the starting ones are expected to be ready."""
    if newest is None or math.isnan(newest.running):
        return []
    count, steps = newest.running, [(axis.now_s, newest.running)]
    for ready_s in sorted(max(one.expected_ready_at_s, axis.now_s) for one in starting):
        count += 1.0
        steps.append((min(ready_s, axis.to_s), count))
    return [*steps, (axis.to_s, count)]


def _scale(
    most: float, whole: bool = False, few: bool = False, share: bool = False
) -> tuple[svg.Scale, list[str], list[Label]]:
    """The y axis from 0, its grid, and the numbers at the left."""
    marks = svg.nice_ticks(0.0, max(most, 1e-6), 1 if few else 2 if whole else 3)
    if few:
        marks = [marks[0], marks[-1]]
    if whole:
        marks = [mark for mark in marks if mark.is_integer() or mark == marks[-1]]
    y = svg.Scale(0.0, marks[-1], flip=True)
    grid = [svg.rule(0, y(v), 1000, y(v), "grid") for v in marks]
    said = [percent(v, 0 if marks[-1] >= 0.05 else 1) if share and v else number(v) for v in marks]
    labels = [Label(text, "scale", f"right:100%;top:{y(v) / 10.0:.1f}%") for text, v in zip(said, marks, strict=True)]
    return y, grid, labels


def _at_right(ends: Iterable[tuple[str, float, str]], apart: float) -> list[Label]:
    """Labels at their own height at the right, pushed apart where they would touch."""
    labels, floor = [], -math.inf
    for text, top, kind in sorted(ends, key=lambda e: e[1]):
        top = max(top, floor)
        labels.append(Label(text, f"end {kind}", f"left:100%;top:{top:.1f}%"))
        floor = top + apart
    return labels


def _placed(values: Sequence[tuple[float, float]], axis: Axis, y: svg.Scale) -> list[tuple[float, float]]:
    return [(axis(t), y(v)) for t, v in values]


def _missed_share(before: Point | None, after: Point) -> float | None:
    """Of the requests between two points; None where there were none."""
    if before is None or after.requests <= before.requests:
        return None
    return min(1.0, max(0.0, after.missed - before.missed) / (after.requests - before.requests))


def _zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _running(p: Point) -> float:
    return p.running


def _starting(p: Point) -> float:
    return _zero(p.starting)


def _draining(p: Point) -> float:
    return _zero(p.draining)
