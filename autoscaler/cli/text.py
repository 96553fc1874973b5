"""How commands write times, numbers and tables for people. Not for JSON, and not for what is said (explain.py)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from datetime import UTC, datetime

from autoscaler.errors import InputError

_FIRST_EPOCH_S = 1e8
"""Times below this count from a scenario's start; above it they are seconds since 1970 (this is in 1973)."""


def moment(at_s: float) -> str:
    """`2026-01-31T12:00:05Z`, or `600 s` for a time that counts from a scenario's start."""
    if at_s < _FIRST_EPOCH_S:
        return f"{at_s:g} s"
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_moment(text: str, option: str) -> float:
    """Seconds, or an RFC 3339 time (UTC when it names no zone). Errors: InputError naming the option."""
    with contextlib.suppress(ValueError):
        if math.isfinite(at_s := float(text)):
            return at_s
    with contextlib.suppress(ValueError):
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    allowed = "seconds (since 1970, or since a scenario's start) or a time like 2026-01-31T12:00:05Z"
    raise InputError(f"{option}: {text!r}; allowed: {allowed}")


def number(value: float | None, unit: str = "") -> str:
    """Three figures with the unit; `?` for unknown."""
    if value is None:
        return "?"
    return f"{value:.3g}{unit}" if abs(value) < 1000 else f"{value:.0f}{unit}"


def counted(count: int, what: str) -> str:
    """`1 tick`, `2 ticks`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def percent(fraction: float | None) -> str:
    """`99.2 %`; `?` for unknown."""
    return "?" if fraction is None else f"{100 * fraction:.3g} %"


def span(seconds: float | None) -> str:
    """`45 s`, `12 min`, `3.5 h`; `?` for unknown."""
    if seconds is None:
        return "?"
    if abs(seconds) < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if abs(seconds) < 6000 else f"{seconds / 3600:.1f} h"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns, two spaces apart; the last one is as long as it is."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
