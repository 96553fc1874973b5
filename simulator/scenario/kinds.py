"""Kinds of values that scenarios are made of, and the bounds that several keys share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema

from autoscaler.settings.document.blocks import plain_spread, spread_up_to, words
from policies.base.durations import Duration

MAX_DURATION_S = 3.2e8
"""Ten years: what is longer is a slip of units, and would be simulated until memory ends."""
MAX_NODES = 100_000
MAX_SCALE = 1e6
_MAX_SPREAD = 1e9
"""Thirty years, or more tokens than any model reads."""
_SPREAD_SCHEMA: dict[str, Any] = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "object"}]}
DurationS = Annotated[
    Duration,
    PlainValidator(spread_up_to(_MAX_SPREAD)),
    PlainSerializer(plain_spread),
    WithJsonSchema(
        {**_SPREAD_SCHEMA, **words("seconds from 0 to 1e9, or {median: .., p99: ..} with 0 < median <= p99")}
    ),
]
Tokens = Annotated[
    Duration,
    PlainValidator(spread_up_to(_MAX_SPREAD)),
    PlainSerializer(plain_spread),
    WithJsonSchema(
        {**_SPREAD_SCHEMA, **words("tokens from 0 to 1e9, or {median: .., p99: ..} with 0 < median <= p99")}
    ),
]
PathText = Annotated[str, Field(min_length=1, json_schema_extra=words("a path, relative to the scenario file"))]
Fraction = Annotated[float, Field(ge=0, le=1)]
