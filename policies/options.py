"""Options of policies: frozen dataclasses, checked against their types and ranges when they come from a file.

`option(default, low, high, doc)` declares one; `parse_options` reads a mapping; with `search=` an option says where a
tuner may look (`search_space`). Not for the controller's own settings, and not for searching (the simulator's tuning).
"""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from policies.base import PolicyError

Options = TypeVar("Options")
_MOST_SUGGESTED = 4


@dataclass(frozen=True, slots=True)
class Search:
    """Where to look for a good value: from `low` to `high` (evenly, or `log`: evenly by ratio), or among `values`."""

    start: Any
    """Where to begin: the default, or what stands in for a default that is only known at run time."""
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    values: tuple[Any, ...] = ()


def between(low: float, high: float, *, log: bool = False, start: float | None = None) -> Search:
    """A range to search; whole numbers where the option is one. `start` only where the default lies outside."""
    return Search(start, low, high, log)


def among(*values: Any) -> Search:
    """A few values to search: numbers, words, true and false."""
    return Search(None, values=values)


def option(
    default: Any, *, low: float | None = None, high: float | None = None, doc: str, search: Search | None = None
) -> Any:
    """A field of an options dataclass with what is allowed (bounds included) and what it means, in one line."""
    return field(default=default, metadata={"low": low, "high": high, "doc": doc, "search": search})


def search_space(kind: type[Any]) -> dict[str, Search]:
    """What a policy's options declare as worth searching, in their order; `start` and `whole` filled in.

    Errors: PolicyError for a declared range that leaves what the option allows.
    """
    hints = get_type_hints(kind)
    found: dict[str, Search] = {}
    for spec in fields(kind):
        search = spec.metadata.get("search")
        if search is None:
            continue
        members = get_args(hints[spec.name]) or (hints[spec.name],)
        start: Any = spec.default if search.start is None else search.start
        whole = int in members and float not in members and not search.values
        found[spec.name] = replace(search, start=start, whole=whole)
        for value in search.values or (search.low, search.high, start):
            _checked(int(value) if whole else value, hints[spec.name], spec, f"search of option {spec.name}")
    return found


def parse_options(kind: type[Options], values: Mapping[str, Any], where: str) -> Options:
    """`kind(**values)` after checking each key, type and range.

    Whole numbers are taken for floats. Errors: PolicyError naming `where`, the key, its value, what is allowed and,
    for an unknown key, the nearest name.
    """
    known: dict[str, Field[Any]] = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    parsed: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            allowed = ", ".join(known) if known else "none"
            raise PolicyError(f"{where}: unknown option {key!r}{nearest(str(key), known)} (allowed: {allowed})")
        parsed[key] = _checked(value, hints[key], known[key], f"{where}: option {key}")
    missing = [f.name for f in known.values() if f.default is MISSING and f.name not in parsed]
    if missing:
        raise PolicyError(f"{where}: option {missing[0]} is missing")
    return kind(**parsed)


@dataclass(frozen=True, slots=True)
class Described:
    """One option in words: what it may be, its default as a value (`required`: it has none), what it does."""

    name: str
    allowed: str
    default: Any
    required: bool
    doc: str


def described(kind: type[Any]) -> list[Described]:
    """Every option of an options dataclass, in its order, in the words that its errors use."""
    hints = get_type_hints(kind)
    return [
        Described(
            spec.name,
            _words(hints[spec.name], spec.metadata.get("low"), spec.metadata.get("high")),
            None if spec.default is MISSING else spec.default,
            spec.default is MISSING,
            spec.metadata.get("doc", ""),
        )
        for spec in fields(kind)
    ]


def nearest(name: str, names: Iterable[Any]) -> str:
    """`; did you mean 'x'?` for the names that begin like this, else for the nearest one; nothing where none is."""
    known = [str(n) for n in names]
    longer = [n for n in known if len(name) > 1 and n.lower().startswith(name.lower())]
    near = longer if 0 < len(longer) <= _MOST_SUGGESTED else difflib.get_close_matches(name, known, n=1)
    words = [repr(n) for n in near]
    return f"; did you mean {' or '.join([', '.join(words[:-1]), words[-1]] if words[1:] else words)}?" if words else ""


def exact(number: float) -> str:
    """A number as it would be typed, every digit of it: `9999999`, `0.1`, `1e+300`."""
    if isinstance(number, int):
        return str(number)
    short = f"{number:.15g}"
    return short if float(short) == number else repr(float(number)).removesuffix(".0")


def percent_hint(key: str, value: Any) -> str:
    """` (0.99 means 99 %)` for a fraction that was written as 99 or 99%, or nothing."""
    if not key.endswith("fraction") or isinstance(value, bool):
        return ""
    try:
        share = float(value.strip().removesuffix("%") if isinstance(value, str) else value)
    except (TypeError, ValueError):
        return ""
    return f" ({exact(share / 100)} means {exact(share)} %)" if 1 < share <= 100 else ""


def _checked(value: Any, hint: Any, spec: Field[Any], what: str) -> Any:
    low, high = spec.metadata.get("low"), spec.metadata.get("high")
    parsed = _typed(value, hint)
    if parsed is _WRONG:
        raise PolicyError(f"{what}: {value!r}; allowed: {_words(hint, low, high)}{percent_hint(spec.name, value)}")
    in_range = (
        isinstance(parsed, bool)
        or not isinstance(parsed, int | float)
        or ((low is None or parsed >= low) and (high is None or parsed <= high))
    )
    if not in_range:
        raise PolicyError(f"{what}: {value!r}; allowed: {_words(hint, low, high)}{percent_hint(spec.name, value)}")
    return parsed


_WRONG = object()


def _typed(value: Any, hint: Any) -> Any:
    """The value as the hint's type, or _WRONG."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        for member in get_args(hint):
            parsed = _typed(value, member)
            if parsed is not _WRONG:
                return parsed
        return _WRONG
    if origin is Literal:
        return value if value in get_args(hint) else _WRONG
    if hint is type(None):
        return None if value is None else _WRONG
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return float(value) if number else _WRONG
    if hint is int and isinstance(value, bool):
        return _WRONG
    if origin is tuple:  # tuple[str, ...]: a list in a file
        if not isinstance(value, list | tuple):
            return _WRONG
        parts = tuple(_typed(one, get_args(hint)[0]) for one in value)
        return _WRONG if any(one is _WRONG for one in parts) else parts
    if isinstance(origin, type):  # dict[str, Any] and the like: what is inside is the policy's to check
        return value if isinstance(value, origin) else _WRONG
    return value if isinstance(value, hint) else _WRONG


def _words(hint: Any, low: float | None, high: float | None) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_words(member, low, high) for member in get_args(hint))
    if get_origin(hint) is Literal:
        return ", ".join(str(v) for v in get_args(hint))
    if hint is type(None):
        return "null"
    if hint is bool:
        return "true or false"
    if hint is str:
        return "text"
    if hint in (int, float):
        noun = "a whole number" if hint is int else "a number"
        bounds = [f"{sign} {exact(end)}" for sign, end in ((">=", low), ("<=", high)) if end is not None]
        return " ".join([noun, " and ".join(bounds)] if bounds else [noun])
    if get_origin(hint) is tuple:
        return f"a list, of {_words(get_args(hint)[0], low, high)} each"
    if get_origin(hint) is not None and issubclass(get_origin(hint), Mapping):
        return "a mapping"
    return f"a {hint.__name__}"
