"""Scenario files: their keys, types, bounds and meaning, each documented where it is declared. pydantic, and only that.

For the form of a file. What goes beyond one key (pools that exist, traces that can be read) is in checks.py,
reading and overrides are in load.py, and what a run is made from is `Scenario` there.
"""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from autoscaler.config_errors import ALLOWED
from autoscaler.model import GuardSettings
from autoscaler.prewarm import Way
from policies.base import LONGEST_ITL_S, LONGEST_TTFT_S, Slo
from policies.durations import Duration
from simulator.synthetic import Bursts, Day, MixKnot, Spike, Synthetic

# ---------------------------------------------------------------- kinds of values


def _spread(value: Any) -> Duration:
    """A bare number (a constant), or `{median, p99}` (a log-normal). Errors: PydanticCustomError."""
    numbers = list(value.values()) if isinstance(value, dict) else [value]
    plain = all(isinstance(n, int | float) and not isinstance(n, bool) and n <= _MAX_SPREAD for n in numbers)
    try:
        if isinstance(value, Duration):
            return value
        if plain and isinstance(value, dict) and set(value) == {"median", "p99"} and value["median"] > 0:
            return Duration.from_median_p99(float(value["median"]), float(value["p99"]))
        if plain and not isinstance(value, dict):
            return Duration(float(value))
    except (ValueError, OverflowError):
        pass
    shown = {"shown": ", ".join(f"{k}: {v}" for k, v in value.items())} if isinstance(value, dict) else {}
    raise PydanticCustomError("spread", "neither a number nor {median, p99}", shown)


def _plain(spread: Duration) -> dict[str, float] | float:
    if spread.sigma == 0:
        return float(spread.median_s)
    return {"median": float(spread.median_s), "p99": float(f"{spread.quantile(0.99):.6g}")}


def _words(text: str) -> dict[str, Any]:
    return {ALLOWED: text}


MAX_DURATION_S = 3.2e8
"""Ten years: what is longer is a slip of units, and would be simulated until memory ends."""
MAX_NODES = 100_000
MAX_SCALE = 1e6
_MAX_SPREAD = 1e9
"""Thirty years, or more tokens than any model reads."""
_SPREAD_SCHEMA: dict[str, Any] = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "object"}]}
DurationS = Annotated[
    Duration,
    PlainValidator(_spread),
    PlainSerializer(_plain),
    WithJsonSchema(
        {**_SPREAD_SCHEMA, **_words("seconds from 0 to 1e9, or {median: .., p99: ..} with 0 < median <= p99")}
    ),
]
Tokens = Annotated[
    Duration,
    PlainValidator(_spread),
    PlainSerializer(_plain),
    WithJsonSchema(
        {**_SPREAD_SCHEMA, **_words("tokens from 0 to 1e9, or {median: .., p99: ..} with 0 < median <= p99")}
    ),
]
Name = Annotated[
    str, Field(pattern=r"^[^/\s*]+$", max_length=253, json_schema_extra=_words("a name without '/', '*' or spaces"))
]
PathText = Annotated[str, Field(min_length=1, json_schema_extra=_words("a path, relative to the scenario file"))]
Fraction = Annotated[float, Field(ge=0, le=1)]

PrewarmWay = Way
FaultKind = Literal["replica_crash", "source_down", "api_errors", "controller_restart", "redeploy"]
TELEMETRY_PROFILES = ("ray_serve", "prometheus_15s", "ideal", "serve_handles")


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


# ---------------------------------------------------------------- traffic


class DayBlock(Block):
    """A daily wave."""

    amplitude_fraction: Fraction = Field(default=0.0, description="Height of the wave over its mean.")
    peak_hour: float = Field(default=13.0, ge=0, le=24, description="Hours after time 0 at which it is highest.")


class SpikeBlock(Block):
    """A jump at a fixed time."""

    at_s: float = Field(ge=0, description="When it begins.")
    width_s: float = Field(gt=0, description="How long it lasts.")
    factor: float = Field(ge=0, description="What the rate is multiplied by.")
    every_s: float | None = Field(default=None, gt=0, description="Seconds from one to the next; null = once.")


class BurstsBlock(Block):
    """Jumps at random times."""

    per_day: float = Field(ge=0, description="How many a day, on average.")
    factor: float = Field(
        ge=1, description="The most that the rate is multiplied by; each burst draws its own share of it."
    )
    decay_s: float = Field(default=300.0, gt=0, description="Seconds after which 1/e of a burst is left.")
    shared: Name | None = Field(
        default=None, description="Deployments that name the same here meet the same bursts; null = its own."
    )


class MixKnotBlock(Block):
    """Lengths at one moment; a straight line leads from one to the next."""

    at_s: float = Field(ge=0, description="When.")
    prompt_factor: float = Field(default=1.0, gt=0, le=1000, description="Prompts are so many times as long.")
    output_factor: float = Field(default=1.0, gt=0, le=1000, description="Outputs are so many times as long.")


class SyntheticBlock(Block):
    """Made-up traffic; time 0 is midnight of the week's first day."""

    bin_s: float = Field(default=60.0, gt=0, description="Seconds over which the rate is constant.")
    duration_s: float = Field(gt=0, le=MAX_DURATION_S, description="Seconds of traffic.")
    base_rps: float = Field(ge=0, description="Mean requests per second before everything below.")
    day: DayBlock = Field(default=DayBlock(), description="A daily wave.")
    week: list[Annotated[float, Field(ge=0)]] = Field(
        default=[],
        max_length=7,
        description="A factor per day of the week.",
        json_schema_extra=_words("7 factors >= 0"),
    )
    spikes: list[SpikeBlock] = Field(default=[], description="Jumps at fixed times.")
    bursts: BurstsBlock | None = Field(default=None, description="Jumps at random times.")
    noise_fraction: float = Field(default=0.0, ge=0, le=5, description="Standard deviation of each bin's rate over it.")
    mix: list[MixKnotBlock] = Field(default=[], description="How lengths shift with time.")
    prompt_tokens: Tokens | None = Field(default=None, description="Length of prompts.")
    output_tokens: Tokens | None = Field(default=None, description="Length of outputs.")

    def spec(self) -> Synthetic:
        return Synthetic(
            self.bin_s,
            self.duration_s,
            self.base_rps,
            Day(self.day.amplitude_fraction, self.day.peak_hour),
            tuple(self.week),
            tuple(Spike(s.at_s, s.width_s, s.factor, s.every_s) for s in self.spikes),
            Bursts(**self.bursts.model_dump()) if self.bursts else None,
            self.noise_fraction,
            tuple(MixKnot(**knot.model_dump()) for knot in sorted(self.mix, key=lambda k: k.at_s)),
        )


class WorkloadBlock(Block):
    """Where a deployment's requests come from: exactly one of requests, rates and synthetic."""

    requests: PathText | None = Field(default=None, description="A requests trace (CSV, .gz).")
    rates: PathText | None = Field(default=None, description="A rates trace (CSV, .gz).")
    synthetic: SyntheticBlock | None = Field(default=None, description="Made-up traffic.")
    start_s: float = Field(default=0.0, ge=0, description="The trace's time that becomes the scenario's time 0.")
    rate_scale: float = Field(default=1.0, gt=0, le=MAX_SCALE, description="Traffic times this.")
    repeat: bool = Field(default=False, description="Begin again where the trace ends.")
    prompt_tokens: Tokens | None = Field(default=None, description="Length of prompts, for rates and synthetic.")
    output_tokens: Tokens | None = Field(default=None, description="Length of outputs, for rates and synthetic.")


class HistoryBlock(Block):
    """What the forecaster saw before the start; rows at or after workload.start_s are never read."""

    rates: PathText | None = Field(default=None, description="A rates trace on the workload file's clock.")
    requests: PathText | None = Field(default=None, description="A requests trace on the workload file's clock.")
    workload: bool = Field(default=False, description="true: the workload's own traffic before workload.start_s.")
    rate_scale: float | None = Field(
        default=None, gt=0, le=MAX_SCALE, description="Its own scale; null = workload.rate_scale."
    )


class HintBlock(Block):
    """Planned demand that somebody announces."""

    at_s: float = Field(ge=0, description="When it is announced.")
    start_s: float = Field(ge=0, description="When it begins.")
    end_s: float = Field(gt=0, description="When it ends.")
    rps: float | None = Field(default=None, ge=0, description="Requests per second that are expected.")
    multiplier: float | None = Field(default=None, ge=0, description="Or: times the forecast.")
    confidence_fraction: Fraction = Field(default=1.0, description="How sure the announcement is.")


# ---------------------------------------------------------------- deployments


class ReplicasBlock(Block):
    """Bounds of a deployment's replicas, and how many run at time 0."""

    min: int = Field(default=1, ge=0, description="Fewest replicas.")
    max: int = Field(ge=1, description="Most replicas.")
    initial: int | None = Field(default=None, ge=0, description="Replicas RUNNING at time 0; null = min.")


class SloBlock(Block):
    """What users were promised."""

    ttft_s: float | None = Field(
        default=Slo().ttft_s,
        gt=0,
        le=LONGEST_TTFT_S,
        description="Seconds to the first token; null = no promise.",
        json_schema_extra=_words(f"seconds above 0 and up to {LONGEST_TTFT_S:g} (2000 ms are written 2), or null"),
    )
    itl_s: float | None = Field(
        default=Slo().itl_s,
        gt=0,
        le=LONGEST_ITL_S,
        description="Mean seconds between tokens; null = no promise.",
        json_schema_extra=_words(f"seconds above 0 and up to {LONGEST_ITL_S:g} (50 ms are written 0.05), or null"),
    )
    target_fraction: float = Field(default=Slo().target_fraction, gt=0, le=1, description="Share that must get both.")


class StartupBlock(Block):
    """A replica's own part of a cold start."""

    load_s: DurationS | None = Field(default=None, description="Loading the weights; null = the profile's.")
    init_s: DurationS | None = Field(default=None, description="From loaded weights to RUNNING; null = the profile's.")


class DeploymentBlock(Block):
    """One deployment."""

    name: str = Field(
        description="Its key.", json_schema_extra=_words("APP/DEPLOYMENT or NAMESPACE/SERVICE/APP/DEPLOYMENT")
    )
    profile: str = Field(min_length=1, description="Engine profile: a preset, or a path relative to the scenario file.")
    node_pool: Name | None = Field(default=None, description="The one pool it can run on.")
    node_pools: list[Name] = Field(default=[], description="The pools it can run on, in order of preference.")
    replicas: ReplicasBlock = Field(description="Bounds of its replicas.")
    slo: SloBlock = Field(default=SloBlock(), description="What its users were promised.")
    weight: float = Field(default=1.0, gt=0, description="Share of a scarce budget.")
    priority: int = Field(default=0, ge=-1000, le=1000, description="Class for a scarce budget: higher is first.")
    guaranteed_gpus: int = Field(default=0, ge=0, description="GPUs of the budget that are its own.")
    max_ongoing_requests: int = Field(default=256, ge=1, description="Requests that a replica takes at once.")
    request_timeout_s: float = Field(default=600.0, gt=0, description="After this a request is given up.")
    graceful_shutdown_timeout_s: float = Field(default=120.0, ge=0, description="The longest a replica drains.")
    startup: StartupBlock = Field(default=StartupBlock(), description="Overrides the profile's start-up times.")
    workload: WorkloadBlock = Field(description="Its traffic.")
    history: HistoryBlock | None = Field(default=None, description="Its traffic before time 0.")
    hints: list[HintBlock] = Field(default=[], description="Announcements of planned demand.")

    @property
    def pools(self) -> tuple[str, ...]:
        return (self.node_pool,) if self.node_pool is not None else tuple(self.node_pools)


# ---------------------------------------------------------------- nodes


class NodesBlock(Block):
    """How many nodes a pool has."""

    min: int = Field(default=0, ge=0, le=MAX_NODES, description="Fewest nodes.")
    max: int = Field(ge=1, le=MAX_NODES, description="Most nodes.")
    initial: int | None = Field(
        default=None, ge=0, le=MAX_NODES, description="Ready at time 0; null = what the initial replicas need."
    )
    reserved: int = Field(default=0, ge=0, le=MAX_NODES, description="Nodes that are billed always.")


class WorkerBlock(Block):
    """The Ray worker pod."""

    gpus: int | None = Field(default=None, ge=1, description="GPUs of a worker; null = all of a node.")
    start_s: DurationS = Field(
        default=Duration.from_median_p99(20.0, 60.0), description="From image present to worker up."
    )
    idle_timeout_s: float = Field(
        default=60.0, ge=0, description="Seconds without a replica after which it is removed."
    )
    autoscaler_period_s: float = Field(default=5.0, gt=0, description="How often Ray's autoscaler looks.")


class StockoutBlock(Block):
    """A time in which requests for nodes are refused."""

    start_s: float = Field(ge=0, description="From.")
    end_s: float = Field(ge=0, description="To.")
    fraction: Fraction = Field(default=1.0, description="Share of the requests that are refused.")


class NodePoolBlock(Block):
    """A pool of nodes, all of one kind."""

    name: Name = Field(description="Its name.")
    gpus_per_node: int = Field(default=8, ge=1, le=64, description="GPUs of a node.")
    nodes: NodesBlock = Field(description="How many nodes.")
    provision_s: DurationS = Field(
        default=Duration.from_median_p99(150.0, 420.0), description="From asked for to Ready."
    )
    image_pull_s: DurationS = Field(
        default=Duration.from_median_p99(40.0, 120.0), description="For the first worker of an image on a node."
    )
    worker: WorkerBlock = Field(default=WorkerBlock(), description="The Ray worker pod.")
    prewarm: PrewarmWay = Field(default="placeholder", description="How nodes are started ahead of need.")
    price_usd_per_hour: float | None = Field(
        default=None, ge=0, le=1e9, description="Of a node; null = GPUs times the profile's price."
    )
    spot: bool = Field(default=False, description="Can be taken away (preemption_per_node_hour).")
    preemption_per_node_hour: float = Field(default=0.0, ge=0, description="How often a spot node is taken away.")
    scale_down_after_s: float = Field(
        default=600.0, ge=0, description="Seconds a node stands empty before it is deleted."
    )
    stockouts: list[StockoutBlock] = Field(default=[], description="Times of no stock.")


# ---------------------------------------------------------------- the file


class TelemetryBlock(Block):
    """What the controller can see, and how late."""

    profile: Literal["ray_serve", "prometheus_15s", "ideal", "serve_handles"] = Field(
        default="ray_serve", description="Named set of delays."
    )
    period_s: float | None = Field(default=None, ge=0, description="Seconds from one report of a process to the next.")
    delay_s: float | None = Field(default=None, ge=0, description="Seconds until a report can be read.")
    drop_fraction: Fraction | None = Field(default=None, description="Share of reads that fail.")


class GuardsBlock(Block):
    """Limits that hold for policies with full guards, as in the controller's settings file."""

    stale_after_s: float = Field(
        default=GuardSettings().stale_after_s, gt=0, le=3600, description="Metrics older than this are unknown."
    )
    scale_down_stabilization_s: float = Field(
        default=GuardSettings().scale_down_stabilization_s,
        ge=0,
        le=86400,
        description="Seconds during which every proposal must have allowed a scale-down.",
    )
    max_step_up: int | None = Field(
        default=GuardSettings().max_step_up, ge=1, description="Most replicas that one tick adds; null = no limit."
    )
    max_step_down: int | None = Field(
        default=GuardSettings().max_step_down, ge=1, description="Most replicas that one tick removes; null = no limit."
    )

    @property
    def settings(self) -> GuardSettings:
        return GuardSettings(self.stale_after_s, self.scale_down_stabilization_s, self.max_step_up, self.max_step_down)


class PolicyBlock(Block):
    """Who decides."""

    name: str = Field(default="predictive", min_length=1, description="The policy's name.")
    options: dict[str, Any] = Field(default={}, description="The policy's own options.")


class FaultBlock(Block):
    """Something that breaks, or that somebody changes, in the middle. Which keys a kind takes: faults.py."""

    at_s: float = Field(ge=0, description="When.")
    kind: FaultKind = Field(description="What happens.")
    deployment: str | None = Field(
        default=None, description="The deployment that it happens to; of api_errors: null = every one."
    )
    replicas: int | None = Field(
        default=None,
        ge=1,
        description="Of replica_crash: how many crash (null = 1). Of redeploy: num_replicas of the new configuration "
        "(null = replicas.initial).",
    )
    duration_s: float | None = Field(
        default=None,
        gt=0,
        description="How long it lasts; of controller_restart: nobody decides for so long (null = 10).",
    )
    source: Literal["ray_dashboard", "node_metrics", "kubernetes"] | None = Field(
        default=None, description="Of source_down: what cannot be read."
    )
    api: Literal["serve", "kubernetes"] | None = Field(
        default=None, description="Of api_errors: what cannot be written to (null = serve)."
    )
    fraction: float | None = Field(
        default=None, gt=0, le=1, description="Of api_errors: share of the writes that fail (null = 1)."
    )
    state: Literal["saved", "lost"] | None = Field(
        default=None, description="Of controller_restart: whether its state file is still there (null = saved)."
    )
    new_image: bool | None = Field(
        default=None, description="Of redeploy: the new version has an image of its own (null = false)."
    )
    rolling_update_fraction: float | None = Field(
        default=None, gt=0, le=1, description="Of redeploy: Serve's rolling_update_percentage (null = 0.2)."
    )
    max_surge_fraction: float | None = Field(
        default=None, ge=0, le=1, description="Of redeploy: Serve's max_surge_percent / 100 (null = 0)."
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
    telemetry: TelemetryBlock = Field(default=TelemetryBlock(), description="What the controller can see.")
    policy: PolicyBlock = Field(default=PolicyBlock(), description="Who decides.")
    guards: GuardsBlock = Field(default=GuardsBlock(), description="Limits that hold whatever the policy wants.")
    gpu_budget: dict[str, Annotated[int, Field(ge=0)]] = Field(default={}, description="Most GPUs of a kind.")
    deployments: list[DeploymentBlock] = Field(min_length=1, description="The deployments.")
    node_pools: list[NodePoolBlock] = Field(min_length=1, description="The pools of nodes.")
    faults: list[FaultBlock] = Field(default=[], description="What breaks or is changed in the middle.")
