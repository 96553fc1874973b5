"""Secrets that this process has read, and texts without them. Not for reading secrets.

Each reader of a token or password calls `remember`; whatever takes text from another program, or hands text out, calls
`blank`. A program that answers us may repeat what it was sent: a request's headers in an error page, a token in a
message. Blanking happens before text is shortened, since a piece of a secret is no longer recognised.

Recognised are the value itself and its percent-encoded, JSON-, Python- and HTML-escaped and base64 forms (at each of
base64's three alignments, so inside `Basic ...` too). Not recognised: a value that was cut, hashed, encrypted, or
spread over lines. Values of fewer than six characters are too common in ordinary words to be searched for.
"""

from __future__ import annotations

import base64
import html
import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

SHORTEST = 6
"""Characters that a secret must have to be searched for."""
MARK = "[secret]"
"""What stands in a text where a secret was."""
KEPT_S = 7200.0
"""Seconds for which a value is recognised after it was read last: a rotated token may still be on its way."""
_MOST_KEPT = 500


class Secrets:
    """Known secret values, for any thread. `clock_s` is monotonic."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._read_at_s: dict[str, float] = {}
        self._forms: tuple[str, ...] = ()
        self._forms_in_bytes: tuple[bytes, ...] = ()

    def remember(self, value: str) -> None:
        """Recognise a secret from now on; one that is read again is recognised for longer."""
        if len(value) < SHORTEST:
            return
        now_s = self._clock_s()
        with self._lock:
            known = value in self._read_at_s
            self._read_at_s.pop(value, None)
            self._read_at_s[value] = now_s  # the one that was read last stands last
            if known:
                return
            kept = [(one, at_s) for one, at_s in self._read_at_s.items() if now_s - at_s <= KEPT_S]
            self._read_at_s = dict(kept[-_MOST_KEPT:])
            forms = {form for one in self._read_at_s for form in forms_of(one)}
            self._forms = tuple(sorted(forms, key=len, reverse=True))  # the longest first: one may hold another
            self._forms_in_bytes = tuple(form.encode("utf-8", "surrogatepass") for form in self._forms)

    def forget(self) -> None:
        """Recognise nothing any more (for tests)."""
        with self._lock:
            self._read_at_s, self._forms, self._forms_in_bytes = {}, (), ()

    def blank(self, text: str) -> str:
        """The text with MARK in place of each known secret."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MARK)
        return text

    def blank_json(self, line: bytes, untouched: frozenset[str] = frozenset()) -> bytes:
        """A JSON document with MARK in place of known secrets in its texts; the bytes themselves where there are none.

        Keys stay, and so do the texts under keys in `untouched`: they are names, and a secret that was chosen to equal
        another's name must not remove that name from a page.
        """
        if not any(form in line for form in self._forms_in_bytes):
            return line
        ending = b"\n" if line.endswith(b"\n") else b""
        return json.dumps(self._blanked(json.loads(line), untouched), separators=(",", ":")).encode() + ending

    def _blanked(self, value: Any, untouched: frozenset[str]) -> Any:
        if isinstance(value, str):
            return self.blank(value)
        if isinstance(value, list):
            return [self._blanked(one, untouched) for one in value]
        if isinstance(value, dict):
            return {k: v if k in untouched else self._blanked(v, untouched) for k, v in value.items()}
        return value


def forms_of(value: str) -> Iterator[str]:
    """The texts as which a secret may be repeated, each of at least SHORTEST characters."""
    raw = value.encode("utf-8", "surrogateescape")
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]
    yield repr(raw)[2:-1]
    yield html.escape(value)
    for safe in ("", "/"):
        quoted = urllib.parse.quote(raw, safe=safe)
        yield from (quoted, _lower_escapes(quoted), quoted.replace("%20", "+"))
    yield from (form for form in _base64_forms(raw) if len(form) >= SHORTEST)


def _lower_escapes(quoted: str) -> str:
    first, *rest = quoted.split("%")
    return first + "".join(f"%{part[:2].lower()}{part[2:]}" for part in rest)


def _base64_forms(raw: bytes) -> Iterator[str]:
    """What does not depend on the bytes before and after it, for each number of bytes before it modulo 3."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw).decode()
        starts_at = (0, 2, 3)[before]  # characters that hold bits of what stands before
        whole = (before + len(raw)) * 8 // 6  # characters that hold bits of the value alone
        yield encoded[starts_at:whole]
        yield encoded[starts_at:whole].replace("+", "-").replace("/", "_")


_PROCESS = Secrets()
remember = _PROCESS.remember
forget = _PROCESS.forget
blank = _PROCESS.blank
blank_json = _PROCESS.blank_json
"""Of this process. One registry, since logs and tracebacks are the process's too."""
