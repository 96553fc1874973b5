"""Kubernetes `Status` answers: how an API server says no. Only shapes and reasons; who says no is elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}


@dataclass(slots=True)
class ApiError(Exception):
    """An answer that is a Status of failure."""

    code: int
    message: str
    reason: str | None = ""
    """"" = the one that goes with the code; None = left out, as by errors that are no Status inside of the server."""
    details: dict[str, Any] | None = None
    """Parts that are empty are left out; {} is sent as such."""
    retry_after_s: int | None = None

    def body(self) -> dict[str, Any]:
        details = None if self.details is None else {part: value for part, value in self.details.items() if value}
        if self.retry_after_s is not None:
            details = {**(details or {}), "retryAfterSeconds": self.retry_after_s}
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        }
        if self.reason is not None:
            status["reason"] = self.reason or _REASONS.get(self.code, "")
        if details is not None:
            status["details"] = details
        return status


def not_found(qualified: str, name: str) -> ApiError:
    plural, _, group = qualified.partition(".")
    return ApiError(404, f'{qualified} "{name}" not found', details={"name": name, "group": group, "kind": plural})


def already_exists(qualified: str, name: str) -> ApiError:
    plural, _, group = qualified.partition(".")
    details = {"name": name, "group": group, "kind": plural}
    return ApiError(409, f'{qualified} "{name}" already exists', "AlreadyExists", details)


def conflict(qualified: str, name: str, why: str = "") -> ApiError:
    plural, _, group = qualified.partition(".")
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    details = {"name": name, "group": group, "kind": plural}
    return ApiError(409, f'Operation cannot be fulfilled on {qualified} "{name}": {why}', details=details)


def invalid(kind: str, group: str, name: str, causes: list[tuple[str, str]]) -> ApiError:
    """`causes` are (field, message)."""
    text = ", ".join(f"{where}: {what}" for where, what in causes)
    listed = [{"reason": "FieldValueInvalid", "message": what, "field": where} for where, what in causes]
    qualified = f"{kind}.{group}" if group else kind
    details = {"name": name, "group": group, "kind": kind, "causes": listed}
    return ApiError(422, f'{qualified} "{name}" is invalid: {text}', details=details)


def expired(version: int, oldest: int) -> ApiError:
    return ApiError(410, f"too old resource version: {version} ({oldest})", "Expired")


def patch_refused() -> ApiError:
    """What a real server says of a JSON patch whose `test` failed: no cause, no name."""
    return ApiError(422, "the server rejected our request due to an error in our request", "Invalid", {})
