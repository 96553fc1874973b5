"""benchmarks/league.yaml: what it may hold, and its first mistake in one line. What is made of it is in world.py."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from autoscaler.common.errors import ScenarioError
from autoscaler.settings.document.blocks import Block, TargetFraction, words
from autoscaler.settings.document.problems import Problem, problem_of
from autoscaler.settings.document.reading import read_settings_file
from simulator.scenario.kinds import DurationS

LEAGUE = Path(__file__).resolve().parent.parent / "league.yaml"
_Positive = Annotated[float, Field(gt=0)]
_Fraction = Annotated[float, Field(gt=0, lt=1)]
_FileName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$", json_schema_extra=words("letters, digits, '.', '_' and '-'"))
]
"""Scenarios and traces: they become names of files."""


class _Engine(Block):
    profile: str
    gpus: int = Field(ge=1)
    price_usd_per_hour: _Positive


class _Length(Block):
    median: _Positive
    p99: _Positive


class _Tokens(Block):
    prompt_tokens: _Length
    output_tokens: _Length


class _Promise(Block):
    ttft_s: _Positive
    itl_s: _Positive
    target_fraction: TargetFraction


class _Start(Block):
    provision_s: DurationS
    image_pull_s: DurationS
    load_s: DurationS
    init_s: DurationS


class _OtherStart(Block):
    provision_s: DurationS | None = None
    image_pull_s: DurationS | None = None
    load_s: DurationS | None = None
    init_s: DurationS | None = None


class _CheapPool(Block):
    price_usd_per_hour: _Positive
    stock_out_hours: list[Annotated[float, Field(ge=0, le=24)]] = Field(min_length=2, max_length=2)


class _Deployment(Block):
    name: str = "chat/llm"
    trace: _FileName
    peak: _Positive
    min: int = Field(default=1, ge=0)
    train_day: int | None = Field(default=None, ge=0)
    target_fraction: TargetFraction | None = None
    silent_fraction: _Fraction | None = None
    longer_outputs: _Positive | None = None
    start: _OtherStart | None = None
    cheap_pool: _CheapPool | None = None


class _Scenario(Block):
    name: _FileName
    about: str
    train_day: int = Field(ge=0)
    quick_hour: float = Field(ge=0, le=24)
    budget_replicas: int | None = Field(default=None, ge=1)
    deployments: list[_Deployment] = Field(min_length=1)


class _League(Block):
    version: Literal[1]
    engine: _Engine
    tokens: _Tokens
    slo: _Promise
    start: _Start
    tick_s: _Positive
    least_period_s: _Positive
    scenarios: list[_Scenario] = Field(min_length=1)


def read_league(path: Path = LEAGUE) -> dict[str, Any]:
    """The file as it is, once it was checked. Errors: ConfigError and ScenarioError with file, line, key and value."""
    file = read_settings_file(path)
    problems: list[Problem] = []
    try:
        league = _League.model_validate(file.data)
    except ValidationError as error:
        schema = _League.model_json_schema()
        problems = [problem_of(dict(e), schema) for e in error.errors()]
        problems.sort(key=lambda p: not p.text.startswith("unknown key"))  # else what is missing because of it is first
    else:
        counts = Counter(s.name for s in league.scenarios)
        for i, scenario in enumerate(league.scenarios):
            if counts[scenario.name] > 1:
                text = f"{scenario.name!r} more than once; allowed: another name for each"
                problems.append(Problem(("scenarios", i, "name"), text))
    if problems:
        raise ScenarioError(problems[0].line(file))
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))
