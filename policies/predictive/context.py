"""One deployment at one look, as shadow rules are told of it: what a start means, how long requests stay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policies.base import DeploymentView, LeadPath, PoolView
from policies.base.record import record
from policies.predictive.rules.sizing import Frame
from policies.predictive.state import RuleState
from policies.predictive.terms import Situation

_AGE_SHARE = 1.3
"""Of the time that a request stays: for how long it is felt. Those in progress are long ones, and hold more as they
grow; against the simulator's engine, for lengths that spread as chats do (docs/decisions/0017)."""
_STOP_BEFORE_S, _STOPS_BEFORE = 600.0, 5.0
"""A replica given up is taken to stay on the bill for so long until as many were seen: nodes go after ten minutes."""
_STARTS_BEFORE = 3.0
"""Starts are taken to go over a new node until as many were seen."""
_PATIENCE_S = 2.0


@record(frozen=True, slots=True)
class Start:
    """What asking for a replica means: surely serving within `lead_s`, on average within `mean_s`; wanted in multiples
    of `quantum`.
    """

    lead_s: float
    mean_s: float
    quantum: int

    def serve_bins(self, bin_s: float) -> int:
        """Whole bins until a replica serves in the replay."""
        return math.ceil(self.mean_s / bin_s)

    def reach_s(self, bin_s: float) -> float:
        """How far the rules look ahead: through the first bin that a replica asked for now serves whole, or where a
        start takes little more than a bin every step of demand would be met too late in the replay.
        """
        return max(self.lead_s, (self.serve_bins(bin_s) + 1) * bin_s)


@record(frozen=True, slots=True)
class SizingContext:
    """What is remembered, what is seen, and what asking for a replica would mean."""

    book: RuleState
    situation: Situation
    start: Start

    def stays_s(self) -> float:
        """How long a request stays, or would at capacity; 0: not known."""
        view = self.situation.view
        if view.capacity_rps and view.capacity_batch:
            return view.capacity_batch / view.capacity_rps
        return self.book.residence_s or 0.0

    def share(self, bin_s: float) -> float:
        """What a bin weighs in what is felt."""
        stays_s = self.stays_s()
        return 1.0 - math.exp(-bin_s / (_AGE_SHARE * stays_s)) if stays_s > 0 else 1.0

    def frame(self, bin_s: float) -> Frame:
        """What bins of this width are judged by."""
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
    """What the deployments of a fleet have in common: its pools by name; how many of them may use each (`users`);
    whether nodes of any are taken away (`risky`).
    """

    pools: Mapping[str, PoolView]
    users: Mapping[str, int]
    risky: bool = False


def way(d: DeploymentView, fleet_context: FleetContext) -> LeadPath:
    """The way of the replicas that decide: over a new node, as long as some pool may have one more."""
    for name in d.node_pools:
        p = fleet_context.pools.get(name)
        if p is not None and (p.max_nodes is None or p.nodes_ready is None or p.nodes_ready < p.max_nodes):
            return "new_node"
    return d.next_path


def idle(d: DeploymentView, fleet_context: FleetContext) -> float:
    """Replicas that would fit what is free on the nodes of its pools, where nobody else may use them."""
    free = 0
    for name in d.node_pools:
        pool = fleet_context.pools.get(name) if fleet_context.users[name] == 1 else None
        if pool is not None:
            free += pool.gpus_free or 0
    return free / max(d.gpus_per_replica, 1)


def quantum(d: DeploymentView, fleet_context: FleetContext) -> int:
    """Replicas that a node of its first pool holds, where nobody else may use it: one more on it costs nothing."""
    pool = fleet_context.pools.get(d.node_pools[0]) if d.node_pools else None
    if pool is None or fleet_context.users[pool.name] > 1:
        return 1
    return max(1, pool.gpus_per_node // max(d.gpus_per_replica, 1))


def smoother(book: RuleState, demand: Sequence[float], share: float) -> list[float]:
    """The demand of bins that follow one another as replicas feel it: what came within the last minutes is still there.

    `share`: what a bin weighs.
    """
    smooth = demand[0] if book.smooth is None else book.smooth
    effective = []
    for one in demand:
        smooth += share * (one - smooth)
        effective.append(smooth)
    book.smooth = smooth
    return effective


def stop_s(book: RuleState) -> float:
    """For how long a replica that was given up stays on the bill, by what was seen."""
    return (_STOPS_BEFORE * _STOP_BEFORE_S + book.trailed) / (_STOPS_BEFORE + book.stops)


def start_s(book: RuleState, over_a_new_node_s: float) -> float:
    """How long a start takes on average, by the ways that they went: nodes of replicas given up stand for a while."""
    return (_STARTS_BEFORE * over_a_new_node_s + book.starting_s) / (_STARTS_BEFORE + book.starts)


def watch(book: RuleState, s: Situation, idle_replicas: float) -> None:
    """How long requests stay and starts take, and what stays on the bill of replicas that were given up.

    `idle_replicas`: those that would fit the GPUs of the deployment's own nodes which nobody uses.
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
