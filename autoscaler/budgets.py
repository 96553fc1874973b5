"""What the GPU budgets leave of what the policy wants: the claims of deployments, shared kind by kind.

How a budget is shared is in sharing.py; what is done about the rest (guards, words) in controller.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from autoscaler import guard
from autoscaler.memories import SupplyMemory
from autoscaler.model import ControllerConfig, DeploymentSettings, GuardRecord
from autoscaler.outlook import Outlook
from autoscaler.sharing import Claim, paced, share
from policies.base import DeploymentKey, FleetProposal


@dataclass(slots=True)
class Shared:
    """What the GPU budgets leave of what is wanted, by deployment."""

    granted: dict[DeploymentKey, int] = field(default_factory=dict)
    """Replicas that it may have now: its share, as far as others have drained."""
    shares: dict[DeploymentKey, int] = field(default_factory=dict)
    """Its share, where that is less than it wants."""
    most: dict[DeploymentKey, int] = field(default_factory=dict)
    """Replicas that the whole budget would hold."""
    allowances: dict[DeploymentKey, int] = field(default_factory=dict)
    """Replicas that it may be in others' way with: its largest grant within the time that replicas take to drain."""
    records: dict[DeploymentKey, GuardRecord] = field(default_factory=dict)


def share_out(config: ControllerConfig, fleet: Sequence[Outlook], proposal: FleetProposal, now_s: float) -> Shared:
    """Wants cut to the GPU budget of each kind; deployments of a kind without a budget keep what they want.

    What deployments without an entry want is first cut to what their namespace may have.
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
        for claim, replicas in zip(claims, paced(claims, fits, budget).values(), strict=True):
            d = by_name[claim.name]
            _remember_grant(d.memory.supply, replicas, config.tenants.drain_s, now_s)
            shared.granted[d.key] = replicas
            if d.memory.supply.most_granted is not None:
                shared.allowances[d.key] = d.memory.supply.most_granted
            shared.most[d.key] = budget // max(claim.gpus_per_replica, 1)
            if fits[claim.name] < claim.wants:
                shared.shares[d.key] = fits[claim.name]
            if replicas < claim.wants:
                why = f"the budget of {budget} {kind} GPUs is shared: {replicas} of {claim.wants} replicas fit"
                if replicas < fits[claim.name]:
                    why += f" until others have drained, {fits[claim.name]} then"
                shared.records[d.key] = GuardRecord(guard.BUDGET, d.key, claim.wants, replicas, why)
    for key, replicas in most.items():
        _cut_unlisted(shared, config, key, replicas, proposal.replicas[key].replicas)
    return shared


def _claim(d: Outlook, s: DeploymentSettings, proposed: int, most: int | None, allowance: int) -> Claim:
    o = d.observation
    wants = max(s.min_replicas, min(proposed, s.max_replicas))
    return Claim(
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


def _unseen(d: Outlook) -> list[Claim]:
    """What a deployment had that nobody can see now is taken to be there still, as long as it may be in others' way."""
    has, allowance = d.memory.supply.last_target, d.memory.supply.most_granted
    return [Claim(d.key.full, has, max(d.gpus, 1), has, holds=has, allowance=allowance)] if has else []


def _allowance(d: Outlook, s: DeploymentSettings, now_s: float) -> int:
    """What a deployment may be in others' way with: its largest grant within the time that replicas take to drain.

    What ran before there was any grant counts like one, up to its maximum: it had no time yet to give up anything.
    """
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
    config: ControllerConfig, fleet: Sequence[Outlook], proposal: FleetProposal
) -> dict[DeploymentKey, int]:
    """Replicas that deployments without an entry may have at most, as their namespace's GPUs are shared among them."""
    places: dict[str, list[Claim]] = {}
    keys: dict[str, DeploymentKey] = {}
    for d in fleet:
        s = d.settings
        if s is None or not s.unlisted or (own := proposal.replicas.get(d.key)) is None:
            continue
        wants = max(s.min_replicas, min(own.replicas, s.max_replicas))
        places.setdefault(d.key.namespace, []).append(Claim(d.key.full, wants, max(d.gpus, 1)))
        keys[d.key.full] = d.key
    most = config.tenants.max_gpus_per_namespace
    return {keys[name]: replicas for claims in places.values() for name, replicas in share(claims, most).items()}


def _cut_unlisted(shared: Shared, config: ControllerConfig, key: DeploymentKey, most: int, wanted: int) -> None:
    shared.granted[key] = min(most, shared.granted.get(key, most))
    if most < wanted and shared.granted[key] == most:
        shared.shares[key] = most
        gpus = config.tenants.max_gpus_per_namespace
        why = f"deployments without an entry share {gpus} GPUs in their namespace: {most} of {wanted} replicas fit"
        shared.records[key] = GuardRecord(guard.BUDGET, key, wanted, most, why)


def _gpu_kind(config: ControllerConfig, settings: DeploymentSettings) -> str:
    if settings.profile is not None:
        return settings.profile.gpu
    pool = next((p for p in config.pools if p.name in settings.node_pools), None)
    return pool.gpu if pool else settings.gpu
