"""Who changed what leadtime may do: pauses, annotations, settings. Kept until the journal takes them.

Pure but for the clock it is given. No secret is told, a token by the setting that names its file. Not for what
leadtime itself decides: that is the rest of the journal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from autoscaler.common.fields import mapping, mappings

_KEPT = 1000
"""Records that wait for a journal that cannot be written; the oldest go first, and their number is told."""
_MOST_CHARACTERS = 200
"""Of one value: annotations can be long."""


class Audit:
    """Records in the order in which they were noted."""

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
        """All that wait; they wait no longer."""
        if not self._waiting:
            return []
        taken = list(self._waiting)
        self._waiting.clear()
        if self._lost:
            taken[0]["lost_before"] = self._lost
            self._lost = 0
        return taken


def writer_of(obj: Mapping[str, Any], *path: str) -> dict[str, str]:
    """The field manager that wrote a field last, and when, by the object's managedFields; empty: they do not say.

    `path` is that of the field, as in `metadata`, `annotations`, `leadtime.dev/paused`. The Kubernetes user is not in
    an object: the API server's own audit log has it, by this time and object.
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
