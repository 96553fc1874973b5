"""The text of a trace file as CSV with times in seconds, however it was written. For readers of traces.py only.

A file of JSON Lines (by its name: .jsonl, .ndjson, also .gz) becomes CSV; ISO 8601 times become seconds since 1970.
A cell that cannot be turned is left as it is, so that the reader names it with its row.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autoscaler.common.errors import TraceError
from autoscaler.common.safe_files import read_maybe_packed

EPOCH_FROM_S = 1e8
"""From here on (1973) a time counts from 1970: no trace counts three years from a zero of its own."""
TIME = "timestamp_s"
_OTHER_TIMES = ("timestamp", "time")
"""Names of the same column that exports give it."""
_LINES = (".jsonl", ".ndjson")
_ISO = re.compile(r"\s*\d{4}-\d\d-\d\d[T ]")


def is_lines(path: Path) -> bool:
    """Whether the file is JSON Lines, by its name."""
    return path.name.removesuffix(".gz").endswith(_LINES)


def read_text(path: Path) -> str:
    """The file as CSV with a header. Errors: TraceError."""
    try:
        text = read_maybe_packed(path).decode("utf-8-sig")
    except FileNotFoundError:
        raise TraceError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: cannot be read: {error}") from error
    return _in_seconds(_from_lines(path, text) if is_lines(path) else text)


def row_number(path: Path, line: int) -> int:
    """The row to name for a line of the CSV: JSON Lines have no header."""
    return line - 1 if is_lines(path) else line


def shown_time(time_s: float) -> str:
    """A trace's time for a reader: a date where it counts from 1970, else seconds."""
    if time_s < EPOCH_FROM_S:
        return f"{time_s:,.10g} s"
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


# ---------------------------------------------------------------- JSON Lines


def _from_lines(path: Path, text: str) -> str:
    """CSV with a line for each line of the file; the columns are the keys of the first row."""
    names: list[str] = []
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            lines.append("")
            continue
        row = _object(path, number, line)
        names = names or list(row)
        strange = [name for name in row if name not in names]
        if strange:
            raise TraceError(f"{path}: row {number}: key {strange[0]!r}, which the first row does not have")
        lines.append(",".join(_cell(row.get(name)) for name in names))
    return "\n".join([",".join(names), *lines]) + "\n" if names else ""


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise TraceError(f"{path}: row {number}: not JSON; allowed: one JSON object a line") from None
    if not isinstance(row, dict) or not row:
        raise TraceError(f"{path}: row {number}: allowed: one JSON object a line, such as {{{TIME!r}: 0, ..}}")
    return row


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    return value if isinstance(value, str) and not set(value) & set(',"\n\r') else json.dumps(value)


# ---------------------------------------------------------------- times


def _in_seconds(text: str) -> str:
    """The text with the time's column named `timestamp_s` and ISO times in it turned into seconds since 1970."""
    head, newline, rest = text.partition("\n")
    names = [name.strip() for name in head.strip().split(",")]
    if TIME not in names:
        known = next((name for name in _OTHER_TIMES if name in names), None)
        if known is None:
            return text
        names[names.index(known)] = TIME
        head = ",".join(names)
    at = names.index(TIME)
    first = next((line for line in _some(rest) if line.strip()), "")
    cells = first.split(",")
    if len(cells) <= at or not _ISO.match(cells[at]):
        return head + newline + rest
    return head + newline + "".join(_turned(line, at) for line in rest.splitlines(keepends=True))


def _some(text: str) -> Iterator[str]:
    """The lines of a text, one by one."""
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield text[start:end]
        start = end + 1


def _turned(line: str, at: int) -> str:
    cells = line.split(",")
    if len(cells) <= at or not cells[at].strip():
        return line
    try:
        time = datetime.fromisoformat(cells[at].strip())
    except ValueError:
        return line
    tail = "\n" if at == len(cells) - 1 and line.endswith("\n") else ""
    cells[at] = repr((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()) + tail
    return ",".join(cells)
