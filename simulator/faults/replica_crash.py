"""Processes of replicas die."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from autoscaler.settings.document.problems import Complaint
from policies.base import DeploymentKey
from simulator.faults.base import Fault, World, unknown_deployment

if TYPE_CHECKING:
    from simulator.kernel.draws import Draws

HEALTH_CHECK_PERIOD_S = 10.0
"""Serve asks each replica this often whether it lives (its default)."""


class ReplicaCrash(Fault):
    """Some of the replicas that run die, by lot; fewer where fewer run."""

    kind: Literal["replica_crash"]
    deployment: str = Field(description="The deployment that it happens to.")
    replicas: int = Field(default=1, ge=1, description="How many crash.")

    def check(self, most_replicas: Mapping[str, int]) -> Iterator[Complaint]:
        yield from unknown_deployment(self.deployment, most_replicas)

    def happen(self, world: World, draws: Draws) -> None:
        serve = world.serves[DeploymentKey.parse(self.deployment)]
        for _ in range(self.replicas):
            which, noticed_after_s = draws.uniform(), draws.uniform() * HEALTH_CHECK_PERIOD_S
            running = [r for r in serve.replicas.values() if r.state == "RUNNING" and not r.crashed]
            if running:
                serve.crash(running[int(which * len(running))], noticed_after_s)
