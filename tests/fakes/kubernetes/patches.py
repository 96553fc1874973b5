"""The patch types of the API server: JSON patch, merge patch, server-side apply (create or merge).

Server-side apply is a plain merge here: field ownership and its conflicts are not modelled. A strategic merge patch is
done only where it equals a merge patch (no lists); custom resources refuse it, as real ones do.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import jsonpatch
import jsonpointer
import yaml

from tests.fakes.kubernetes.status import ApiError, patch_refused

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
_ACCEPTED = (JSON_PATCH, MERGE_PATCH, APPLY_PATCH, STRATEGIC_PATCH)


def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def decode(content_type: str, raw: bytes) -> Any:
    """The body of a patch. Errors: ApiError 400, 415."""
    kind = media_type(content_type)
    if kind not in _ACCEPTED:
        raise ApiError(415, "415: Unsupported Media Type", details={})
    try:
        body = yaml.safe_load(raw) if kind == APPLY_PATCH else json.loads(raw)
    except (ValueError, yaml.YAMLError) as error:
        raise ApiError(400, f"error decoding patch: {error}") from None
    if not isinstance(body, list if kind == JSON_PATCH else dict):
        raise ApiError(400, f"error decoding patch: json: cannot unmarshal {type(body).__name__} into Go value")
    return body


def apply(content_type: str, current: Mapping[str, Any], patch: Any, *, custom: bool) -> dict[str, Any]:
    """The object that a patch makes of `current`. Errors: ApiError 400, 415, 422."""
    kind = media_type(content_type)
    before = copy.deepcopy(dict(current))
    if kind == JSON_PATCH:
        return _json_patch(before, patch)
    if kind == STRATEGIC_PATCH:
        if custom:
            raise _unsupported((JSON_PATCH, MERGE_PATCH, APPLY_PATCH))
        if _holds_a_list(patch):
            raise ApiError(501, "this fake does strategic merge patches only without lists", "NotImplemented")
    return merge(before, patch)


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def _json_patch(before: dict[str, Any], operations: list[Any]) -> dict[str, Any]:
    try:
        return jsonpatch.JsonPatch(operations).apply(before)
    except jsonpatch.InvalidJsonPatch as error:
        raise ApiError(400, f"error decoding patch: {error}") from None
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError):
        raise patch_refused() from None


def _holds_a_list(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_a_list(child) for child in value.values())
    return isinstance(value, list)


def _unsupported(accepted: tuple[str, ...]) -> ApiError:
    allowed = ", ".join(accepted)
    text = "the body of the request was in an unknown format - accepted media types include: "
    return ApiError(415, f"{text}{allowed}")
