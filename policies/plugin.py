"""What a policy of your own may inherit: everything but its name and its rule. See docs/plugins.md."""

from __future__ import annotations

from typing import Any, Literal

from policies.base import FleetProposal, FleetView, ForecastSpec


class PolicyPlugin:
    """Decides at every tick, under all guards, with the scenario's metrics and no forecast, and remembers nothing.

    `Options` (a frozen dataclass, see policies.options) is optional; with it the options are the only argument of the
    constructor. `new_state` gives a dataclass of plain data, which comes back as `state` and survives a restart.
    """

    name: str = ""
    period_s: float | None = None
    guards: Literal["full", "bounds"] = "full"
    clairvoyant: bool = False
    telemetry: str | None = None
    forecast: ForecastSpec | None = None
    options: Any = None

    def __init__(self, options: Any = None) -> None:
        self.options = options

    def new_state(self) -> Any:
        """Nothing to remember."""
        return None

    def propose(self, fleet: FleetView, state: Any, now_s: float) -> FleetProposal:
        """Yours to write."""
        raise NotImplementedError(f"{type(self).__name__} has no propose()")
