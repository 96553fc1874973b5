"""How commands write: the one way out to a terminal (`say`, `say_json`, `console`), times, numbers and tables.

Whatever is printed passes through here, since names, reasons and errors are others' text and can hold what rewrites a
screen (escaping.py). Not for what is said (explain.py).
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from autoscaler.common.errors import InputError
from autoscaler.common.escaping import for_terminal, in_json
from autoscaler.common.redaction import blank

if TYPE_CHECKING:
    from rich.console import Console

_FIRST_EPOCH_S = 1e8
"""Times below this count from a scenario's start; above it they are seconds since 1970 (this is in 1973)."""


class _Loudness:
    """How much is written on stderr beside errors, for the one command of this process."""

    def __init__(self) -> None:
        self._quiet = self._verbose = False

    def choose(self, *, quiet: bool, verbose: bool) -> None:
        self._quiet, self._verbose = quiet, verbose

    def is_quiet(self) -> bool:
        """No progress, and of logs only warnings and errors."""
        return self._quiet

    def is_verbose(self) -> bool:
        """Tracebacks, and logs of other libraries too."""
        return self._verbose


loudness = _Loudness()

# ---------------------------------------------------------------- the way out


def say(*lines: str, to: TextIO | None = None) -> None:
    """Each text as one line on stdout (or `to`): no text makes two lines, or moves the cursor."""
    out = sys.stdout if to is None else to
    out.write("".join(f"{for_terminal(blank(line))}\n" for line in lines))


def warn(*lines: str) -> None:
    """As `say`, on stderr."""
    say(*lines, to=sys.stderr)


def say_block(text: str, to: TextIO | None = None) -> None:
    """Text of several lines (YAML, a traceback): line breaks and tabs stay, all else as `say`."""
    out = sys.stdout if to is None else to
    out.write(for_terminal(blank(text), keep="\n\t"))


def say_json(text: str) -> None:
    """A JSON document and a line break."""
    sys.stdout.write(f"{in_json(blank(text))}\n")


def console(**options: Any) -> Console:
    """A rich console for tables: it takes no text for markup, and shows none that is not printable as it is."""
    from rich.console import Console
    from rich.text import Text

    class Escaping(Console):
        def render_str(self, text: str, **kinds: Any) -> Text:
            return super().render_str(for_terminal(blank(text), keep="\n\t"), **kinds)

    return Escaping(**{"highlight": False, "markup": False, "emoji": False, **options})


# ---------------------------------------------------------------- figures


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
