"""The port of a policy, what it may ask for, and what a scenario can tell one before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from policies.base.forecast import BacktestTrace, ForecastSpec
from policies.base.record import record
from policies.base.view import DeploymentKey, FleetView

if TYPE_CHECKING:
    from policies.base.knowledge import KnownWorld, PastDemand


@record(frozen=True, slots=True)
class Term:
    """One argument for a number of replicas (or nodes): who wants how many, and why, in words."""

    name: str
    wants: int
    why: str


@record(frozen=True, slots=True)
class ReplicaProposal:
    """Replicas wanted for one deployment; `terms` holds the winning argument first, then the losing ones."""

    replicas: int
    terms: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolProposal:
    """Nodes that should exist in a pool, busy and warm together."""

    nodes: int
    terms: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetProposal:
    """A deployment or pool that is left out keeps what it has."""

    replicas: Mapping[DeploymentKey, ReplicaProposal]
    pools: Mapping[str, PoolProposal] = field(default_factory=dict)


Guards = Literal["full", "bounds"]


class HandleWindow(NamedTuple):
    """How Serve's handles report to a policy that runs inside Serve: how often, and how far back it looks (seconds)."""

    interval_s: float = 10.0
    look_back_s: float = 30.0


class Knowledge(Protocol):
    """What a scenario knows besides what a policy sees while it runs: the past, the future, and what it can try.

    Errors of all: PolicyError.
    """

    def past_demand(self, policy_name: str) -> Mapping[str, PastDemand]:
        """The recorded history by deployment key, as `str(key)` gives it."""
        ...

    def known_world(self) -> KnownWorld:
        """Every request to come, and the cluster: for policies that are marked as clairvoyant."""
        ...

    def smallest_constant_fleet(self) -> Mapping[str, int]:
        """Replicas by deployment key: the smallest numbers that reach each one's target without ever changing."""
        ...

    def cheapest_plan(self, options: Any) -> Policy:
        """The cheapest plan of `oracle_lead` that reaches the target, found by simulating plans."""
        ...

    def best_setting(self, options: Any) -> Policy:
        """The best setting of `hindsight` for this very traffic, found by simulating settings."""
        ...


class Policy(Protocol):
    """A pure decision: view in, proposal out; memory in `state`, which the caller owns and saves.

    `period_s`: how often it decides (None = every tick). `guards`: 'full', or 'bounds' for rivals that must stay
    themselves (min/max, budget and physical GPUs only). `telemetry`: the metric path it reads in the simulator (None
    = the scenario's). `forecast`: what it wants forecast (None = nothing, which saves the work). `wants_backtest`: it
    warms up on what its forecaster would have said in the past. `needs_history`: it cannot propose before `prepare`
    was given a past. `reads_metrics`: False where no measurement changes what it proposes. `handle_window`: what
    Serve's handles tell a policy inside Serve.

    `policies.plugin.PolicyPlugin` has all of it but `name` and `propose`.
    """

    name: str
    period_s: float | None
    guards: Guards
    clairvoyant: bool
    telemetry: str | None
    forecast: ForecastSpec | None
    options: Any
    reads_metrics: bool
    handle_window: HandleWindow

    @property
    def wants_backtest(self) -> bool: ...

    @property
    def needs_history(self) -> bool: ...

    def prepare(self, knowledge: Knowledge) -> Policy:
        """What is to run on a scenario: itself, or a policy completed from what the scenario knows. Called once."""
        ...

    def new_state(self) -> Any:
        """A fresh memory: a dataclass of plain data (numbers, strings, lists, dicts, dataclasses)."""
        ...

    def warm_start(self, state: Any, key: DeploymentKey, trace: BacktestTrace) -> None:
        """Before its first decision on a deployment: what the forecaster would have said of it in the past."""
        ...

    def propose(self, fleet: FleetView, state: Any, now_s: float) -> FleetProposal:
        """Errors: PolicyError only; anything else is the policy's bug and is reported as such."""
        ...

    def forget(self, state: Any, full_key: str) -> None:
        """A deployment is gone for good; `full_key` as `key.full` gives it."""
        ...
