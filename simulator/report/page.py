"""The report: one HTML file that needs nothing else, readable on a phone, in the dark and on paper.

Order: a sentence, cost against misses, the day under each policy, the bill. Made of results only.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from autoscaler import __version__
from simulator.league import League, Run, Summary
from simulator.report import svg as draw
from simulator.report import text as text
from simulator.report.course import course
from simulator.report.pareto import pareto
from simulator.report.style import STYLE
from simulator.report.table import row_starts, strips_table
from simulator.timeline import Strip

_MISS_BINS = 180
_MOST_STRIPS = 8


def render(league: League, command: str) -> str:
    """The page of a league, or of a single run."""
    scenarios = list(dict.fromkeys(r.job.scenario for r in league.runs))
    sections = [_scenario(league, reference, first=i == 0) for i, reference in enumerate(scenarios)]
    title = escape(", ".join(dict.fromkeys(s.scenario for s in league.summaries)))
    warnings = "".join(f'<p class="warn">▲ {escape(w)}</p>' for w in league.warnings)
    seeds = sorted({r.job.seed for r in league.runs})
    notes = dict.fromkeys(f"{n}." for r in league.runs for n in r.document.get("notes", ()))
    noted = f"<p><b>Notes</b> {escape(' '.join(notes))}</p>" if notes else ""
    spread = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>leadtime: {title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><main>{warnings}{''.join(sections)}"
        f"<footer><p><b>Reproduce</b> <code>{escape(command)}</code></p>"
        f"{noted}<p><b>Seeds</b> {spread}; every policy meets the same traffic and the same provisioning luck.</p>"
        f"<p><b>leadtime</b> {escape(__version__)}. Simulated, not measured.</p></footer></main></body></html>\n"
    )


def _scenario(league: League, reference: str, first: bool) -> str:
    runs = [r for r in league.runs if r.job.scenario == reference]
    name = runs[0].document["scenario"]
    rows = [s for s in league.summaries if s.scenario == name]
    policies = [r for r in runs if r.job.seed == runs[0].job.seed]
    title, sentence = text.headline(rows, runs[0])
    level = "h1" if first else "h2"
    what = f"scenario {name}: {text.span(runs[0].document['duration_s'])}, {len(rows)} "
    what += f"{'policy' if len(rows) == 1 else 'policies'}, {rows[0].seeds} seed{'s' if rows[0].seeds > 1 else ''}"
    parts = [
        f'<header><p class="meta">leadtime {"compare" if len(rows) > 1 else "simulate"}, {escape(what)}</p>',
        f'<{level} class="title">{escape(title)}</{level}><p class="sentence">{escape(sentence)}</p></header>',
        pareto(rows, runs) if len(rows) > 1 else "",
        _strips(rows, policies),
        _bill(rows, runs),
    ]
    return f"<article>{''.join(parts)}</article>"


# ---------------------------------------------------------------- the day under each policy


def _strips(rows: Sequence[Summary], runs: Sequence[Run]) -> str:
    keys = list(runs[0].strips)[:_MOST_STRIPS]
    if not keys:
        return ""
    tops = {key: _top(key, runs) for key in keys}
    blocks = []
    for key in keys:
        if len(keys) > 1:
            blocks.append(f"<h4>{escape(key)}</h4>")
        for row in rows:
            run = next(r for r in runs if r.job.policy == row.policy)
            blocks.append(_strip(key, row, run, tops[key]))
    end_s = runs[0].document["duration_s"]
    starts = [_clock(t, end_s) for t in row_starts(end_s)]
    tables = [
        (f"<h4>{escape(key)}</h4>" if len(keys) > 1 else "") + strips_table(key, rows, runs, starts) for key in keys
    ]
    clock = "".join(
        draw.words(_clock(end_s * i / 4, end_s), 25.0 * i if i < 4 else None, 0.0, f"tick t{i}", right=0.0)
        for i in range(5)
    )
    most = ", ".join(f"0 to {tops[k]:.3g} req/s" + (f" ({k})" if len(keys) > 1 else "") for k in keys)
    legend = (
        '<b>Black</b> is traffic, <b class="grey">grey</b> what the running replicas can carry, '
        '<b class="bad">red</b> the share of requests that missed. Below: <i class="ring"></i> a cold start hidden '
        f'from users, <i class="square"></i> one they felt. Every strip: {escape(most)}, seed {runs[0].job.seed}.'
    )
    title = "The time under each policy" if len(rows) > 1 else "The time"
    return (
        f'<section><h3>{title}</h3><p class="caption">{legend}</p>'
        f'{"".join(blocks)}<div class="strip clock"><div></div><div class="plot">{clock}</div><div></div></div>'
        f"{''.join(tables)}</section>"
    )


def _top(key: str, runs: Sequence[Run]) -> float:
    """One y for all strips of a deployment: the most that traffic or capacity reaches, capacity cut a bit above."""
    traffic = max((max(r.strips[key].arrivals_rps, default=0.0) for r in runs), default=0.0)
    carried = max((_capacity(r, key) * max(r.strips[key].running, default=0) for r in runs), default=0.0)
    return draw.nice_ticks(0, max(traffic, min(carried, 1.3 * traffic), 1e-9))[-1]


def _capacity(run: Run, key: str) -> float:
    return run.capacities_rps.get(key) or 0.0


def _strip(key: str, row: Summary, run: Run, top: float) -> str:
    strip: Strip = run.strips[key]
    document = run.document["deployments"][key]
    end_s = run.document["duration_s"]
    x, y = draw.Scale(0, end_s), draw.Scale(0, top, flip=True)
    carried = [_capacity(run, key) * n for n in strip.running]
    capacity = [(x(t), y(v)) for t, v in draw.steps(draw.thin(strip.time_s, carried))]
    traffic = [(x(t), y(v)) for t, v in draw.thin(strip.time_s, strip.arrivals_rps)]
    shapes = [draw.area(capacity, 1000, "carry"), draw.line(capacity, "carry-line")]
    shapes += _miss_bars(strip, end_s)
    shapes.append(draw.line(traffic, "traffic"))
    marks = "".join(
        f'<i class="{"square" if kind == "exposed" else "ring"}" style="left:{min(t / end_s, 1) * 100:.2f}%"></i>'
        for t, kind in run.starts.get(key, ())
        if kind != "cancelled"
    )
    hidden, exposed = document["cold_starts_hidden"], document["cold_starts_exposed"]
    missed = document["slo_attainment_fraction"]
    name = text.display_name(row.policy)
    label = f"{name}: {exposed} cold starts felt by users, {hidden} hidden"
    felt = f'<b class="{"bad" if exposed else "ink"}">{exposed} exposed</b>, {hidden} hidden'
    cancelled = document["cold_starts_cancelled"]
    felt += f"<br>of {document['replica_starts']} cold starts" + (f", {cancelled} cancelled" if cancelled else "")
    cost = text.dollars(run.document["cost_usd"])
    figures = f"{text.percent(None if missed is None else 1 - missed)} miss"
    if len(run.targets) > 1:
        figures = f"{cost} in all, {figures} ({text.share(1 - run.targets[key])} may)"
    else:
        figures = f"{cost}, {figures}"
    return (
        f'<div class="strip"><div class="who"><b>{escape(name)}</b><span>{escape(figures)}</span></div>'
        f'<div><div class="plot day">{draw.svg(shapes, label)}</div><div class="marks">{marks}</div></div>'
        f'<div class="felt">{felt}</div></div>{course(strip, end_s, name, _clock)}'
    )


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


# ---------------------------------------------------------------- the bill

_COLUMNS = (
    ("cost", "USD"),
    ("against", "static"),
    ("GPU hours", "billed"),
    ("busy", "of billed"),
    ("pre-warm", "unused, node h"),
    ("USD a million", "tokens"),
    ("SLO", "attained"),
    ("TTFT p99", "s"),
    ("cold starts", "hidden / exposed"),
    ("scale", "ups / downs"),
)


def _bill(rows: Sequence[Summary], runs: Sequence[Run]) -> str:
    static = next((r.cost_usd for r in rows if r.policy == "static"), None)
    head = "".join(f'<th scope="col">{escape(a)}<br>{escape(b)}</th>' for a, b in _COLUMNS)
    body = "".join(_bill_row(row, [r for r in runs if r.job.policy == row.policy], static) for row in rows)
    return (
        '<section><h3>The bill</h3><div class="scroll"><table><thead><tr><th scope="col">Policy</th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _bill_row(row: Summary, runs: Sequence[Run], static: float | None) -> str:
    def mean(*path: str) -> float | None:
        values = [_dig(r.document, path) for r in runs]
        known = [v for v in values if v is not None]
        return sum(known) / len(known) if known else None

    cost = f"{row.cost_usd:,.2f}" if row.cost_usd is not None else "?"
    if row.cost_usd_ci95 is not None:
        cost += f' <span class="soft">± {(row.cost_usd_ci95[1] - row.cost_usd_ci95[0]) / 2:,.2f}</span>'
    against = row.cost_usd / static - 1 if static and row.cost_usd is not None and row.policy != "static" else None
    busy, waste = mean("gpu_utilization_fraction"), mean("prewarm_wasted_node_s")
    tokens = mean("cost_usd_per_million_tokens")
    cells = (
        cost,
        text.change(against),
        f"{mean('gpu_hours', 'billed') or 0:,.1f}",
        "?" if busy is None else f"{100 * busy:.0f}{text.NARROW}%",
        f"{waste / 3600:.2f}" if waste else "–",
        "?" if tokens is None else f"{tokens:.3g}",
        text.percent(row.slo_attainment_fraction),
        text.seconds(mean("ttft_s", "p99")),
        f"{mean('cold_starts_hidden') or 0:.0f} / {mean('cold_starts_exposed') or 0:.0f}",
        f"{mean('scale_ups') or 0:.0f} / {mean('scale_downs') or 0:.0f}",
    )
    note = "not attainable" if row.clairvoyant else ""
    note = note if row.reaches_target else f"{note}{', ' if note else ''}{escape(text.verdict(row, runs[0]))}"
    own = ' class="own"' if row.policy == "predictive" else ""
    name = f'{escape(text.display_name(row.policy))} <span class="soft">{note}</span>'
    return f'<tr{own}><th scope="row">{name}</th>{"".join(f"<td>{c}</td>" for c in cells)}</tr>'


def _dig(document: dict[str, Any], path: tuple[str, ...]) -> float | None:
    value: Any = document
    for name in path:
        value = value[name]
    return None if value is None else float(value)
