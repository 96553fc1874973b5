"""Settings of what reading one service may cost, and of where it may lead."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from autoscaler.clients.addresses import AllowList
from autoscaler.clients.reading_limits import ReadingLimits
from autoscaler.common.errors import ConfigError
from autoscaler.settings.document.blocks import Block, words

_DEFAULT = ReadingLimits()


def _a_place(text: str) -> str:
    try:
        AllowList.of([text])
    except ConfigError as error:
        raise PydanticCustomError("place", "no network, host or suffix") from error
    return text


Place = Annotated[
    str,
    Field(min_length=1, json_schema_extra=words("a network (10.0.0.0/8), a host, or a suffix (.example.com)")),
    AfterValidator(_a_place),
]


class Reading(Block):
    """What reading one service may cost; beyond it that service is refused, with the reason, and the others go on."""

    allow: list[Place] = Field(
        default=[],
        description="Networks, hosts and suffixes of hosts that may be connected to besides a found Ray cluster's own "
        "head Service and pods, and besides the nodes of a listed one; link-local and metadata addresses never are.",
        examples=[["10.20.0.0/16"]],
    )
    answer_bytes: int = Field(
        default=_DEFAULT.answer_bytes,
        ge=10_000,
        le=1 << 30,
        description="Bytes of one answer of a head, unpacked.",
    )
    answer_values: int = Field(
        default=_DEFAULT.answer_values, ge=1000, le=100_000_000, description="Values in one answer of a dashboard."
    )
    deployments: int = Field(default=_DEFAULT.deployments, ge=1, le=100_000, description="Deployments of one service.")
    replicas: int = Field(
        default=_DEFAULT.replicas, ge=1, le=1_000_000, description="Replicas that one service may list."
    )
    targets: int = Field(
        default=_DEFAULT.targets, ge=1, le=100_000, description="Metric pages that one Ray head may list."
    )
    round_bytes: int = Field(
        default=_DEFAULT.round_bytes,
        ge=100_000,
        le=1 << 40,
        description="Bytes of all metric pages of one Ray cluster at one look, unpacked; a line counts as 40 at least.",
    )
    series: int = Field(
        default=_DEFAULT.series, ge=100, le=10_000_000, description="Lines of known metrics of one Ray cluster."
    )
    series_bytes: int = Field(default=_DEFAULT.series_bytes, ge=10_000, le=1 << 40, description="Bytes of those lines.")
    name_chars: int = Field(
        default=_DEFAULT.name_chars,
        ge=20,
        le=10_000,
        description="Characters of a name of an app or deployment.",
    )
    namespace_services: int = Field(
        default=_DEFAULT.namespace_services,
        ge=1,
        le=100_000,
        description="Found services of one namespace that are read, by name.",
    )
    namespace_deployments: int = Field(
        default=_DEFAULT.namespace_deployments,
        ge=1,
        le=1_000_000,
        description="Deployments of all found services of one namespace together.",
    )
    namespace_forecasters: int = Field(
        default=_DEFAULT.namespace_forecasters,
        ge=0,
        le=1_000_000,
        description="Deployments of one namespace that have a forecast, the busiest first; those that an entry names "
        "in full have theirs besides.",
    )
    namespace_series: int = Field(
        default=_DEFAULT.namespace_series,
        ge=100,
        le=100_000_000,
        description="Lines of known metrics of all found services of one namespace together.",
    )

    @property
    def limits(self) -> ReadingLimits:
        numbers = self.model_dump(exclude={"allow"})
        return ReadingLimits(AllowList.of(self.allow), **numbers)
