"""Something that is wrong and lasts. What each one means and what to do: autoscaler/core/conditions.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from autoscaler.core.types.observation import EndedStart, Observation
from autoscaler.core.types.settings import ActWay
from policies.base import DeploymentKey, Forecast, LeadTimes, Term
from policies.base.record import record


@dataclass(frozen=True, slots=True)
class Condition:
    """`name` is one of autoscaler.core.conditions.KINDS; `deployment` None: the controller as a whole.

    `since_s`: when it was first observed (seconds since the epoch), which is earlier than when it was first reported.
    """

    name: str
    deployment: DeploymentKey | None
    since_s: float
    why: str


@dataclass(frozen=True, slots=True)
class GuardRecord:
    """A guard that changed a number: `before` -> `after`, and why."""

    name: str
    deployment: DeploymentKey | None
    before: int | None
    after: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Breach:
    """A violated invariant: the level stays as it is."""

    invariant: str
    deployment: DeploymentKey
    why: str


@record(frozen=True, slots=True)
class DeploymentPlan:
    """The level that one deployment should have. `target` None: leave it alone (observed only, unknown, paused)."""

    key: DeploymentKey
    target: int | None
    observed_target: int | None
    proposed: int | None
    terms: tuple[Term, ...] = ()
    """Arguments for the number, the winning one first."""
    guards: tuple[GuardRecord, ...] = ()
    blocked: str | None = None
    """Why an actuator must refuse to apply it (Serve's autoscaler is on, external scaling is off), with the exact
    change.
    """
    service: str = "local"
    sentence: str = ""
    """The decision in one sentence for people."""
    act: ActWay = "external"
    """`policy`: nothing is posted; a policy inside Serve follows the published plan."""
    gang_size: int = 1
    """`target` is a multiple of it."""


@dataclass(frozen=True, slots=True)
class ServiceGpus:
    """GPUs of one service (one Ray cluster)."""

    namespace: str
    service: str
    gpus: int


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """Nodes that a pool should have, busy and warm together; None: leave it alone."""

    name: str
    nodes: int | None
    observed_nodes: int | None
    terms: tuple[Term, ...] = ()
    busy_nodes: int | None = None
    """Observed nodes that Ray workers are on or wait for: they need not be held. None = unknown."""
    gpus: tuple[ServiceGpus, ...] = ()
    """GPUs that the planned replicas need of this pool, by service."""
    taken_per_node_hour: float = 0.0
    """How often a node with replicas on it is taken away, as learned; 0 while none was seen to be."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The outcome of one tick, for the actuators, the journal and the pages. Everything in it is a level."""

    tick: int
    now_s: float
    leader: bool
    dry_run: bool
    deployments: tuple[DeploymentPlan, ...]
    pools: tuple[PoolPlan, ...] = ()
    observations: tuple[Observation, ...] = ()
    forecasts: Mapping[DeploymentKey, Forecast] = field(default_factory=dict)
    capacities_rps: Mapping[DeploymentKey, float | None] = field(default_factory=dict)
    lead_times: Mapping[DeploymentKey, LeadTimes] = field(default_factory=dict)
    guards: tuple[GuardRecord, ...] = ()
    learned: tuple[str, ...] = ()
    """What was learned this tick, in words (a lead time measured, a capacity corrected)."""
    ended: tuple[EndedStart, ...] = ()
    """Starts that ended since the last tick. Not in the journal."""
    coverages: Mapping[DeploymentKey, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    """(level, share of recent windows as long as the lead time whose demand stayed under it). Not in the journal."""

    conditions: tuple[Condition, ...] = ()
    """What is wrong and lasts. Not in the journal."""
    breaches: tuple[Breach, ...] = ()
    """Decisions that violate an invariant and were not made. Not in the journal."""

    def deployment(self, key: DeploymentKey) -> DeploymentPlan | None:
        return next((d for d in self.deployments if d.key == key), None)


FINE_OUTCOMES = ("ok", "published", "withheld", "unchanged")
"""Outcomes of a write that are no failure."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of one write: `outcome` is 'ok', 'unchanged', 'withheld', 'published' (Serve's controller is to follow
    the plan by itself), or an error class's name in lower case."""

    actuator: str
    what: str
    """The deployment key or pool."""
    outcome: str
    value: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of applying a plan through one actuator."""

    actuator: str
    applied: tuple[Applied, ...] = ()

    @property
    def failed(self) -> tuple[Applied, ...]:
        return tuple(a for a in self.applied if a.outcome not in FINE_OUTCOMES)
