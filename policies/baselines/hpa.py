"""`hpa_ongoing`, `hpa_queue`, `hpa_kv`: the Kubernetes HorizontalPodAutoscaler (autoscaling/v2) on one pods metric.

Re-stated from kubernetes pkg/controller/podautoscaler: ratio of the metric's mean over ready pods to its target, with
tolerance, missing and not-ready pods counted against the change, stabilisation windows and rate policies. The number
of replicas it works from counts those still starting. It cannot leave or reach zero (that needs an external metric).
The stabilisation is that of current releases: the present number, brought within the windows' least and greatest
recommendation; older ones could jump to an old, larger recommendation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from policies.base import DeploymentView, FleetProposal, FleetView, Guards, ReplicaMetrics, ReplicaProposal, Term
from policies.baselines.each import queued_at_handles
from policies.options import between, option
from policies.plugin import PolicyPlugin

TARGET_SHARE = 0.8
"""Of what a replica holds at capacity: the target of `hpa_ongoing` when none is set."""


@dataclass(frozen=True, slots=True)
class HpaOptions:
    """The HPA's settings with Kubernetes' defaults; min and max replicas are the deployment's own."""

    target: float | None = option(None, low=1e-9, doc="average value per ready replica; null = the policy's default")
    tolerance_fraction: float = option(
        0.1, low=0, high=1, doc="a ratio this near to 1 changes nothing", search=between(0.02, 0.3)
    )
    scale_up_stabilization_s: float = option(
        0.0, low=0, high=3600, doc="the least recommendation of this window counts"
    )
    scale_down_stabilization_s: float = option(
        300.0, low=0, high=3600, doc="the greatest of this window counts", search=between(30, 3600, log=True)
    )
    scale_up_replicas: int = option(4, low=0, doc="may be added in a period, or the percentage if that is more")
    scale_up_percent: float = option(100.0, low=0, doc="may be added in a period, or the replicas if that is more")
    scale_down_percent: float = option(100.0, low=0, high=100, doc="may be removed in a period")
    rate_period_s: float = option(15.0, low=1, high=1800, doc="period of the three rates above")


@dataclass(frozen=True, slots=True)
class HpaOngoingOptions(HpaOptions):
    """With a way to set the target by what the engine can hold."""

    target_fraction: float = option(
        TARGET_SHARE,
        low=0.01,
        high=10,
        doc="of what a replica holds at capacity: the target where none is set",
        search=between(0.15, 1.5),
    )


@dataclass(frozen=True, slots=True)
class HpaQueueOptions(HpaOptions):
    """The target is a number of waiting requests."""

    target: float | None = option(
        None,
        low=1e-9,
        doc="waiting requests per ready replica; null = 5",
        search=between(0.1, 20, log=True, start=5.0),
    )


@dataclass(frozen=True, slots=True)
class HpaKvOptions(HpaOptions):
    """The target is a share of the KV cache."""

    target: float | None = option(
        None, low=1e-9, doc="share of the KV cache per ready replica; null = 0.7", search=between(0.05, 0.95, start=0.7)
    )


@dataclass(frozen=True, slots=True)
class Sample:
    """A pods metric at one moment: values of ready pods that report, and how many do not report or are not ready."""

    values: tuple[float, ...]
    missing: int = 0
    unready: int = 0


@dataclass(slots=True)
class HpaMemory:
    """One HPA object: recommendations (time_s, replicas) and scale events (time_s, replicas added or removed)."""

    recommendations: list[tuple[float, int]] = field(default_factory=list)
    added: list[tuple[float, int]] = field(default_factory=list)
    removed: list[tuple[float, int]] = field(default_factory=list)
    target: float | None = None
    holds: list[float] = field(default_factory=list)
    """What a replica holds at capacity, by the looks so far: until the default target is fixed."""


@dataclass(slots=True)
class HpaState:
    """One memory per deployment, by key."""

    deployments: dict[str, HpaMemory] = field(default_factory=dict)


def recommend(sample: Sample, target: float, replicas: int, tolerance: float) -> int | None:
    """Replicas by the metric alone; `replicas` = the number asked for now. None when no ready pod reports.

    Pods that do not report are taken at the target when fewer seem to be needed and at 0 when more seem to be; pods
    that are not ready at 0 when more seem to be. A change that this turns round is none.
    """
    if not sample.values:
        return None
    values = list(sample.values)
    ratio = _mean(values) / target
    growing_unready = sample.unready > 0 and ratio > 1.0
    if not growing_unready and sample.missing == 0:
        return replicas if abs(1.0 - ratio) <= tolerance else _ceil(ratio * len(values))
    values += [target if ratio < 1.0 else 0.0] * sample.missing
    if growing_unready:
        values += [0.0] * sample.unready
    careful = _mean(values) / target
    turned = (ratio < 1.0 < careful) or (careful < 1.0 < ratio)
    if abs(1.0 - careful) <= tolerance or turned:
        return replicas
    count = _ceil(careful * len(values))
    against = (careful < 1.0 and count > replicas) or (careful > 1.0 and count < replicas)
    return replicas if against else count


def recommend_external(total: float, target: float, replicas: int, tolerance: float) -> int:
    """Replicas by an external metric with an average value, as KEDA makes them: `total` over all, `target` for each.

    It looks at no pod: what starts counts in `replicas` (> 0) and so in the ratio that the tolerance is held against.
    """
    ratio = total / (target * replicas)
    return replicas if abs(1.0 - ratio) <= tolerance else _ceil(total / target)


def stabilize(options: HpaOptions, memory: HpaMemory, now_s: float, replicas: int, wanted: int) -> int:
    """Within the least recommendation of the window up and the greatest of the window down. Records `wanted`."""
    longest_s = max(options.scale_up_stabilization_s, options.scale_down_stabilization_s)
    memory.recommendations = [r for r in memory.recommendations if r[0] > now_s - longest_s]
    least = greatest = wanted
    for at_s, count in memory.recommendations:
        if at_s > now_s - options.scale_up_stabilization_s:
            least = min(least, count)
        if at_s > now_s - options.scale_down_stabilization_s:
            greatest = max(greatest, count)
    memory.recommendations.append((now_s, wanted))
    return min(max(replicas, least), greatest)


def limit_rate(
    options: HpaOptions, memory: HpaMemory, now_s: float, replicas: int, wanted: int, bounds: tuple[int, int]
) -> int:
    """At most what the rate policies allow since the period began, and within `bounds`. Records the change made."""
    low, high = bounds
    memory.added = [e for e in memory.added if e[0] > now_s - options.rate_period_s]
    memory.removed = [e for e in memory.removed if e[0] > now_s - options.rate_period_s]
    if wanted > replicas:
        began = replicas - sum(count for _, count in memory.added)
        most = max(began + options.scale_up_replicas, _ceil(began * (1.0 + options.scale_up_percent / 100.0)))
        count = max(low, min(wanted, max(replicas, most), high))
    else:
        began = replicas + sum(count for _, count in memory.removed)
        fewest = int(began * (1.0 - options.scale_down_percent / 100.0))
        count = min(high, max(wanted, min(replicas, fewest), low))
    if count > replicas:
        memory.added.append((now_s, count - replicas))
    elif count < replicas:
        memory.removed.append((now_s, replicas - count))
    return count


def _ceil(value: float) -> int:
    """Up to the next whole number, forgiving what floating point adds."""
    return math.ceil(value - 1e-9)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


class HpaPolicy(PolicyPlugin):
    """One HPA per deployment on one metric of its replicas; subclasses say which."""

    Options = HpaOptions
    name = "hpa"
    metric = "ongoing"
    default_target: float | None = None
    period_s: float | None = 15.0
    guards: Guards = "bounds"
    telemetry: str | None = "prometheus_15s"
    options: HpaOptions

    def new_state(self) -> HpaState:
        return HpaState()

    def value(self, metrics: ReplicaMetrics) -> float | None:
        """The metric of one replica; None = it does not report."""
        raise NotImplementedError

    def values(self, d: DeploymentView) -> tuple[float, ...]:
        """The metric of every replica that reports it."""
        return tuple(v for m in d.replica_metrics if (v := self.value(m)) is not None)

    def propose(self, fleet: FleetView, state: HpaState, now_s: float) -> FleetProposal:
        """A proposal for every deployment whose target and running replicas are known."""
        replicas = {}
        for d in fleet.deployments:
            if d.target is not None and d.running is not None:
                memory = state.deployments.setdefault(d.key.full, HpaMemory())
                replicas[d.key] = self._propose(d, d.target, d.running, memory, now_s)
        return FleetProposal(replicas)

    def forget(self, state: HpaState, full_key: str) -> None:
        """Its memory goes with a deployment."""
        state.deployments.pop(full_key, None)

    def _propose(
        self, d: DeploymentView, present: int, running: int, memory: HpaMemory, now_s: float
    ) -> ReplicaProposal:
        target = self.target_of(d, memory)
        values = self.values(d)[:running]
        sample = Sample(values, missing=running - len(values), unready=max(0, present - running))
        wanted = None if target is None else recommend(sample, target, present, self.options.tolerance_fraction)
        bounds = (max(1, d.min_replicas), d.max_replicas)
        if wanted is None or target is None:
            count = min(max(present, bounds[0]), bounds[1])
            return ReplicaProposal(count, (Term("unknown", count, f"no {self.metric} metric; the target stays"),))
        held = stabilize(self.options, memory, now_s, present, wanted)
        count = limit_rate(self.options, memory, now_s, present, held, bounds)
        why = f"{self.metric} {_mean(values):.3g} a replica, target {target:.3g}: {wanted}"
        if held > wanted:
            why += f"; {held} until the last {self.options.scale_down_stabilization_s:g} s allow fewer"
        return ReplicaProposal(count, (Term(self.metric, count, why),))

    def target_of(self, d: DeploymentView, memory: HpaMemory) -> float | None:
        return self.default_target if self.options.target is None else self.options.target


class HpaOngoing(HpaPolicy):
    """Ongoing requests per replica.

    Without `target` it takes 0.8 (target_fraction) of what a replica holds at capacity: by the engine profile, or else
    capacity times how long a request stays (Little); the median of the first looks with traffic, and then that number
    for good, as a configured HPA would. Where capacity is unknown: that share of max_ongoing_requests.
    """

    Options = HpaOngoingOptions
    name, metric = "hpa_ongoing", "ongoing"

    def __init__(self, options: HpaOngoingOptions) -> None:
        super().__init__(options)
        self.share = options.target_fraction

    def value(self, metrics: ReplicaMetrics) -> float | None:
        return metrics.ongoing

    def target_of(self, d: DeploymentView, memory: HpaMemory) -> float | None:
        if self.options.target is not None:
            return self.options.target
        holds = held_at_capacity(d)
        if memory.target is None and holds is not None:
            memory.holds.append(holds)
            target = self.share * sorted(memory.holds)[len(memory.holds) // 2]
            if len(memory.holds) >= _SAMPLES:
                memory.target = target
            return target
        if memory.target is None and d.capacity_rps is None and d.max_ongoing_requests:
            return self.share * d.max_ongoing_requests
        return memory.target


def held_at_capacity(d: DeploymentView) -> float | None:
    """Requests in flight on a replica that carries all it can: by the profile, else capacity times stay (Little)."""
    if d.capacity_batch is not None:
        return d.capacity_batch
    if d.capacity_rps and d.rate_rps and d.ongoing:
        return d.capacity_rps * d.ongoing / d.rate_rps
    return None


class HpaQueue(HpaPolicy):
    """Requests waiting per replica; Google's guidance is to start with 3 to 5.

    Without Serve in front they would all wait in engines; those that Serve holds back (max_ongoing_requests) are spread
    evenly over the replicas that report.
    """

    Options = HpaQueueOptions
    name, metric, default_target = "hpa_queue", "waiting", 5.0

    def value(self, metrics: ReplicaMetrics) -> float | None:
        return metrics.waiting

    def values(self, d: DeploymentView) -> tuple[float, ...]:
        inside = super().values(d)
        in_front = (queued_at_handles(d) or 0.0) / max(1, len(inside))
        return tuple(v + in_front for v in inside)


class HpaKv(HpaPolicy):
    """Share of the KV cache in use per replica."""

    Options = HpaKvOptions
    name, metric, default_target = "hpa_kv", "kv_usage_fraction", 0.7

    def value(self, metrics: ReplicaMetrics) -> float | None:
        return metrics.kv_usage_fraction


_SAMPLES = 20
"""Looks with traffic until the default target of `hpa_ongoing` is fixed: five minutes."""
