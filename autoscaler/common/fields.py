"""Reading fields of objects that others write: what is missing or of another type reads as empty, never as an error.

What is read here can be kept, sent and written: numbers are finite and in their range, text is text that UTF-8 can
hold and of a sane length. What is not reads as unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

MOST_COUNT = 1_000_000
"""No fleet has more replicas, GPUs or nodes: a larger count is somebody's mistake, hence unknown."""
MOST_NUMBER = 1e15
"""No gauge, counter or sum gets that far; sums of such numbers are still exact enough, and finite."""
LONGEST_NAME, LONGEST_TEXT = 500, 2000
_NOT_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_NOT_NAME = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
REPLACED = "\ufffd"
"""Stands where a character was that is none."""


def mapping(obj: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = obj.get(key)
    return value if isinstance(value, Mapping) else {}


def mappings(obj: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The mappings in a list."""
    value = obj.get(key)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def text(obj: Mapping[str, Any], key: str) -> str:
    value = obj.get(key)
    return value if isinstance(value, str) else ""


def whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def count(value: Any, most: int = MOST_COUNT) -> int | None:
    """A whole number from 0 to `most`; None for what is none (true and 1.0 are none)."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most else None


def number(value: Any, lowest: float = 0.0, highest: float = MOST_NUMBER) -> float | None:
    """A number within the bounds, hence finite; None for what is none (true and "1" are none)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
        return None
    return float(value)


def clean(words: str, longest: int = LONGEST_TEXT) -> str:
    """Text that can be written anywhere: no halves of a surrogate pair, no control characters, not absurdly long."""
    if len(words) > longest:
        words = words[: longest - 3] + "..."
    return words if words.isprintable() else _NOT_TEXT.sub(REPLACED, words)


def identifier(value: Any) -> str | None:
    """An id that others gave; None for what is none: not text, empty, too long, or not to be written in UTF-8."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME:
        return None
    return value if value.isprintable() or not _NOT_NAME.search(value) else None


def without_surrogates(document: Any) -> Any:
    """A JSON value whose texts, keys too, can be written in UTF-8. Errors: RecursionError when it is too deep."""
    if isinstance(document, str):
        return _SURROGATE.sub(REPLACED, document)
    if isinstance(document, list):
        return [without_surrogates(one) for one in document]
    if isinstance(document, dict):
        return {_SURROGATE.sub(REPLACED, key): without_surrogates(one) for key, one in document.items()}
    return document


def quantity(value: Any) -> float | None:
    """A Kubernetes quantity that counts things: 8, "8", "500m"; None for what is no such number."""
    if isinstance(value, bool):
        return None
    written = str(value)
    try:
        read = float(written[:-1]) / 1000.0 if written.endswith("m") else float(written)
    except ValueError:
        return None
    return read if 0.0 <= read <= MOST_COUNT else None


def time_s(value: Any) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; None for what is none."""
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    try:
        return at.timestamp() if at.tzinfo is not None else None
    except (OverflowError, OSError, ValueError):  # a year that the zone pushes out of the calendar
        return None
