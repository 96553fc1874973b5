"""`static`: a constant number of replicas, the yardstick that every autoscaler has to beat.

Without a number it is clairvoyant: the simulator finds the smallest constant fleet that reaches the target on the very
workload and builds the policy again with it. Nobody can do that live, and the result is marked so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from policies.base import FleetProposal, FleetView, ForecastSpec, PolicyError, ReplicaProposal, Term
from policies.options import option


@dataclass(frozen=True, slots=True)
class StaticOptions:
    """`replicas` None: the simulator fills it in."""

    replicas: int | None = option(None, low=0, doc="of every deployment; null = smallest fleet that reaches the target")


@dataclass(slots=True)
class StaticState:
    """Nothing to remember."""

    unused: dict[str, float] = field(default_factory=dict)


class StaticPolicy:
    """Always the same number. Errors: PolicyError when asked to propose without one."""

    Options = StaticOptions
    name = "static"
    period_s: float | None = None
    guards: Literal["full", "bounds"] = "bounds"
    telemetry: str | None = None
    forecast: ForecastSpec | None = None

    def __init__(self, options: StaticOptions) -> None:
        self.options = options
        self.clairvoyant = options.replicas is None

    def new_state(self) -> StaticState:
        return StaticState()

    def propose(self, fleet: FleetView, state: StaticState, now_s: float) -> FleetProposal:
        """The constant for every deployment."""
        count = self.options.replicas
        if count is None:
            raise PolicyError("static: option replicas: null; it needs a number (only the simulator can find one)")
        proposal = ReplicaProposal(count, (Term("static", count, f"{count} replicas, always"),))
        return FleetProposal({d.key: proposal for d in fleet.deployments})
