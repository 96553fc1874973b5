"""Pictures of pages and reports as hand-made SVG in percent space: they fit any width without script or library.

A plot is a box with an SVG of 1000 x 1000 units stretched over it; all words are HTML, placed by per cent. Nothing here
knows what a policy is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

_UNITS = 1000


@dataclass(frozen=True, slots=True)
class Scale:
    """Values to units, linear or logarithmic; `flip`: large values are at the top (0)."""

    low: float
    high: float
    log: bool = False
    flip: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(max(value, low)), math.log(low), math.log(high)
        share = (value - low) / (high - low) if high > low else 0.5
        share = min(max(share, 0.0), 1.0)
        return (1 - share if self.flip else share) * _UNITS


def nice_ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers that cover [low, high]: the first at or below `low`, the last at or above `high`."""
    span = max(high - low, abs(high) * 1e-6, 1e-9)
    raw = span / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def svg(parts: Iterable[str], label: str) -> str:
    """A plot that says in words what it shows."""
    body = "".join(parts)
    return (
        f'<svg viewBox="0 0 {_UNITS} {_UNITS}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label, quote=True)}">{body}</svg>'
    )


def line(points: Sequence[tuple[float, float]], kind: str) -> str:
    """A polyline of class `kind`."""
    if not points:
        return ""
    return f'<path class="{kind}" d="M{_path(points)}"/>'


def area(points: Sequence[tuple[float, float]], base: float, kind: str) -> str:
    """A polyline with everything between it and `base` filled."""
    if not points:
        return ""
    first, last = points[0][0], points[-1][0]
    return f'<path class="{kind}" d="M{_n(first)} {_n(base)}L{_path(points)}L{_n(last)} {_n(base)}Z"/>'


def band(lower: Sequence[tuple[float, float]], upper: Sequence[tuple[float, float]], kind: str) -> str:
    """What lies between two polylines."""
    return f'<path class="{kind}" d="M{_path(upper)}L{_path(lower[::-1])}Z"/>' if lower and upper else ""


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{_n(x)} {_n(y)}" for x, y in points)


def _n(value: float) -> str:
    return str(round(value))


def rule(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<path class="{kind}" d="M{_n(x1)} {_n(y1)}L{_n(x2)} {_n(y2)}"/>'


def dot(x: float, y: float, kind: str) -> str:
    """A round dot (a line of no length with round ends, so that stretching leaves it round)."""
    return f'<path class="{kind}" d="M{_n(x)} {_n(y)}h0"/>'


def box(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<path class="{kind}" d="M{_n(x1)} {_n(y1)}H{_n(x2)}V{_n(y2)}H{_n(x1)}Z"/>'


def steps(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A polyline that keeps each value until the next time."""
    stepped: list[tuple[float, float]] = []
    for i, (x, y) in enumerate(points):
        if i:
            stepped.append((x, points[i - 1][1]))
        stepped.append((x, y))
    return stepped


def thin(xs: Sequence[float], ys: Sequence[float], most: int = 450) -> list[tuple[float, float]]:
    """At most about two points per column of the picture: each column's lowest and highest, in their order."""
    count = len(xs)
    if count <= 2 * most:
        return list(zip(xs, ys, strict=True))
    kept: list[int] = [0]
    for column in range(most):
        low, high = column * count // most, (column + 1) * count // most
        inside = range(low, high)
        kept += sorted({min(inside, key=ys.__getitem__), max(inside, key=ys.__getitem__)})
    kept.append(count - 1)
    return [(xs[i], ys[i]) for i in dict.fromkeys(kept)]


def bins(xs: Sequence[float], ys: Sequence[float], low: float, high: float, count: int) -> list[float]:
    """Sums of `ys` in equal bins of x over (low, high]."""
    sums = [0.0] * count
    for x, y in zip(xs, ys, strict=True):
        if y:
            at = math.ceil((x - low) / (high - low) * count - 1e-9) - 1
            sums[min(max(at, 0), count - 1)] += y
    return sums


@dataclass(frozen=True, slots=True)
class Words:
    """Text over a plot, of class `kind`, placed in per cent of its box by the CSS in `place`."""

    text: str
    kind: str
    place: str


def words(text: str, left: float | None, top: float, kind: str, right: float | None = None) -> Words:
    """Text that begins at `left`, else ends at `right`, both in per cent."""
    side = f"left:{left:.2f}%" if left is not None else f"right:{right:.2f}%"
    return Words(text, kind, f"{side};top:{top:.2f}%")
