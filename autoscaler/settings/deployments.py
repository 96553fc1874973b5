"""Settings of one deployment: its bounds, promises, cold start, and whom it follows."""

from __future__ import annotations

from pydantic import Field

from autoscaler.core.scheduled_load import MOST_RECURRING
from autoscaler.core.types import TenantRules, Widening
from autoscaler.settings.document.blocks import Block, Name, RecurringLoadBlock, SloBlock, words
from autoscaler.settings.kinds import PATTERN_WORDS, DurationS


class Replicas(Block):
    """Bounds of a deployment's replicas."""

    min: int = Field(
        default=1, ge=0, description="Fewest replicas, rounded up to whole gangs; 0 lets it scale to zero."
    )
    max: int = Field(ge=1, description="Most replicas, rounded down to whole gangs.", examples=[8])


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
    schedule: list[RecurringLoadBlock] = Field(
        default=[],
        max_length=MOST_RECURRING,
        description="Demand that recurs by a calendar, announced ahead of each time.",
    )
    may_widen: list[Widening] = Field(
        default=[],
        description="What annotations may widen: a smaller minimum, a larger maximum, a stricter promise (slo); "
        "everything else they may only narrow.",
        examples=[["slo"]],
        json_schema_extra=words("a list of min_replicas, max_replicas, slo"),
    )


class Tenants(Block):
    """What the annotations of a service may do where no entry says more."""

    max_step_up: int = Field(
        default=TenantRules().max_step_up,
        ge=1,
        description="Most replicas that one tick may add where annotations raised the minimum or the maximum, or where "
        "no entry matches.",
    )
    max_replicas: int = Field(
        default=TenantRules().max_replicas,
        ge=0,
        description="Most replicas of a deployment that no entry matches; 0 = such a service is only observed.",
    )
    max_gpus_per_namespace: int = Field(
        default=TenantRules().max_gpus_per_namespace,
        ge=0,
        description="Most GPUs of all deployments of one namespace together that no entry matches.",
    )
    gpu: str | None = Field(
        default=None,
        min_length=1,
        description="GPU kind whose budget they stand in; null = the one kind of gpu_budget, and with several kinds "
        "they are only observed.",
        json_schema_extra=words("a GPU kind of gpu_budget, or null"),
        examples=["nvidia-h100-80gb"],
    )
    gpus_per_replica: int | None = Field(
        default=None, ge=1, description="GPUs that one of their replicas counts as; null = what Serve says, at least 1."
    )
    drain_s: float = Field(
        default=TenantRules().drain_s,
        ge=0,
        le=86400,
        description="Seconds after which replicas beyond a deployment's share of a budget keep nobody else waiting.",
    )

    @property
    def rules(self) -> TenantRules:
        return TenantRules(
            self.max_step_up, self.max_replicas, self.max_gpus_per_namespace, self.gpu or "", self.gpus_per_replica,
            self.drain_s,
        )  # fmt: skip
