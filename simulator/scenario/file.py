"""A scenario file as a whole: its keys, types, bounds and meaning, each documented where it is declared.

For the form of a file. What goes beyond one key (pools that exist, traces that can be read) is in checks.py,
reading and overrides are in load.py, and what a run is made from is `Scenario` there.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from autoscaler.settings.document.blocks import Block, Guards, words
from simulator.scenario.faults import AnyFault
from simulator.scenario.fleet import DeploymentBlock, NodePoolBlock
from simulator.scenario.kinds import MAX_DURATION_S, Fraction


class TelemetryBlock(Block):
    """What the controller can see, and how late."""

    profile: Literal["ray_serve", "prometheus_15s", "ideal", "serve_handles"] = Field(
        default="ray_serve", description="Named set of delays."
    )
    period_s: float | None = Field(default=None, ge=0, description="Seconds from one report of a process to the next.")
    delay_s: float | None = Field(default=None, ge=0, description="Seconds until a report can be read.")
    drop_fraction: Fraction | None = Field(default=None, description="Share of reads that fail.")
    noise_fraction: float | None = Field(
        default=None,
        ge=0,
        le=0.5,
        description="Largest share by which a gauge, or the rise of a counter since the last read, is off.",
    )


class PolicyBlock(Block):
    """Who decides."""

    name: str = Field(
        default="predictive",
        min_length=1,
        description="The policy; a file's path is relative to the scenario file.",
        json_schema_extra=words("a policy's name, or FILE.py:CLASS"),
    )
    options: dict[str, Any] = Field(
        default={}, description="The policy's own options, listed in docs/policy-options.md."
    )


class ScenarioFile(Block):
    """A scenario file."""

    version: Literal[1] = Field(description="Version of this format.")
    name: str = Field(min_length=1, description="Its name in results.")
    duration_s: float | None = Field(
        default=None, gt=0, le=MAX_DURATION_S, description="Seconds to simulate; null = to the traces' end."
    )
    warmup_s: float = Field(default=0.0, ge=0, description="The result begins here.")
    seed: int = Field(default=1, ge=0, description="Of everything that is drawn.")
    tick_s: float = Field(default=5.0, ge=0.5, le=300, description="Seconds from one decision to the next.")
    least_period_s: float | None = Field(
        default=None,
        ge=0.1,
        le=300,
        description="A policy whose own period is shorter decides this often (never less often than tick_s).",
    )
    telemetry: TelemetryBlock = Field(default=TelemetryBlock(), description="What the controller can see.")
    policy: PolicyBlock = Field(default=PolicyBlock(), description="Who decides.")
    guards: Guards = Field(default=Guards(), description="Limits that hold whatever the policy wants.")
    gpu_budget: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default={},
        description="Most GPUs of a kind, over all deployments; a kind left out has no limit.",
        json_schema_extra=words("a mapping of GPU kinds to whole numbers >= 0"),
    )
    deployments: list[DeploymentBlock] = Field(min_length=1, description="The deployments.")
    node_pools: list[NodePoolBlock] = Field(min_length=1, description="The pools of nodes.")
    faults: list[AnyFault] = Field(default=[], description="What breaks or is changed in the middle.")
