"""What a policy may see: every deployment, every pool and the budget at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from policies.announced import Announcement
from policies.base.forecast import Forecast
from policies.base.key import DeploymentKey
from policies.base.measured import HandleReport, ReplicaMetrics, TokenMix, Totals
from policies.base.promise import Slo
from policies.base.starts import LeadPath, LeadTimes, StartView
from policies.durations import Duration

if TYPE_CHECKING:
    from policies.engines.profile import EngineProfile


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
