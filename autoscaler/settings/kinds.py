"""Kinds of values that the controller's settings are made of: durations, paths, addresses, patterns of keys."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from autoscaler.settings.document.blocks import plain_spread, spread_up_to, words
from autoscaler.settings.document.problems import ALLOWED
from policies.base.durations import Duration

PATTERN_WORDS = "APP/DEPLOYMENT or NAMESPACE/SERVICE/APP/DEPLOYMENT, each part a name or a pattern with *"
_DURATION_WORDS = "seconds >= 0, or {median: .., p99: ..} with 0 < median <= p99"
DurationS = Annotated[
    Duration,
    PlainValidator(spread_up_to()),
    PlainSerializer(plain_spread),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {
                    "type": "object",
                    "properties": {"median": {"type": "number"}, "p99": {"type": "number"}},
                    "required": ["median", "p99"],
                    "additionalProperties": False,
                },
            ],
            ALLOWED: _DURATION_WORDS,
        }
    ),
]


def _an_address(text: str) -> str:
    """What the pattern cannot see: a port beyond 65535, half an IPv6 address."""
    try:
        _ = urlsplit(text).port
    except ValueError as error:
        raise PydanticCustomError("address", "no address") from error
    return text


PathText = Annotated[str, Field(min_length=1, json_schema_extra=words("a path"))]
Url = Annotated[
    str,
    Field(
        pattern=r"^https?://[^/@\s?#]+[^@\s?#]*$",
        json_schema_extra=words("http://HOST:PORT or https://HOST:PORT, without user, password or query"),
    ),
    AfterValidator(_an_address),
]
HostName = Annotated[
    str,
    Field(
        pattern=r"^(\*|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)$",
        max_length=253,
        json_schema_extra=words("a host name without port, or *"),
    ),
]
_MATCHER = r'[a-zA-Z_][a-zA-Z0-9_]*(=|!=|=~|!~)"([^"\\]|\\.)*"'
MATCHERS = rf"^({_MATCHER}(, *{_MATCHER})*)?$"


def _whole_seconds(spread: Duration) -> Any:
    """A default as the reference shows it."""
    plain = plain_spread(spread)
    return {key: float(round(value)) for key, value in plain.items()} if isinstance(plain, dict) else plain


def prior(duration: Duration, what: str) -> Any:
    text = f"Prior, until enough was measured: seconds {what}."
    return Field(default=duration, description=text, json_schema_extra={"default": _whole_seconds(duration)})
