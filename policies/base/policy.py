"""What a policy is."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from policies.base.forecast import ForecastSpec
from policies.base.proposal import FleetProposal
from policies.base.view import FleetView


class Policy(Protocol):
    """A pure decision: view in, proposal out; memory in `state`, which the caller owns and saves.

    `period_s`: how often it decides (None = every tick). `guards`: 'full', or 'bounds' for rivals that must stay
    themselves (min/max, budget and physical GPUs only). `telemetry`: the metric path it reads in the simulator (None
    = the scenario's). `forecast`: what it wants forecast (None = nothing, which saves the work).
    """

    name: str
    period_s: float | None
    guards: Literal["full", "bounds"]
    clairvoyant: bool
    telemetry: str | None
    forecast: ForecastSpec | None
    options: Any

    def new_state(self) -> Any:
        """A fresh memory: a dataclass of plain data (numbers, strings, lists, dicts, dataclasses)."""
        ...

    def propose(self, fleet: FleetView, state: Any, now_s: float) -> FleetProposal:
        """Errors: PolicyError only; anything else is the policy's bug and is reported as such."""
        ...
