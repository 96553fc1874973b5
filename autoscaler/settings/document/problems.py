"""Words for a bad setting: where, what was written, what is allowed. Works on the settings' JSON schema.

What is allowed is read from the schema, so that an error, the reference table and the schema cannot disagree. Values
are shown only where they can hold no secret. Not for finding the problems.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoscaler.common.errors import ConfigError
from autoscaler.settings.document.reading import Loc, SettingsFile, dotted
from policies.options import exact, nearest, percent_hint

Schema = Mapping[str, Any]

ALLOWED = "x-allowed"
"""Schema keyword with the words for what is allowed, where type and bounds do not say it."""

_CREDENTIALS = re.compile(r"://[^/@\s]*@")
_QUERY = re.compile(r"(://[^\s?#]*[?#]).*", re.DOTALL)
_SECRET_KEYS = re.compile(r"(token|password|secret|credential)", re.IGNORECASE)
_MAX_SHOWN = 60
Complaint = tuple[str, str]
"""A key of a block that checks itself, and the words after it: what is written there, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a setting: where, and the words after the key. `others`: where else it may come from."""

    loc: Loc
    text: str
    others: tuple[Loc, ...] = ()

    def line(self, file: SettingsFile) -> str:
        return f"{file.where(self.loc)}: {dotted(self.loc)}: {self.text}"


class BadSettings(ConfigError):
    """All that is wrong with a settings file. The message is its first problem; `lines` holds them all."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)
        more = len(lines) - 1
        tail = f" (and {more} more; `leadtime config validate` lists them)" if more else ""
        super().__init__(lines[0] + tail)


def config_error(file: SettingsFile, problems: Sequence[Problem]) -> BadSettings:
    """The problems as an error, in the order in which they stand in the file."""
    return BadSettings([p.line(file) for p in sorted(problems, key=lambda p: (_line(file, p.loc), dotted(p.loc)))])


def _line(file: SettingsFile, loc: Loc) -> int:
    _, _, line = file.where(loc).rpartition(":")
    return int(line) if line.isdigit() else 0


# ---------------------------------------------------------------- pydantic's errors in our words


def problem_of(error: Mapping[str, Any], schema: Schema) -> Problem:
    """A Problem from one entry of pydantic's `ValidationError.errors()`."""
    place = _Place.at(schema, tuple(p for p in error["loc"] if p != "[key]"))
    kind, value, loc, node = error["type"], error.get("input"), place.loc, place.node
    if kind in ("extra_forbidden", "invalid_key"):
        key = str(loc[-1])
        return Problem((*loc[:-1], key), _unknown_key(key, place))
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _wrong_kind(loc, value, node["discriminator"])
    if kind == "missing":
        needs = f"{place.of} needs it; " if place.of else ""
        return Problem(loc, f"missing; {needs}allowed: {describe(node, schema)}")
    context = error.get("ctx") or {}
    words = context.get("allowed") or describe(node, schema)
    written = context.get("shown") or shown(loc, value)
    hint = percent_hint(str(loc[-1]) if loc else "", value) or _number_as_text(value, node)
    return Problem(loc, f"{written}; allowed: {words}{_nearest(value, node)}{hint}")


def _unknown_key(key: str, place: _Place) -> str:
    names = place.parent.get("properties", {})
    of = f" of {place.of}" if place.of else ""
    return f"unknown key{of}{did_you_mean(key, names)} (allowed: {', '.join(names)})"


def _wrong_kind(loc: Loc, entry: Any, discriminator: Schema) -> Problem:
    """An entry whose kind is missing, or none that there is."""
    key, kinds = discriminator["propertyName"], discriminator["mapping"]
    if not isinstance(entry, Mapping) or key not in entry:
        return Problem((*loc, key), f"missing; allowed: {', '.join(kinds)}")
    value = entry[key]
    return Problem((*loc, key), f"{shown((*loc, key), value)}; allowed: {', '.join(kinds)}{did_you_mean(value, kinds)}")


def _nearest(value: Any, node: Schema) -> str:
    return did_you_mean(value, node["enum"]) if isinstance(value, str) and "enum" in node else ""


def _number_as_text(value: Any, node: Schema) -> str:
    """Text that means a number ("8", 1_000), or 1e8 where a whole one belongs: say how to write it."""
    if node.get("type") not in ("integer", "number") or isinstance(value, bool):
        return ""
    try:
        number = float(value.replace("_", "") if isinstance(value, str) else value)
    except (ValueError, TypeError, OverflowError):
        return ""
    if isinstance(value, str):
        return f" (YAML reads this as text: write {int(number) if number.is_integer() else repr(number)})"
    if isinstance(value, float) and node["type"] == "integer" and number.is_integer():
        return f" (write {int(number)})"
    return ""


def did_you_mean(word: Any, candidates: Iterable[Any]) -> str:
    """`; did you mean 'x'?` with the nearest candidate, or nothing when none is near."""
    return nearest(str(word), [str(c) for c in candidates])


# ---------------------------------------------------------------- what was written


def shown(loc: Loc, value: Any) -> str:
    """A value as an error may show it: YAML's spelling, shortened, and never a secret."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if not isinstance(value, str):
        return str(value) if isinstance(value, int | float) else f"{value} (a {type(value).__name__})"
    if _looks_secret(loc, value):
        return "(not shown: it may be a secret)"
    text = _QUERY.sub(r"\1***", _CREDENTIALS.sub("://***@", value))
    return repr(text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "...")


def _looks_secret(loc: Loc, value: str) -> bool:
    """A secret pasted where the path of its file belongs."""
    key = next((p for p in reversed(loc) if isinstance(p, str)), "")
    if not _SECRET_KEYS.search(key) or value[:1] in ("/", ".", "~", "$") or len(value) < 8:
        return False
    mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    return ("/" not in value and (len(value) > 20 or mixed)) or (mixed and any(c.isupper() for c in value))


# ---------------------------------------------------------------- what is allowed


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a setting is: its schema (empty where the schema says nothing), and that of the mapping around it."""

    loc: Loc
    """As it is written: pydantic puts an entry's kind between the entry and its keys."""
    node: Schema
    parent: Schema
    of: str = ""
    """The kind of the entry whose key it is, where entries of the list are of several kinds."""

    @staticmethod
    def at(schema: Schema, loc: Loc) -> _Place:
        place = _Place((), resolve(schema, schema), {})
        for part in loc:
            place = place._below(part, schema)
        return place

    def _below(self, part: int | str, root: Schema) -> _Place:
        kinds = self.node.get("discriminator", {}).get("mapping", {})
        if part in kinds:
            return _Place(self.loc, resolve({"$ref": kinds[part]}, root), self.parent, str(part))
        if isinstance(part, int):
            child = self.node.get("items", {})
        else:
            child = self.node.get("properties", {}).get(part) or self.node.get("additionalProperties") or {}
        node = resolve(child if isinstance(child, Mapping) else {}, root)
        return _Place((*self.loc, part), node, self.node, self.of)


def resolve(node: Schema, root: Schema) -> Schema:
    """A node with its reference followed (keywords beside the reference win) and `or null` folded in."""
    if "$ref" in node:
        target = root["$defs"][node["$ref"].rpartition("/")[2]]
        node = {**resolve(target, root), **{k: v for k, v in node.items() if k != "$ref"}}
    options = node.get("anyOf")
    if options and any(o.get("type") == "null" for o in options):
        others = [o for o in options if o.get("type") != "null"]
        if len(others) == 1:
            rest = {k: v for k, v in node.items() if k != "anyOf"}
            node = {**resolve(others[0], root), **rest, "nullable": True}
    return node


def describe(node: Schema, root: Schema) -> str:
    """What a setting may be, in words: `a whole number >= 1`."""
    node = resolve(node, root)
    return _describe(node) + (", or null" if node.get("nullable") and ALLOWED not in node else "")


def _describe(node: Schema) -> str:
    if ALLOWED in node:
        return str(node[ALLOWED])
    if "const" in node:
        return shown((), node["const"]) if not isinstance(node["const"], str) else str(node["const"])
    if "enum" in node:
        return ", ".join(str(v) for v in node["enum"])
    match node.get("type"):
        case "integer":
            return "a whole number" + _bounds(node)
        case "number":
            return "a number" + _bounds(node)
        case "boolean":
            return "true or false"
        case "string":
            return "text"
        case "array":
            return "a list" + (" with at least one entry" if node.get("minItems") else "")
        case "null":
            return "null"
        case "object" if node.get("properties"):
            return f"a mapping with {', '.join(node['properties'])}"
        case "object":
            return "a mapping"
    if "discriminator" in node:
        return f"a mapping with {node['discriminator']['propertyName']}"
    return "another value"


def _bounds(node: Schema) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and high is not None:
        return f" from {exact(low)} to {exact(high)}"
    parts = [f"{sign} {exact(node[name])}" for name, sign in _SIGNS.items() if name in node]
    return f" {' and '.join(parts)}" if parts else ""


_SIGNS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
