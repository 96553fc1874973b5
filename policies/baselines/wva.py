"""`wva`: llm-d's Workload Variant Autoscaler, token-based saturation analysis (v2), and the HPA that follows it.

Re-stated from llm-d/llm-d-workload-variant-autoscaler. Every minute it compares the tokens in use and queued with what
a replica holds before it saturates, replicas on their way counted as supply when adding. It only publishes a number;
an HPA on that number (external metric, average value 1) scales, with its tolerance and stabilisation. One deployment
is one variant here; choosing between variants of a model has nothing to choose from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median

from policies.base import DeploymentView, ReplicaProposal, Term
from policies.baselines.each import EachDeployment, bounded, queued_at_handles, stays
from policies.baselines.hpa import HpaMemory, HpaOptions, limit_rate, recommend_external, stabilize
from policies.options import between, option

HPA_SYNC_S = 15.0
_BUCKETS = (100.0, 500.0)
"""Mean output tokens below these: short, medium; else long."""
_OBSERVATIONS = 10


@dataclass(frozen=True, slots=True)
class WvaOptions:
    """WVA's settings with its defaults, and those of the HPA; counts are the deployment's own."""

    interval_s: float = option(60.0, low=1, high=3600, doc="how often it decides")
    kv_threshold_fraction: float = option(
        0.8, low=0.01, high=1, doc="share of the KV cache that a replica may fill", search=between(0.1, 0.95)
    )
    queue_threshold: float = option(5.0, low=0, doc="waiting requests from which a replica is saturated")
    scale_up_threshold: float = option(
        0.85, low=0.01, high=1, doc="demand over supply above which it adds", search=between(0.3, 0.98)
    )
    scale_down_boundary: float = option(
        0.7, low=0.01, high=1, doc="demand over supply below which it removes", search=between(0.1, 0.9)
    )
    retention_s: float = option(600.0, low=0, high=86400, doc="no request for so long: none (where min is 0)")
    tolerance_fraction: float = option(0.1, low=0, high=1, doc="of the HPA: a ratio this near to 1 changes nothing")
    scale_down_stabilization_s: float = option(
        300.0, low=0, high=3600, doc="of the HPA: greatest of this window", search=between(30, 3600, log=True)
    )


@dataclass(frozen=True, slots=True)
class Replica:
    """What one replica had at the most in the last minute."""

    kv_usage_fraction: float
    waiting: float


@dataclass(slots=True)
class WvaMemory:
    """Gauges of the last minute by replica, learned saturation by output bucket, the published number, its HPA."""

    gauges: list[tuple[float, str, float, float]] = field(default_factory=list)
    """(time_s, replica, KV share, waiting)"""
    saturated_tokens: dict[str, list[float]] = field(default_factory=dict)
    decided_at_s: float | None = None
    desired: int | None = None
    why: str = ""
    synced_at_s: float | None = None
    arrivals: float | None = None
    idle_since_s: float | None = None
    hpa: HpaMemory = field(default_factory=HpaMemory)


@dataclass(slots=True)
class WvaState:
    """One memory per deployment, by key."""

    deployments: dict[str, WvaMemory] = field(default_factory=dict)


def bucket(output_tokens: float) -> str:
    """Which learned saturation belongs to requests of this mean output."""
    return "short" if output_tokens < _BUCKETS[0] else "medium" if output_tokens < _BUCKETS[1] else "long"


def capacity_tokens(
    options: WvaOptions, replica: Replica, kv_tokens: float, learned: list[float], derived: float | None
) -> float:
    """Tokens that a replica holds before it saturates: the KV bound, or what was in use when its queue was long.

    Appends to `learned` what a saturated replica shows (the last ten count); `derived` stands in until one was seen.
    """
    by_kv = kv_tokens * options.kv_threshold_fraction
    in_use = replica.kv_usage_fraction * kv_tokens
    if replica.waiting >= options.queue_threshold and in_use > 0:
        learned.append(in_use)
        del learned[:-_OBSERVATIONS]
        return min(by_kv, in_use)
    if learned:
        return min(by_kv, sum(learned) / len(learned))
    return by_kv if derived is None else min(by_kv, derived)


def decide_replicas(options: WvaOptions, demand: float, each: float, ready: int, pending: int) -> int:
    """All that is missing at once, with what is on its way as supply; or all that is spare, but never the last one."""
    missing = demand / options.scale_up_threshold - (ready + pending) * each
    if missing > 0:
        return ready + pending + math.ceil(missing / each - 1e-9)
    spare = ready * each - demand / options.scale_down_boundary
    if spare > 0:
        return max(1, ready + pending - math.floor(spare / each + 1e-9))
    return ready + pending


class WvaPolicy(EachDeployment):
    """See the module. At zero it looks every 5 s, where upstream does every 0.1 s."""

    Options = WvaOptions
    name = "wva"
    period_s: float | None = 5.0

    options: WvaOptions

    def __init__(self, options: WvaOptions) -> None:
        super().__init__(options)
        self.behaviour = HpaOptions(
            tolerance_fraction=options.tolerance_fraction, scale_down_stabilization_s=options.scale_down_stabilization_s
        )

    def new_state(self) -> WvaState:
        return WvaState()

    def new_memory(self) -> WvaMemory:
        return WvaMemory()

    def decide(self, d: DeploymentView, present: int, running: int, memory: WvaMemory, now_s: float) -> ReplicaProposal:
        """0 <-> 1 by WVA itself; from 1 on the HPA, at its own sync, follows the number that WVA last published."""
        self._observe(d, memory, now_s)
        if present == 0 or running == 0:
            return self._from_zero(d, present, memory)
        if d.profile is None or d.mix is None:
            return stays(present, "the size of the KV cache or of a request is unknown")
        if memory.decided_at_s is None or now_s - memory.decided_at_s >= self.options.interval_s - 1e-9:
            memory.decided_at_s = now_s
            self._publish(d, present, running, memory)
        if memory.desired is None:
            return stays(present, "no replica reports")
        if d.min_replicas == 0 and memory.idle_since_s is not None:
            idle_s = now_s - memory.idle_since_s
            if idle_s >= self.options.retention_s:
                return ReplicaProposal(0, (Term("idle", 0, f"no request for {idle_s:.0f} s"),))
        return self._follow(d, present, memory, now_s, memory.desired)

    def _observe(self, d: DeploymentView, memory: WvaMemory, now_s: float) -> None:
        memory.gauges = [g for g in memory.gauges if g[0] > now_s - 60.0]
        for m in d.replica_metrics:
            if m.kv_usage_fraction is not None:
                memory.gauges.append((now_s, m.replica_id, m.kv_usage_fraction, m.waiting or 0.0))
        arrivals = d.totals.arrivals if d.totals is not None else None
        if arrivals is None or arrivals != memory.arrivals or d.ongoing or d.waiting:
            memory.idle_since_s = None if arrivals is None else now_s
            memory.arrivals = arrivals

    def _from_zero(self, d: DeploymentView, present: int, memory: WvaMemory) -> ReplicaProposal:
        queue = d.waiting or 0.0
        count = bounded(d, max(present, 1 if queue > 0 else 0))
        memory.desired = None
        memory.decided_at_s = None
        return ReplicaProposal(count, (Term("from_zero", count, f"{queue:.0f} requests wait and none runs"),))

    def _publish(self, d: DeploymentView, present: int, running: int, memory: WvaMemory) -> None:
        """The optimiser's look: `desired` and why."""
        assert d.profile is not None
        assert d.mix is not None
        alive = {m.replica_id for m in d.replica_metrics}
        replicas = [
            Replica(max(g[2] for g in memory.gauges if g[1] == name), max(g[3] for g in memory.gauges if g[1] == name))
            for name in sorted({g[1] for g in memory.gauges if g[1] in alive})
        ]
        if not replicas:
            return
        kv_tokens, prompt = float(d.profile.limits.kv_tokens), d.mix.prompt_tokens
        context = prompt + d.mix.output_tokens / 2
        derived = d.profile.limits.max_num_seqs * context
        learned = memory.saturated_tokens.setdefault(bucket(d.mix.output_tokens), [])
        each = median(capacity_tokens(self.options, r, kv_tokens, learned, derived) for r in replicas)
        demand = sum(r.kv_usage_fraction * kv_tokens + r.waiting * prompt for r in replicas)
        demand += (queued_at_handles(d) or 0.0) * prompt
        memory.desired = decide_replicas(self.options, demand, each, running, max(0, present - running))
        memory.why = f"{demand:.0f} tokens in use or queued, {each:.0f} fit a replica: {memory.desired}"

    def _follow(
        self, d: DeploymentView, present: int, memory: WvaMemory, now_s: float, desired: int
    ) -> ReplicaProposal:
        """The HPA's sync every 15 s."""
        if memory.synced_at_s is not None and now_s - memory.synced_at_s < HPA_SYNC_S - 1e-9:
            return ReplicaProposal(present, (Term("between_syncs", present, memory.why),))
        memory.synced_at_s = now_s
        wanted = recommend_external(float(desired), 1.0, present, self.options.tolerance_fraction)
        held = stabilize(self.behaviour, memory.hpa, now_s, present, wanted)
        bounds = (max(1, d.min_replicas), d.max_replicas)
        count = limit_rate(self.behaviour, memory.hpa, now_s, present, held, bounds)
        why = memory.why
        if wanted != desired:
            why += f"; within the HPA's tolerance of the present {present}"
        if held > wanted:
            why += f"; {held} until the last {self.options.scale_down_stabilization_s:g} s allow fewer"
        return ReplicaProposal(count, (Term("saturation", count, why),))
