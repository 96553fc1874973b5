"""Inputs of the rules for one deployment at one moment: the duration of starts, and of requests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policies.base import DeploymentView, LeadPath, PoolView, whole_down
from policies.base.record import record
from policies.predictive.rules.sizing import Frame
from policies.predictive.state import RuleState
from policies.predictive.terms import Situation

_AGE_SHARE = 1.3
"""Time constant of effective demand, as a multiple of the time that a request stays. Requests in progress are long ones
and hold more as they grow. Fitted to the simulator's engine, for lengths that spread as those of chats
(docs/decisions/0017).
"""
_STOP_BEFORE_S, _STOPS_BEFORE = 600.0, 5.0
"""Assumed time (s) that a stopped replica stays on the bill, until as many were observed: nodes are deleted after ten
minutes.
"""
_STARTS_BEFORE = 3.0
"""Starts are assumed to need a new node until as many were observed."""
_PATIENCE_S = 2.0


@record(frozen=True, slots=True)
class Start:
    """A start: it serves within `lead_s` almost surely, within `mean_s` on average; replicas are wanted in multiples of
    `quantum`.
    """

    lead_s: float
    mean_s: float
    quantum: int

    def serve_bins(self, bin_s: float) -> int:
        """Whole bins until a replica serves in the replay."""
        return math.ceil(self.mean_s / bin_s)

    def reach_s(self, bin_s: float) -> float:
        """Horizon of the rules (s): to the end of the first bin that a replica asked for now serves whole. With a
        shorter one, where a start takes little more than a bin, the replay would meet every step of demand too late.
        """
        return max(self.lead_s, (self.serve_bins(bin_s) + 1) * bin_s)


@record(frozen=True, slots=True)
class SizingContext:
    """A deployment's memory, its view, and its start."""

    book: RuleState
    situation: Situation
    start: Start

    def stays_s(self) -> float:
        """Time (s) that a request stays, or would stay at capacity; 0: unknown."""
        view = self.situation.view
        if view.capacity_rps and view.capacity_batch:
            return view.capacity_batch / view.capacity_rps
        return self.book.residence_s or 0.0

    def share(self, bin_s: float) -> float:
        """Weight of a bin in the effective demand."""
        stays_s = self.stays_s()
        return 1.0 - math.exp(-bin_s / (_AGE_SHARE * stays_s)) if stays_s > 0 else 1.0

    def frame(self, bin_s: float) -> Frame:
        """Parameters by which bins of this width are replayed."""
        d = self.situation.view
        return Frame(
            lead_bins=math.ceil(self.start.lead_s / bin_s),
            bin_s=bin_s,
            bounds=(d.min_replicas, d.max_replicas),
            allowed_share=max(1.0 - d.slo.target_fraction, 1e-4),
            quantum=self.start.quantum,
            stop_bins=round(stop_s(self.book) / bin_s),
            patience_s=d.slo.ttft_s or _PATIENCE_S,
            serve_bins=self.start.serve_bins(bin_s),
            lasts_s=_AGE_SHARE * self.stays_s(),
        )


@dataclass(frozen=True, slots=True)
class FleetContext:
    """What the deployments of a fleet share: pools by name; the number of deployments that may use each (`users`);
    whether any pool loses nodes (`risky`).
    """

    pools: Mapping[str, PoolView]
    users: Mapping[str, int]
    risky: bool = False


def way(d: DeploymentView, fleet_context: FleetContext) -> LeadPath:
    """Path of the replicas that decide the lead time: over a new node as long as a pool may have one more."""
    for name in d.node_pools:
        p = fleet_context.pools.get(name)
        if p is not None and (p.max_nodes is None or p.nodes_ready is None or p.nodes_ready < p.max_nodes):
            return "new_node"
    return d.next_path


def idle(d: DeploymentView, fleet_context: FleetContext) -> float:
    """Replicas that fit on free GPUs of its pools, if no other deployment may use those pools."""
    free = 0
    for name in d.node_pools:
        pool = fleet_context.pools.get(name) if fleet_context.users[name] == 1 else None
        if pool is not None:
            free += pool.gpus_free or 0
    return free / max(d.gpus_per_replica, 1)


def quantum(d: DeploymentView, fleet_context: FleetContext) -> int:
    """Replicas that a node of its first pool holds, if no other deployment may use it: one more on a node costs
    nothing. Whole gangs always: as many as the node holds, at least one.
    """
    pool = fleet_context.pools.get(d.node_pools[0]) if d.node_pools else None
    if pool is None or fleet_context.users[pool.name] > 1:
        return d.gang_size
    on_a_node = pool.gpus_per_node // max(d.gpus_per_replica, 1)
    return max(d.gang_size, whole_down(on_a_node, d.gang_size))


def smoother(book: RuleState, demand: Sequence[float], share: float) -> list[float]:
    """Effective demand of consecutive bins: requests of the last minutes are still in progress.

    `share`: weight of a bin.
    """
    smooth = demand[0] if book.smooth is None else book.smooth
    effective = []
    for one in demand:
        smooth += share * (one - smooth)
        effective.append(smooth)
    book.smooth = smooth
    return effective


def stop_s(book: RuleState) -> float:
    """Time (s) that a stopped replica stays on the bill, from observations."""
    return (_STOPS_BEFORE * _STOP_BEFORE_S + book.trailed) / (_STOPS_BEFORE + book.stops)


def start_s(book: RuleState, over_a_new_node_s: float) -> float:
    """Mean duration of a start (s) over the paths that starts really took: nodes of stopped replicas
    stay for a while.
    """
    return (_STARTS_BEFORE * over_a_new_node_s + book.starting_s) / (_STARTS_BEFORE + book.starts)


def watch(book: RuleState, s: Situation, idle_replicas: float) -> None:
    """Learn how long requests stay, how long starts take, and how long stopped replicas stay on the bill.

    `idle_replicas`: replicas that would fit on unused GPUs of the deployment's own nodes.
    """
    d = s.view
    if d.rate_rps and d.ongoing and not d.waiting:
        stays_s = d.ongoing / d.rate_rps
        before = book.residence_s
        book.residence_s = stays_s if before is None else before + min(1.0, s.period_s / 600.0) * (stays_s - before)
    supply = s.supply
    passed_s = 0.0 if book.seen_at_s is None else min(max(s.now_s - book.seen_at_s, 0.0), 300.0)
    fade = 0.5 ** (passed_s / 86400.0)
    fewer = max(0, (book.supply or 0) - supply)
    book.stops = book.stops * fade + fewer
    book.trailed = book.trailed * fade + passed_s * ((d.draining or 0) + max(idle_replicas, 0.0))
    book.starts, book.starting_s = book.starts * fade, book.starting_s * fade
    if d.lead_times is not None:
        for one in d.starting:
            book.starts += passed_s / max(d.lead_times.path(one.path).mean_s, 1.0)
            book.starting_s += passed_s
    book.seen_at_s, book.supply = s.now_s, supply
