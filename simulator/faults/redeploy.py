"""A new version is deployed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from autoscaler.settings.document.problems import Complaint
from policies.base import DeploymentKey
from simulator.faults.base import Fault, World, unknown_deployment
from simulator.serve.rollout import Update

if TYPE_CHECKING:
    from simulator.kernel.draws import Draws


class Redeploy(Fault):
    """A new configuration; its replicas take the place of the old ones as Serve does it (serve/rollout.py)."""

    kind: Literal["redeploy"]
    deployment: str = Field(description="The deployment that it happens to.")
    replicas: int | None = Field(
        default=None, ge=1, description="num_replicas of the new configuration; null = replicas.initial."
    )
    new_image: bool = Field(default=False, description="The new version has an image of its own.")
    rolling_update_fraction: float = Field(
        default=0.2, gt=0, le=1, description="Serve's rolling_update_percentage, as a share."
    )
    max_surge_fraction: float = Field(default=0.0, ge=0, le=1, description="Serve's max_surge_percent / 100.")

    def check(self, most_replicas: Mapping[str, int]) -> Iterator[Complaint]:
        yield from unknown_deployment(self.deployment, most_replicas)
        most = most_replicas.get(self.deployment)
        if self.replicas is not None and most is not None and self.replicas > most:
            text = f"{self.replicas}; allowed: at most replicas.max of {self.deployment}, which is {most}"
            yield "replicas", text

    def happen(self, world: World, draws: Draws) -> None:
        serve = world.serves[DeploymentKey.parse(self.deployment)]
        replicas = max(serve.spec.initial, serve.spec.gang_size) if self.replicas is None else self.replicas
        update = Update(replicas, self.new_image, self.rolling_update_fraction, self.max_surge_fraction)
        serve.redeploy(update, keep_target=world.inside_serve)
