"""Plays one scenario under one policy: the same Controller.step as in the pod, fed with simulated signals.

The controller decides every `tick_s` (or at a shorter period of the policy's own), its plans go through the actuator
port, and the world goes on. After the last arrival's time the fleet is frozen, nothing more is billed, and the requests
in flight get as long as their timeout (at most five minutes) to end: a request is not a miss because the clock stopped.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from policies.base import DeploymentKey, Policy, PolicyError
from policies.references.static import ConstantPolicy
from policies.registry import create_policy
from simulator.control.loop import ControlLoop
from simulator.control.settings import policy_options
from simulator.environment import Environment, Live, tail_s
from simulator.figures import deployment_figures, pool_figures, prewarm_notes
from simulator.kernel.events import Priority
from simulator.kernel.outcomes import Batches, Ended
from simulator.result import Result
from simulator.scenario.load import Scenario
from simulator.scenario.overrides import same_policy
from simulator.telemetry.spec import PROFILES, TelemetrySpec
from simulator.timeline import Row, Sink

_FEED_S = 300.0
_NS = 1e-9


class RequestSink(Protocol):
    """Takes requests as they end."""

    def write(self, key: DeploymentKey, ended: Ended) -> None: ...


@dataclass(slots=True)
class Outputs:
    """What a run writes besides its result; None = nothing. `progress` gets the simulated share done (0..1)."""

    timeline: Sink | None = None
    requests: RequestSink | None = None
    journal: Callable[[bytes], object] | None = None
    progress: Callable[[float], None] | None = None

    @property
    def written(self) -> bool:
        """Something besides the result is wanted."""
        return not (self.timeline is None and self.requests is None and self.journal is None)


@dataclass(frozen=True, slots=True)
class Choice:
    """The policy that decides, by name with options; None = the scenario's."""

    name: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def of(self, scenario: Scenario) -> tuple[str, dict[str, Any]]:
        """Name and options; the scenario's options hold only for the policy that it names."""
        block = scenario.file.policy
        name = self.name or block.name
        return name, {**(block.options if same_policy(name, block.name) else {}), **self.options}


def make_policy(scenario: Scenario, choice: Choice) -> Policy:
    """Errors: PolicyError."""
    name, options = choice.of(scenario)
    base = Path(scenario.source).parent
    if choice.name is not None and Path(name.rpartition(":")[0]).is_file():
        base = Path()  # paths typed at a shell are relative to its folder, paths in a scenario to the scenario's
    return create_policy(name, options, base)


def telemetry_of(scenario: Scenario, policy: Policy) -> TelemetrySpec:
    """What the policy can see: its own metric path, else the scenario's, with the scenario's overrides.

    Errors: PolicyError for a path that does not exist.
    """
    block = scenario.file.telemetry
    if policy.telemetry is not None and policy.telemetry not in PROFILES:
        raise PolicyError(f"policy {policy.name}: telemetry: {policy.telemetry!r}; allowed: {', '.join(PROFILES)}")
    spec = PROFILES[policy.telemetry or block.profile]
    names = ("period_s", "delay_s", "drop_fraction", "noise_fraction")
    changes = {n: getattr(block, n) for n in names if getattr(block, n) is not None}
    return replace(spec, **changes)


def build(scenario: Scenario, policy: Policy, journal: bool = False) -> Environment:
    """Everything of a scenario besides the controller, at time 0, with what this policy can see of it.

    `journal`: what is measured is written down, so it is made also for a policy that looks at none of it. Errors:
    ScenarioError when the fleet at time 0 does not fit on the nodes; PolicyError for a telemetry that does not exist.
    """
    spec = telemetry_of(scenario, policy)
    if not (journal or policy.reads_metrics):
        spec = replace(spec, read=False)
    return Environment(scenario, spec, constant_sizes(scenario, policy))


def constant_sizes(scenario: Scenario, policy: Policy) -> dict[DeploymentKey, int] | None:
    """The fleet that a constant policy keeps, there from time 0 on; None for a policy that decides."""
    if not isinstance(policy, ConstantPolicy):
        return None
    found = {d.key: (policy.size(d.key), d.block.replicas) for d in scenario.deployments}
    return {key: min(max(size, r.min), r.max) for key, (size, r) in found.items() if size is not None}


def run(
    environment: Environment, policy: Policy, outputs: Outputs | None = None, notes: tuple[str, ...] = ()
) -> Result:
    """Play a fresh environment to its end under a policy that can propose (see `Policy.prepare`)."""
    started = time.perf_counter()
    played = _Run(environment, policy, outputs or Outputs())
    with _rare_garbage_collection():
        played.run()
    return played.result(notes, time.perf_counter() - started)


_ENVIRONMENTS_LEFT = 8
"""Number of runs of this process that may leave their environment behind."""
_runs = count(1)


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """What stands for a whole run (traffic, forecasters) is not searched for garbage again and again.

    Environments refer to themselves in circles, and what is frozen is never given back: without a search now and then
    all of a long search or league would stay in memory.
    """
    if next(_runs) % _ENVIRONMENTS_LEFT == 0:
        gc.collect()
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if not frozen:
            gc.unfreeze()


class _Run:
    def __init__(self, environment: Environment, policy: Policy, outputs: Outputs) -> None:
        self.scenario = scenario = environment.scenario
        self.policy = policy
        self.outputs = outputs
        self.environment = environment
        self.queue = self.environment.queue
        self._ended = {one.key: Batches(one.outcomes.add) for one in self.environment.live}
        self._arrived = dict.fromkeys(self.environment.serves, 0.0)
        self.control = ControlLoop(scenario, policy, environment, outputs.journal)

    # ------------------------------------------------------------ the run

    def run(self) -> None:
        duration_s = self.scenario.duration_s
        self._feed()
        self.queue.at(min(self._record_s, duration_s), self._record, Priority.RECORD)
        self.queue.run_until(duration_s)
        for one in self.environment.live:
            one.plane.advance(duration_s)
        self._finish_requests()

    def _feed(self) -> None:
        """Traffic for the next minutes; also where progress is told."""
        now_s = self.queue.now_s
        self.environment.feed(now_s + _FEED_S)
        if self.outputs.progress is not None:
            self.outputs.progress(min(now_s / self.scenario.duration_s, 1.0))
        if now_s + _FEED_S < self.scenario.duration_s:
            self.queue.after(_FEED_S, self._feed)

    def _record(self) -> None:
        """Collect what ended, and write a row for each deployment."""
        now_s = self.queue.now_s
        for one in self.environment.live:
            one.plane.advance(now_s)
            ended = one.plane.take_ended()
            self._take(one, ended)
            if self.outputs.timeline is not None:
                self.outputs.timeline.write(self._row(one, ended))
        duration_s = self.scenario.duration_s
        if now_s < duration_s - _NS:
            self.queue.at(min(now_s + self._record_s, duration_s), self._record, Priority.RECORD)

    @property
    def _record_s(self) -> float:
        """Rows are by the tick; without rows, ended requests are collected now and then."""
        tick_s = self.scenario.file.tick_s
        return tick_s if self.outputs.timeline is not None else max(tick_s, _FEED_S)

    def _take(self, one: Live, ended: Ended) -> None:
        if len(ended):
            self._ended[one.key].add(ended)
            if self.outputs.requests is not None:
                self.outputs.requests.write(one.key, ended)

    def _finish_requests(self) -> None:
        """The tail: nothing is billed and no decision is made, but requests in flight may end."""
        for one in self.environment.live:
            one.plane.freeze()
            one.plane.advance(self.scenario.duration_s + tail_s(one.spec))
            self._take(one, one.plane.take_ended())
            self._take(one, one.plane.take_unfinished())
            self._ended[one.key].close()

    def _row(self, one: Live, ended: Ended) -> Row:
        now_s, serve = self.queue.now_s, one.serve
        handle = one.plane.handle_figures()
        arrived = handle.arrivals - self._arrived[one.key]
        self._arrived[one.key] = handle.arrivals
        quantiles = self._forecast(one.key)
        pools = [self.environment.cluster.pools[name] for name in one.spec.block.pools]
        nodes = [n for pool in pools for n in pool.nodes]
        costs = [pool.cost_usd(now_s) for pool in pools]
        first_s = ended.ttft_s[~np.isnan(ended.ttft_s)]
        return Row(
            time_s=now_s,
            deployment=str(one.key),
            arrivals_rps=arrived / min(self.scenario.file.tick_s, now_s or 1.0),
            forecast_q50_rps=quantiles[0],
            forecast_q90_rps=quantiles[1],
            forecast_q95_rps=quantiles[2],
            forecast_q99_rps=quantiles[3],
            target=serve.target,
            running=serve.count("RUNNING"),
            starting=serve.count("STARTING"),
            draining=serve.count("STOPPING"),
            waiting=int(handle.queued) + one.plane.waiting_in_engines(),
            ongoing=int(handle.ongoing),
            kv_usage_fraction=one.plane.highest_kv_usage_fraction(),
            nodes_ready=sum(n.state == "ready" for n in nodes),
            nodes_starting=sum(n.state == "starting" for n in nodes),
            nodes_prewarmed=sum(n.state == "ready" and not n.workers for n in nodes),
            ttft_p99_s=float(np.quantile(first_s, 0.99)) if len(first_s) else None,
            slo_misses=int(len(ended) - ended.within(one.spec.slo).sum()),
            cost_usd=None if any(c is None for c in costs) else sum(c for c in costs if c is not None),
        )

    def _forecast(self, key: DeploymentKey) -> list[float | None]:
        """Quantiles of the largest rate within the lead time of a new node, as the plan has them."""
        plan = self.control.plan
        forecast = plan.forecasts.get(key) if plan is not None else None
        times = plan.lead_times.get(key) if plan is not None else None
        if forecast is None or times is None:
            return [None] * 4
        lead_s = times.path("new_node").quantile(0.5)
        return [forecast.quantile(lead_s, level) for level in (0.5, 0.9, 0.95, 0.99)]

    # ------------------------------------------------------------ the result

    def result(self, notes: tuple[str, ...], wall_s: float) -> Result:
        scenario = self.scenario
        deployments = tuple(deployment_figures(scenario, one) for one in self.environment.live)
        pools = pool_figures(scenario, self.environment.cluster.pools)
        return Result(
            scenario=scenario.name,
            policy=self.policy.name,
            policy_options=policy_options(self.policy),
            clairvoyant=self.policy.clairvoyant,
            seed=scenario.file.seed,
            duration_s=scenario.duration_s,
            window_s=scenario.duration_s - scenario.file.warmup_s,
            deployments=deployments,
            pools=pools,
            guards=self.control.guards,
            wall_s=wall_s,
            notes=tuple(dict.fromkeys((*notes, *prewarm_notes(scenario, pools)))),
            reaches_target=all(d.reaches_target for d in deployments),
        )
