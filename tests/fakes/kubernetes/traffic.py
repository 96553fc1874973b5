"""What went over the wire, and what should go wrong on it: the request log and the faults of the fake API server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Request:
    """One request as it arrived; `status` is the answer's code, None while it is under way or when none was given."""

    at_s: float
    """Monotonic."""
    user: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    verb: str = ""
    """Kubernetes' word: get, list, watch, create, update, patch, delete."""
    group: str = ""
    resource: str = ""
    """With its subresource."""
    namespace: str = ""
    name: str = ""
    body: Any = None
    """Decoded JSON, raw bytes where it is none."""
    status: int | None = None

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "")

    @property
    def writes(self) -> bool:
        return self.verb in ("create", "update", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Fault:
    """What to do to a request instead of, or besides, answering it."""

    status: int | None = None
    """Answer this at once; with `text` as plain text, else as a Status."""
    text: str | None = None
    retry_after_s: int | None = None
    delay_s: float = 0.0
    """Wait before anything else."""
    drop: bool = False
    """Close the connection without an answer; nothing happens."""
    drop_after: bool = False
    """Do what was asked, then close the connection without an answer."""
    hang: bool = False
    """Never answer."""
    cut_after_events: int | None = None
    """Of a watch: close the connection after so many events."""


Hook = Callable[[Request], Fault | None]


def when(
    verb: str | None = None,
    resource: str | None = None,
    *,
    fault: Fault,
    times: int | None = None,
    user: str | None = None,
) -> Hook:
    """A hook for requests of a verb, resource and user (None = any), for the first `times` of them."""
    left = [times]

    def hook(request: Request) -> Fault | None:
        wanted = ((verb, request.verb), (resource, request.resource), (user, request.user))
        if any(want is not None and want != given for want, given in wanted):
            return None
        if left[0] is not None:
            if left[0] <= 0:
                return None
            left[0] -= 1
        return fault

    return hook


@dataclass(slots=True)
class Traffic:
    """The log, oldest first."""

    requests: list[Request] = field(default_factory=list)
    hooks: list[Hook] = field(default_factory=list)

    def fault_for(self, request: Request) -> Fault:
        for hook in list(self.hooks):
            fault = hook(request)
            if fault is not None:
                return fault
        return Fault()

    def of(self, verb: str | None = None, resource: str | None = None, user: str | None = None) -> list[Request]:
        return [
            r
            for r in list(self.requests)
            if (verb is None or r.verb == verb)
            and (resource is None or r.resource == resource)
            and (user is None or r.user == user)
        ]

    def writes(self, *but: str) -> list[Request]:
        """Everything that would change an object, except of the resources `but`."""
        return [r for r in list(self.requests) if r.writes and r.resource not in but]
