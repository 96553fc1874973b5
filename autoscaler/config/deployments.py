"""Settings of one deployment: its bounds, promises, cold start, and whom it follows."""

from __future__ import annotations

from pydantic import Field

from autoscaler.config.kinds import PATTERN_WORDS, DurationS
from autoscaler.settings_file.blocks import Block, Name, SloBlock, words


class Replicas(Block):
    """Bounds of a deployment's replicas."""

    min: int = Field(default=1, ge=0, description="Fewest replicas; 0 lets it scale to zero.")
    max: int = Field(ge=1, description="Most replicas.", examples=[8])


class FollowsBlock(Block):
    """Keeps a CPU-only deployment (an ingress) in proportion to another one."""

    deployment: str = Field(
        description="The deployment to follow.", json_schema_extra=words(PATTERN_WORDS), examples=["chat/llm"]
    )
    ratio: float = Field(default=1.0, gt=0, description="Replicas of this one per replica of the other (rounded up).")
    min: int = Field(default=1, ge=1, description="Fewest replicas of this one.")


class StartupBlock(Block):
    """What to expect of a cold start until enough of them were measured."""

    load_s: DurationS | None = Field(
        default=None,
        description="Seconds to load the weights; null = the profile's, else {median: 60, p99: 192}.",
    )
    init_s: DurationS | None = Field(
        default=None,
        description="Seconds from weights loaded to RUNNING; null = the profile's, else {median: 30, p99: 60}.",
    )


class Deployment(Block):
    """One rule of the fleet: it holds for every deployment whose key matches; the first match wins."""

    match: str = Field(
        description="Deployments that this entry is for; first match wins, and what matches none is only observed.",
        json_schema_extra=words(PATTERN_WORDS),
        examples=["chat/LLMServer:*"],
    )
    profile: str | None = Field(
        default=None,
        min_length=1,
        description="Engine profile: a preset's name or a path; null = capacity is learned from what is observed.",
        examples=["llama-3.1-8b/h100/tp1"],
        json_schema_extra=words("a preset (`leadtime profiles` lists them) or the path of a profile, or null"),
    )
    node_pools: list[Name] = Field(
        default=[],
        description="Pools (names from node_pools) that its replicas can run on, in order of preference.",
        examples=[["h100"]],
    )
    replicas: Replicas = Field(description="Bounds of its replicas.")
    slo: SloBlock = Field(default=SloBlock(), description="What its users were promised.")
    weight: float = Field(default=1.0, gt=0, description="Its share of a scarce GPU budget, relative to others.")
    priority: int = Field(
        default=0, ge=-1000, le=1000, description="Class for a scarce GPU budget: a higher one is served first."
    )
    guaranteed_gpus: int = Field(default=0, ge=0, description="GPUs of the budget that are its own when it needs them.")
    gpus_per_replica: int | None = Field(
        default=None, ge=1, description="GPUs of one replica; null = the profile's, else what Serve says, else 1."
    )
    follows: FollowsBlock | None = Field(
        default=None, description="For a CPU-only ingress: keep it in proportion to another deployment."
    )
    startup: StartupBlock = Field(default=StartupBlock(), description="Priors of its cold start.")
