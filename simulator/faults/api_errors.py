"""Writes of the controller fail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from autoscaler.settings.document.problems import Complaint
from policies.base import DeploymentKey
from simulator.faults.base import Api, LastingFault, unknown_deployment

if TYPE_CHECKING:
    from simulator.kernel.draws import Draws


class ApiErrors(LastingFault):
    """A share of the writes is answered 503."""

    kind: Literal["api_errors"]
    deployment: str | None = Field(
        default=None, description="The deployment whose writes fail; null = every one's. Not with api kubernetes."
    )
    api: Api = Field(default="serve", description="What cannot be written to.")
    fraction: float = Field(default=1.0, gt=0, le=1, description="Share of the writes that fail.")

    def check(self, most_replicas: Mapping[str, int]) -> Iterator[Complaint]:
        yield from unknown_deployment(self.deployment, most_replicas)
        if self.deployment in most_replicas and self.api == "kubernetes":
            yield "deployment", "given with api: kubernetes, which writes node levels; allowed: leave it out"

    def write_trouble(self, api: Api, deployment: DeploymentKey | None, now_s: float, draws: Draws) -> str:
        """Takes a draw for each write that may fail."""
        if api != self.api or not self.lasts(now_s):
            return ""
        if self.deployment is not None and DeploymentKey.parse(self.deployment) != deployment:
            return ""
        return "answered 503 (a fault of the scenario)" if draws.uniform() < self.fraction else ""
