"""A GPU budget across deployments: guarantees first, then priority classes, then weighted max-min inside a class.

Pure: wants in, grants out. What a deployment already holds is taken back only as far as others' guarantees and
priorities need it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heapreplace

from autoscaler.core import guards
from autoscaler.core.observe import DeploymentTick
from autoscaler.core.state import SupplyMemory
from autoscaler.core.types import ControllerConfig, DeploymentSettings, GuardRecord
from policies.base import DeploymentKey, FleetProposal


@dataclass(frozen=True, slots=True)
class Claim:
    """What one deployment wants, in replicas, and what it may insist on.

    Of a deployment of gangs the unit is the gang (`in_gangs`), so that no part of one is granted.
    """

    name: str
    wants: int
    gpus_per_replica: int
    minimum: int = 0
    guaranteed_gpus: int = 0
    priority: int = 0
    weight: float = 1.0
    holds: int = 0
    """Replicas that run or start."""
    draining: int = 0
    """Upper bound on the replicas, draining ones included, that this claim may hold back from others; None: all that
    its dashboard reports.
    """
    allowance: int | None = None
    """Most replicas, draining ones included, that may keep others waiting; None: all that its dashboard reports."""
    entry: str = ""
    """Name of the settings entry. Claims of one entry share its guarantee; "" = the claim has its own."""

    @property
    def in_the_way(self) -> int:
        """Replicas that hold GPUs back from other claims. A dashboard's figure counts up to `allowance` only."""
        claimed = self.holds + self.draining
        return claimed if self.allowance is None else min(claimed, self.allowance)


def share(claims: Sequence[Claim], budget_gpus: int) -> dict[str, int]:
    """Replicas granted to each claim: never more than it wants, never more GPUs in all than the budget.

    Order: guarantees (up to each want), then minima, then higher priority before lower, and within a priority weighted
    max-min: the next replica goes to the deployment that holds the least per weight and still wants one that fits.
    """
    granted = _guaranteed(claims, budget_gpus)
    left = budget_gpus - sum(granted[c.name] * c.gpus_per_replica for c in claims)
    for claim in _by_priority(claims):
        more = min(min(claim.wants, claim.minimum) - granted[claim.name], left // claim.gpus_per_replica)
        if more > 0:
            granted[claim.name] += more
            left -= more * claim.gpus_per_replica
    for priority in sorted({c.priority for c in claims}, reverse=True):
        left = _max_min([c for c in claims if c.priority == priority], granted, left)
    return granted


def paced(claims: Sequence[Claim], granted: Mapping[str, int], budget_gpus: int) -> dict[str, int]:
    """Grants for now, in replicas. They grow only into GPUs that no replica holds any more: lent GPUs return as
    replicas drain.

    Claims below their guarantee grow first, then by priority. Replicas that a claim already holds are never taken away
    here.
    """
    paced_grants = dict(granted)
    guaranteed = _guaranteed(claims, budget_gpus)
    free = budget_gpus - sum(c.in_the_way * c.gpus_per_replica for c in claims)

    def first(claim: Claim) -> tuple[bool, int, str]:
        return claim.holds >= guaranteed[claim.name], -claim.priority, claim.name

    for claim in sorted(claims, key=first):
        wanted = granted[claim.name] - claim.holds
        if wanted <= 0:
            continue
        more = min(wanted, max(free, 0) // claim.gpus_per_replica)
        paced_grants[claim.name] = claim.holds + more
        free -= more * claim.gpus_per_replica
    return paced_grants


def _guaranteed(claims: Sequence[Claim], budget_gpus: int) -> dict[str, int]:
    """Replicas that the guarantee of each claim pays for, capped at what the claim asks for."""
    granted = {c.name: 0 for c in claims}
    left, of_entry = budget_gpus, {c.entry: c.guaranteed_gpus for c in claims if c.entry}
    for claim in _by_priority(claims):
        own = of_entry[claim.entry] if claim.entry else claim.guaranteed_gpus
        replicas = min(claim.wants, min(own, left) // claim.gpus_per_replica)
        if replicas > 0:
            granted[claim.name] = replicas
            left -= replicas * claim.gpus_per_replica
            if claim.entry:
                of_entry[claim.entry] -= replicas * claim.gpus_per_replica
    return granted


def _by_priority(claims: Sequence[Claim]) -> list[Claim]:
    return sorted(claims, key=lambda c: (-c.priority, c.name))


def _max_min(claims: Sequence[Claim], granted: dict[str, int], left: int) -> int:
    """Give one replica after the other to the claim with the least per weight. A claim leaves when it has all it wants
    or when its next replica no longer fits.
    """
    by_name = {c.name: c for c in claims}
    poorest = [(granted[c.name] * c.gpus_per_replica / c.weight, c.name) for c in claims if granted[c.name] < c.wants]
    heapify(poorest)
    while poorest and left > 0:
        name = poorest[0][1]
        claim = by_name[name]
        if claim.gpus_per_replica > left:
            heappop(poorest)
            continue
        granted[name] += 1
        left -= claim.gpus_per_replica
        if granted[name] < claim.wants:
            heapreplace(poorest, (granted[name] * claim.gpus_per_replica / claim.weight, name))
        else:
            heappop(poorest)
    return left


@dataclass(slots=True)
class Shared:
    """Result of the GPU budgets, by deployment."""

    granted: dict[DeploymentKey, int] = field(default_factory=dict)
    """Replicas that the deployment may have now: its share, limited by what others still have to drain."""
    shares: dict[DeploymentKey, int] = field(default_factory=dict)
    """Its share of the budget in replicas, only if that is less than it wants."""
    most: dict[DeploymentKey, int] = field(default_factory=dict)
    """Replicas that the whole budget would hold."""
    allowances: dict[DeploymentKey, int] = field(default_factory=dict)
    """Replicas that may hold GPUs back from others: the largest grant within the drain time."""
    records: dict[DeploymentKey, GuardRecord] = field(default_factory=dict)


def share_out(
    config: ControllerConfig, fleet: Sequence[DeploymentTick], proposal: FleetProposal, now_s: float
) -> Shared:
    """Cut wants to the GPU budget of each kind. Deployments of a kind without a budget keep what they want.

    Wants of deployments without a settings entry are first cut to the limit of their namespace.
    """
    shared = Shared()
    most = _most_unlisted(config, fleet, proposal)
    for kind, budget in config.gpu_budget.items():
        claims = []
        by_name = {}
        for d in fleet:
            own = proposal.replicas.get(d.key)
            if d.settings is None or _gpu_kind(config, d.settings) != kind:
                continue
            if own is None:
                claims += _unseen(d)
                by_name[d.key.full] = d
                continue
            allowance = _allowance(d, d.settings, now_s)
            claims.append(_claim(d, d.settings, own.replicas, most.get(d.key), allowance))
            by_name[d.key.full] = d
        fits = share(claims, budget)
        for claim, now in zip(claims, paced(claims, fits, budget).values(), strict=True):
            d = by_name[claim.name]
            size = d.gang_size
            wants, fit, replicas = claim.wants * size, fits[claim.name] * size, now * size
            _remember_grant(d.memory.supply, replicas, config.tenants.drain_s, now_s)
            shared.granted[d.key] = replicas
            if d.memory.supply.most_granted is not None:
                shared.allowances[d.key] = d.memory.supply.most_granted
            shared.most[d.key] = budget // max(claim.gpus_per_replica, 1) * size
            if fit < wants:
                shared.shares[d.key] = fit
            if replicas < wants:
                why = f"the budget of {budget} {kind} GPUs is shared: {replicas} of {wants} replicas fit"
                if replicas < fit:
                    why += f" until others have drained, {fit} then"
                shared.records[d.key] = GuardRecord(guards.BUDGET, d.key, wants, replicas, why)
    for key, replicas in most.items():
        _cut_unlisted(shared, config, key, replicas, proposal.replicas[key].replicas)
    return shared


def _claim(d: DeploymentTick, s: DeploymentSettings, proposed: int, most: int | None, allowance: int) -> Claim:
    o = d.observation
    wants = max(s.min_replicas, min(proposed, s.max_replicas))
    claim = Claim(
        d.key.full,
        wants if most is None else min(wants, most),
        max(d.gpus, 1),  # a dashboard that says 0 has no part of the budget for nothing
        s.min_replicas if s.insists_on is None else s.insists_on,
        s.guaranteed_gpus,
        s.priority,
        s.weight,
        (o.running or 0) + len(o.starting),
        o.draining or 0,
        allowance,
        s.entry or s.match,
    )
    return claim if d.gang_size == 1 else in_gangs(claim, d.gang_size)


def in_gangs(claim: Claim, gang_size: int) -> Claim:
    """The claim of a deployment of gangs, counted in gangs. One of which a part is there holds GPUs as a whole one."""

    def gangs(replicas: int) -> int:
        return -(-replicas // gang_size)

    there = gangs(claim.holds + claim.draining)
    holds = gangs(claim.holds)
    return replace(
        claim,
        wants=gangs(claim.wants),
        gpus_per_replica=claim.gpus_per_replica * gang_size,
        minimum=gangs(claim.minimum),
        holds=holds,
        draining=there - holds,
        allowance=None if claim.allowance is None else gangs(claim.allowance),
    )


def _unseen(d: DeploymentTick) -> list[Claim]:
    """Claims of a deployment that cannot be observed now: its last level is assumed to be still there, up to its
    allowance.
    """
    has, allowance = d.memory.supply.last_target, d.memory.supply.most_granted
    return [Claim(d.key.full, has, max(d.gpus, 1), has, holds=has, allowance=allowance)] if has else []


def _allowance(d: DeploymentTick, s: DeploymentSettings, now_s: float) -> int:
    """spread late arrivals over the gap"""
    memory, o = d.memory.supply, d.observation
    if memory.most_granted is None:
        claimed = max((o.running or 0) + len(o.starting) + (o.draining or 0), o.target or 0)
        memory.most_granted, memory.most_granted_at_s = min(claimed, s.max_replicas), now_s
    return memory.most_granted


def _remember_grant(memory: SupplyMemory, granted: int, drain_s: float, now_s: float) -> None:
    before, at_s = memory.most_granted, memory.most_granted_at_s
    if before is None or at_s is None or granted >= before or now_s - at_s > drain_s:
        memory.most_granted, memory.most_granted_at_s = granted, now_s


def _most_unlisted(
    config: ControllerConfig, fleet: Sequence[DeploymentTick], proposal: FleetProposal
) -> dict[DeploymentKey, int]:
    """Most replicas of each deployment without a settings entry, as a share of its namespace's GPUs."""
    places: dict[str, list[Claim]] = {}
    ticks: dict[str, DeploymentTick] = {}
    for d in fleet:
        s = d.settings
        if s is None or not s.unlisted or (own := proposal.replicas.get(d.key)) is None:
            continue
        wants = max(s.min_replicas, min(own.replicas, s.max_replicas))
        claim = Claim(d.key.full, wants, max(d.gpus, 1))
        claims = places.setdefault(d.key.namespace, [])
        claims.append(claim if d.gang_size == 1 else in_gangs(claim, d.gang_size))
        ticks[d.key.full] = d
    most = config.tenants.max_gpus_per_namespace
    granted = [pair for claims in places.values() for pair in share(claims, most).items()]
    return {ticks[name].key: count * ticks[name].gang_size for name, count in granted}


def _cut_unlisted(shared: Shared, config: ControllerConfig, key: DeploymentKey, most: int, wanted: int) -> None:
    shared.granted[key] = min(most, shared.granted.get(key, most))
    if most < wanted and shared.granted[key] == most:
        shared.shares[key] = most
        gpus = config.tenants.max_gpus_per_namespace
        why = f"deployments without an entry share {gpus} GPUs in their namespace: {most} of {wanted} replicas fit"
        shared.records[key] = GuardRecord(guards.BUDGET, key, wanted, most, why)


def _gpu_kind(config: ControllerConfig, settings: DeploymentSettings) -> str:
    if settings.profile is not None:
        return settings.profile.gpu
    pool = next((p for p in config.pools if p.name in settings.node_pools), None)
    return pool.gpu if pool else settings.gpu
