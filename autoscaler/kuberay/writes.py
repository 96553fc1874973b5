"""Scales the Serve deployments of discovered services: one actuator, each cluster of a service to its share.

During an upgrade both clusters of a service are written to: the serving ones decide what came of it, the one that is
being prepared is told of in words. Not for deciding levels, nor for splitting them (sources/kuberay/upgrade.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from autoscaler.core.ports import Actuator
from autoscaler.core.types import FINE_OUTCOMES, Applied, DeploymentPlan, Outcome, Plan
from autoscaler.kuberay.fleet import KubeRayFleet
from autoscaler.sources.kuberay.services import KubeService, ServeCluster
from autoscaler.sources.kuberay.upgrade import ClusterLevel, cluster_levels, replicas_that_fit
from policies.base import whole_down, whole_up


class KubeRayActuator(Actuator):
    """An Actuator over the links of a fleet."""

    name = "ray_serve"

    def __init__(self, fleet: KubeRayFleet) -> None:
        self._fleet = fleet

    async def apply(self, plan: Plan, now_s: float) -> Outcome:
        """One outcome for every deployment of a discovered service."""
        jobs = [self._one(one, one.target, plan, now_s) for one in plan.deployments if one.target is not None]
        done = await asyncio.gather(*jobs)
        return Outcome(self.name, tuple(applied for applied in done if applied is not None))

    async def close(self) -> None:
        """The links belong to the fleet, which is closed as a source."""

    async def _one(self, one: DeploymentPlan, target: int, plan: Plan, now_s: float) -> Applied | None:
        service = self._fleet.service_of(one.key)
        if service is None:
            return None
        what, refused = str(one.key), service.refusal(one.key.app)
        if refused is not None:
            return Applied(self.name, what, "rejected", target, refused)
        levels = _levels(service, one, target, self._fits(service, one))
        if not levels:
            return Applied(self.name, what, "withheld", target, f"the service is {service.phase}")
        if plan.leader and not plan.dry_run:
            self._fleet.planned[one.key] = target
        applied = await asyncio.gather(*(self._level(service, level, one, plan, now_s) for level in levels))
        return _together(self.name, one, service, levels, applied)

    def _fits(self, service: KubeService, one: DeploymentPlan) -> int | None:
        """Replicas that the pending cluster's workers may hold; GPUs as its config says, else as Serve does."""
        if service.pending is None or service.active is None:
            return None
        gpus = service.gpus_per_replica(one.key.app, one.key.deployment)
        link = self._fleet.link(service, service.active)
        seen = None if link is None else link.inventories.get(one.key)
        if gpus is None and seen is not None:
            gpus = seen.gpus_per_replica
        fits = replicas_that_fit(service.pending, gpus)
        return fits if fits is None else whole_down(fits, self._gang_size(service, service.pending, one))

    def _gang_size(self, service: KubeService, cluster: ServeCluster, one: DeploymentPlan) -> int:
        """Of the deployment on one cluster: a new version may have gangs of another size."""
        link = self._fleet.link(service, cluster)
        seen = None if link is None else link.inventories.get(one.key)
        return one.gang_size if seen is None else seen.gang_size

    async def _level(
        self, service: KubeService, level: ClusterLevel, one: DeploymentPlan, plan: Plan, now_s: float
    ) -> Applied:
        link = self._fleet.link(service, level.cluster)
        seen = None if link is None else link.inventories.get(one.key)
        if link is None or seen is None:
            why = f"{one.key.deployment} is not known on {level.cluster.name} yet"
            return Applied(self.name, str(one.key), "notfound", level.replicas, why)
        whole = whole_up(level.replicas, seen.gang_size)
        asked = replace(one, target=whole, observed_target=seen.target, gang_size=seen.gang_size)
        outcome = await link.actuator.apply(replace(plan, deployments=(asked,)), now_s)
        return replace(outcome.applied[0], actuator=self.name)


def _levels(service: KubeService, one: DeploymentPlan, target: int, fits: int | None) -> list[ClusterLevel]:
    """A share for each cluster; policies inside the clusters read the whole, so nothing is shared out for them."""
    levels = cluster_levels(service, target, fits)
    return [replace(level, replicas=target) for level in levels] if one.act == "policy" else list(levels)


def _together(
    name: str, one: DeploymentPlan, service: KubeService, levels: Sequence[ClusterLevel], applied: Sequence[Applied]
) -> Applied:
    """What came of it: the worst of the serving clusters, else whether anything was written to any of them."""
    if len(applied) == 1:
        return applied[0]
    serving = {cluster.name for cluster in service.serving}
    main = [done for level, done in zip(levels, applied, strict=True) if level.cluster.name in serving]
    failed = [done for done in main if done.outcome not in FINE_OUTCOMES]
    outcome = failed[0].outcome if failed else min((done.outcome for done in main), key=FINE_OUTCOMES.index)
    words = [
        f"{level.cluster.name} {level.replicas} ({level.why}): {done.outcome}{', ' + done.why if done.why else ''}"
        for level, done in zip(levels, applied, strict=True)
    ]
    return Applied(name, str(one.key), outcome, one.target, "; ".join(words))
