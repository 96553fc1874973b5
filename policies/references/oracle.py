"""`oracle` and `oracle_lead`: what could be reached by somebody who knows every arrival. References, not rivals.

`oracle` is a bill that no policy can be under, computed and never simulated; the argument is in docs/rivals.md.
`oracle_lead` is a plan that can be carried out: it asks one lead time before a need, keeps what comes back soon, packs
nodes, and misses on purpose what the SLO lets it miss. Both get the future by `with_workload`; no view carries it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np

from policies.base import (
    DeploymentKey,
    FleetProposal,
    FleetView,
    Guards,
    Knowledge,
    Policy,
    PolicyError,
    ReplicaProposal,
    Term,
)
from policies.base.durations import Duration
from policies.base.knowledge import KnownDeployment, KnownPool, KnownWorld
from policies.options import option
from policies.plugin import PolicyPlugin
from policies.references.oracle_levels import Covered, Need, Terms, cover_all, needs_of
from policies.references.oracle_need import BIN_S, Floats, Work, overflow, slack_s, work_of

_QUICK = 0.1
"""The bound takes starts to be as quick as the quickest tenth of them."""


# ---------------------------------------------------------------- the lower bound


@dataclass(frozen=True, slots=True)
class PoolBound:
    """The least that a group of deployments must be billed: node-seconds (of its smallest nodes) and their price."""

    pools: tuple[str, ...]
    node_s: float
    cost_usd: float | None
    misses: float
    """Requests that miss: those that not even all nodes together could serve in time, and those left out on purpose."""
    allowed_misses: float
    starts: int
    changes_s: tuple[float, ...]
    """When the number of nodes changes, and what it is from then on."""
    nodes: tuple[int, ...]

    def nodes_at(self, time_s: float) -> int:
        return self.nodes[max(0, bisect_right(self.changes_s, time_s) - 1)]


def lower_bound(world: KnownWorld) -> list[PoolBound]:
    """For each group of deployments that share pools. See docs/rivals.md for why nothing can be cheaper."""
    return [_bound_of(world, members, pools) for members, pools in world.groups()]


def _bound_of(world: KnownWorld, members: list[KnownDeployment], pools: list[KnownPool]) -> PoolBound:
    """All GPUs of the group as one pool of its smallest nodes at its lowest price, shared to the last fraction."""
    node_gpus = min(p.gpus_per_node for p in pools)
    works = [(d, work_of(d.traffic, d.profile, d.slo, world.end_s)) for d in members]
    total, per_gpu_s = _together(works)
    usable = float(node_gpus)
    if len(members) == 1 and len(pools) == 1:
        usable = float(pools[0].replicas_per_node(members[0].gpus) * members[0].gpus)
    floor = sum(p.floor_nodes * p.gpus_per_node for p in pools) // node_gpus
    there = sum(p.initial_nodes * p.gpus_per_node for p in pools) // node_gpus
    most = sum(p.max_nodes * p.gpus_per_node for p in pools) // node_gpus
    wait_s = max(slack_s(d.slo) for d in members)
    levels = _levels(total, per_gpu_s, usable, floor, most, wait_s, world.begin_s)
    terms = Terms(
        lead_s=min(Duration.total([p.node_s, d.start_s]).quantile(_QUICK) for p in pools for d in members),
        tail_s=0.0 if any(p.spot for p in pools) else min(p.linger_s for p in pools),
        begin_s=world.begin_s,
        end_s=world.end_s,
    )
    allowed = sum(world.budget(d) for d in members)
    beyond = overflow(total, wait_s, np.array([usable * most]))[:, 0] * per_gpu_s
    unavoidable = float(beyond[int(world.begin_s / BIN_S) :].sum())
    plan, bound_s = cover_all(levels, terms, max(0, there - floor), max(0.0, allowed - unavoidable))
    always_s = world.end_s - world.begin_s
    changes_s, nodes = _stack(plan, floor, 1)
    return PoolBound(
        pools=tuple(p.name for p in pools),
        node_s=floor * always_s + bound_s,
        cost_usd=_cost(pools, node_gpus, always_s, bound_s),
        misses=unavoidable + sum(c.misses for c in plan),
        allowed_misses=allowed,
        starts=sum(r.asked_s > 0 or r.needed_s > 0 for c in plan for r in c.runs),
        changes_s=changes_s,
        nodes=nodes,
    )


def _cost(pools: list[KnownPool], node_gpus: int, always_s: float, above_s: float) -> float | None:
    prices = [p.price_usd_per_hour for p in pools]
    if any(p is None for p in prices):
        return None
    known = [(p, price) for p, price in zip(pools, prices, strict=True) if price is not None]
    floors = sum(p.floor_nodes * price * always_s for p, price in known)
    return (floors + above_s * min(price / p.gpus_per_node for p, price in known) * node_gpus) / 3600.0


def _together(works: list[tuple[KnownDeployment, Work]]) -> tuple[Floats, Floats]:
    """Work of several deployments in GPU-seconds, and requests per GPU-second of it."""
    total = np.zeros(len(works[0][1].replica_s))
    requests = np.zeros(len(total))
    for d, work in works:
        total += work.replica_s * d.gpus
        requests += work.replica_s * work.requests_per_replica_s
    return total, np.divide(requests, total, out=np.zeros(len(total)), where=total > 0)


def _levels(
    work: Floats, requests_per_s: Floats, unit: float, floor: int, most: int, wait_s: float, counted_from_s: float
) -> list[list[Need]]:
    """Needs of the levels above `floor`, until none is left."""
    levels: list[list[Need]] = []
    step = 16
    for first in range(floor, most, step):
        sizes = unit * np.arange(first, min(first + step, most), dtype=np.float64)
        over = overflow(work, wait_s, sizes)
        for i in range(len(sizes)):
            needs = needs_of(over[:, i], requests_per_s, counted_from_s)
            if not needs:
                return levels
            levels.append(needs)
    return levels


def _stack(plan: list[Covered], always: int, each: int) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """A step function: `each` more while a level stays, `always` besides."""
    changes: dict[float, int] = {0.0: always}
    for covered in plan:
        for run in covered.runs:
            if run.end_s > run.asked_s:
                changes[run.asked_s] = changes.get(run.asked_s, 0) + each
                changes[run.end_s] = changes.get(run.end_s, 0) - each
    times = sorted(changes)
    return tuple(times), tuple(int(n) for n in np.cumsum([changes[t] for t in times]))


@dataclass(frozen=True, slots=True)
class OracleOptions:
    """None."""


class OraclePolicy(PolicyPlugin):
    """A bound, not a plan: the simulator computes it. Errors: PolicyError when asked to propose."""

    Options = OracleOptions
    name = "oracle"
    guards: Guards = "bounds"
    clairvoyant = True
    options: OracleOptions

    def __init__(self, options: OracleOptions) -> None:
        super().__init__(options)
        self.bounds: list[PoolBound] = []

    def prepare(self, knowledge: Knowledge) -> Policy:
        """With the bound for what will come."""
        return self.with_workload(knowledge.known_world())

    def with_workload(self, world: KnownWorld) -> OraclePolicy:
        """The bound for this very future."""
        found = OraclePolicy(self.options)
        found.bounds = lower_bound(world)
        return found

    def propose(self, fleet: FleetView, state: Any, now_s: float) -> FleetProposal:
        raise PolicyError("policy oracle: a lower bound that is computed, not a policy that could decide")


# ---------------------------------------------------------------- the achievable plan


@dataclass(frozen=True, slots=True)
class OracleLeadOptions:
    """`density` None: the simulator searches all of them for the cheapest plan that reaches the target."""

    density: dict[str, Any] | float | None = option(
        None, low=0.1, high=2, doc="load of a replica over its largest, of all or by deployment key; null = searched"
    )
    lead_level: float = option(0.75, low=0.01, high=0.99, doc="quantile of the lead time that it asks ahead by")
    spend_fraction: float = option(0.5, low=0, high=1, doc="of the misses that the SLO allows: those made on purpose")

    def density_of(self, key: DeploymentKey) -> float:
        """Errors: PolicyError where it is not known."""
        found = self.density.get(str(key)) if isinstance(self.density, dict) else self.density
        if isinstance(found, bool) or not isinstance(found, int | float) or found <= 0:
            raise PolicyError(f"policy oracle_lead: option density: {key}: {found!r}; allowed: a number > 0")
        return float(found)


@dataclass(frozen=True, slots=True)
class Steps:
    """Replicas over time: `replicas[i]` from `at_s[i]` on."""

    at_s: tuple[float, ...]
    replicas: tuple[int, ...]

    def most(self, from_s: float, to_s: float) -> int:
        """The most in [from_s, to_s)."""
        first = max(0, bisect_right(self.at_s, from_s + 1e-9) - 1)
        last = max(first + 1, bisect_left(self.at_s, to_s - 1e-9))
        return max(self.replicas[first:last])


class OracleLeadPolicy(PolicyPlugin):
    """See the module. Errors: PolicyError when asked to propose without a workload."""

    Options = OracleLeadOptions
    name = "oracle_lead"
    guards: Guards = "bounds"
    clairvoyant = True
    reads_metrics = False
    options: OracleLeadOptions

    def __init__(self, options: OracleLeadOptions) -> None:
        super().__init__(options)
        self.plan: dict[str, Steps] = {}

    def prepare(self, knowledge: Knowledge) -> Policy:
        """With its plan for what will come: at the density that is set, else at the best that can be found."""
        if self.options.density is None:
            return knowledge.cheapest_plan(self.options)
        return self.with_workload(knowledge.known_world())

    def with_workload(self, world: KnownWorld) -> OracleLeadPolicy:
        """The plan for this very future, with the options that are set. Errors: PolicyError without a density."""
        if self.options.density is None:
            raise PolicyError("policy oracle_lead: option density: null; only the simulator can find it")
        found = OracleLeadPolicy(self.options)
        for members, pools in world.groups():
            for d in members:
                alone = len(members) == 1 and len(pools) == 1
                found.plan[d.key.full] = _plan(world, d, pools, self.options, alone)
        return found

    def propose(self, fleet: FleetView, state: Any, now_s: float) -> FleetProposal:
        """The plan's most until the next decision."""
        if not self.plan:
            raise PolicyError("policy oracle_lead: it needs the workload; it runs in the simulator only")
        replicas = {}
        for d in fleet.deployments:
            steps = self.plan.get(d.key.full)
            if steps is not None:
                count = steps.most(now_s, now_s + fleet.period_s)
                replicas[d.key] = ReplicaProposal(count, (Term("plan", count, "by what is known to come"),))
        return FleetProposal(replicas)


def _plan(world: KnownWorld, d: KnownDeployment, pools: list[KnownPool], o: OracleLeadOptions, alone: bool) -> Steps:
    """One deployment's steps; alone in its pool it fills whole nodes, since a started node costs the same full."""
    own = [p for p in pools if p.name in d.pools]
    first = next(p for p in own if p.name == d.pools[0])
    each = min(first.replicas_per_node(d.gpus), d.max_replicas) if alone else 1
    floor = max(-(-d.min_replicas // each), min(first.floor_nodes, -(-d.max_replicas // each)) if alone else 0)
    work, density = work_of(d.traffic, d.profile, d.slo, world.end_s), o.density_of(d.key)
    levels = _levels(
        work.replica_s / density,
        work.requests_per_replica_s * density,
        float(each),
        floor,
        -(-d.max_replicas // each),
        slack_s(d.slo),
        world.begin_s,
    )
    terms = Terms(
        lead_s=Duration.total([first.node_s, d.start_s]).quantile(o.lead_level),
        tail_s=0.0 if first.spot else first.linger_s,
        begin_s=world.begin_s,
        end_s=world.end_s,
        closed=first.closed,
    )
    there = max(0, -(-d.initial_replicas // each) - floor)
    plan, _ = cover_all(levels, terms, there, o.spend_fraction * world.budget(d))
    at_s, counts = _stack(plan, floor * each, each)
    return Steps(at_s, tuple(min(max(c, d.min_replicas), d.max_replicas) for c in counts))
