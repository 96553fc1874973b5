"""The nouns policies speak: what a policy may see of a fleet and what it may ask for.

Units are in the names. `None` is "unknown", never 0. Everything here is frozen: a policy keeps its memory in the
state that the caller hands it, so that the controller can save it and a replay can restore it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

from policies.announced import Announcement
from policies.durations import Duration

if TYPE_CHECKING:
    from policies.engines.profile import EngineProfile

DEFAULT_NAMESPACE = "default"
DEFAULT_SERVICE = "local"


class PolicyError(ValueError):
    """A profile, option or policy that cannot be used; the message names the key, its value and what is allowed."""


@dataclass(frozen=True, slots=True, order=True)
class DeploymentKey:
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


@dataclass(frozen=True, slots=True)
class TokenMix:
    """Mean tokens of a request: prompt, output, and the part of the prompt found in the prefix cache."""

    prompt_tokens: float
    output_tokens: float
    cached_prompt_tokens: float = 0.0


LeadPath = Literal["free_gpu", "warm_node", "new_node"]
"""How a new replica gets its GPUs: free in a running worker; a Ready node without a worker; a node yet to come."""


@dataclass(frozen=True, slots=True)
class LeadTimes:
    """How long from asking for a replica until it is RUNNING, by the path it takes."""

    free_gpu: Duration
    warm_node: Duration
    new_node: Duration

    def path(self, path: LeadPath) -> Duration:
        return {"free_gpu": self.free_gpu, "warm_node": self.warm_node, "new_node": self.new_node}[path]


@dataclass(frozen=True, slots=True)
class StartView:
    """A replica that was asked for and is not RUNNING yet."""

    asked_at_s: float
    path: LeadPath
    stage: str
    expected_ready_at_s: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """Quantiles of the largest arrival rate in (made_at_s, made_at_s + horizon].

    `values_rps[i][j]` belongs to `horizons_s[i]` (ascending) and `levels[j]` (ascending, 0..1).
    `calibrated` is False while history is too short or coverage is off: then nobody should trust the upper levels.
    """

    forecaster: str
    made_at_s: float
    horizons_s: tuple[float, ...]
    levels: tuple[float, ...]
    values_rps: tuple[tuple[float, ...], ...]
    calibrated: bool
    why: str = ""
    edges_s: tuple[float, ...] = ()
    """Those of the horizons that are there only because an announcement begins at them; they move from tick to tick."""

    def quantile(self, horizon_s: float, level: float) -> float:
        """Interpolated linearly in horizon and level; clamped to the ends of both."""
        before, after, share = self._around(horizon_s)
        place = _between(self.levels, level)
        low = _at(before, place)
        return low + share * (_at(after, place) - low) if share else low

    def quantiles(self, horizon_s: float, levels: tuple[float, ...]) -> list[float]:
        """`quantile` at several levels."""
        before, after, share = self._around(horizon_s)
        places = _places(self.levels, levels)
        lows = [_at(before, place) for place in places]
        if not share:
            return lows
        return [low + share * (_at(after, place) - low) for low, place in zip(lows, places, strict=True)]

    def _around(self, horizon_s: float) -> tuple[tuple[float, ...], tuple[float, ...], float]:
        """The rows of the horizons before and after, and how far this one is on the way; beyond the ends: 0."""
        horizons_s, rows = self.horizons_s, self.values_rps
        i = bisect_left(horizons_s, horizon_s)
        if i == 0 or i == len(rows):
            end = rows[min(i, len(rows) - 1)]
            return end, end, 0.0
        share = (horizon_s - horizons_s[i - 1]) / (horizons_s[i] - horizons_s[i - 1])
        return rows[i - 1], rows[i], share


def _at(row: tuple[float, ...], place: tuple[int, float]) -> float:
    j, up = place
    return row[j] + up * (row[j + 1] - row[j]) if up else row[j]


@lru_cache(maxsize=64)
def _places(levels: tuple[float, ...], asked: tuple[float, ...]) -> tuple[tuple[int, float], ...]:
    return tuple(_between(levels, level) for level in asked)


def _between(levels: tuple[float, ...], level: float) -> tuple[int, float]:
    """After which of the levels a level lies, and how far on the way to the next one; beyond the ends: 0."""
    j = bisect_left(levels, level)
    if j == 0 or j == len(levels):
        return max(j - 1, 0), 0.0
    return j - 1, (level - levels[j - 1]) / (levels[j] - levels[j - 1])


@dataclass(slots=True)
class Diary:
    """What a forecaster would have said in the past, step by step: plain data, for policies that rehearse on it.

    `rates_rps`: float32 by bin; `forecasts`: float16 (steps, horizons, levels) in units of `unit_rps`, one each
    `bins_per_step` bins, made when the step's last bin had closed.
    """

    bin_s: float
    bins_per_step: int
    last_end_s: float
    horizons_s: tuple[float, ...]
    levels: tuple[float, ...]
    unit_rps: float
    rates_rps: bytearray
    forecasts: bytearray


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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class FleetView:
    """Every deployment, every pool and the GPU budget (GPU kind -> GPUs; absent = no budget) at one moment."""

    now_s: float
    period_s: float
    deployments: tuple[DeploymentView, ...]
    pools: tuple[PoolView, ...] = ()
    gpu_budget: Mapping[str, int] = field(default_factory=dict)

    def pool(self, name: str) -> PoolView | None:
        return next((p for p in self.pools if p.name == name), None)


@dataclass(frozen=True, slots=True)
class Term:
    """One argument for a number of replicas (or nodes): who wants how many, and why, in words."""

    name: str
    wants: int
    why: str


@dataclass(frozen=True, slots=True)
class ReplicaProposal:
    """Replicas wanted for one deployment; `terms` holds the winning argument first, then the losing ones."""

    replicas: int
    terms: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolProposal:
    """Nodes that should exist in a pool, busy and warm together."""

    nodes: int
    terms: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetProposal:
    """A deployment or pool that is left out keeps what it has."""

    replicas: Mapping[DeploymentKey, ReplicaProposal]
    pools: Mapping[str, PoolProposal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ForecastSpec:
    """The forecast a policy wants to see: by which forecaster, over which season, in bins of which width."""

    forecaster: str = "mixture"
    bin_s: float = 10.0
    season_s: float = 86400.0
    levels: tuple[float, ...] = (0.5, 0.75, 0.9, 0.95, 0.99)
    holidays: tuple[str, ...] = ()
    """Days (UTC, `YYYY-MM-DD`) that are like a weekend, whatever their weekday; forecasters may make use of them."""


class Policy(Protocol):
    """A pure decision: view in, proposal out; memory in `state`, which the caller owns and saves.

    `period_s`: how often it decides (None = every tick). `guards`: 'full', or 'bounds' for rivals that must stay
    themselves (min/max, budget and physical GPUs only). `telemetry`: the metric path it reads in the simulator (None
    = the scenario's). `forecast`: what it wants forecast (None = nothing, which saves the work).
    """

    name: str
    period_s: float | None
    guards: Literal["full", "bounds"]
    clairvoyant: bool
    telemetry: str | None
    forecast: ForecastSpec | None
    options: Any

    def new_state(self) -> Any:
        """A fresh memory: a dataclass of plain data (numbers, strings, lists, dicts, dataclasses)."""
        ...

    def propose(self, fleet: FleetView, state: Any, now_s: float) -> FleetProposal:
        """Errors: PolicyError only; anything else is the policy's bug and is reported as such."""
        ...
