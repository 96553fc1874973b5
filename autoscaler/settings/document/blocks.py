"""What the controller's settings and the simulator's scenarios have in common: mappings, durations, promises, guards.

pydantic is used here, in autoscaler/settings and in simulator/scenario, and nowhere else.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from autoscaler.common.errors import ConfigError
from autoscaler.core.scheduled_load import (
    CRON_WORDS,
    LONGEST_CRON,
    LONGEST_S,
    MOST_MULTIPLIER,
    MOST_RPS,
    SHORTEST_S,
    schedule_problem,
)
from autoscaler.core.types import GuardSettings, RecurringLoad
from autoscaler.settings.document.problems import ALLOWED, Problem, problem_of, shown
from autoscaler.settings.document.reading import Loc
from policies.base import LEAST_TARGET_FRACTION, LONGEST_ITL_S, LONGEST_TTFT_S, TARGET_FRACTION_BELOW, Slo
from policies.base.durations import Duration


def words(text: str) -> dict[str, Any]:
    """Schema keyword with the words for what is allowed, where type and bounds do not say it."""
    return {ALLOWED: text}


Name = Annotated[
    str, Field(pattern=r"^[^/\s*]+$", max_length=253, json_schema_extra=words("a name without '/', '*' or spaces"))
]

TargetFraction = Annotated[float, Field(ge=LEAST_TARGET_FRACTION, lt=TARGET_FRACTION_BELOW)]

# ---------------------------------------------------------------- a number, or {median, p99}


def spread_up_to(most: float = math.inf) -> Callable[[Any], Duration]:
    """Reads a bare number (a constant) or `{median, p99}` (a log-normal), none of them above `most`.

    Errors: PydanticCustomError.
    """

    def read(value: Any) -> Duration:
        if isinstance(value, Duration):
            return value
        numbers = list(value.values()) if isinstance(value, Mapping) else [value]
        plain = all(isinstance(n, int | float) and not isinstance(n, bool) and n <= most for n in numbers)
        try:
            if plain and isinstance(value, Mapping) and set(value) == {"median", "p99"} and value["median"] > 0:
                return Duration.from_median_p99(float(value["median"]), float(value["p99"]))
            if plain and not isinstance(value, Mapping):
                return Duration(float(value))
        except (ValueError, OverflowError):
            pass
        written = (
            ", ".join(f"{k}: {shown((str(k),), v)}" for k, v in value.items()) if isinstance(value, Mapping) else ""
        )
        raise PydanticCustomError("spread", "neither a number nor {median, p99}", {"shown": written} if written else {})

    return read


def plain_spread(spread: Duration) -> Any:
    """As it would be written in a file."""
    if spread.sigma == 0:
        return float(spread.median_s)
    return {"median": float(spread.median_s), "p99": float(f"{spread.quantile(0.99):.6g}")}


# ---------------------------------------------------------------- mappings


class Block(BaseModel):
    """A mapping of the file: unknown keys are errors; a key left empty (null) means its default."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _null_means_default(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {k: v for k, v in data.items() if v is not None or not cls._has_default(k)}

    @classmethod
    def _has_default(cls, key: Any) -> bool:
        field = cls.model_fields.get(key)
        return field is not None and not field.is_required() and not _nullable(field.annotation)


def _nullable(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation)


class RecurringLoadBlock(Block):
    """Demand that comes at the times of a calendar; it can only raise the forecast."""

    name: Name = Field(description="Names it in reasons.", examples=["office-hours"])
    cron: str = Field(
        max_length=LONGEST_CRON,
        description="When it begins: minute, hour, day of the month, month, day of the week.",
        json_schema_extra=words(CRON_WORDS),
        examples=["0 8 * * 1-5"],
    )
    time_zone: str = Field(
        default="UTC",
        description="Whose clock that is, as Europe/Berlin; it follows summer time.",
        json_schema_extra=words("a time zone of the IANA, as Europe/Berlin or UTC"),
    )
    duration_s: float = Field(ge=SHORTEST_S, le=LONGEST_S, description="Seconds that it lasts.", examples=[7200])
    rps: float | None = Field(
        default=None, gt=0, le=MOST_RPS, description="Level (req/s) that demand reaches in that time.", examples=[20]
    )
    multiplier: float | None = Field(
        default=None, ge=1, le=MOST_MULTIPLIER, description="In place of rps: times what is expected without it."
    )
    confidence_fraction: float = Field(default=1.0, gt=0, le=1, description="How likely it is that it comes.")

    @property
    def load(self) -> RecurringLoad:
        return RecurringLoad(
            self.name, self.cron, self.time_zone, self.duration_s, self.rps, self.multiplier, self.confidence_fraction
        )


def schedule_problems(schedule: Sequence[RecurringLoadBlock], loc: Loc) -> Iterator[Problem]:
    """What is wrong with a deployment's schedule, which stands at `loc`."""
    names = [load.name for load in schedule]
    for j, load in enumerate(schedule):
        if load.name in names[:j]:
            yield Problem((*loc, j, "name"), f"{load.name!r}; allowed: each only once")
        if (load.rps is None) == (load.multiplier is None):
            yield Problem((*loc, j), "exactly one of rps and multiplier is needed")
        found = schedule_problem(load.cron, load.time_zone, load.duration_s)
        if found is not None:
            yield Problem((*loc, j, found[0]), found[1])


class SloBlock(Block):
    """What users were promised."""

    ttft_s: float | None = Field(
        default=Slo().ttft_s,
        gt=0,
        le=LONGEST_TTFT_S,
        description="Seconds to the first token; null = no promise.",
        json_schema_extra=words(f"seconds above 0 and up to {LONGEST_TTFT_S:g} (2000 ms are written 2), or null"),
    )
    itl_s: float | None = Field(
        default=Slo().itl_s,
        gt=0,
        le=LONGEST_ITL_S,
        description="Mean seconds between output tokens of a request; null = no promise.",
        json_schema_extra=words(f"seconds above 0 and up to {LONGEST_ITL_S:g} (50 ms are written 0.05), or null"),
    )
    target_fraction: TargetFraction = Field(
        default=Slo().target_fraction, description="Share of requests that must meet both (0.99 = 99 %)."
    )


def typed_promise(ttft_s: float, itl_s: float) -> Slo:
    """What was typed as `--ttft-s` and `--itl-s`, under the rules that hold in files. Errors: ConfigError."""
    try:
        typed = {"ttft_s": ttft_s, "itl_s": itl_s}
        block = SloBlock.model_validate({k: int(v) if v.is_integer() else v for k, v in typed.items()})  # 2 and not 2.0
    except ValidationError as error:
        problem = problem_of(dict(error.errors()[0]), SloBlock.model_json_schema())
        option = str(problem.loc[-1]).replace("_", "-")
        raise ConfigError(f"--{option}: {problem.text.replace(', or null', '')}") from None
    return Slo(block.ttft_s, block.itl_s)


class Guards(Block):
    """Limits that hold whatever the policy wants."""

    stale_after_s: float = Field(
        default=GuardSettings().stale_after_s,
        gt=0,
        le=3600,
        description="Seconds after which metrics or inventory count as unknown: then nothing is scaled down.",
    )
    scale_down_stabilization_s: float = Field(
        default=GuardSettings().scale_down_stabilization_s,
        ge=0,
        le=86400,
        description="Seconds during which every proposal must have allowed a scale-down before it happens.",
    )
    max_step_up: int | None = Field(
        default=GuardSettings().max_step_up, ge=1, description="Most replicas that one tick may add; null = no limit."
    )
    max_step_down: int | None = Field(
        default=GuardSettings().max_step_down,
        ge=1,
        description="Most replicas that one tick may remove; null = no limit.",
    )

    @property
    def settings(self) -> GuardSettings:
        return GuardSettings(self.stale_after_s, self.scale_down_stabilization_s, self.max_step_up, self.max_step_down)
