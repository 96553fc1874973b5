"""`ray_serve`: Ray Serve's own autoscaler (2.60), re-stated from its behaviour as a rival to compare against.

`aggregate` turns the series that handles push into one number of requests, `decide` turns that into a target with
factors and delays. How and when handles record and push is the telemetry's part (profile `serve_handles`), which also
leaves out series of replicas that are not RUNNING. Not covered: target_capacity, initial_replicas, custom policies.

Serve's controller decides about every 0.1 s. Here it decides every second: its inputs change every
`metrics_interval_s` (10 s) and its delays are seconds to minutes, so that the tenfold work would move nothing but
where inside a second a decision falls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from policies.base import (
    DeploymentView,
    FleetProposal,
    FleetView,
    Guards,
    HandleReport,
    HandleWindow,
    ReplicaProposal,
    Term,
)
from policies.options import between, option
from policies.plugin import PolicyPlugin

Series = tuple[tuple[float, float], ...]
Aggregation = Literal["mean", "max", "min"]


@dataclass(frozen=True, slots=True)
class RayServeOptions:
    """Fields of Serve's `autoscaling_config` with Serve's defaults; min and max replicas are the deployment's own."""

    target_ongoing_requests: float = option(
        2.0, low=1e-6, doc="running and queued requests per replica to aim at", search=between(1, 128, log=True)
    )
    upscale_delay_s: float = option(
        30.0, low=0, doc="how long more must be wanted before it is done", search=between(0, 60)
    )
    downscale_delay_s: float = option(
        600.0, low=0, doc="how long fewer must be wanted before it is done", search=between(30, 3600, log=True)
    )
    downscale_to_zero_delay_s: float | None = option(None, low=0, doc="the same for 1 -> 0; null = downscale_delay_s")
    upscaling_factor: float = option(1.0, low=1e-6, doc="share of a wanted increase that is taken")
    downscaling_factor: float = option(1.0, low=1e-6, doc="share of a wanted decrease that is taken")
    look_back_period_s: float = option(30.0, low=1e-3, doc="window that handles report")
    metrics_interval_s: float = option(10.0, low=1e-3, doc="how often handles push their report")
    aggregation_function: Aggregation = option("mean", doc="how a window becomes one number")
    decide_every_s: float = option(1.0, low=0.1, high=60, doc="how often it decides (in Serve: 0.1)")


@dataclass(slots=True)
class DelayTimer:
    """Since when (s) a change in this direction (1 up, -1 down, 0 none) has been wanted without a break."""

    direction: int = 0
    since_s: float = 0.0


@dataclass(slots=True)
class RayServeState:
    """One timer per deployment, by key."""

    timers: dict[str, DelayTimer] = field(default_factory=dict)


def aggregate(series: Sequence[Series], now_s: float, function: Aggregation = "mean") -> float:
    """Requests in the system: the sum of step functions, one per series of (time_s, value), over their common window.

    The last value holds until now. With several series the window begins where all of them have begun, unless one
    begins after everything else has ended. No points at all: 0.
    """
    filled = [points for points in series if points]
    if not filled:
        return 0.0
    steps = filled[0] if len(filled) == 1 else _summed(filled)
    start, last = steps[0][0], steps[-1][0]
    if len(filled) > 1:
        common = max(points[0][0] for points in filled)
        if common <= last:
            start = max(common, start)
    if function != "mean":
        inside = [value for time_s, value in steps if time_s >= start]
        return max(inside) if function == "max" else min(inside)
    end = last + max(now_s - last, 0.001)
    area = 0.0
    for i, (time_s, value) in enumerate(steps):
        until = steps[i + 1][0] if i + 1 < len(steps) else end
        area += value * max(0.0, until - max(time_s, start))
    return area / (end - start)


def _summed(series: Sequence[Series]) -> Series:
    """The sum of step functions that are 0 before their first point, at times rounded to 10 ms (half up)."""
    changes: dict[float, float] = {}
    for points in series:
        before = 0.0
        for time_s, value in points:
            if value != before:
                at_s = math.floor(time_s * 100.0 + 0.5) / 100.0
                changes[at_s] = changes.get(at_s, 0.0) + value - before
                before = value
    total, steps = 0.0, []
    for at_s in sorted(changes):
        total += changes[at_s]
        steps.append((at_s, total))
    return tuple(steps) if steps else ((series[0][0][0], 0.0),)


def decide(
    options: RayServeOptions,
    timer: DelayTimer,
    now_s: float,
    running: int,
    target: int,
    requests: float,
    bounds: tuple[int, int],
) -> int:
    """The next target. `requests` = running and queued now; `bounds` = (min, max) replicas. Updates `timer`.

    Only RUNNING replicas count as the present; the result is compared with the target, so that nothing is added twice
    while replicas start. From zero it acts at once.
    """
    low, high = bounds
    if running == 0 and requests > 0:
        return _clamp(max(math.ceil(options.upscaling_factor), target), low, high)
    wanted = _wanted(options, running, target, requests)
    if running == 0 and wanted > 0:
        return _clamp(wanted, low, high)
    return _clamp(_delayed(options, timer, now_s, target, max(0, wanted)), low, high)


def _wanted(options: RayServeOptions, running: int, target: int, requests: float) -> int:
    """Replicas wanted after the factors, before the delays."""
    if running == 0:
        return target
    desired = running * (requests / (options.target_ongoing_requests * running))
    factor = options.upscaling_factor if desired > running else options.downscaling_factor
    wanted = math.ceil(running + factor * (desired - running))
    if math.ceil(desired) < running and wanted == running:
        wanted -= 1
    return wanted


def _delayed(options: RayServeOptions, timer: DelayTimer, now_s: float, target: int, wanted: int) -> int:
    """The target now, given what is wanted and since when. n -> 0 goes through 1, with a wait of its own."""
    if wanted == target:
        timer.direction = 0
        return target
    direction = 1 if wanted > target else -1
    delay_s = options.upscale_delay_s if direction > 0 else options.downscale_delay_s
    if direction < 0 and target == 1:
        to_zero_s = options.downscale_to_zero_delay_s
        delay_s = delay_s if to_zero_s is None else to_zero_s
    elif direction < 0:
        wanted = max(1, wanted)
    if timer.direction != direction:
        timer.direction, timer.since_s = direction, now_s
    if now_s - timer.since_s + 1e-6 < delay_s:
        return target
    timer.direction = 0
    return wanted


def _clamp(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


class RayServePolicy(PolicyPlugin):
    """Serve's rule over what handles report. Without a report it keeps the target (a live view carries none)."""

    Options = RayServeOptions
    name = "ray_serve"
    guards: Guards = "bounds"
    telemetry = "serve_handles"
    options: RayServeOptions

    def __init__(self, options: RayServeOptions) -> None:
        super().__init__(options)
        self.period_s = options.decide_every_s
        self.handle_window = HandleWindow(options.metrics_interval_s, options.look_back_period_s)

    def new_state(self) -> RayServeState:
        return RayServeState()

    def propose(self, fleet: FleetView, state: RayServeState, now_s: float) -> FleetProposal:
        """A proposal for every deployment whose target and running replicas are known."""
        replicas = {}
        for d in fleet.deployments:
            if d.target is not None and d.running is not None:
                replicas[d.key] = self._propose(d, d.target, d.running, state, now_s)
        return FleetProposal(replicas)

    def _propose(
        self, d: DeploymentView, target: int, running: int, state: RayServeState, now_s: float
    ) -> ReplicaProposal:
        if not d.handle_reports:
            return ReplicaProposal(target, (Term("unknown", target, "no handle has reported; the target stays"),))
        total = aggregate(_series(d.handle_reports), now_s, self.options.aggregation_function)
        timer = state.timers.setdefault(d.key.full, DelayTimer())
        count = decide(self.options, timer, now_s, running, target, total, (d.min_replicas, d.max_replicas))
        why = f"{total:.4g} requests in the system, {self.options.target_ongoing_requests:g} per replica aimed at"
        if timer.direction:
            way = "more" if timer.direction > 0 else "fewer"
            why += f"; {way} wanted for {now_s - timer.since_s:.0f} s"
        return ReplicaProposal(count, (Term("ongoing", count, why),))


def _series(reports: tuple[HandleReport, ...]) -> list[Series]:
    return [report.queued for report in reports] + [points for report in reports for _, points in report.running]
