"""The wire of the Kubernetes API: a request in words, what answers mean, and the lines of a watch.

Apart from api.py so that meanings can be read, and tested, without a connection. Not for sending.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from autoscaler.common.errors import Conflict, Forbidden, LeadtimeError, NotFound, Rejected, Unavailable
from autoscaler.common.redaction import blank
from autoscaler.kubernetes.resources import Expired, Throttled, WatchEvent

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
CHUNK_BYTES = 1 << 16
MOST_BYTES = 256 << 20
_EVENT_TYPES = ("ADDED", "MODIFIED", "DELETED", "BOOKMARK")


class Answer(Protocol):
    """What is used of an HTTP answer whose body is still unread."""

    def stream(self, amt: int) -> Iterator[bytes]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Call:
    """One request, ready to send."""

    verb: str
    method: str
    what: str
    """For messages: `rayservices llm/chat-llm`."""
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = JSON

    def __str__(self) -> str:
        return f"kubernetes: {self.verb} {self.what}"


class WatchStream:
    """The lines of one watch, read on one thread and closed from another."""

    def __init__(self, call: Call, opened: Callable[[], Answer]) -> None:
        self._call, self._opened = call, opened
        self._response: Answer | None = None
        self._chunks: Any = None
        self._rest = b""
        self._closed = False

    def next_batch(self) -> tuple[WatchEvent, ...] | None:
        """Blocks until something was said; None when the watch has ended. The first one is empty: the watch stands."""
        if self._response is None:
            self._response = self._opened()
            self._chunks = self._response.stream(CHUNK_BYTES)
            return ()
        while not self._closed:
            try:
                with wrapped(self._call):
                    chunk = next(self._chunks, None)
            except Unavailable:
                if self._closed:
                    return None
                raise
            if chunk is None:
                return None
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            if len(self._rest) > MOST_BYTES:
                raise Unavailable(f"{self._call}: a line without an end")
            if events := tuple(_event(self._call, line) for line in lines if line.strip()):
                return events
        return None

    def close(self) -> None:
        """From any thread: wakes a reader that is blocked."""
        self._closed = True
        if self._response is None:
            return
        # Reading stops at once; then `release` closes the connection, which nobody may do under a blocked reader.
        with contextlib.suppress(Exception):
            shut = getattr(self._response, "shutdown", None) or self._response.close
            shut()

    def release(self) -> None:
        """On the reading thread, when nobody reads any more."""
        if self._response is not None:
            with contextlib.suppress(Exception):
                self._response.close()


def _event(call: Call, line: bytes) -> WatchEvent:
    said = decoded(call, line)
    kind, obj = said.get("type"), said.get("object")
    if not isinstance(obj, Mapping):
        raise Unavailable(f"{call}: a line that is no event")
    if kind == "ERROR":
        code = obj.get("code")
        raise refusal(call, code if isinstance(code, int) else 500, msgspec.json.encode(obj), None)
    if kind not in _EVENT_TYPES:
        raise Unavailable(f"{call}: an event of the unknown type {kind!r}")
    meta = obj.get("metadata")
    if not isinstance(meta, Mapping) or not meta.get("resourceVersion"):
        raise Unavailable(f"{call}: an event without a version")
    return WatchEvent(kind, obj)


# ---------------------------------------------------------------- errors


@contextlib.contextmanager
def wrapped(call: Call) -> Iterator[None]:
    """Errors of the HTTP client and of credentials become Unavailable, in one line."""
    try:
        yield
    except LeadtimeError:
        raise
    except Exception as error:
        raise Unavailable(f"{call}: {type(error).__name__}: {one_line(error)}") from None


def refusal(call: Call, status: int, raw: bytes, retry_after: str | None) -> LeadtimeError:
    """The error for an answer that is not 2xx."""
    said, details = _status_message(raw)
    message = f"{call}: {status} {said}"
    if status in (401, 403):
        return Forbidden(message)
    if status == 404:
        return NotFound(message)
    if status == 409:
        return Conflict(message)
    if status == 410:
        return Expired(message)
    if status == 429 or (status >= 500 and retry_after):
        seconds = retry_after if retry_after is not None else details.get("retryAfterSeconds")
        return Throttled(message, _seconds(seconds))
    if 400 <= status < 500:
        return Rejected(message)
    return Unavailable(message)


def _status_message(raw: bytes) -> tuple[str, Mapping[str, Any]]:
    try:
        status = msgspec.json.decode(raw)
        if isinstance(status, dict) and status.get("kind") == "Status":
            details = status.get("details")
            words = one_line(status.get("message") or status.get("reason") or "")
            return words, details if isinstance(details, Mapping) else {}
    except msgspec.DecodeError:
        pass
    return "(an answer that is no Kubernetes Status)", {}


def decoded(call: Call, raw: bytes) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        decoded = None
    if not isinstance(decoded, dict):
        raise Unavailable(f"{call}: an answer that is no JSON object")
    return decoded


def _seconds(value: object) -> float | None:
    try:
        return max(0.0, float(str(value)))
    except ValueError:
        return None


def one_line(error: object, most: int = 300) -> str:
    """What another program said, in one line without secrets."""
    text = " ".join(blank(str(error)).split())
    return text if len(text) <= most else text[: most - 3] + "..."
