"""Reading fields of objects that others write: what is missing or of another type reads as empty, never as an error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any


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


def quantity(value: Any) -> float | None:
    """A Kubernetes quantity that counts things: 8, "8", "500m"; None for what is no such number."""
    if isinstance(value, bool):
        return None
    written = str(value)
    try:
        number = float(written[:-1]) / 1000.0 if written.endswith("m") else float(written)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def time_s(value: Any) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; None for what is none."""
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return at.timestamp() if at.tzinfo is not None else None
