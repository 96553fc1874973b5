"""The report's last part: what each policy cost, and what users got for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simulator.experiments.league import Run, Summary
from simulator.report import text as text

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


@dataclass(frozen=True, slots=True)
class BillRow:
    """One policy; `spread` is half the 95 % interval of its cost, "" with one seed; `cells` come after the cost."""

    name: str
    note: str
    own: bool
    cost: str
    spread: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bill:
    """Two lines of head for each column after the policy's name, and a row for each policy."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[BillRow, ...]


def bill(rows: Sequence[Summary], runs: Sequence[Run]) -> Bill:
    """Means over the seeds."""
    static = next((r.cost_usd for r in rows if r.policy == "static"), None)
    return Bill(_COLUMNS, tuple(_row(row, [r for r in runs if r.job.policy == row.policy], static) for row in rows))


def _row(row: Summary, runs: Sequence[Run], static: float | None) -> BillRow:
    def mean(*path: str) -> float | None:
        values = [_dig(r.document, path) for r in runs]
        known = [v for v in values if v is not None]
        return sum(known) / len(known) if known else None

    spread = "" if row.cost_usd_ci95 is None else f"{(row.cost_usd_ci95[1] - row.cost_usd_ci95[0]) / 2:,.2f}"
    against = row.cost_usd / static - 1 if static and row.cost_usd is not None and row.policy != "static" else None
    busy, waste = mean("gpu_utilization_fraction"), mean("prewarm_wasted_node_s")
    tokens = mean("cost_usd_per_million_tokens")
    notes = ["not attainable"] if row.clairvoyant else []
    notes += [] if row.reaches_target else [text.verdict(row, runs[0])]
    return BillRow(
        name=text.display_name(row.policy),
        note=", ".join(notes),
        own=row.policy == "predictive",
        cost=f"{row.cost_usd:,.2f}" if row.cost_usd is not None else "?",
        spread=spread,
        cells=(
            text.change(against),
            f"{mean('gpu_hours', 'billed') or 0:,.1f}",
            "?" if busy is None else f"{100 * busy:.0f}{text.NARROW}%",
            f"{waste / 3600:.2f}" if waste else "–",
            "?" if tokens is None else f"{tokens:.3g}",
            text.percent(row.slo_attainment_fraction),
            text.seconds(mean("ttft_s", "p99")),
            f"{mean('cold_starts_hidden') or 0:.0f} / {mean('cold_starts_exposed') or 0:.0f}",
            f"{mean('scale_ups') or 0:.0f} / {mean('scale_downs') or 0:.0f}",
        ),
    )


def _dig(document: dict[str, Any], path: tuple[str, ...]) -> float | None:
    value: Any = document
    for name in path:
        value = value[name]
    return None if value is None else float(value)
