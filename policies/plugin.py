"""What a policy inherits: everything but its name and its rule. The built-in ones do too. See docs/plugins.md."""

from __future__ import annotations

from typing import Any

from policies.base import (
    BacktestTrace,
    DeploymentKey,
    FleetProposal,
    FleetView,
    ForecastSpec,
    Guards,
    HandleWindow,
    Knowledge,
    Policy,
)


class PolicyPlugin:
    """Decides at every tick, under all guards, with the scenario's metrics and no forecast, and remembers nothing.

    `Options` (a frozen dataclass, see policies.options) is optional; with it the options are the only argument of the
    constructor. `new_state` gives a dataclass of plain data, which comes back as `state` and survives a restart.
    """

    name: str = ""
    period_s: float | None = None
    guards: Guards = "full"
    clairvoyant: bool = False
    telemetry: str | None = None
    forecast: ForecastSpec | None = None
    options: Any = None
    reads_metrics: bool = True
    handle_window: HandleWindow = HandleWindow()

    def __init__(self, options: Any = None) -> None:
        self.options = options

    @property
    def wants_backtest(self) -> bool:
        """No."""
        return False

    @property
    def needs_history(self) -> bool:
        """No."""
        return False

    def prepare(self, knowledge: Knowledge) -> Policy:
        """Itself: it needs nothing that it does not see while it runs."""
        return self

    def new_state(self) -> Any:
        """Nothing to remember."""
        return None

    def warm_start(self, state: Any, key: DeploymentKey, trace: BacktestTrace) -> None:
        """Nothing to learn from the past."""

    def propose(self, fleet: FleetView, state: Any, now_s: float) -> FleetProposal:
        """Yours to write."""
        raise NotImplementedError(f"{type(self).__name__} has no propose()")

    def forget(self, state: Any, full_key: str) -> None:
        """Nothing to forget."""
