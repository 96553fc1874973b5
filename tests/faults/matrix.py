"""All rows of the matrix, in the table's order."""

from __future__ import annotations

import hashlib

from tests.faults import rows_dashboard, rows_elsewhere, rows_metrics, rows_process
from tests.faults.row import Row, Rows


def all_rows(seed: int = 0) -> dict[str, Row]:
    """Rows by name; another seed gives the same kinds of faults with other values."""
    rows = Rows()
    rows_dashboard.build(rows, seed)
    rows_metrics.build(rows, seed)
    rows_process.build(rows, seed)
    rows_elsewhere.build(rows, seed)
    return rows.found


_ALWAYS = frozenset(
    (
        "quiet night: with engine metrics",
        "journal: its last line is cut",
        "kubernetes: the API is away, and demand doubles",
    )
)


def in_every_run(name: str) -> bool:
    """The fixed part that `make test` plays: a tenth, and something of every topic."""
    return name in _ALWAYS or hashlib.sha256(name.encode()).digest()[0] < 26
