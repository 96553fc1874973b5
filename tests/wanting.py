"""A policy that wants what the test says: for tests of what happens to decisions, whoever makes them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from policies.base import DeploymentKey, FleetProposal, FleetView, ForecastSpec, Guards, ReplicaProposal, Term
from policies.plugin import PolicyPlugin


@dataclass
class WantingPolicy(PolicyPlugin):
    """Wants `wants` of the deployments that there are, and one replica for two requests that wait at `per_waiting`.

    With `raises` it raises that.
    """

    wants: dict[DeploymentKey, int] = field(default_factory=dict)
    per_waiting: DeploymentKey | None = None
    raises: Exception | None = None
    name: str = "wanting"
    period_s: float | None = None
    guards: Guards = "bounds"
    clairvoyant: bool = False
    telemetry: str | None = None
    forecast: ForecastSpec | None = None
    options: Any = None

    def new_state(self) -> dict[str, int]:
        return {}

    def propose(self, fleet: FleetView, state: Any, now_s: float) -> FleetProposal:
        if self.raises is not None:
            raise self.raises
        shown = {d.key: d for d in fleet.deployments}
        wants = {key: n for key, n in self.wants.items() if key in shown}
        if self.per_waiting in shown and (waiting := shown[self.per_waiting].waiting):
            wants[self.per_waiting] = max(wants.get(self.per_waiting, 0), math.ceil(waiting / 2))
        return FleetProposal(
            {key: ReplicaProposal(n, (Term("test", n, "the test wants it"),)) for key, n in wants.items()}
        )
