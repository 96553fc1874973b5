"""The actuator port against the simulated cluster: replica targets to Serve, node levels to the pools.

Same semantics as the live ones (tests/contract runs one suite over both): levels, idempotent, failures are outcomes.
`apply` is asynchronous as the port wants it, `apply_now` is the same without an event loop.
"""

from __future__ import annotations

from collections.abc import Mapping

from autoscaler.core.ports import Actuator
from autoscaler.core.types import Applied, DeploymentPlan, Outcome, Plan, PoolPlan, ServiceGpus
from policies.base import DeploymentKey
from simulator.cluster.nodes import NodePool
from simulator.control.faults import Faults
from simulator.serve.lifecycle import Serve


class SimulatedServe(Actuator):
    """Writes targets to the simulated Serve, which acts on them at its next control loop."""

    name = "simulated_serve"

    def __init__(self, deployments: Mapping[DeploymentKey, Serve], faults: Faults | None = None) -> None:
        self._deployments = deployments
        self._faults = faults

    async def apply(self, plan: Plan, now_s: float) -> Outcome:
        return self.apply_now(plan)

    async def close(self) -> None:
        """Nothing to give back."""

    def apply_now(self, plan: Plan) -> Outcome:
        wanted = [d for d in plan.deployments if d.target is not None]
        return Outcome(self.name, tuple(self._applied(d, plan) for d in wanted))

    def _applied(self, one: DeploymentPlan, plan: Plan) -> Applied:
        what, target = str(one.key), one.target
        assert target is not None
        if target == one.observed_target:
            return Applied(self.name, what, "unchanged", target)
        if plan.dry_run or not plan.leader:
            return Applied(self.name, what, "withheld", target, "dry run" if plan.dry_run else "not the leader")
        if one.blocked is not None:
            return Applied(self.name, what, "conflict", target, one.blocked)
        if target % one.gang_size:
            why = f"{target} replicas are no whole number of gangs of {one.gang_size}: not posted"
            return Applied(self.name, what, "rejected", target, why)
        serve = self._deployments.get(one.key)
        if serve is None:
            return Applied(self.name, what, "notfound", target, "Application or Deployment not found")
        trouble = self._faults.api_trouble("serve", one.key) if self._faults else ""
        if trouble:
            return Applied(self.name, what, "unavailable", target, trouble)
        serve.scale(target)
        return Applied(self.name, what, "ok", target)


class SimulatedPools(Actuator):
    """Keeps as many nodes, busy and warm together, as the plan says (pools whose way to pre-warm is not `none`)."""

    name = "simulated_pools"

    def __init__(self, pools: Mapping[str, NodePool], faults: Faults | None = None) -> None:
        self._pools = pools
        self._faults = faults
        self._stands: dict[str, tuple[int, tuple[ServiceGpus, ...]]] = {}

    async def apply(self, plan: Plan, now_s: float) -> Outcome:
        return self.apply_now(plan)

    async def release(self, now_s: float) -> Outcome:
        """Nothing is held any more; what is empty goes as ever."""
        done = []
        for name, pool in self._pools.items():
            held = bool(pool.level)
            self._stands.pop(name, None)
            if held:
                pool.set_level(0)
            words = "given back" if held else "nothing is held"
            done.append(Applied(self.name, name, "ok" if held else "unchanged", 0, words))
        return Outcome(self.name, tuple(done))

    async def close(self) -> None:
        """Its level stays: `release` gives it back."""

    def apply_now(self, plan: Plan) -> Outcome:
        return Outcome(self.name, tuple(self._applied(p, plan) for p in plan.pools if p.nodes is not None))

    def _applied(self, one: PoolPlan, plan: Plan) -> Applied:
        assert one.nodes is not None
        pool = self._pools.get(one.name)
        if plan.dry_run or not plan.leader:
            return Applied(self.name, one.name, "withheld", one.nodes, "dry run" if plan.dry_run else "not the leader")
        if pool is None:
            return Applied(self.name, one.name, "notfound", one.nodes, "no such pool")
        if not pool.spec.prewarm:
            return Applied(self.name, one.name, "withheld", one.nodes, "prewarm: none")
        trouble = self._faults.api_trouble("kubernetes") if self._faults else ""
        if trouble:
            return Applied(self.name, one.name, "unavailable", one.nodes, trouble)
        outcome = "unchanged" if self._stands.get(one.name) == (one.nodes, one.gpus) else "ok"
        self._stands[one.name] = (one.nodes, one.gpus)
        pool.set_level(one.nodes, one.gpus)
        return Applied(self.name, one.name, outcome, one.nodes)
