"""What the GPU budgets leave of what the policy wants: the claims of deployments, shared kind by kind.

How a budget is shared is in sharing.py; what is done about the rest (guards, words) in controller.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from autoscaler import guard
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
    records: dict[DeploymentKey, GuardRecord] = field(default_factory=dict)


def share_out(config: ControllerConfig, fleet: Sequence[Outlook], proposal: FleetProposal) -> Shared:
    """Wants cut to the GPU budget of each kind; deployments of a kind without a budget keep what they want."""
    shared = Shared()
    for kind, budget in config.gpu_budget.items():
        claims = []
        by_name = {}
        for d in fleet:
            own = proposal.replicas.get(d.key)
            if own is None or d.settings is None or _gpu_kind(config, d.settings) != kind:
                continue
            s, o = d.settings, d.observation
            wants = max(s.min_replicas, min(own.replicas, s.max_replicas))
            holds, draining = (o.running or 0) + len(o.starting), o.draining or 0
            entitled = (s.min_replicas, s.guaranteed_gpus, s.priority, s.weight)
            claims.append(Claim(d.key.full, wants, d.gpus, *entitled, holds, draining))
            by_name[d.key.full] = d.key
        fits = share(claims, budget)
        for claim, replicas in zip(claims, paced(claims, fits, budget).values(), strict=True):
            key = by_name[claim.name]
            shared.granted[key] = replicas
            if fits[claim.name] < claim.wants:
                shared.shares[key] = fits[claim.name]
            if replicas < claim.wants:
                why = f"the budget of {budget} {kind} GPUs is shared: {replicas} of {claim.wants} replicas fit"
                if replicas < fits[claim.name]:
                    why += f" until others have drained, {fits[claim.name]} then"
                shared.records[key] = GuardRecord(guard.BUDGET, key, claim.wants, replicas, why)
    return shared


def _gpu_kind(config: ControllerConfig, settings: DeploymentSettings) -> str:
    if settings.profile is not None:
        return settings.profile.gpu
    pool = next((p for p in config.pools if p.name in settings.node_pools), None)
    return pool.gpu if pool else ""
