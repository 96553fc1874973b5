"""The report's first picture: cost against misses, a dot for each policy, and the line that a target draws.

Where deployments have targets of their own there is a line for each: a dot counts all requests together, so it can be
left of every line and one deployment still miss. Who misses is said in the table below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from autoscaler.common import svg as draw
from simulator.experiments.league import Run, Summary
from simulator.report import text as text
from simulator.report.table import Table, pareto_table

_LEAST_MISSES = 1e-4
_LABEL, _LOWEST_LABEL = 50.0, 985.0
"""Of the plot's 1000: the room that a label takes, and where the last may stand."""


@dataclass(frozen=True, slots=True)
class Pareto:
    """The section; `several`: deployments have targets of their own to miss."""

    picture: Markup
    labels: tuple[draw.Words, ...]
    seeds: int
    several: bool
    table: Table


def pareto(rows: Sequence[Summary], runs: Sequence[Run]) -> Pareto | None:
    """The section; None where no cost is known."""
    known = [r for r in rows if r.cost_usd is not None and r.slo_attainment_fraction is not None]
    if not known:
        return None
    allowed = _allowed(runs[0].targets)
    misses = {r.policy: max(text.miss_fraction(r) or 0.0, _LEAST_MISSES) for r in known}
    high = max(*misses.values(), max(allowed) * 3, 0.03)
    x = draw.Scale(_LEAST_MISSES / 1.6, min(high * 1.5, 1.0), log=True)
    costs = [c for r in known for c in (r.cost_usd or 0.0, *_range(r, runs, "cost_usd"))]
    ticks = draw.nice_ticks(min(costs) * 0.96, max(costs) * 1.04)
    y = draw.Scale(ticks[0], ticks[-1], flip=True)
    strictest = min(allowed)
    shapes = [draw.box(0, 0, x(strictest), 1000, "region")] if strictest > _LEAST_MISSES else []
    shapes += [draw.rule(0, y(t), 1000, y(t), "grid") for t in ticks]
    shapes += [draw.rule(at, 0, at, 1000, "target") for at in (x(max(a, _LEAST_MISSES)) for a in allowed)]
    labels = [draw.words(text.dollars(t), None, y(t) / 10, "tick y", right=101.0) for t in ticks]
    labels += [draw.words(_share(v), x(v) / 10, 101.5, "tick x") for v in _miss_ticks(x)]
    labels += _target_labels(allowed, x)
    for row, top in _apart(known, y):
        own = row.policy == "predictive"
        at_x, at_y = x(misses[row.policy]), y(row.cost_usd or 0.0)
        shapes += _whiskers(row, runs, x, y, at_x, at_y)
        shapes.append(draw.dot(at_x, at_y, "dot own" if own else "dot"))
        name = text.display_name(row.policy) + (" (knows the traffic)" if row.clairvoyant else "")
        left = at_x < 700
        kind = f"label {'after' if left else 'ahead'}{' own' if own else ''}"
        labels.append(draw.words(name, at_x / 10 if left else None, top / 10, kind, right=100 - at_x / 10))
    said = "; ".join(
        f"{text.display_name(r.policy)} {text.dollars(r.cost_usd)} at {text.percent(text.miss_fraction(r))}"
        for r in known
    )
    return Pareto(
        picture=Markup(draw.svg(shapes, "Cost against misses: " + said)),
        labels=tuple(labels),
        seeds=rows[0].seeds,
        several=len(runs[0].targets) > 1,
        table=pareto_table(known, runs),
    )


def _allowed(targets: Mapping[str, float]) -> dict[float, list[str]]:
    """The shares that may miss, the strictest first, and whose they are."""
    whose: dict[float, list[str]] = {}
    for key, target in sorted(targets.items(), key=lambda item: -item[1]):
        whose.setdefault(1 - target, []).append(key)
    return whose


def _target_labels(allowed: Mapping[float, Sequence[str]], x: draw.Scale) -> list[draw.Words]:
    """Words at each line, one below the other."""
    labels = []
    for i, (share, keys) in enumerate(allowed.items()):
        said = f"target: {_share(share)} may miss"
        if len(allowed) > 1:
            said = f"{keys[0] if len(keys) == 1 else f'{len(keys)} deployments'}: {_share(share)} may miss"
        at, top = x(max(share, _LEAST_MISSES)) / 10, 1.0 + _LABEL / 10 * i
        left = None if at > 60 else at + 0.6
        labels.append(draw.words(said, left, top, "note", right=100.6 - at))
    return labels


def _range(row: Summary, runs: Sequence[Run], name: str) -> tuple[float, float] | tuple[()]:
    values = [r.document[name] for r in runs if r.job.policy == row.policy and r.document[name] is not None]
    return (min(values), max(values)) if len(values) > 1 else ()


def _whiskers(row: Summary, runs: Sequence[Run], x: draw.Scale, y: draw.Scale, at_x: float, at_y: float) -> list[str]:
    shapes = []
    costs = _range(row, runs, "cost_usd")
    shares = _range(row, runs, "slo_attainment_fraction")
    if costs:
        shapes.append(draw.rule(at_x, y(costs[0]), at_x, y(costs[1]), "whisker"))
    if shares:
        shapes.append(draw.rule(x(1 - shares[1]), at_y, x(1 - shares[0]), at_y, "whisker"))
    return shapes


def _apart(rows: Sequence[Summary], y: draw.Scale) -> list[tuple[Summary, float]]:
    """Where each label stands: at its dot, pushed down where the one above would touch it, and all of them up as far
    as the last would leave the picture.
    """
    ordered = sorted(rows, key=lambda r: y(r.cost_usd or 0.0))
    least = min(_LABEL, _LOWEST_LABEL / max(len(ordered) - 1, 1))
    tops: list[float] = []
    for row in ordered:
        tops.append(max(y(row.cost_usd or 0.0), tops[-1] + least if tops else 0.0))
    last = len(ordered) - 1
    return [(row, min(tops[i], _LOWEST_LABEL - (last - i) * least)) for i, row in enumerate(ordered)]


def _miss_ticks(x: draw.Scale) -> list[float]:
    return [v for v in (1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0) if v <= x.high * 1.001]


def _share(value: float) -> str:
    return f"{'≤ ' if value <= _LEAST_MISSES else ''}{100 * value:.3g}{text.NARROW}%"
