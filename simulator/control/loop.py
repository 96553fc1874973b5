"""The controller in the simulated cluster: it looks, decides, acts and writes down, period after period, and restarts.

The same `Controller.step` as in the pod. A restart saves and restores the same rows as the live runtime does: the small
ones at every tick, the large ones in turn. Traffic, cluster and result are elsewhere.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from autoscaler.core.build import new_controller
from autoscaler.core.checkpoint import SAVE_EVERY_S, from_rows, row_names, to_rows
from autoscaler.core.controller import Controller
from autoscaler.core.journal import checkpoint_record, encode, tick_record
from autoscaler.core.types import Outcome, Plan, Signals
from policies.base import Policy
from simulator.control.actuator import SimulatedPools, SimulatedServe
from simulator.control.faults import Faults
from simulator.control.observation import SimulatedObservation
from simulator.control.settings import controller_config
from simulator.environment import Environment
from simulator.faults.base import Restart
from simulator.kernel.events import Event, Priority
from simulator.scenario.load import Scenario
from simulator.workload.history import history_bins, taught_forecasters

_NS = 1e-9
Journal = Callable[[bytes], object]


class ControlLoop:
    """Decides every `tick_s`, or at a shorter period of the policy's own (but `least_period_s`), from time 0 on."""

    def __init__(self, scenario: Scenario, policy: Policy, environment: Environment, journal: Journal | None) -> None:
        self.plan: Plan | None = None
        self.guards: Counter[str] = Counter()
        spec = environment.telemetry
        self._scenario, self._policy, self._spec, self._environment = scenario, policy, spec, environment
        self._queue = environment.queue
        self._journal = journal
        inside_serve = policy.telemetry == "serve_handles"
        faults = Faults(scenario.file.faults, environment.queue, environment.seed, environment.serves, inside_serve)
        self._observation = SimulatedObservation(environment, faults)
        self._serve = SimulatedServe(environment.serves, faults)
        self._pools = SimulatedPools(environment.cluster.pools, faults)
        tick_s, own_s = scenario.file.tick_s, policy.period_s
        least_s = scenario.file.least_period_s or 0.0
        self._period_s = tick_s if own_s is None else min(max(own_s, least_s), tick_s)
        self._save_parts = max(1, round(SAVE_EVERY_S / self._period_s))
        self._saved: dict[str, bytes] = {}
        self._config = controller_config(scenario, policy)
        self._controller = self._new_controller()
        if spec.handles:
            environment.record_handles(*policy.handle_window)
        self._restarts = [] if inside_serve else faults.restarts
        for restart in self._restarts:
            self._queue.at(restart.at_s, self._die)
            self._queue.at(restart.at_s + restart.down_s, lambda r=restart: self._rise(r))  # type: ignore[misc]
        self._next: Event | None = None
        self._begin()

    def _new_controller(self) -> Controller:
        """One that knows no more than the history that it is shown."""
        controller = new_controller(self._config, policy=self._policy)
        spec = self._policy.forecast
        if spec is None:
            return controller
        known = [d for d in self._scenario.deployments if d.history is not None]
        pasts = [history_bins(d, spec.bin_s, self._environment.seed) for d in known]
        taught = taught_forecasters(spec, pasts, self._policy.wants_backtest)
        for d, (forecaster, diary) in zip(known, taught, strict=True):
            controller.state.forecasters[d.key.full] = forecaster
            if diary is not None:
                controller.warm_start(d.key, diary)
        return controller

    def _begin(self) -> None:
        """Ticks on a grid from now on."""
        self._begun_at_s, self._ticks, self._read_next_s = self._queue.now_s, 0, 0.0
        if self._journal is not None:
            self._journal(encode(checkpoint_record(self._controller.state, self._controller.config)))
        self._next = self._queue.at(self._queue.now_s, self._decide, Priority.DECIDE)

    # ------------------------------------------------------------ a tick

    def _decide(self) -> None:
        """Look, decide, act, write down."""
        now_s = self._queue.now_s
        due = now_s >= self._read_next_s - _NS
        signals = self._observation.signals(read_pages=due)
        if due:
            # A policy that reads processes directly (no report period) does so at each decision.
            self._read_next_s = now_s + (self._scenario.file.tick_s if self._spec.period_s > 0 else 0.0)
            if not self._restarts:  # a restarted controller reads at once
                self._environment.nobody_reads_before(self._read_next_s)
        self._refit()
        began = time.perf_counter()
        plan = self.plan = self._controller.step(signals, now_s)
        step_s = time.perf_counter() - began
        outcomes = (self._serve.apply_now(plan), self._pools.apply_now(plan))
        if now_s >= self._scenario.file.warmup_s:
            records = (*plan.guards, *(g for d in plan.deployments for g in d.guards))
            self.guards.update(g.name for g in records)
        if self._journal is not None:
            self._write_tick(self._journal, signals, plan, outcomes, step_s)
        self._save()
        self._ticks += 1
        next_s = self._begun_at_s + self._ticks * self._period_s
        self._next = None
        if next_s < self._scenario.duration_s - _NS:
            self._next = self._queue.at(next_s, self._decide, Priority.DECIDE)

    def _refit(self) -> None:
        """Slow estimations that are due, beside the tick as in the pod (autoscaler/runtime/refits.py)."""
        for forecaster in self._controller.state.forecasters.values():
            if forecaster.needs_refit():
                forecaster.refit()

    @staticmethod
    def _write_tick(
        journal: Journal, signals: Signals, plan: Plan, outcomes: tuple[Outcome, ...], step_s: float
    ) -> None:
        applied = [a for outcome in outcomes for a in outcome.applied]
        journal(encode(tick_record(signals, plan, applied, {"step_s": step_s})))

    # ------------------------------------------------------------ dying and coming back

    def _save(self) -> None:
        """As the runtime saves; only as long before a death as it takes to write everything once."""
        lookback_s = (self._save_parts + 1) * self._period_s
        if not any(0 <= r.at_s - self._queue.now_s <= lookback_s for r in self._restarts):
            return
        state = self._controller.state
        names = row_names(state)
        self._saved = {n: v for n, v in self._saved.items() if n in names}
        self._saved.update(to_rows(state, state.tick, self._save_parts))

    def _die(self) -> None:
        """The process is gone: what it held in memory, and what it would have decided next."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _rise(self, restart: Restart) -> None:
        """A new process finds the rows that were saved last, or nothing."""
        if self._queue.now_s >= self._scenario.duration_s - _NS:
            return
        self._observation.forget()
        if restart.state_kept and self._saved:
            self._controller = new_controller(self._config, from_rows(self._saved), self._policy)
        else:
            self._controller = self._new_controller()
        self._begin()
