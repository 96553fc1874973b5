"""What policies that look at one deployment at a time have in common, and readings that several of them share.

For rivals that are re-stated one to one; not for the flagship, and no place for anybody's rule.
"""

from __future__ import annotations

from typing import Any

from policies.base import DeploymentView, FleetProposal, FleetView, Guards, ReplicaProposal, Term
from policies.plugin import PolicyPlugin


class EachDeployment(PolicyPlugin):
    """Decides for each deployment by itself. Subclasses say `decide` and `new_memory`; `state.deployments` holds one
    memory for each key. A deployment whose target or running replicas are unknown is left alone.
    """

    period_s: float | None = 15.0
    guards: Guards = "bounds"
    telemetry: str | None = "prometheus_15s"

    def new_memory(self) -> Any:
        """What is remembered of a deployment that was never seen."""
        raise NotImplementedError

    def decide(self, d: DeploymentView, present: int, running: int, memory: Any, now_s: float) -> ReplicaProposal:
        """The replicas of one deployment; `present` = those asked for, `running` = those that serve."""
        raise NotImplementedError

    def propose(self, fleet: FleetView, state: Any, now_s: float) -> FleetProposal:
        """A proposal for every deployment whose target and running replicas are known."""
        replicas = {}
        for d in fleet.deployments:
            if d.target is None or d.running is None:
                continue
            if d.key.full not in state.deployments:
                state.deployments[d.key.full] = self.new_memory()
            replicas[d.key] = self.decide(d, d.target, d.running, state.deployments[d.key.full], now_s)
        return FleetProposal(replicas)

    def forget(self, state: Any, full_key: str) -> None:
        """Its memory goes with a deployment."""
        state.deployments.pop(full_key, None)


def bounded(d: DeploymentView, replicas: int, lowest: int = 0) -> int:
    """Within the deployment's own bounds, and not below `lowest`."""
    return max(lowest, d.min_replicas, min(replicas, d.max_replicas))


def stays(present: int, why: str) -> ReplicaProposal:
    """What is there stays, because something is not known."""
    return ReplicaProposal(present, (Term("unknown", present, f"{why}; the target stays"),))


def queued_at_handles(d: DeploymentView) -> float | None:
    """Requests that no replica has yet: all that wait but those in engines."""
    if d.waiting is None:
        return None
    return max(0.0, d.waiting - sum(m.waiting for m in d.replica_metrics if m.waiting is not None))


def in_system(d: DeploymentView) -> float | None:
    """Requests at replicas and those that wait for one: concurrency as a proxy in front sees it."""
    queued = queued_at_handles(d)
    return None if d.ongoing is None or queued is None else d.ongoing + queued


def mean_tokens(d: DeploymentView) -> tuple[float, float] | None:
    """Uncached prompt tokens and output tokens of a request lately."""
    if d.mix is None:
        return None
    return d.mix.prompt_tokens - d.mix.cached_prompt_tokens, d.mix.output_tokens
