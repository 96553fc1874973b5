"""Numbers and sentences of the live page: three digits, units everywhere, unknown is "?", not applicable is "–"."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from markupsafe import Markup

UNKNOWN = "?"
NONE = "–"
_THIN = "\N{NARROW NO-BREAK SPACE}"


def number(value: float | None) -> str:
    """Three significant digits, never in scientific notation; unknown is "?"."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if abs(value) < 0.005:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{abs(value):,.{min(digits, 2)}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return f"\N{MINUS SIGN}{text}" if value < 0 else text


def rate(value: float | None) -> str:
    return f"{number(value)} req/s"


def percent(fraction: float | None, digits: int = 0) -> str:
    """`digits` after the point; nothing is rounded up to 100 % or down to 0 %."""
    if fraction is None or not math.isfinite(fraction):
        return UNKNOWN
    text = f"{100.0 * fraction:.{digits}f}"
    if fraction < 1.0 and float(text) >= 100.0:
        text = f"{100.0 - 10.0**-digits:.{digits}f}"
    if fraction > 0.0 and float(text) == 0.0:
        return f"<{_THIN}{10.0**-digits:.{digits}f}{_THIN}%"
    return f"{text}{_THIN}%"


def duration(seconds: float | None) -> str:
    """`42 s`, `4:50 min`, `1:05 h`."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def dollars(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"${value:,.2f}" if abs(value) < 10.0 else f"${value:,.0f}"


def plural(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def clock(time_s: float, seconds: bool = False) -> Markup:
    """A time of day, which the script turns into the reader's zone; without it UTC."""
    at = datetime.fromtimestamp(time_s, UTC)
    kind = "s" if seconds else "m"
    day, of_day = at.strftime("%Y-%m-%d %H:%M:%S").split()
    return Markup(f'<time datetime="{day}T{of_day}Z" data-{kind}>{of_day if seconds else of_day[:5]}</time>')


def change(before: int | None, after: int | None) -> str:
    """`4 → 7`, or the one number where both are the same."""
    if after is None or before == after:
        return UNKNOWN if before is None else f"{before}"
    return f"{UNKNOWN if before is None else before} → {after}"
