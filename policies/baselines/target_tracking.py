"""`target_tracking`: target tracking of AWS Application Auto Scaling, as SageMaker endpoints use it.

Two alarms on a metric per copy, averaged over a minute: three periods above the target ask for more, fifteen below
nine tenths of it for fewer, each with a cooldown. Re-stated from the public documentation; how many periods an alarm
takes is what the service is known to create, not what it promises. Copies on their way count as capacity, not in the
metric. It cannot leave zero (that takes a step policy) and never goes there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from policies.base import DeploymentView, ReplicaProposal, Term
from policies.baselines.each import EachDeployment, bounded, in_system, stays
from policies.baselines.hpa import TARGET_SHARE
from policies.options import between, option

Metric = Literal["concurrency", "invocations"]
_LOW_SHARE = 0.9
"""The low alarm's threshold over the target."""


@dataclass(frozen=True, slots=True)
class TargetTrackingOptions:
    """The service's settings with SageMaker's defaults; min and max copies are the deployment's own."""

    metric: Metric = option("concurrency", doc="requests in progress per copy, or requests per copy and minute")
    target: float | None = option(
        None,
        low=1e-9,
        doc="of the metric; null = 0.8 of what a replica carries by the profile",
        search=between(2, 256, log=True, start=30.0),
    )
    scale_out_cooldown_s: float = option(
        300.0, low=0, high=3600, doc="after more: wait before still more", search=between(15, 900, log=True)
    )
    scale_in_cooldown_s: float = option(
        300.0, low=0, high=3600, doc="after a change: wait before fewer", search=between(15, 3600, log=True)
    )
    period_s: float = option(60.0, low=10, high=3600, doc="over which the metric is averaged")
    high_periods: int = option(
        3, low=1, high=60, doc="above the target for so many periods: more", search=between(1, 5)
    )
    low_periods: int = option(15, low=1, high=60, doc="below 0.9 of it for so many periods: fewer")


@dataclass(slots=True)
class TargetTrackingMemory:
    """Samples of the period under way, averages of past ones (None = missing), and the last activities."""

    samples: list[float] = field(default_factory=list)
    period_began_at_s: float | None = None
    arrivals: float | None = None
    averages: list[float | None] = field(default_factory=list)
    target: float | None = None
    out_at_s: float | None = None
    out_capacity: int = 0
    in_at_s: float | None = None


@dataclass(slots=True)
class TargetTrackingState:
    """One memory per deployment, by key."""

    deployments: dict[str, TargetTrackingMemory] = field(default_factory=dict)


def alarm(options: TargetTrackingOptions, averages: list[float | None], target: float) -> int:
    """1: the high alarm, -1: the low one, 0: none. A missing average breaks a run."""

    def all_of(periods: int, above: bool) -> bool:
        last = averages[-periods:]
        if len(last) < periods:
            return False
        return all(v is not None and (v > target if above else v < _LOW_SHARE * target) for v in last)

    if all_of(options.high_periods, above=True):
        return 1
    return -1 if all_of(options.low_periods, above=False) else 0


def track(
    options: TargetTrackingOptions, memory: TargetTrackingMemory, now_s: float, copies: int, target: float
) -> int:
    """Copies after the alarms were looked at. Updates the memory's activities."""
    sign, value = alarm(options, memory.averages, target), memory.averages[-1] if memory.averages else None
    if sign == 0 or value is None:
        return copies
    wanted = math.ceil(copies * value / target - 1e-9)
    since_out_s = math.inf if memory.out_at_s is None else now_s - memory.out_at_s
    if sign > 0:
        # A larger step is taken although the last one is cooling down.
        if wanted > copies and (since_out_s >= options.scale_out_cooldown_s or wanted > memory.out_capacity):
            memory.out_at_s, memory.out_capacity = now_s, wanted
            return wanted
        return copies
    since_in_s = math.inf if memory.in_at_s is None else now_s - memory.in_at_s
    cooled = since_in_s >= options.scale_in_cooldown_s and since_out_s >= options.scale_out_cooldown_s
    if wanted < copies and cooled:
        memory.in_at_s = now_s
        return max(wanted, 1)
    return copies


class TargetTrackingPolicy(EachDeployment):
    """See the module. The metric is read every 10 s, as high-resolution metrics are."""

    Options = TargetTrackingOptions
    name = "target_tracking"
    period_s: float | None = 10.0

    options: TargetTrackingOptions

    def new_state(self) -> TargetTrackingState:
        return TargetTrackingState()

    def new_memory(self) -> TargetTrackingMemory:
        return TargetTrackingMemory()

    def decide(
        self, d: DeploymentView, present: int, running: int, memory: TargetTrackingMemory, now_s: float
    ) -> ReplicaProposal:
        """Between the ends of periods nothing changes."""
        o = self.options
        ended = self._take(d, running, memory, now_s)
        target = self._target(d, memory)
        if target is None:
            return stays(present, "no target is set and no engine profile gives one")
        if not ended:
            return ReplicaProposal(present, (Term("between_periods", present, "the period has not ended"),))
        if memory.averages[-1] is None:
            return stays(present, "the metric is missing")
        count = bounded(d, track(o, memory, now_s, present, target), lowest=1)
        why = f"{o.metric} {memory.averages[-1]:.3g} per copy over {o.period_s:g} s, target {target:.3g}"
        return ReplicaProposal(count, (Term(o.metric, count, why),))

    def _take(self, d: DeploymentView, running: int, memory: TargetTrackingMemory, now_s: float) -> bool:
        """Take a sample; True when a period has ended, whose average is then the last."""
        o = self.options
        if memory.period_began_at_s is None:
            memory.period_began_at_s = now_s
            memory.arrivals = d.totals.arrivals if d.totals else None
        total = in_system(d)
        if o.metric == "concurrency" and total is not None and running > 0:
            memory.samples.append(total / running)
        elapsed_s = now_s - memory.period_began_at_s
        if elapsed_s < o.period_s - 1e-9:
            return False
        average = sum(memory.samples) / len(memory.samples) if memory.samples else None
        if o.metric == "invocations":
            arrivals = d.totals.arrivals if d.totals else None
            known = arrivals is not None and memory.arrivals is not None and running > 0
            average = (arrivals - memory.arrivals) * 60.0 / elapsed_s / running if known else None  # type: ignore[operator]
            memory.arrivals = arrivals
        keep = max(o.high_periods, o.low_periods)
        memory.averages = [*memory.averages, average][-keep:]
        memory.samples, memory.period_began_at_s = [], now_s
        return True

    def _target(self, d: DeploymentView, memory: TargetTrackingMemory) -> float | None:
        """As set, else from the first capacity that is known, and then the same for good."""
        if self.options.target is not None:
            return self.options.target
        if memory.target is None:
            carries = d.capacity_rps * 60.0 if d.capacity_rps else None
            holds = d.capacity_batch if self.options.metric == "concurrency" else carries
            memory.target = None if holds is None else TARGET_SHARE * holds
        return memory.target
