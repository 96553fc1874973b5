"""`apa`: AIBrix's PodAutoscaler algorithm APA: ratio to a target with a tolerance and a rate limit each way.

Re-stated from vllm-project/aibrix. Its metrics client reads the pods at each reconcile. What its documentation says of
cooldown (a wait before fewer, as the HPA has it) and what its code does (the least recommendation of the window: no
wait, and deeper) differ; the default is what is documented, `cooldown: as_read` is the code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from policies.base import DeploymentView, ReplicaMetrics, ReplicaProposal, Term
from policies.baselines.each import EachDeployment, bounded, stays
from policies.options import between, option

Metric = Literal["kv_usage_fraction", "ongoing", "waiting"]
Cooldown = Literal["documented", "as_read"]


@dataclass(frozen=True, slots=True)
class ApaOptions:
    """AIBrix's settings with its defaults; min and max replicas are the deployment's own."""

    metric: Metric = option("kv_usage_fraction", doc="mean over ready replicas that is aimed at")
    target: float = option(0.5, low=1e-9, doc="value of the metric to aim at", search=between(0.05, 0.95))
    window_s: float = option(
        180.0, low=1, high=3600, doc="over which the metric is averaged", search=between(20, 900, log=True)
    )
    max_scale_up_rate: float = option(2.0, low=1.0, doc="most replicas over present ones")
    max_scale_down_rate: float = option(2.0, low=1.0, doc="most present replicas over those that stay")
    scale_up_tolerance_fraction: float = option(0.1, low=0, high=10, doc="a ratio up to 1 + this changes nothing")
    scale_down_tolerance_fraction: float = option(0.1, low=0, high=1, doc="a ratio down to 1 - this changes nothing")
    scale_up_cooldown_s: float = option(0.0, low=0, high=3600, doc="window of recommendations that holds back more")
    scale_down_cooldown_s: float = option(
        300.0, low=0, high=3600, doc="window of them that holds back fewer", search=between(30, 3600, log=True)
    )
    cooldown: Cooldown = option("documented", doc="what the documentation says, or what the code does")


@dataclass(slots=True)
class ApaMemory:
    """Means of the metric and recommendations, by time (seconds)."""

    values: list[tuple[float, float]] = field(default_factory=list)
    recommendations: list[tuple[float, int]] = field(default_factory=list)


@dataclass(slots=True)
class ApaState:
    """One memory per deployment, by key."""

    deployments: dict[str, ApaMemory] = field(default_factory=dict)


def recommend(options: ApaOptions, replicas: int, mean: float) -> int:
    """Replicas by the ratio of the window's mean to the target, at most doubled or halved (by the rates)."""
    ratio = mean / options.target
    if ratio > 1.0 + options.scale_up_tolerance_fraction:
        return min(math.ceil(replicas * ratio - 1e-9), math.ceil(options.max_scale_up_rate * replicas))
    if ratio < 1.0 - options.scale_down_tolerance_fraction:
        return max(math.ceil(replicas * ratio - 1e-9), math.floor(replicas / options.max_scale_down_rate))
    return replicas


def cool_down(options: ApaOptions, memory: ApaMemory, now_s: float, replicas: int, wanted: int) -> int:
    """The recommendation held against those of its direction's window. Records it."""
    up = wanted > replicas
    window_s = options.scale_up_cooldown_s if up else options.scale_down_cooldown_s
    longest_s = max(options.scale_up_cooldown_s, options.scale_down_cooldown_s)
    memory.recommendations = [r for r in memory.recommendations if r[0] > now_s - longest_s]
    inside = [wanted, *(count for at_s, count in memory.recommendations if at_s > now_s - window_s)]
    memory.recommendations.append((now_s, wanted))
    if wanted == replicas:
        return wanted
    if options.cooldown == "as_read":
        return max(inside) if up else min(inside)
    return max(min(inside), replicas) if up else min(max(inside), replicas)


class ApaPolicy(EachDeployment):
    """See the module."""

    Options = ApaOptions
    name = "apa"
    period_s: float | None = 10.0
    telemetry: str | None = "ideal"

    options: ApaOptions

    def new_state(self) -> ApaState:
        return ApaState()

    def new_memory(self) -> ApaMemory:
        return ApaMemory()

    def _value(self, metrics: ReplicaMetrics) -> float | None:
        if self.options.metric == "ongoing":
            return metrics.ongoing
        return metrics.waiting if self.options.metric == "waiting" else metrics.kv_usage_fraction

    def decide(self, d: DeploymentView, present: int, running: int, memory: ApaMemory, now_s: float) -> ReplicaProposal:
        """Without a value in the window the target stays."""
        o = self.options
        values = [v for m in d.replica_metrics if (v := self._value(m)) is not None][:running]
        if values:
            memory.values.append((now_s, sum(values) / len(values)))
        memory.values = [v for v in memory.values if v[0] > now_s - o.window_s]
        if not memory.values:
            return stays(present, f"no {o.metric} metric")
        mean = sum(v for _, v in memory.values) / len(memory.values)
        wanted = bounded(d, recommend(o, present, mean), lowest=1)
        count = bounded(d, cool_down(o, memory, now_s, present, wanted), lowest=1)
        why = f"{o.metric} {mean:.3g} over {o.window_s:g} s, target {o.target:g}: {wanted}"
        if count != wanted:
            why += f"; {count} by the last {o.scale_down_cooldown_s:g} s"
        return ReplicaProposal(count, (Term(o.metric, count, why),))
