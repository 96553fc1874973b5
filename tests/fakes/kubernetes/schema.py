"""What a CustomResourceDefinition does to an object: prune unknown fields, fill in defaults, validate.

Not done: CEL rules (`x-kubernetes-validations`), conversion between versions.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import jsonschema

_ROOT_FIELDS = ("apiVersion", "kind", "metadata")
_PRESERVE = "x-kubernetes-preserve-unknown-fields"


class CustomSchema:
    """The openAPIV3Schema of one version."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema
        self._validator = jsonschema.Draft202012Validator(_as_json_schema(schema))

    def admit(self, obj: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The object as it would be stored, and the paths of the fields that were dropped."""
        dropped: list[str] = []
        body = {k: v for k, v in obj.items() if k not in _ROOT_FIELDS}
        properties = {k: v for k, v in self.schema.get("properties", {}).items() if k not in _ROOT_FIELDS}
        body = _prune({**self.schema, "properties": properties}, body, "", dropped)
        _fill_defaults({**self.schema, "properties": properties}, body)
        return {**{k: copy.deepcopy(obj[k]) for k in _ROOT_FIELDS if k in obj}, **body}, dropped

    def problems(self, obj: Mapping[str, Any]) -> list[tuple[str, str]]:
        """(field, what is wrong) of an admitted object."""
        found = [
            (_path(error.absolute_path), error.message if len(error.message) < 300 else error.message[:300] + "...")
            for error in self._validator.iter_errors(obj)
        ]
        _repeated_keys(self.schema, obj, "", found)
        return found


def _path(parts: Any) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "<root>"


def _prune(schema: Mapping[str, Any], value: Any, path: str, dropped: list[str]) -> Any:
    if isinstance(value, Mapping):
        properties = schema.get("properties") or {}
        extra = schema.get("additionalProperties")
        kept: dict[str, Any] = {}
        for key, child in value.items():
            where = f"{path}.{key}" if path else key
            if key in properties:
                kept[key] = _prune(properties[key], child, where, dropped)
            elif isinstance(extra, Mapping):
                kept[key] = _prune(extra, child, where, dropped)
            elif (
                extra is True
                or schema.get(_PRESERVE)
                or (schema.get("x-kubernetes-embedded-resource") and key in _ROOT_FIELDS)
            ):
                kept[key] = copy.deepcopy(child)
            else:
                dropped.append(where)
        return kept
    if isinstance(value, list):
        items = schema.get("items") or {}
        return [_prune(items, child, f"{path}[{i}]", dropped) for i, child in enumerate(value)]
    return value


def _fill_defaults(schema: Mapping[str, Any], value: Any) -> None:
    if isinstance(value, dict):
        for key, child in (schema.get("properties") or {}).items():
            missing = key not in value or (value[key] is None and not child.get("nullable"))
            if missing and "default" in child:
                value[key] = copy.deepcopy(child["default"])
            if key in value:
                _fill_defaults(child, value[key])
        extra = schema.get("additionalProperties")
        if isinstance(extra, Mapping):
            for key, child_value in value.items():
                if key not in (schema.get("properties") or {}):
                    _fill_defaults(extra, child_value)
    elif isinstance(value, list):
        for item in value:
            _fill_defaults(schema.get("items") or {}, item)


def _repeated_keys(schema: Mapping[str, Any], value: Any, path: str, found: list[tuple[str, str]]) -> None:
    """Lists of type `map` hold every key once, lists of type `set` every value once."""
    if isinstance(value, Mapping):
        for key, child in (schema.get("properties") or {}).items():
            if key in value:
                _repeated_keys(child, value[key], f"{path}.{key}" if path else key, found)
    elif isinstance(value, list):
        kind = schema.get("x-kubernetes-list-type")
        if kind in ("map", "set"):
            names = schema.get("x-kubernetes-list-map-keys") or []
            keys = [repr([item.get(n) for n in names]) if kind == "map" else repr(item) for item in value]
            found.extend(
                (f"{path}[{i}]", f"Duplicate value: {key}") for i, key in enumerate(keys) if key in keys[:i]
            )  # fmt: skip
        for i, item in enumerate(value):
            _repeated_keys(schema.get("items") or {}, item, f"{path}[{i}]", found)


def _as_json_schema(schema: Any) -> Any:
    """The same schema without Kubernetes' own words; `nullable` becomes a second type."""
    if isinstance(schema, list):
        return [_as_json_schema(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    plain: dict[str, Any] = {}
    for key, value in schema.items():
        if key.startswith("x-kubernetes-") or key in ("nullable", "default", "description", "example", "format"):
            continue
        if key == "properties":
            plain[key] = {name: _as_json_schema(child) for name, child in value.items()}
        else:
            plain[key] = _as_json_schema(value)
    if schema.get("nullable") and isinstance(plain.get("type"), str):
        plain["type"] = [plain["type"], "null"]
    if isinstance(plain.get("properties"), dict):
        # apiVersion, kind and metadata of the root are checked by the store.
        plain["properties"].pop("metadata", None) if "apiVersion" in plain["properties"] else None
    return plain
