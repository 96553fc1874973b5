"""Label and field selectors, parsed and matched as the API server does. Errors: ApiError 400."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.fakes.kubernetes.status import ApiError

Predicate = Callable[[Mapping[str, Any]], bool]

_SET = re.compile(r"^\s*([^\s!=,()]+)\s+(in|notin)\s+\(([^)]*)\)\s*$")
_EQUAL = re.compile(r"^\s*([^\s!=,()]+)\s*(==|=|!=)\s*([^\s!=,()]*)\s*$")
_EXISTS = re.compile(r"^\s*(!?)\s*([^\s!=,()]+)\s*$")


def label_selector(text: str) -> Predicate:
    """`a=b,c!=d,e in (f,g),h notin (i),j,!k`; empty matches all."""
    requirements = [_label_requirement(part) for part in _split(text)]

    def matches(obj: Mapping[str, Any]) -> bool:
        labels = obj.get("metadata", {}).get("labels") or {}
        return all(requirement(labels) for requirement in requirements)

    return matches


def _split(text: str) -> list[str]:
    parts = re.split(r",(?![^()]*\))", text)
    return [part for part in parts if part.strip()]


def _label_requirement(part: str) -> Predicate:
    if found := _SET.match(part):
        key, operator, listed = found.groups()
        values = {value.strip() for value in listed.split(",")}
        if operator == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _EQUAL.match(part):
        key, operator, value = found.groups()
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if found := _EXISTS.match(part):
        negated, key = found.groups()
        return lambda labels: (key in labels) != bool(negated)
    raise ApiError(400, f"unable to parse requirement: {part!r}")


def field_selector(text: str, known: frozenset[str]) -> Predicate:
    """`metadata.name=x,status.phase!=Running` over the fields that a kind knows; others are refused with 400."""
    requirements: list[tuple[str, str, str]] = []
    for part in _split(text):
        found = _EQUAL.match(part)
        if found is None:
            raise ApiError(400, f"invalid field selector: {part!r}")
        path, operator, value = found.groups()
        if path not in known:
            raise ApiError(400, f"field label not supported: {path}")
        requirements.append((path, operator, value))

    def matches(obj: Mapping[str, Any]) -> bool:
        return all((_value(obj, path) == value) == (operator != "!=") for path, operator, value in requirements)

    return matches


def name_in_selector(text: str) -> str:
    """The name that `metadata.name=NAME` asks for: authorization sees it as the request's name."""
    for part in _split(text):
        found = _EQUAL.match(part)
        if found is not None and found.group(1) == "metadata.name" and found.group(2) != "!=":
            return found.group(3)
    return ""


def _value(obj: Mapping[str, Any], path: str) -> str:
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
