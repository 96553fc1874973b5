"""What the controller saw and did lately, kept for its own pages and metrics. The runtime writes, the pages read.

Everything here can be lost without harm: it decides nothing and is not saved.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from autoscaler.api.live.history import History
from autoscaler.api.slo_accounting import SloAccounting
from autoscaler.core.conditions import Candidate, lasting
from autoscaler.core.outages import Outage, outages_of
from autoscaler.core.types import (
    Applied,
    Condition,
    ControllerConfig,
    DeploymentPlan,
    DeploymentSettings,
    Outcome,
    PauseState,
    Plan,
    Signals,
    nodes_usd_per_hour,
)
from policies.base import DeploymentKey

STEP_EDGES_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, float("inf"))
_DECISIONS_KEPT = 500
_NAMESPACE_DECISIONS_KEPT, _FEWEST_KEPT = 10_000, 5
"""Of all deployments of one namespace together where tenants name them, and of one deployment at least."""
_OWN_AFTER_S = 30.0
"""Trouble of the controller itself is told when it has lasted for so long."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision that differs from the one before it, and what came of it."""

    tick: int
    now_s: float
    plan: DeploymentPlan
    applied: Applied | None


@dataclass(slots=True)
class Telemetry:
    """The last tick whole, decisions back to some hundred per deployment, and sums since the start."""

    config: ControllerConfig
    alive_within_s: float
    """How old the last sign of life of the tick loop may be."""
    signals: Signals | None = None
    plan: Plan | None = None
    pause: PauseState = PauseState()
    applied: Mapping[str, Applied] = field(default_factory=dict)
    """By deployment key or pool name, of the last tick."""
    seen_alive_s: float | None = None
    """Monotonic time of the loop's last sign of life."""
    outages: tuple[Outage, ...] = ()
    """Nothing can be read, or nothing written, as of the last tick."""
    missed_ticks: int = 0
    failed_steps: int = 0
    step_counts: list[int] = field(default_factory=lambda: [0] * len(STEP_EDGES_S))
    step_sum_s: float = 0.0
    guards: Counter[str] = field(default_factory=Counter)
    """How often each guard came into force; one that lasts counts once."""
    breaches: Counter[str] = field(default_factory=Counter)
    """Decisions that broke what must hold of every one, by invariant; they were not carried out."""
    hint_messages: Counter[str] = field(default_factory=Counter)
    """Messages that announced demand, by what came of them; whoever receives them counts here."""
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(actuator, outcome) -> writes."""
    cost_usd: dict[str, float] = field(default_factory=dict)
    """By pool, since the start: of nodes that were seen and have a price."""
    score: SloAccounting = field(default_factory=SloAccounting)
    """How it went since the start."""
    decisions: dict[DeploymentKey, deque[Decision]] = field(default_factory=dict)
    history: History = field(default_factory=History)
    """What the charts of the live page show."""
    step_s: float | None = None
    """What the last step took."""
    troubles: dict[str, str] = field(default_factory=dict)
    """What is wrong with the controller itself: name of a condition -> why. Sources, writers and stores report here."""
    troubles_seen_s: dict[str, float] = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()
    """Everything that is wrong and lasts, as of the last tick."""
    stands_in_for: Callable[[], frozenset[DeploymentKey]] | None = None
    """Of a standby: deployments that it looks after now. None: this is no standby."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and replaced by a new one, at each tick."""

    def settings_for(self, key: DeploymentKey) -> DeploymentSettings | None:
        """In force at the last tick: what a tenant asked for stands before the file. None: observed only."""
        asked = self.signals.settings if self.signals is not None else ()
        narrowed = next((entry for entry in asked if key.matches(entry.match)), None)
        return narrowed or self.config.settings_for(key)

    def sign_of_life(self, monotonic_s: float) -> None:
        self.seen_alive_s = monotonic_s

    def alive(self, monotonic_s: float) -> bool:
        return self.seen_alive_s is not None and monotonic_s - self.seen_alive_s <= self.alive_within_s

    def report(self, name: str, why: str) -> None:
        """Trouble of the controller as a whole, by its condition's name; "" = it is over. Told at the next tick."""
        if why:
            self.troubles[name] = why
        else:
            self.troubles.pop(name, None)

    def take_conditions(self, plan: Plan | None, now_s: float) -> None:
        """What is wrong now: the plan's conditions (none where there is no plan) and the controller's own."""
        own = (Candidate(name, None, why, _OWN_AFTER_S) for name, why in self.troubles.items())
        self.conditions = (*(plan.conditions if plan else ()), *lasting(self.troubles_seen_s, own, now_s))

    def publish(self, signals: Signals, plan: Plan, outcomes: Sequence[Outcome], step_s: float) -> None:
        """Take in a finished tick."""
        before, self.plan = self.plan, plan
        self.signals, self.pause = signals, signals.pause
        self.applied = {one.what: one for outcome in outcomes for one in outcome.applied}
        self.outages = outages_of(signals, plan, self.applied, self.outages)
        self.outcomes.update((outcome.actuator, one.outcome) for outcome in outcomes for one in outcome.applied)
        self.guards.update(name for name, _ in _in_force(plan) - (_in_force(before) if before else set()))
        self.breaches.update(one.invariant for one in plan.breaches)
        self.step_counts[bisect_left(STEP_EDGES_S, step_s)] += 1
        self.step_sum_s += step_s
        self.step_s = step_s
        self.score.ingest(plan)
        self.history.remember(plan, self.score.requests, self.score.missed)
        if before is not None:
            self._add_cost(max(0.0, plan.now_s - before.now_s))
        shares = self._shares(plan)
        for one in plan.deployments:
            share = shares.get(one.key.namespace, _DECISIONS_KEPT)
            self._remember(Decision(plan.tick, plan.now_s, one, self.applied.get(str(one.key))), share)
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def last_decision(self, key: DeploymentKey) -> Decision | None:
        found = self.decisions.get(key)
        return found[-1] if found else None

    def _remember(self, decision: Decision, most: int) -> None:
        kept = self.decisions.setdefault(decision.plan.key, deque(maxlen=_DECISIONS_KEPT))
        if not kept or _essence(kept[-1]) != _essence(decision):
            kept.append(decision)
        while len(kept) > most:
            kept.popleft()

    def _shares(self, plan: Plan) -> dict[str, int]:
        """Decisions to keep of each deployment, by namespace. Where tenants name deployments, those that are gone and
        more than a namespace may have are forgotten here, the first seen first.
        """
        most = self.config.namespace_deployments
        if most is None:
            return {}
        there = {one.key for one in plan.deployments}
        known: dict[str, list[DeploymentKey]] = {}
        for key in dict.fromkeys((*self.score.requests, *self.decisions, *there)):
            known.setdefault(key.namespace, []).append(key)
        shares = {}
        for namespace, keys in known.items():
            if len(keys) > most:
                gone = [key for key in keys if key not in there][: len(keys) - most]
                for key in gone:
                    self.decisions.pop(key, None)
                    self.score.forget(key)
            fair = _NAMESPACE_DECISIONS_KEPT // min(len(keys), most)
            shares[namespace] = min(_DECISIONS_KEPT, max(_FEWEST_KEPT, fair))
        return shares

    def _add_cost(self, seconds: float) -> None:
        assert self.signals is not None
        settings = {pool.name: pool for pool in self.config.pools}
        for pool in self.signals.pools:
            rate = nodes_usd_per_hour(settings[pool.name], pool.nodes) if pool.name in settings else None
            if rate is not None:
                self.cost_usd[pool.name] = self.cost_usd.get(pool.name, 0.0) + rate * seconds / 3600.0


def _in_force(plan: Plan) -> set[tuple[str, DeploymentKey | None]]:
    records = (*plan.guards, *(record for one in plan.deployments for record in one.guards))
    return {(record.name, record.deployment) for record in records}


def _essence(decision: Decision) -> tuple[object, ...]:
    """What makes a decision another one; the numbers in its words change at every tick."""
    plan, applied = decision.plan, decision.applied
    return (
        plan.target,
        plan.observed_target,
        plan.blocked,
        tuple(guard.name for guard in plan.guards),
        None if applied is None else (applied.outcome, applied.why),
    )


def new_telemetry(config: ControllerConfig) -> Telemetry:
    """Empty; its loop counts as dead after several ticks' worth of silence."""
    return Telemetry(config, alive_within_s=max(30.0, 6 * config.tick_s))
