"""The nouns of the controller: what it is told (Signals), what it decides (Plan), and its settings.

All frozen and slotted; units in the names; `None` is unknown, never 0. No behaviour beyond small look-ups, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from policies.base import (
    DeploymentKey,
    Forecast,
    HandleReport,
    LeadPath,
    LeadTimes,
    ReplicaMetrics,
    Slo,
    StartView,
    Term,
    TokenMix,
)
from policies.durations import Duration
from policies.engines import EngineProfile

# ---------------------------------------------------------------- what the controller is told

ReplicaState = Literal["STARTING", "UPDATING", "RECOVERING", "RUNNING", "STOPPING", "PENDING_MIGRATION"]


@dataclass(frozen=True, slots=True)
class ReplicaSignal:
    """One replica as Serve lists it. `node_id` is None until it is placed; `start_time_s` is when Serve created it."""

    replica_id: str
    state: str
    start_time_s: float | None = None
    node_id: str | None = None
    worker_id: str | None = None


ActWay = Literal["external", "policy"]
"""How leadtime acts on a Serve deployment: by posting levels from outside, or by a policy inside Serve's controller
that follows the published plan."""


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
    """What Ray Serve's API says of a deployment (fresh: it is the controller's own table)."""

    as_of_s: float
    target: int
    replicas: tuple[ReplicaSignal, ...]
    app_status: str = "RUNNING"
    status: str = "HEALTHY"
    message: str = ""
    external_scaler_enabled: bool | None = None
    autoscaled_by_serve: bool = False
    """Serve's own autoscaler works on it: whatever we post, it takes back."""
    max_ongoing_requests: int | None = None
    gpus_per_replica: int | None = None
    configured_replicas: int | None = None
    dead_replicas: int = 0
    """Recent replicas that died (Serve keeps the last ten)."""
    autoscaling: ServeAutoscaling | None = None
    act: ActWay = "external"
    """How leadtime is to act on it, by the settings of its service."""

    def count(self, *states: str) -> int:
        return sum(1 for r in self.replicas if r.state in states)


@dataclass(frozen=True, slots=True)
class Histogram:
    """A cumulative histogram: counts of observations <= each edge (seconds); edges ascend, the last is +inf."""

    edges: tuple[float, ...]
    counts: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class DeploymentMetrics:
    """What the metrics pages say of a deployment, joined by replica. Late by 4-15 s on Ray.

    Counters stay one value per series (a series resets and vanishes on its own): series id -> cumulative value.
    """

    as_of_s: float
    arrivals_total: Mapping[str, float] = field(default_factory=dict)
    """Requests counted where they queue: also at zero replicas."""
    prompt_tokens_total: Mapping[str, float] = field(default_factory=dict)
    output_tokens_total: Mapping[str, float] = field(default_factory=dict)
    cached_tokens_total: Mapping[str, float] = field(default_factory=dict)
    finished_total: Mapping[str, float] = field(default_factory=dict)
    """Requests that ended well (denominator of the mean output length)."""
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
    """Sent to a replica and not finished."""
    replicas: tuple[ReplicaMetrics, ...] = ()
    """Gauges of replicas that the inventory lists as alive; dead ones are left out by the join."""
    handle_reports: tuple[HandleReport, ...] = ()
    baseline: tuple[str, ...] = ()
    """Series of pages that were read for the first time: what they count may be old, so a new one adds nothing yet."""


@dataclass(frozen=True, slots=True)
class DeploymentSignals:
    """One deployment: either half may be missing (that source failed), and then it is unknown."""

    key: DeploymentKey
    inventory: DeploymentInventory | None = None
    metrics: DeploymentMetrics | None = None


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
    """A Ray worker is on it or waits for it, so that it needs nobody to hold it; None: as `workers` says."""
    ends_at_s: float | None = None
    """When it goes whatever runs on it (seven days after it was provisioned from a queue); None: never."""
    pool: str = ""
    """The real node pool, where the pool of the settings stands for several (a ComputeClass); "" = unknown."""
    zone: str = ""

    def ends_within(self, seconds: float, now_s: float) -> bool:
        """A known drop of capacity, so near that its replacement has to be asked for."""
        return self.ends_at_s is not None and self.ends_at_s - now_s <= seconds

    @property
    def busy(self) -> bool:
        """Not held by pre-warm: there for a worker."""
        return bool(self.workers) if self.claimed is None else self.claimed


@dataclass(frozen=True, slots=True)
class WorkerSignal:
    """A Ray worker pod on its way from a node to being up; times it was not seen at are None."""

    name: str
    scheduled_at_s: float | None = None
    up_at_s: float | None = None
    pull_s: float | None = None
    """Its image's pull; 0 = the image was there, None = nobody said."""


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
        return self.everything or key in self.deployments


@dataclass(frozen=True, slots=True)
class Hint:
    """Planned demand that somebody announced; it can only raise the forecast.

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


# ---------------------------------------------------------------- what it decides


@dataclass(frozen=True, slots=True)
class GuardRecord:
    """A guard that changed a number: `before` -> `after`, and why."""

    name: str
    deployment: DeploymentKey | None
    before: int | None
    after: int | None
    why: str


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """The level that one deployment should have. `target` None: leave it alone (observed only, unknown, paused)."""

    key: DeploymentKey
    target: int | None
    observed_target: int | None
    proposed: int | None
    terms: tuple[Term, ...] = ()
    """Arguments for the number, the winning one first."""
    guards: tuple[GuardRecord, ...] = ()
    blocked: str | None = None
    """Why an actuator must refuse to apply it (Serve's autoscaler in the way, external scaling off): the exact mend."""
    service: str = "local"
    sentence: str = ""
    """The decision in one sentence for people."""
    act: ActWay = "external"
    """policy: nobody posts the level, a policy inside Serve follows the published plan."""


@dataclass(frozen=True, slots=True)
class ServiceGpus:
    """GPUs of one service (one Ray cluster)."""

    namespace: str
    service: str
    gpus: int


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """Nodes that a pool should have, busy and warm together; None: leave it alone."""

    name: str
    nodes: int | None
    observed_nodes: int | None
    terms: tuple[Term, ...] = ()
    busy_nodes: int | None = None
    """Of the observed ones, those that Ray workers are on or wait for: nobody needs to hold them. None = unknown."""
    gpus: tuple[ServiceGpus, ...] = ()
    """GPUs that the planned replicas need of this pool, by service."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Requests of one interval held against the SLO (counts between buckets of a histogram are estimates)."""

    requests: float
    missed: float
    missed_ttft: float


@dataclass(frozen=True, slots=True)
class EndedStart:
    """A start of a replica that is over: it runs, or it was withdrawn or died."""

    key: DeploymentKey
    asked_at_s: float
    ended_at_s: float
    path: LeadPath
    runs: bool


@dataclass(frozen=True, slots=True)
class Observation:
    """What demand.py made of a deployment's signals: rates instead of counters, freshness as a value."""

    key: DeploymentKey
    rate_rps: float | None = None
    """Demand: arrivals, those turned away included, without what is taken for retries."""
    mix: TokenMix | None = None
    waiting: float | None = None
    ongoing: float | None = None
    kv_usage_fraction: float | None = None
    error_rate_rps: float | None = None
    uncounted_rps: float = 0.0
    """Arrivals of the newest interval that were taken for retries while requests failed."""
    completeness_fraction: float | None = None
    """Share of the running replicas whose own metrics are not missing (one that never reported misses nothing)."""
    attained_fraction: float | None = None
    """Share of requests in the window whose TTFT and mean ITL met the SLO, from the histograms."""
    judged: Judged | None = None
    """Requests that the newest metrics (`metrics_as_of_s`) added; None when they added none."""
    ttft_p99_s: float | None = None
    inventory_as_of_s: float | None = None
    metrics_as_of_s: float | None = None
    fresh: bool = False
    """Both halves are there and young enough to act on."""
    why_stale: str = ""
    running: int | None = None
    draining: int | None = None
    target: int | None = None
    starting: tuple[StartView, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The outcome of one tick, for the actuators, the journal and the pages. Everything in it is a level."""

    tick: int
    now_s: float
    leader: bool
    dry_run: bool
    deployments: tuple[DeploymentPlan, ...]
    pools: tuple[PoolPlan, ...] = ()
    observations: tuple[Observation, ...] = ()
    forecasts: Mapping[DeploymentKey, Forecast] = field(default_factory=dict)
    capacities_rps: Mapping[DeploymentKey, float | None] = field(default_factory=dict)
    lead_times: Mapping[DeploymentKey, LeadTimes] = field(default_factory=dict)
    guards: tuple[GuardRecord, ...] = ()
    learned: tuple[str, ...] = ()
    """What was learned this tick, in words (a lead time measured, a capacity corrected)."""
    ended: tuple[EndedStart, ...] = ()
    """Starts that are over since the last tick. Not in the journal."""
    coverages: Mapping[DeploymentKey, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    """(level, share of recent windows as long as the lead time whose demand stayed under it). Not in the journal."""

    def deployment(self, key: DeploymentKey) -> DeploymentPlan | None:
        return next((d for d in self.deployments if d.key == key), None)


FINE_OUTCOMES = ("ok", "published", "withheld", "unchanged")
"""Outcomes of a write that are no failure."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of one write: `outcome` is 'ok', 'unchanged', 'withheld', 'published' (Serve's controller is to follow
    the plan by itself), or an error class's name in lower case."""

    actuator: str
    what: str
    """The deployment key or pool."""
    outcome: str
    value: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of applying a plan through one actuator."""

    actuator: str
    applied: tuple[Applied, ...] = ()

    @property
    def failed(self) -> tuple[Applied, ...]:
        return tuple(a for a in self.applied if a.outcome not in FINE_OUTCOMES)


# ---------------------------------------------------------------- settings of the core (from config and scenario)


@dataclass(frozen=True, slots=True)
class Startup:
    """Priors of a cold start's stages that belong to a deployment."""

    load_s: Duration = Duration(60.0, 0.5)
    init_s: Duration = Duration(30.0, 0.3)


@dataclass(frozen=True, slots=True)
class DeploymentSettings:
    """One `deployments:` entry. It applies to every key that matches `match`; the first match wins."""

    match: str
    profile: EngineProfile | None = None
    node_pools: tuple[str, ...] = ()
    min_replicas: int = 1
    max_replicas: int = 1
    slo: Slo = Slo()
    weight: float = 1.0
    priority: int = 0
    guaranteed_gpus: int = 0
    gpus_per_replica: int | None = None
    """None: the profile's, else what Serve's required resources say, else 1."""
    follows: Follows | None = None
    startup: Startup | None = None
    """None: the profile's, else defaults."""


@dataclass(frozen=True, slots=True)
class Follows:
    """A CPU-only deployment (an ingress) that is kept in proportion to another one, never at 0."""

    deployment: str
    ratio: float = 1.0
    min_replicas: int = 1


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """One `node_pools:` entry, with the priors of the stages that belong to nodes."""

    name: str
    gpus_per_node: int = 8
    gpu: str = ""
    min_nodes: int = 0
    max_nodes: int | None = None
    prewarm: str = "none"
    max_run_s: float | None = None
    """Its nodes go this long after they came, whatever runs on them; None: never."""
    price_usd_per_hour: float | None = None
    real_prices_usd_per_hour: Mapping[str, float] = field(default_factory=dict)
    """Of nodes by the real node pool that they turned out to be of (a ComputeClass); others: `price_usd_per_hour`."""
    provision_s: Duration = Duration(150.0, 0.45)
    image_pull_s: Duration = Duration(40.0, 0.47)
    worker_start_s: Duration = Duration(20.0, 0.47)


def nodes_usd_per_hour(settings: PoolSettings, nodes: Iterable[NodeSignal]) -> float | None:
    """What these nodes cost together; None: the price of one of them, or of the pool, is unknown."""
    prices = [settings.real_prices_usd_per_hour.get(node.pool, settings.price_usd_per_hour) for node in nodes]
    known = [price for price in prices if price is not None]
    if len(known) < len(prices) or (not prices and settings.price_usd_per_hour is None):
        return None
    return sum(known, 0.0)


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """Limits that hold for any policy in a live cluster (guards: full)."""

    stale_after_s: float = 60.0
    """Metrics or inventory older than this are unknown: no scale-down."""
    scale_down_stabilization_s: float = 120.0
    """A scale-down happens only when every proposal of this window allowed it."""
    max_step_up: int | None = None
    """Replicas that one tick may add; None: no limit."""
    max_step_down: int | None = 1
    """Replicas that one tick may remove; None: no limit."""


@dataclass(frozen=True, slots=True)
class ControllerConfig:
    """All settings that the core needs; the policy comes as an object."""

    deployments: tuple[DeploymentSettings, ...] = ()
    pools: tuple[PoolSettings, ...] = ()
    policy_name: str = "predictive"
    policy_options: Mapping[str, Any] = field(default_factory=dict)
    tick_s: float = 5.0
    dry_run: bool = True
    gpu_budget: Mapping[str, int] = field(default_factory=dict)
    guards: GuardSettings = GuardSettings()
    full_guards: bool = False
    """True: every guard holds for any policy, as in a live cluster. False: as strong as the policy itself declares."""
    hint_max_rps: float | None = None
    """The level that hints may raise a deployment's demand to; None: no limit but its own maximum."""
    sha256: str = ""
    """Of the settings file as read: journals carry it."""

    def settings_for(self, key: DeploymentKey) -> DeploymentSettings | None:
        """The first entry whose pattern matches the key; None: observed only."""
        return _first_match(self.deployments, key)


_MATCHED: dict[int, tuple[tuple[DeploymentSettings, ...], dict[DeploymentKey, DeploymentSettings | None]]] = {}
"""What was found in which entries, by their identity (the entries are kept here, so that it stays theirs): with a
hundred deployments, trying every pattern for every key was a quarter of a step."""
_MOST_ENTRIES, _MOST_KEYS = 8, 10_000


def _first_match(entries: tuple[DeploymentSettings, ...], key: DeploymentKey) -> DeploymentSettings | None:
    kept = _MATCHED.get(id(entries))
    if kept is None:
        if len(_MATCHED) >= _MOST_ENTRIES:
            _MATCHED.clear()
        kept = _MATCHED[id(entries)] = (entries, {})
    found = kept[1]
    if key not in found:
        if len(found) >= _MOST_KEYS:
            found.clear()
        found[key] = next((d for d in entries if key.matches(d.match)), None)
    return found[key]
