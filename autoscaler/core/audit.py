"""Record of changes to what leadtime may do: pauses, annotations, settings. Kept until the journal has written them.

Pure but for the clock it is given. Secrets are never recorded; a token is named by the setting that holds its file.
Leadtime's own decisions are in the rest of the journal, not here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from autoscaler.common.fields import mapping, mappings

_KEPT = 1000
"""Most records that are kept while the journal cannot be written. The oldest are dropped, and their
number is recorded.
"""
_MOST_CHARACTERS = 200
"""Most characters of one value: annotations can be long."""


class Audit:
    """Pending records in the order in which they were noted."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._waiting: deque[dict[str, Any]] = deque()
        self._lost = 0

    def note(self, what: str, about: str, who: Mapping[str, str], before: Any, after: Any) -> None:
        """`what`: pause, annotations or settings; `about`: the object, the file or the key that was changed.

        `who` holds what is known of the author: `manager` and `written_at` (of a Kubernetes object), `peer` and `token`
        (of a request). `before` and `after` are plain data; None: unknown.
        """
        if len(self._waiting) == _KEPT:
            self._waiting.popleft()
            self._lost += 1
        record = {"kind": "audit", "at_s": self._now_s(), "what": what, "about": about, "who": dict(who)}
        self._waiting.append(_short({**record, "before": before, "after": after}))

    def take(self) -> list[dict[str, Any]]:
        """Return and clear all pending records."""
        if not self._waiting:
            return []
        taken = list(self._waiting)
        self._waiting.clear()
        if self._lost:
            taken[0]["lost_before"] = self._lost
            self._lost = 0
        return taken


def writer_of(obj: Mapping[str, Any], *path: str) -> dict[str, str]:
    """Field manager that last wrote a field, and when, from the object's managedFields; empty if they do not say.

    `path` leads to the field, as in `metadata`, `annotations`, `leadtime.dev/paused`. The Kubernetes user is not part
    of an object; the API server's own audit log has it, by this time and object.
    """
    best: tuple[str, str] | None = None
    for entry in mappings(mapping(obj, "metadata"), "managedFields"):
        fields: Any = entry.get("fieldsV1")
        for name in path:
            fields = fields.get(f"f:{name}") if isinstance(fields, Mapping) else None
        if fields is None:
            continue
        writer = (str(entry.get("time", "")), str(entry.get("manager", "")))
        best = writer if best is None else max(best, writer)
    return {} if best is None else {"manager": best[1], "written_at": best[0]}


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _MOST_CHARACTERS else f"{value[:_MOST_CHARACTERS]}…"
    if isinstance(value, Mapping):
        return {str(name): _short(one) for name, one in list(value.items())[:_MOST_CHARACTERS]}
    if isinstance(value, list | tuple):
        return [_short(one) for one in value[:_MOST_CHARACTERS]]
    return value
