"""Messages that announce demand: what a payload means, and the book of hints that are in force.

Pure: bytes in, hints out; time is an argument. It trusts nobody: whatever is malformed, over, too old or too much is
named and left out. The connection is mqtt_hints.py's.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Literal

import msgspec

from autoscaler.clients.mqtt import key_of
from autoscaler.common.errors import SourceError
from autoscaler.core.types import Hint
from policies.base import DeploymentKey
from policies.options import exact, percent_hint

MOST_BYTES = 16 * 1024
MOST_PER_DEPLOYMENT = 64
MOST_PER_NAMESPACE = 2000
MOST_HINTS = 10_000
MOST_IN_MESSAGE = MOST_PER_DEPLOYMENT
MOST_FIELDS = 32
MOST_WITHDRAWN_PER_NAMESPACE, MOST_WITHDRAWN = 32, 320
"""Deployments whose withdrawn hints are remembered."""
_LONGEST_FIELD = 40
"""A longer name is no slip of ours."""
MOST_RPS = 1e6
MOST_MULTIPLIER = 100.0
MOST_TOKENS = 1e7
_FARTHEST_S = 366 * 86400.0
"""A hint may begin so far ahead, and last so long."""
_LARGEST = 1e300
_CLOCK_S = 3600.0
"""How far ahead of ours a publisher's clock may be."""
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_KEYS = (
    "id", "start_at", "end_at", "rps", "multiplier", "prompt_tokens", "output_tokens", "confidence_fraction",
    "issued_at", "asked_by",
)  # fmt: skip

Result = Literal["accepted", "unchanged", "withdrawn", "malformed", "past", "outdated", "too_many", "evicted"]
RESULTS: tuple[Result, ...] = (
    "accepted",
    "unchanged",
    "withdrawn",
    "malformed",
    "past",
    "outdated",
    "too_many",
    "evicted",
)


@dataclass(frozen=True, slots=True)
class Announced:
    """A hint as it was sent; `issued_at_s` orders versions of one id, where the publisher says it."""

    hint: Hint
    issued_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a message, and why it was not taken (empty when it was)."""

    result: Result
    why: str = ""


@dataclass(slots=True)
class HintBook:
    """The hints in force, by deployment and id, from messages in the order in which they came.

    A namespace is what a publisher is trusted by, so each has a bound of its own; when the whole book is full, one that
    holds less than the fullest takes a slot from that one. What was withdrawn is remembered within the same bounds.
    """

    prefix: str
    _hints: dict[DeploymentKey, dict[str, Announced]] = field(default_factory=dict)
    _withdrawn: dict[DeploymentKey, dict[str, Announced]] = field(default_factory=dict)
    _counted: Counter[str] = field(default_factory=Counter)
    """Hints in force by namespace."""
    _swept_at_s: float = -math.inf

    def take(self, topic: str, payload: bytes, now_s: float) -> tuple[Taken, ...]:
        """Take a message in, a hint or a list of them; what came of each. Never raises."""
        key = key_of(self.prefix, "hints", topic)
        if key is None:
            wanted = f"{self.prefix}/hints/NAMESPACE/SERVICE/APP/DEPLOYMENT"
            return (Taken("malformed", f"the topic names no deployment; expected {wanted}"),)
        if not payload:
            return (self._withdraw(key),)
        self._forget_ended(now_s)
        try:
            said = _decoded(payload)
        except SourceError as error:
            return (Taken("malformed", str(error)),)
        listed = said if isinstance(said, list) else [said]
        taken = [one for part in listed[:MOST_IN_MESSAGE] for one in self._take_one(key, part, now_s)]
        if len(listed) > MOST_IN_MESSAGE:
            taken.append(Taken("too_many", f"{len(listed)} hints in one message; allowed: {MOST_IN_MESSAGE}"))
        return tuple(taken)

    def _take_one(self, key: DeploymentKey, said: object, now_s: float) -> tuple[Taken, ...]:
        try:
            announced = parse_hint(said, key, now_s)
        except SourceError as error:
            return (Taken("malformed", str(error)),)
        return (self._take_past(key, announced),) if announced.hint.end_at_s <= now_s else self._take(key, announced)

    def hints(self, now_s: float) -> tuple[Hint, ...]:
        """Those that are not over, by deployment, beginning and id."""
        self._forget_ended(now_s)
        found = [a.hint for of_key in self._hints.values() for a in of_key.values() if a.hint.end_at_s > now_s]
        return tuple(sorted(found, key=lambda h: (h.key, h.start_at_s, h.id)))

    def __len__(self) -> int:
        return self._counted.total()

    def _take(self, key: DeploymentKey, announced: Announced) -> tuple[Taken, ...]:
        hint = announced.hint
        gone = self._withdrawn.get(key, {}).get(hint.id)
        if gone is not None and not _newer(announced, gone):
            return (Taken("outdated", f"hint {hint.id!r} was withdrawn after this version of it"),)
        known = self._hints.get(key, {}).get(hint.id)
        if known is not None and announced == known:
            return (Taken("unchanged"),)
        if known is not None and _older(announced, known):
            return (Taken("outdated", f"a newer version of hint {hint.id!r} is known"),)
        evicted: tuple[Taken, ...] = ()
        if known is None:
            if (why := self._no_room(key)) is not None:
                return (Taken("too_many", why),)
            evicted = self._make_room()
            self._counted[key.namespace] += 1
        self._hints.setdefault(key, {})[hint.id] = announced
        self._forget_withdrawn(key, hint.id)
        return (Taken("accepted"), *evicted)

    def _no_room(self, key: DeploymentKey) -> str | None:
        """Why no further hint of this deployment can be kept."""
        if len(self._hints.get(key, ())) >= MOST_PER_DEPLOYMENT:
            return f"more than {MOST_PER_DEPLOYMENT} hints for {key}"
        if self._counted[key.namespace] >= MOST_PER_NAMESPACE:
            return f"more than {MOST_PER_NAMESPACE} hints for namespace {key.namespace}"
        if len(self) >= MOST_HINTS and self._counted[key.namespace] + 1 >= max(self._counted.values()):
            return f"more than {MOST_HINTS} hints in all, and no namespace holds more than {key.namespace}"
        return None

    def _make_room(self) -> tuple[Taken, ...]:
        """In a full book the fullest namespace gives up the hint that begins last."""
        if len(self) < MOST_HINTS:
            return ()
        fullest = max(self._counted, key=lambda name: self._counted[name])
        of_it = [a.hint for key, of_key in self._hints.items() if key.namespace == fullest for a in of_key.values()]
        gone = max(of_it, key=lambda hint: (hint.start_at_s, hint.id))
        self._drop(gone.key, gone.id)
        return (Taken("evicted", f"hint {gone.id!r} for {gone.key}: the book is full and its namespace holds most"),)

    def _drop(self, key: DeploymentKey, name: str) -> None:
        del self._hints[key][name]
        if not self._hints[key]:
            del self._hints[key]
        self._counted[key.namespace] -= 1
        if not self._counted[key.namespace]:
            del self._counted[key.namespace]

    def _take_past(self, key: DeploymentKey, announced: Announced) -> Taken:
        """A version that is over ends an older one that is not: the publisher cut it short."""
        of_key = self._hints.get(key, {})
        known = of_key.get(announced.hint.id)
        if known is not None and not _older(announced, known):
            self._drop(key, announced.hint.id)
        return Taken("past", f"hint {announced.hint.id!r} is over")

    def _withdraw(self, key: DeploymentKey) -> Taken:
        of_key = self._hints.get(key, {})
        told = {name: announced for name, announced in of_key.items() if announced.issued_at_s is not None}
        for name in list(of_key):
            self._drop(key, name)
        if told:
            kept = self._withdrawn.pop(key, {})  # put last again: the key that was withdrawn longest ago is first
            self._withdrawn[key] = dict([*kept.items(), *told.items()][-MOST_PER_DEPLOYMENT:])
            self._bound_withdrawn(key.namespace)
        return Taken("withdrawn")

    def _bound_withdrawn(self, namespace: str) -> None:
        """Of a namespace the withdrawn hints of so many deployments are remembered, the latest ones."""
        keys = [key for key in self._withdrawn if key.namespace == namespace]
        for key in keys[: max(0, len(keys) - MOST_WITHDRAWN_PER_NAMESPACE)]:
            del self._withdrawn[key]
        if len(self._withdrawn) > MOST_WITHDRAWN:
            del self._withdrawn[next(iter(self._withdrawn))]

    def _forget_withdrawn(self, key: DeploymentKey, name: str) -> None:
        if (of_key := self._withdrawn.get(key)) is not None:
            of_key.pop(name, None)
            if not of_key:
                del self._withdrawn[key]

    def _forget_ended(self, now_s: float) -> None:
        """Once a second at most: a flood must not make each message as dear as the whole book."""
        if abs(now_s - self._swept_at_s) < 1.0:
            return
        self._swept_at_s = now_s
        for book, forget in ((self._hints, self._drop), (self._withdrawn, self._forget_withdrawn)):
            for key, of_key in list(book.items()):
                for name in [name for name, a in of_key.items() if a.hint.end_at_s <= now_s]:
                    forget(key, name)


def _older(one: Announced, other: Announced) -> bool:
    """Whether both say when they were issued, and `one` was earlier."""
    return one.issued_at_s is not None and other.issued_at_s is not None and one.issued_at_s < other.issued_at_s


def _newer(one: Announced, withdrawn: Announced) -> bool:
    return one.issued_at_s is None or withdrawn.issued_at_s is None or one.issued_at_s > withdrawn.issued_at_s


# ---------------------------------------------------------------- payloads


def _decoded(payload: bytes) -> object:
    if len(payload) > MOST_BYTES:
        raise SourceError(f"longer than {MOST_BYTES} bytes")
    try:
        said = msgspec.json.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise SourceError("not JSON") from None
    if isinstance(said, list) and not said:
        raise SourceError("an empty list; an empty payload withdraws hints")
    return said


def parse_hint(said: object, key: DeploymentKey, now_s: float) -> Announced:
    """The hint of a JSON value (docs/events.md). Errors: SourceError naming field, value and what is allowed."""
    if not isinstance(said, dict):
        raise SourceError("expected a JSON object")
    if len(said) > MOST_FIELDS:
        raise SourceError(f"{len(said)} fields; allowed: {MOST_FIELDS}")
    for name in said:
        if name in _KEYS or len(name) > _LONGEST_FIELD:
            continue
        if near := get_close_matches(name, _KEYS, 1, 0.8):
            raise SourceError(f"unknown field {_shown(name)}; did you mean {near[0]!r}?")
    start_at_s, end_at_s = _time(said, "start_at"), _time(said, "end_at")
    if end_at_s <= start_at_s:
        raise SourceError(f"end_at: {_shown(said['end_at'])}; allowed: after start_at")
    if start_at_s > now_s + _FARTHEST_S or end_at_s - start_at_s > _FARTHEST_S:
        raise SourceError("start_at and end_at: begins or lasts longer than a year; allowed: up to 366 days each")
    if (said.get("rps") is None) == (said.get("multiplier") is None):
        raise SourceError("exactly one of rps and multiplier is needed")
    hint = Hint(
        id=_text(said, "id", needed=True),
        key=key,
        start_at_s=start_at_s,
        end_at_s=end_at_s,
        rps=_number(said, "rps", 0.0, MOST_RPS),
        multiplier=_number(said, "multiplier", 1.0, MOST_MULTIPLIER),
        confidence_fraction=1.0,
        prompt_tokens=_number(said, "prompt_tokens", 1.0, MOST_TOKENS),
        output_tokens=_number(said, "output_tokens", 1.0, MOST_TOKENS),
        asked_by=_text(said, "asked_by") or "MQTT",
    )
    confidence = _number(said, "confidence_fraction", 0.0, 1.0)
    issued_at_s = None if said.get("issued_at") is None else _time(said, "issued_at")
    if issued_at_s is not None and issued_at_s > now_s + _CLOCK_S:
        raise SourceError(f"issued_at: {_shown(said['issued_at'])} lies ahead; allowed: up to an hour (clocks differ)")
    return Announced(hint if confidence is None else replace(hint, confidence_fraction=confidence), issued_at_s)


def _time(said: Mapping[str, Any], name: str) -> float:
    value = said.get(name)
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper()).timestamp()
        except (ValueError, OverflowError, OSError):
            pass
    raise SourceError(f"{name}: {_shown(value)}; allowed: a time with its zone such as 2026-01-31T12:00:05Z")


def _number(said: Mapping[str, Any], name: str, lowest: float, highest: float) -> float | None:
    value = said.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise SourceError(f"{name}: {_shown(value)}; allowed: a number from {exact(lowest)} to {exact(highest)}")
    if not lowest <= value <= highest:
        raise SourceError(
            f"{name}: {exact(value)}; allowed: {exact(lowest)} to {exact(highest)}{percent_hint(name, value)}"
        )
    return float(value)


def _text(said: Mapping[str, Any], name: str, needed: bool = False) -> str:
    value = said.get(name)
    if value is None and not needed:
        return ""
    if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable():
        raise SourceError(f"{name}: {_shown(value)}; allowed: up to 200 printable characters")
    return value


def _shown(value: object) -> str:
    """A value from outside in a log line: short, and without control characters."""
    text = "missing" if value is None else ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
