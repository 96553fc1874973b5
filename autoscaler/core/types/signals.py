"""Inputs of the controller: replicas, metrics, nodes, hints, the pause switch, and the state of each source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from autoscaler.core.types.settings import ActWay, DeploymentSettings, PoolSettings
from policies.base import DeploymentKey, HandleReport, ReplicaMetrics

ReplicaState = Literal["STARTING", "UPDATING", "RECOVERING", "RUNNING", "STOPPING", "PENDING_MIGRATION"]


@dataclass(frozen=True, slots=True)
class ReplicaSignal:
    """One replica as Serve lists it. `node_id` is None until it is placed; `start_time_s` is when Serve created it."""

    replica_id: str
    state: str
    start_time_s: float | None = None
    node_id: str | None = None
    worker_id: str | None = None


@dataclass(frozen=True, slots=True)
class ServeAutoscaling:
    """A deployment's autoscaling_config: Serve's own autoscaler works on it."""

    policy: str
    """Import path of the policy that decides."""
    policy_kwargs: Mapping[str, Any] = field(default_factory=dict)
    min_replicas: int | None = None
    max_replicas: int | None = None
    upscale_delay_s: float | None = None
    downscale_delay_s: float | None = None

    @property
    def follows_plan(self) -> bool:
        """The policy is leadtime_serve_policy's, wherever the module was put."""
        return f".{self.policy.replace(':', '.')}".endswith(".leadtime_serve_policy.LeadtimePolicy")


@dataclass(frozen=True, slots=True)
class DeploymentInventory:
    """Ray Serve's API on one deployment (fresh: it is the controller's own table)."""

    as_of_s: float
    target: int
    replicas: tuple[ReplicaSignal, ...]
    app_status: str = "RUNNING"
    status: str = "HEALTHY"
    message: str = ""
    external_scaler_enabled: bool | None = None
    autoscaled_by_serve: bool = False
    """Serve's own autoscaler works on it and would overwrite every level that is posted."""
    max_ongoing_requests: int | None = None
    gpus_per_replica: int | None = None
    configured_replicas: int | None = None
    dead_replicas: int = 0
    """Recent replicas that died (Serve keeps the last ten)."""
    autoscaling: ServeAutoscaling | None = None
    act: ActWay = "external"
    """How leadtime is to act on it, by the settings of its service."""
    is_ingress: bool = False
    """Requests to its application come to it first."""
    chooses_for: str = ""
    """The ingress that it names replicas of: the router deployment of direct streaming."""
    gang_size: int = 1
    """Replicas that Serve starts and stops together (`gang_scheduling_config`); its target must be a multiple of it."""

    def count(self, *states: str) -> int:
        return sum(1 for r in self.replicas if r.state in states)


@dataclass(frozen=True, slots=True)
class Histogram:
    """A cumulative histogram: counts of observations <= each edge (seconds); edges ascend, the last is +inf."""

    edges: tuple[float, ...]
    counts: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class DeploymentMetrics:
    """Metrics of a deployment, joined by replica. 4-15 s late on Ray.

    Counters stay one value per series (a series resets and vanishes on its own): series id -> cumulative value.
    """

    as_of_s: float
    arrivals_total: Mapping[str, float] = field(default_factory=dict)
    """Requests counted where they queue: also at zero replicas."""
    prompt_tokens_total: Mapping[str, float] = field(default_factory=dict)
    output_tokens_total: Mapping[str, float] = field(default_factory=dict)
    cached_tokens_total: Mapping[str, float] = field(default_factory=dict)
    finished_total: Mapping[str, float] = field(default_factory=dict)
    """Completed requests. Aborted ones are counted nowhere; they follow from the first tokens that are left over."""
    ended_early_total: Mapping[str, float] = field(default_factory=dict)
    """Requests that engines ended because the client left or something failed, where they count those."""
    at_front_total: Mapping[str, float] = field(default_factory=dict)
    """Requests that ended at the front of the application (proxy, HAProxy), of its ingress deployment only."""
    at_replicas_total: Mapping[str, float] = field(default_factory=dict)
    """Requests that ended in replicas, as Serve counts them there."""
    errors_total: Mapping[str, float] = field(default_factory=dict)
    rejected_total: Mapping[str, float] = field(default_factory=dict)
    """Requests turned away before they could queue (back-pressure); not part of `arrivals_total`."""
    preemptions_total: Mapping[str, float] = field(default_factory=dict)
    ttft: Mapping[str, Histogram] = field(default_factory=dict)
    itl: Mapping[str, Histogram] = field(default_factory=dict)
    ttft_sum_s: Mapping[str, float] = field(default_factory=dict)
    """Sums of what those histograms counted; empty where the engine exports none."""
    itl_sum_s: Mapping[str, float] = field(default_factory=dict)
    queued_at_handles: float | None = None
    """Waiting for a replica at proxies and handles; the wake signal at zero."""
    ongoing: float | None = None
    """Requests sent to a replica and not finished, as counted by handles; by replicas or engines if those show clearly
    more.
    """
    ongoing_beside_handles: float = 0.0
    """Part of `ongoing` that no handle shows. Behind HAProxy it is all of them, and a handle's 0 does not mean idle."""
    replicas: tuple[ReplicaMetrics, ...] = ()
    """Gauges of replicas that the inventory lists as alive; dead ones are left out by the join."""
    handle_reports: tuple[HandleReport, ...] = ()
    baseline: tuple[str, ...] = ()
    """Series of pages read for the first time: their counts may be old, so a new one adds nothing yet."""
    silent_pages: int = 0
    """Pages with series of this deployment that are much older than the others and left out."""


@dataclass(frozen=True, slots=True)
class DeploymentSignals:
    """One deployment. Either half may be missing (that source failed); then it is unknown."""

    key: DeploymentKey
    inventory: DeploymentInventory | None = None
    metrics: DeploymentMetrics | None = None
    unreadable: str = ""
    """Why Ray's answer about it cannot be used; then there is no inventory."""
    accepted: int | None = None
    """The level that Serve accepted from us at the last tick; None: nothing was posted, or it was not accepted."""


@dataclass(frozen=True, slots=True)
class NodeSignal:
    """One node of a pool. `workers` are Ray workers running on it (0: a warm node without a worker)."""

    name: str
    state: Literal["starting", "ready", "deleting"]
    requested_at_s: float | None = None
    ready_at_s: float | None = None
    gpus: int = 0
    gpus_used: int | None = None
    workers: int | None = None
    claimed: bool | None = None
    """A Ray worker is on the node or waits for it, so that it need not be held; None: as `workers` says."""
    ends_at_s: float | None = None
    """When the node is removed with everything on it (seven days after it came from a queue); None: never."""
    pool: str = ""
    """The real node pool, if the pool of the settings stands for several (a ComputeClass); "" = unknown."""
    zone: str = ""

    def ends_within(self, seconds: float, now_s: float) -> bool:
        """A known loss of capacity, so near that its replacement must be requested now."""
        return self.ends_at_s is not None and self.ends_at_s - now_s <= seconds

    @property
    def busy(self) -> bool:
        """Not held by pre-warming: there for a worker."""
        return bool(self.workers) if self.claimed is None else self.claimed


def nodes_usd_per_hour(settings: PoolSettings, nodes: Iterable[NodeSignal]) -> float | None:
    """What these nodes cost together; None: the price of one of them, or of the pool, is unknown."""
    prices = [settings.real_prices_usd_per_hour.get(node.pool, settings.price_usd_per_hour) for node in nodes]
    known = [price for price in prices if price is not None]
    if len(known) < len(prices) or (not prices and settings.price_usd_per_hour is None):
        return None
    return sum(known, 0.0)


@dataclass(frozen=True, slots=True)
class WorkerSignal:
    """A Ray worker pod from its node to being up; times that were not observed are None."""

    name: str
    scheduled_at_s: float | None = None
    up_at_s: float | None = None
    pull_s: float | None = None
    """Duration of its image pull; 0 = the image was on the node, None = not reported."""


@dataclass(frozen=True, slots=True)
class PoolRefusal:
    """A request for nodes that was refused."""

    at_s: float
    kind: str
    """`stockout`, `quota` or `other`."""
    zone: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True)
class PoolSignals:
    """The nodes of one pool; `refused_at_s` is when the last request for a node was refused (stock-out, quota)."""

    name: str
    as_of_s: float
    nodes: tuple[NodeSignal, ...]
    refused_at_s: float | None = None
    workers: tuple[WorkerSignal, ...] = ()
    refusals: tuple[PoolRefusal, ...] = ()
    """The last ones, oldest first."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How a source did: up with the age of what it gave, or down with the reason."""

    name: str
    up: bool
    as_of_s: float | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class PauseState:
    """The kill switch: everything, or single deployments."""

    everything: bool = False
    deployments: frozenset[DeploymentKey] = frozenset()

    def covers(self, key: DeploymentKey) -> bool:
        return self.everything or (bool(self.deployments) and key in self.deployments)


@dataclass(frozen=True, slots=True)
class Hint:
    """Announced demand; it can only raise the forecast.

    Either a level that demand will reach in [start, end), or a multiple of what is expected otherwise.
    """

    id: str
    key: DeploymentKey
    start_at_s: float
    end_at_s: float
    rps: float | None = None
    multiplier: float | None = None
    confidence_fraction: float = 1.0
    prompt_tokens: float | None = None
    """Of the announced requests, where they differ from today's; with `rps` only."""
    output_tokens: float | None = None
    asked_by: str = ""


@dataclass(frozen=True, slots=True)
class Signals:
    """All inputs of one tick."""

    deployments: tuple[DeploymentSignals, ...] = ()
    pools: tuple[PoolSignals, ...] = ()
    sources: tuple[SourceStatus, ...] = ()
    pause: PauseState = PauseState()
    leader: bool = True
    hints: tuple[Hint, ...] = ()
    settings: tuple[DeploymentSettings, ...] = ()
    """Entries that annotations make; they stand before those of the settings file."""

    def deployment(self, key: DeploymentKey) -> DeploymentSignals | None:
        return next((d for d in self.deployments if d.key == key), None)
