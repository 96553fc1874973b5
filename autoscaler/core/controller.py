"""The decision, top to bottom: observe → forecast → propose → allocate → guard → plan → explain.

`Controller.step` is pure but for `self.state`, which it owns: no I/O, no clock, no randomness of its own. The runtime
and the simulator call the same method.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

import msgspec

from autoscaler.core import explain, forecast_verification, gangs, guards, invariants, observe
from autoscaler.core.allocation import Shared, share_out
from autoscaler.core.conditions import Candidate, lasting, noticed
from autoscaler.core.forecast import forecast_demand, forecaster_of, give_forecasters
from autoscaler.core.observe import DeploymentTick
from autoscaler.core.plans import follow, pool_plans
from autoscaler.core.policy_host import evaluate, fresh_state
from autoscaler.core.scheduled_load import plain_rps
from autoscaler.core.state import ControllerState
from autoscaler.core.supply import inventory as supply
from autoscaler.core.supply import learning
from autoscaler.core.supply.placement import PoolPlacement
from autoscaler.core.types import (
    Breach,
    ControllerConfig,
    DeploymentPlan,
    DeploymentSettings,
    DeploymentSignals,
    GuardRecord,
    Plan,
    PoolSettings,
    PoolSignals,
    Signals,
)
from autoscaler.core.write_access import blocked_because, on_its_way
from policies.base import (
    BacktestTrace,
    DeploymentKey,
    FleetProposal,
    FleetView,
    Forecasting,
    ForecastSpec,
    Policy,
    PoolView,
    ReplicaProposal,
    Term,
)

_BY_KEY = attrgetter("key")
_FORGET_AFTER_S = 30 * 86400.0
"""What was learned of a deployment is dropped when no signal has named it for this time (s)."""


class Controller:
    """Owns its state. One instance decides for every deployment and pool in its signals."""

    def __init__(
        self, config: ControllerConfig, state: ControllerState, policy: Policy, forecasting: Forecasting
    ) -> None:
        self.config = config
        """Settings in force: entries from annotations first, then the entries of the settings file."""
        self._file_deployments = config.deployments
        self.policy = policy
        self.state = state
        self.forecasting = forecasting
        """Runs all forecasters of the state together; has no memory of its own."""
        self.notices: list[str] = []
        """Parts of a saved state that could not be used, as text."""
        self._adopt(self.state)

    def _adopt(self, state: ControllerState) -> None:
        """Turn saved plain data into live objects. A part that no longer fits is replaced by an empty one."""
        fresh = fresh_state(self.policy)
        if state.policy_name != self.policy.name or state.policy_state is None or fresh is None:
            state.policy_state = fresh
        elif not isinstance(state.policy_state, type(fresh)):
            try:
                state.policy_state = msgspec.convert(state.policy_state, type(fresh))
            except msgspec.MsgspecError as error:
                self.notices.append(f"policy {self.policy.name}: its saved memory does not fit: {error}")
                state.policy_state = fresh
        state.policy_name = self.policy.name
        saved_forecasters, state.saved_forecasters = state.saved_forecasters, {}
        if self.policy.forecast is not None:
            for key, saved in saved_forecasters.items():
                self._adopt_forecaster(state, key, saved, self.policy.forecast)

    def _adopt_forecaster(self, state: ControllerState, key: str, saved: Any, spec: ForecastSpec) -> None:
        forecaster = self.forecasting.create(spec)
        try:
            forecaster.restore(msgspec.convert(saved, type(forecaster.state())))
            state.forecasters[key] = forecaster
        except Exception as error:  # saved by another forecaster, with another bin width, or damaged
            self.notices.append(f"forecaster of {key}: its saved memory does not fit: {' '.join(str(error).split())}")

    def seed_history(self, key: DeploymentKey, times_s: Sequence[float], rates_rps: Sequence[float]) -> None:
        """Show the forecaster what happened before the first tick: ends of bins (ascending) and their mean rates."""
        spec = self.policy.forecast
        forecaster = forecaster_of(self.state, self.forecasting, spec, key.full)
        if forecaster is not None and spec is not None:
            past = (forecaster, (times_s, rates_rps))
            [trace] = self.forecasting.backtest([past], spec, self.policy.wants_backtest)
            if trace is not None:
                self.warm_start(key, trace)

    def warm_start(self, key: DeploymentKey, trace: BacktestTrace) -> None:
        """Tell the policy what the forecaster would have said in the past."""
        self.policy.warm_start(self.state.policy_state, key, trace)

    def take_settings(self, entries: Sequence[DeploymentSettings]) -> None:
        """Replace the entries from annotations, which precede the settings file. `step` calls this itself."""
        deployments = (*entries, *self._file_deployments)
        if deployments != self.config.deployments:
            self.config = replace(self.config, deployments=deployments)

    def step(self, signals: Signals, now_s: float) -> Plan:
        """Decide for this moment. `signals` is everything that is known; `now_s` must not go back."""
        self.take_settings(signals.settings)
        self.state.tick += 1
        pools = {p.name: p for p in signals.pools}
        placements = {name: PoolPlacement(pool) for name, pool in pools.items()}
        learned = [word for pool in signals.pools for word in learning.learn_pool(self.state, pool, now_s)]
        fleet = []
        ganged = []
        for one in sorted(signals.deployments, key=_BY_KEY):
            found, words = self._observe(one, placements, now_s)
            fleet.append(found)
            learned += words
            if found.gang_size > 1:
                gangs.in_whole_gangs(found)
                ganged.append(found)
        give_forecasters(self.state, self.config, self.policy.forecast, self.forecasting, fleet, now_s)
        forecast_demand(fleet, self.config, self.policy.forecast, self.forecasting, signals.hints, now_s)
        for full_key in self.state.forget_gone(now_s, _FORGET_AFTER_S, self.config.namespace_deployments):
            self.policy.forget(self.state.policy_state, full_key)
        view = self._view(fleet, pools, now_s)
        proposal = self._propose(view, fleet, now_s)
        proposal = _with_levels_of_failed(proposal, fleet)
        if ganged:
            proposal = gangs.whole_proposal(proposal, ganged)
        for d in fleet:
            d.proposed = proposal.replicas.get(d.key)
            if d.proposed is not None:
                d.memory.supply.last_proposed = d.proposed.replicas
        shared = share_out(self.config, fleet, proposal, now_s)
        plans = follow(self.config, [self._isolated_plan(d, shared, signals, now_s) for d in fleet], fleet)
        plans, broken = self._held(plans, fleet, shared, signals)
        return Plan(
            tick=self.state.tick,
            now_s=now_s,
            leader=signals.leader,
            dry_run=self.config.dry_run,
            deployments=tuple(plans),
            pools=pool_plans(self.state, view, proposal, pools, plans, fleet, signals.pause.everything),
            observations=tuple(d.observation for d in fleet),
            forecasts={d.key: d.forecast for d in fleet if d.forecast is not None},
            capacities_rps={d.key: d.capacity_rps for d in fleet},
            lead_times={d.key: d.times for d in fleet},
            learned=tuple(learned),
            ended=tuple(start for d in fleet for start in d.ended),
            coverages={d.key: record for d in fleet if (record := forecast_verification.shares(d.memory.coverage))},
            conditions=lasting(self.state.conditions, self._candidates(fleet, plans, signals, now_s), now_s),
            breaches=tuple(broken),
        )

    # ------------------------------------------------------------ one deployment's failure is that deployment's

    def _observe(
        self, one: DeploymentSignals, pools: Mapping[str, PoolPlacement], now_s: float
    ) -> tuple[DeploymentTick, list[str]]:
        try:
            spec = self.policy.forecast
            found, words = observe.observe(self.config, spec, self.state, one, pools, now_s)
            found.current = self._current(found, now_s)
        except Exception as error:
            why = observe.problem_text("its signals", error)
            return observe.unobservable(self.config, self.state, one, why), []
        return found, words

    def _isolated_plan(self, d: DeploymentTick, shared: Shared, signals: Signals, now_s: float) -> DeploymentPlan:
        if not d.failed:
            try:
                return self._plan(d, shared, signals, now_s)
            except Exception as error:
                d.failed = observe.problem_text("its level", error)
        shown = d.signals.inventory.target if d.signals.inventory else None
        act = d.signals.inventory.act if d.signals.inventory else "external"
        record = GuardRecord(guards.DECISION_FAILED, d.key, None, None, d.failed)
        text = explain.sentence(shown, None, (), (record,))
        return DeploymentPlan(d.key, None, shown, None, (), (record,), None, d.key.service, text, act)

    def _candidates(
        self, fleet: Sequence[DeploymentTick], plans: Sequence[DeploymentPlan], signals: Signals, now_s: float
    ) -> Iterator[Candidate]:
        may_write = signals.leader and not self.config.dry_run
        for d, plan in zip(fleet, plans, strict=True):
            yield from noticed(d, plan, may_write, self.config.tick_s, now_s)

    def _held(
        self, plans: Sequence[DeploymentPlan], fleet: Sequence[DeploymentTick], shared: Shared, signals: Signals
    ) -> tuple[list[DeploymentPlan], list[Breach]]:
        """Plans without those that break an invariant: such a deployment keeps its level."""
        full = self.config.full_guards or self.policy.guards == "full"
        found: list[Breach] = []
        for plan, d in zip(plans, fleet, strict=True):
            found += invariants.of_deployment(plan, d.observation, d.settings, d.capacity_rps, full)
        found += invariants.over_budget(signals, plans, self.config, shared.allowances)
        return [_left_as_it_is(plan, found) for plan in plans] if found else list(plans), found

    # ------------------------------------------------------------ the level in force

    def _current(self, d: DeploymentTick, now_s: float) -> int | None:
        """The level in force. Serve's target counts, with these exceptions: Serve lost our level (a redeploy) or has
        not seen it yet. If two writers disagree or data are unknown, the higher of the two levels counts.
        """
        inventory, memory = d.signals.inventory, d.memory.supply
        if inventory is None or d.observation.target is None:
            return None
        ours, shown = memory.last_target, d.observation.target
        before, memory.last_observed_target = memory.last_observed_target, shown
        if self.config.dry_run or ours is None or shown == ours:
            return shown
        if on_its_way(inventory, before, ours) and not self._set_back(d, ours, now_s):
            return shown
        guards.note_other_writer(memory, shown, ours, now_s)
        higher = max(shown, ours)
        if shown == inventory.configured_replicas:
            why = f"Serve's target went back to the configured {shown} (redeployed); ours is {ours}"
            d.notes.append(GuardRecord(guards.TARGET_RESET, d.key, shown, ours, why))
            return ours if d.observation.fresh and not guards.contested(memory, now_s) else higher
        why = f"somebody set the target to {shown}; adopted as the level in force (ours was {ours})"
        if guards.contested(memory, now_s) and shown < ours:
            why = f"another writer set the target to {shown} again; the higher level stays ({ours})"
            d.notes.append(GuardRecord(guards.SECOND_WRITER, d.key, shown, ours, why))
            return higher
        d.notes.append(GuardRecord(guards.MANUAL, d.key, ours, shown, why))
        return shown

    def _set_back(self, d: DeploymentTick, ours: int, now_s: float) -> bool:
        """Whether another writer replaced our level: Serve accepted ours at the last tick and shows another one now.

        Serve's own table answers at once; a policy inside Serve follows later, so this check does not apply to it.
        """
        inventory = d.signals.inventory
        assert inventory is not None
        new = now_s - inventory.as_of_s < 0.5 * self.config.tick_s
        return inventory.act == "external" and d.signals.accepted == ours and new

    # ------------------------------------------------------------ propose

    def _view(self, fleet: Sequence[DeploymentTick], pools: Mapping[str, PoolSignals], now_s: float) -> FleetView:
        return FleetView(
            now_s=now_s,
            period_s=self.policy.period_s or self.config.tick_s,
            deployments=tuple(d.view() for d in fleet if d.settings is not None and not d.failed and not d.no_gang),
            pools=tuple(self._pool_view(p, pools.get(p.name), now_s) for p in self.config.pools),
            gpu_budget=self.config.gpu_budget,
        )

    def _pool_view(self, pool: PoolSettings, signals: PoolSignals | None, now_s: float) -> PoolView:
        memory = self.state.pools.get(pool.name)
        losses = None if memory is None else memory.losses
        return supply.pool_view(pool, signals, self.state.book, now_s, losses=losses)

    def _propose(self, view: FleetView, fleet: Sequence[DeploymentTick], now_s: float) -> FleetProposal:
        """The policy's proposal, or its last one until its own period has passed."""
        period_s, last_s = self.policy.period_s, self.state.decided_at_s
        if period_s is not None and last_s is not None and now_s - last_s < period_s - 1e-9:
            return _last_word(fleet)
        proposal = evaluate(self.policy, view, self.state.policy_state, now_s)
        self.state.decided_at_s = now_s
        return proposal

    # ------------------------------------------------------------ guard, explain

    def _plan(self, d: DeploymentTick, shared: Shared, signals: Signals, now_s: float) -> DeploymentPlan:
        own = d.proposed
        shown = d.observation.target
        act = d.signals.inventory.act if d.signals.inventory else "external"
        proposed = own.replicas if own else None
        left_alone, context = self._left_alone(d, signals, own), None
        if left_alone is None and d.current is not None and own is not None and d.settings is not None:
            context = self._guard_context(d, d.settings, d.current, shared, now_s)
            if d.remainder is not None and context.full:
                context, left_alone = guards.without_remainder(context)
            if left_alone is None and context.full and d.current > context.max_replicas:
                left_alone = guards.above_maximum(context)
        if left_alone is not None or context is None or own is None:
            because = (left_alone,) if left_alone else ()
            terms = own.terms if own else ()
            text = explain.sentence(d.current, None, terms, because)
            service = d.key.service
            return DeploymentPlan(d.key, None, shown, proposed, terms, because, None, service, text, act, d.gang_size)
        wanted, capped = own.replicas, shared.records.get(d.key)
        if context.granted is not None:
            wanted = min(wanted, context.granted)
        number, records = guards.guard(context, wanted)
        if context.full and context.current > context.max_replicas:
            number, records = context.max_replicas, (guards.brought_to_maximum(context),)
        records = (*d.notes, *(() if capped is None else (capped,)), *records)
        memory = d.memory.supply
        if shown is not None and number > shown:
            memory.raised_at_s = now_s
        if shown is not None and number != shown and signals.leader and not self.config.dry_run:
            memory.moved = 1 if number > shown else -1
        memory.last_target = number
        blocked = blocked_because(d.key, d.signals.inventory)
        before = d.current if d.remainder is None else d.remainder
        text = explain.sentence(before, number, own.terms, records, blocked, self.config.dry_run)
        if d.scheduled:
            records = (*_hint_ceilings(d), *records)
        terms, service = own.terms, d.key.service
        return DeploymentPlan(d.key, number, shown, proposed, terms, records, blocked, service, text, act, d.gang_size)

    def _left_alone(self, d: DeploymentTick, signals: Signals, own: ReplicaProposal | None) -> GuardRecord | None:
        shown = d.observation.target
        proposed = own.replicas if own else None
        if d.settings is None:
            return GuardRecord(guards.OBSERVED_ONLY, d.key, proposed, None, "no deployments[].match covers it")
        if d.no_gang:
            return GuardRecord(guards.NO_WHOLE_GANG, d.key, proposed, None, d.no_gang)
        if signals.pause.covers(d.key):
            return GuardRecord(guards.PAUSED, d.key, proposed, None, "paused by a person")
        if shown is None:
            return GuardRecord(guards.UNKNOWN, d.key, proposed, None, d.observation.why_stale or "its state is unknown")
        return None

    def _guard_context(
        self, d: DeploymentTick, settings: DeploymentSettings, current: int, shared: Shared, now_s: float
    ) -> guards.GuardContext:
        granted, most = shared.granted.get(d.key), settings.max_replicas
        if granted is not None:
            most = min(most, shared.most.get(d.key, most))
        return guards.GuardContext(
            key=d.key,
            observation=d.observation,
            memory=d.memory.supply,
            settings=self.config.guards,
            now_s=now_s,
            current=current,
            min_replicas=settings.min_replicas,
            max_replicas=most,
            capacity_rps=d.capacity_rps,
            max_ongoing_requests=d.max_ongoing,
            full=self.config.full_guards or self.policy.guards == "full",
            share=shared.shares.get(d.key),
            granted=granted,
            insists_on=settings.insists_on,
            max_step_up=settings.max_step_up,
            shown=d.observation.target,
            gang_size=d.gang_size,
        )


def _left_as_it_is(plan: DeploymentPlan, found: Sequence[Breach]) -> DeploymentPlan:
    """Keep the level of a deployment whose plan breaks an invariant."""
    why = "; ".join(one.why for one in found if one.deployment == plan.key)
    if not why:
        return plan
    because = (*plan.guards, GuardRecord(guards.INVARIANT, plan.key, plan.target, None, f"a bug: {why}"))
    return replace(plan, target=None, guards=because, sentence=f"left alone: a bug: {why}")


def _hint_ceilings(d: DeploymentTick) -> tuple[GuardRecord, ...]:
    """Records of hints above the ceiling. Their numbers are req/s, so they are no limit on replicas in
    the explanation.
    """
    return tuple(
        GuardRecord(
            guards.HINT_CEILING, d.key, math.ceil(one.asked_rps), math.floor(one.ceiling_rps),
            f"hint {one.hint.id} asks for {plain_rps(one.asked_rps)} req/s; "
            f"hints may raise demand to {plain_rps(one.ceiling_rps)}",
        )
        for one in d.scheduled if one.capped and one.asked_rps is not None and one.ceiling_rps is not None
    )  # fmt: skip


def _with_levels_of_failed(proposal: FleetProposal, fleet: Sequence[DeploymentTick]) -> FleetProposal:
    """Add the levels of deployments that could not be decided, so that these keep their part of the budget."""
    failed = {d.key: ReplicaProposal(d.current) for d in fleet if (d.failed or d.no_gang) and d.current is not None}
    return replace(proposal, replicas={**proposal.replicas, **failed}) if failed else proposal


def _last_word(fleet: Sequence[DeploymentTick]) -> FleetProposal:
    words = {}
    for d in fleet:
        last = d.memory.supply.last_proposed
        if last is not None:
            words[d.key] = ReplicaProposal(last, (Term("period", last, "between two decisions"),))
    return FleetProposal(words)
