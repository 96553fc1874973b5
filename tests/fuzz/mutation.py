"""Bytes that are nearly good: a sample with parts of it exchanged, cut, doubled, nested or made absurd."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 10**30, -(10**400), 1e308, 1.5, float("inf"), float("nan"), "", "x", "a/b", "1e999",
    "9" * 5000, "\u0000", "\ud800", "\u202e\u001b[2J", "\u0665", "../../etc", "u@x:80", "2026-13-45T99:99:99Z", "-1h",
    [], {}, [[]], [None], {"": None}, {"a": {"a": {"a": 1}}}, ["x"] * 3000,
)  # fmt: skip
_TOKENS = (b"\x00", b"\xff\xfe", b"\n", b"\r", b'"', b"'", b",", b"{", b"}", b"[", b": ", b"&a [*a,*a]", b"<<: *a",
           b"!!python/object:os.system",            b"NaN", b"-", b"1e999", b"9" * 400,
           b"=cmd", b"\\", b"le=\"", b"#", b"%", b"\xe2\x80\xae")  # fmt: skip


def mutated(good: bytes, structured: bool, chance: random.Random) -> bytes:
    """A few changes to a sample; of a JSON document mostly to its values."""
    if structured and chance.random() < 0.85:
        document = json.loads(good)
        for _ in range(chance.randint(1, 4)):
            document = _changed(document, chance)
        return json.dumps(document).encode("utf-8", "surrogatepass")
    data = bytearray(good)
    for _ in range(chance.randint(1, 6)):
        _change_bytes(data, chance)
    return bytes(data)


def _changed(document: Any, chance: random.Random) -> Any:
    places = list(_places(document))
    if not places or chance.random() < 0.02:
        return copy.deepcopy(chance.choice(ODD))
    holder, key = chance.choice(places)
    what = chance.random()
    if what < 0.6:
        holder[key] = copy.deepcopy(chance.choice(ODD))
    elif what < 0.75:
        del holder[key]
    elif what < 0.9:
        other, place = chance.choice(places)
        value = other[place] if (isinstance(other, dict) and place in other) or isinstance(other, list) else None
        holder[key] = copy.deepcopy(value)
    elif isinstance(holder, dict):
        holder[str(chance.choice(ODD))[:50]] = holder[key]
    else:
        holder += [copy.deepcopy(holder[key])] * chance.choice((1, 50))
    return document


def _places(document: Any) -> Any:
    waiting = [document]
    while waiting:
        here = waiting.pop()
        keys = list(here) if isinstance(here, dict) else range(len(here)) if isinstance(here, list) else ()
        for key in keys:
            yield here, key
            waiting.append(here[key])


def _change_bytes(data: bytearray, chance: random.Random) -> None:
    at = chance.randint(0, len(data))
    end = min(len(data), at + chance.choice((1, 2, 8, 100)))
    what = chance.randint(0, 5)
    if what == 0:
        del data[at:end]
    elif what == 1:
        data[at:at] = chance.choice(_TOKENS)
    elif what == 2:
        data[at:end] = chance.choice(_TOKENS)
    elif what == 3:
        data[at:at] = data[at:end] * chance.choice((1, 3, 200))
    elif what == 4 and at < len(data):
        data[at] = chance.randrange(256)
    else:
        del data[at:]
