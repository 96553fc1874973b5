"""What a policy may see: every deployment, every pool and the budget at one moment, and what these are made of.

Keys, promises to users, measurements, starts under way; then the views themselves. Forecasts are in forecast.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, NamedTuple

from policies.base.durations import Duration
from policies.base.errors import PolicyError
from policies.base.forecast import Announcement, Forecast
from policies.base.record import record

if TYPE_CHECKING:
    from policies.capacity.profile import EngineProfile

UNBOUNDED_SLOTS = 100_000
"""max_ongoing_requests from here on limits nothing (serve.llm sets 1e9)."""
DEFAULT_NAMESPACE = "default"
DEFAULT_SERVICE = "local"


def whole_up(replicas: int, gang_size: int) -> int:
    """The smallest whole number of gangs (replicas that start and stop together) that holds this many, in replicas."""
    return -(-replicas // gang_size) * gang_size


def whole_down(replicas: int, gang_size: int) -> int:
    """The largest whole number of gangs that this many replicas hold, in replicas."""
    return replicas // gang_size * gang_size


def whole_like(replicas: int, before: int, gang_size: int) -> int:
    """A change of `before`, made whole in its own direction: more is rounded up, fewer down."""
    return whole_up(replicas, gang_size) if replicas > before else whole_down(replicas, gang_size)


class DeploymentKey(NamedTuple):
    """Which deployment: `[NAMESPACE/SERVICE/]APP/DEPLOYMENT`; the service is the RayService, `local` for a bare Ray."""

    namespace: str
    service: str
    app: str
    deployment: str

    @classmethod
    def parse(cls, text: str) -> DeploymentKey:
        """Two parts (`APP/DEPLOYMENT`) or four. Errors: PolicyError naming the text."""
        parts = text.split("/")
        if len(parts) == 2:
            parts = [DEFAULT_NAMESPACE, DEFAULT_SERVICE, *parts]
        if len(parts) != 4 or not all(parts):
            raise PolicyError(f"deployment key {text!r}: expected APP/DEPLOYMENT or NAMESPACE/SERVICE/APP/DEPLOYMENT")
        return cls(*parts)

    @property
    def full(self) -> str:
        return f"{self.namespace}/{self.service}/{self.app}/{self.deployment}"

    def __str__(self) -> str:
        """The shortest form that `parse` reads back."""
        if self.namespace == DEFAULT_NAMESPACE and self.service == DEFAULT_SERVICE:
            return f"{self.app}/{self.deployment}"
        return self.full

    def matches(self, pattern: str) -> bool:
        """Shell-style pattern over the key's parts, `*` within one part; two parts leave the first two open."""
        wanted = pattern.split("/")
        if len(wanted) == 2:
            wanted = ["*", "*", *wanted]
        own = (self.namespace, self.service, self.app, self.deployment)
        return len(wanted) == 4 and all(fnmatchcase(o, w) for o, w in zip(own, wanted, strict=True))


@dataclass(frozen=True, slots=True)
class Slo:
    """What users were promised: time to first token, mean time between tokens, and the share that gets both."""

    ttft_s: float | None = 2.0
    itl_s: float | None = 0.05
    target_fraction: float = 0.99


LONGEST_TTFT_S, LONGEST_ITL_S = 600.0, 10.0
"""Promises beyond these are taken for milliseconds, wherever settings are read."""
LEAST_TARGET_FRACTION, TARGET_FRACTION_BELOW = 0.5, 1
"""A promise is kept for half of the requests at least, and nobody can promise all of them: 1 leaves nothing that may
miss, and no fleet is large enough for it. The same wherever settings are read."""


@record(frozen=True, slots=True)
class TokenMix:
    """Mean tokens of a request: prompt, output, and the part of the prompt found in the prefix cache."""

    prompt_tokens: float
    output_tokens: float
    cached_prompt_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class ReplicaMetrics:
    """One replica's own gauges, as a pod metric would give them."""

    replica_id: str
    ongoing: float | None = None
    running: float | None = None
    waiting: float | None = None
    kv_usage_fraction: float | None = None


@dataclass(frozen=True, slots=True)
class HandleReport:
    """What one Serve handle pushed to Serve's own autoscaler: series of (time_s, value). Only that policy reads it."""

    handle: str
    queued: tuple[tuple[float, float], ...]
    running: tuple[tuple[str, tuple[tuple[float, float], ...]], ...]


@record(frozen=True, slots=True)
class Totals:
    """What was counted of a deployment since its metrics were first read: what happened between two moments is the
    difference of their totals. `ttft_s` sums the times to first token of `first_tokens` requests, `itl_s` those between
    tokens of `gaps` gaps (of requests, where the engine exports one mean for each).
    """

    arrivals: float = 0.0
    finished: float = 0.0
    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    cached_prompt_tokens: float = 0.0
    ttft_s: float = 0.0
    first_tokens: float = 0.0
    itl_s: float = 0.0
    gaps: float = 0.0


LeadPath = Literal["free_gpu", "warm_node", "new_node"]
"""How a new replica gets its GPUs: free in a running worker; a Ready node without a worker; a node yet to come."""


@dataclass(frozen=True, slots=True)
class LeadTimes:
    """How long from asking for a replica until it is RUNNING, by the path it takes."""

    free_gpu: Duration
    warm_node: Duration
    new_node: Duration

    def path(self, path: LeadPath) -> Duration:
        """Of one path."""
        if path == "free_gpu":
            return self.free_gpu
        return self.warm_node if path == "warm_node" else self.new_node


@record(frozen=True, slots=True)
class StartView:
    """A replica that was asked for and is not RUNNING yet."""

    asked_at_s: float
    path: LeadPath
    stage: str
    expected_ready_at_s: float


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """All that a policy may know of one deployment at one moment."""

    key: DeploymentKey
    # demand (exogenous) and load
    rate_rps: float | None = None
    mix: TokenMix | None = None
    waiting: float | None = None
    ongoing: float | None = None
    kv_usage_fraction: float | None = None
    metrics_as_of_s: float | None = None
    replica_metrics: tuple[ReplicaMetrics, ...] = ()
    handle_reports: tuple[HandleReport, ...] = ()
    forecast: Forecast | None = None
    no_forecast: str = ""
    """Why there is no forecast and will be none for now; empty: there is one, or none yet."""
    """With what was announced in it."""
    announcements: tuple[Announcement, ...] = ()
    """What was announced for now or the horizon ahead, also where there is no forecast; in requests of today's mix."""
    bins: tuple[tuple[float, float | None], ...] = ()
    """What the forecaster was shown since the last look: ends of bins (seconds), mean rates (None: not seen)."""
    attained_fraction: float | None = None
    judged_requests: float = 0.0
    """Requests that the newest metrics added, as far as they were held against the SLO, and those that missed it."""
    judged_missed: float = 0.0
    totals: Totals | None = None
    # supply
    target: int | None = None
    running: int | None = None
    starting: tuple[StartView, ...] = ()
    draining: int | None = None
    capacity_rps: float | None = None
    """What one replica carries within the SLO at today's token mix."""
    capacity_batch: float | None = None
    """Requests in flight on one replica at that capacity; None without an engine profile."""
    profile: EngineProfile | None = None
    """What is known of the engine from offline measurements, where the user named a profile."""
    max_ongoing_requests: int | None = None
    lead_times: LeadTimes | None = None
    next_path: LeadPath = "new_node"
    """The path the next replica asked for would take."""
    # what the user states
    slo: Slo = field(default_factory=Slo)
    min_replicas: int = 1
    max_replicas: int = 1
    weight: float = 1.0
    priority: int = 0
    guaranteed_gpus: int = 0
    gpus_per_replica: int = 1
    node_pools: tuple[str, ...] = ()
    gang_size: int = 1
    """Replicas that start and stop together. The bounds and `target` are multiples of it; what is proposed is rounded
    up to one."""

    @property
    def supply(self) -> int | None:
        """Replicas that run or are on their way (not the draining ones)."""
        return None if self.running is None else self.running + len(self.starting)


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool of nodes, all of one kind."""

    name: str
    gpus_per_node: int
    nodes_ready: int | None = None
    nodes_starting: int | None = None
    gpus_free: int | None = None
    """GPUs on Ready nodes that no replica holds."""
    min_nodes: int = 0
    max_nodes: int | None = None
    node_lead_time: Duration | None = None
    price_usd_per_hour: float | None = None
    refused: bool = False
    """The last request for a node was refused (stock-out, quota)."""
    taken_per_node_hour: float = 0.0
    """How often a node with replicas on it is taken away (spot), as learned; 0 while none was seen to be."""
    taken_at_once: float = 1.0
    """How many nodes one such event takes."""


@dataclass(frozen=True, slots=True)
class FleetView:
    """Every deployment, every pool and the GPU budget (GPU kind -> GPUs; absent = no budget) at one moment."""

    now_s: float
    period_s: float
    deployments: tuple[DeploymentView, ...]
    pools: tuple[PoolView, ...] = ()
    gpu_budget: Mapping[str, int] = field(default_factory=dict)

    def pool(self, name: str) -> PoolView | None:
        for one in self.pools:
            if one.name == name:
                return one
        return None
