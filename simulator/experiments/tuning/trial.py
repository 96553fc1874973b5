"""One trial: a policy with some options on scenarios, as a bill and as misses. What a worker does; it keeps nothing.

A trial that has missed far more than it may in all is given up: it could only get worse.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policies.base import DeploymentKey, PolicyError
from simulator.experiments.references.known import traffic_of
from simulator.experiments.simulation import simulate
from simulator.kernel.outcomes import Ended
from simulator.result import Result
from simulator.run import Choice, Outputs, make_policy
from simulator.scenario.load import Scenario

_LEAST_ALLOWED = 1e-4
"""A target of 100 % allows no miss; a share of nothing could not be told."""
_ROUNDING = 1e-9
"""Shares that are on target to the request may come out a little above 1."""


@dataclass(frozen=True, slots=True)
class Course:
    """A scenario and how many requests of each deployment are judged in it."""

    scenario: Scenario
    requests: Mapping[str, int]

    @classmethod
    def of(cls, scenario: Scenario) -> Course:
        warmup_s = scenario.file.warmup_s
        counts = {str(d.key): traffic_of(scenario, d).arrival_s for d in scenario.deployments}
        return cls(scenario, {key: int((times >= warmup_s).sum()) for key, times in counts.items()})

    @property
    def judged_s(self) -> float:
        return self.scenario.duration_s - self.scenario.file.warmup_s

    def allowed(self, key: str) -> float:
        """Requests of a deployment that may miss."""
        d = next(d for d in self.scenario.deployments if str(d.key) == key)
        return max(1.0 - d.slo.target_fraction, _LEAST_ALLOWED) * self.requests[key]


@dataclass(frozen=True, slots=True)
class Attempt:
    """Options of a policy, and where they are tried. `stop_at`: given up from so many times the allowed misses on."""

    courses: tuple[Course, ...]
    policy: str
    options: Mapping[str, Any]
    stop_at: float | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """Bill of the judged time (`cost_usd` None where no price is known) and `misses` of the worst deployment, over what
    it may miss: up to 1 is within the target. Of a trial that was given up: no bill, and the misses so far. `refused`:
    the policy does not take these options together.
    """

    cost_usd: float | None
    misses: float
    judged_s: float
    wall_s: float
    stopped: bool = False
    refused: str | None = None
    gpu_hours: float | None = None

    @property
    def bill(self) -> float | None:
        """What settings are compared by: USD, and GPU hours where no price is known; None = unknown."""
        return self.gpu_hours if self.cost_usd is None else self.cost_usd

    @property
    def bill_per_hour(self) -> float | None:
        return None if self.bill is None else self.bill / self.judged_s * 3600.0

    @property
    def cost_usd_per_hour(self) -> float | None:
        return None if self.cost_usd is None else self.cost_usd / self.judged_s * 3600.0

    @property
    def reaches_target(self) -> bool:
        """A trial that was given up, or refused, does not."""
        return self.bill is not None and self.misses <= 1.0 + _ROUNDING


class _HopelessError(Exception):
    """Cut short."""


class _Watch:
    """Takes requests as they end, counts misses and gives up."""

    def __init__(self, course: Course, stop_at: float | None) -> None:
        self._after_s = course.scenario.file.warmup_s
        self._slos = {d.key: d.slo for d in course.scenario.deployments}
        self._missed = dict.fromkeys(course.requests, 0)
        self._allowed = {key: course.allowed(key) for key in course.requests}
        self._stop_at = stop_at

    @property
    def misses(self) -> float:
        return max(missed / max(self._allowed[key], 1e-9) for key, missed in self._missed.items())

    def write(self, key: DeploymentKey, ended: Ended) -> None:
        self._missed[str(key)] += int(((ended.arrival_s >= self._after_s) & ~ended.within(self._slos[key])).sum())
        if self._stop_at is not None and self.misses > self._stop_at and self._missed[str(key)] > 20:
            raise _HopelessError


def evaluate(attempt: Attempt) -> Score:
    """Run it. Errors: PolicyError of a policy that fails while it runs."""
    started = time.perf_counter()
    cost_usd: float | None = 0.0
    gpu_hours, misses, judged_s = 0.0, 0.0, 0.0
    for course in attempt.courses:
        judged_s += course.judged_s
        try:
            policy = make_policy(course.scenario, Choice(attempt.policy, attempt.options))
        except PolicyError as error:
            return Score(None, 0.0, judged_s, time.perf_counter() - started, refused=str(error))
        watch = _Watch(course, attempt.stop_at)
        try:
            result = simulate(course.scenario, policy, Outputs(requests=watch if attempt.stop_at else None))
        except _HopelessError:
            return Score(None, max(misses, watch.misses), judged_s, time.perf_counter() - started, stopped=True)
        gpu_hours += result.billed_gpu_s / 3600.0
        cost_usd = None if cost_usd is None or result.cost_usd is None else cost_usd + result.cost_usd
        misses = max(misses, misses_of(result))
    return Score(cost_usd, misses, judged_s, time.perf_counter() - started, gpu_hours=gpu_hours)


def misses_of(result: Result) -> float:
    """Of the worst deployment: the share that missed over the share that may."""
    worst = 0.0
    for d in result.deployments:
        attained = d.outcomes.attainment_fraction
        if attained is not None:
            worst = max(worst, (1.0 - attained) / max(1.0 - d.outcomes.slo.target_fraction, _LEAST_ALLOWED))
    return worst
