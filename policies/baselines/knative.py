"""`knative`: the Knative Pod Autoscaler on concurrency, with panic mode, burst capacity and scale to zero.

Re-stated from knative/serving pkg/autoscaler/scaling and its default configuration. Concurrency is what the queue
proxies and the activator report together: requests at replicas and those that wait for one. Upstream each of them
reports a mean every second; here the deployment is read once every tick (2 s).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from policies.base import DeploymentView, ReplicaProposal, Term
from policies.baselines.each import EachDeployment, bounded, in_system, stays
from policies.options import between, option

DEFAULT_CONCURRENCY = 100.0
"""Upstream's container-concurrency-target-default: where nothing says what a replica holds."""


@dataclass(frozen=True, slots=True)
class KnativeOptions:
    """Knative's settings with its defaults; min and max scale are the deployment's own."""

    container_concurrency: float | None = option(
        None, low=1e-6, doc="requests that a replica holds; null = at capacity by the engine profile, else 100"
    )
    target_utilization_fraction: float = option(
        0.7, low=0.01, high=1, doc="share of that to aim at", search=between(0.1, 1.0)
    )
    stable_window_s: float = option(60.0, low=6, high=3600, doc="averaging window", search=between(20, 900, log=True))
    panic_window_fraction: float = option(0.1, low=0.01, high=1, doc="of the stable window: the panic window")
    panic_threshold: float = option(
        2.0, low=1.1, high=10, doc="wanted over ready replicas from which it panics", search=between(1.1, 4.0)
    )
    max_scale_up_rate: float = option(1000.0, low=1.01, doc="most replicas wanted over ready ones")
    max_scale_down_rate: float = option(2.0, low=1.01, doc="most ready replicas over wanted ones")
    scale_down_delay_s: float = option(
        0.0, low=0, high=3600, doc="fewer only when so wanted for so long", search=between(0, 1800)
    )
    activation_scale: int = option(1, low=1, doc="fewest replicas when more than none are wanted")
    target_burst_capacity: float = option(211.0, low=0, doc="spare concurrency below which the activator buffers")
    scale_to_zero_grace_s: float = option(30.0, low=6, high=3600, doc="the longest to switch to the activator")
    pod_retention_s: float = option(0.0, low=0, high=3600, doc="least time that the last replica is kept")
    tick_interval_s: float = option(2.0, low=0.5, high=60, doc="how often it decides")


@dataclass(slots=True)
class KnativeMemory:
    """One revision: concurrency by time, panic, wanted replicas for the delay, and since when none is wanted."""

    started: bool = False
    concurrency: list[tuple[float, float]] = field(default_factory=list)
    panic_since_s: float | None = None
    max_panic_replicas: int = 0
    wanted: list[tuple[float, int]] = field(default_factory=list)
    zero_since_s: float | None = None


@dataclass(slots=True)
class KnativeState:
    """One memory per deployment, by key."""

    deployments: dict[str, KnativeMemory] = field(default_factory=dict)


def scale(
    options: KnativeOptions, memory: KnativeMemory, now_s: float, ready: int, target: float, concurrency: float
) -> int:
    """Replicas wanted at this tick, before min, max and the wait for zero. Updates the memory.

    The target is of *averaged* concurrency per replica. In panic it never wants fewer than it wanted at the most.
    """
    if not memory.started:
        memory.started = True
        if ready > 1:  # the history is empty: nobody may conclude from it that fewer are enough
            memory.panic_since_s, memory.max_panic_replicas = now_s, ready
    window_s = options.stable_window_s
    memory.concurrency = [c for c in memory.concurrency if c[0] > now_s - window_s]
    memory.concurrency.append((now_s, concurrency))
    panic_s = window_s * options.panic_window_fraction
    want_stable = math.ceil(_mean_since(memory.concurrency, now_s - window_s) / target - 1e-9)
    want_panic = math.ceil(_mean_since(memory.concurrency, now_s - panic_s) / target - 1e-9)
    there = max(1, ready)
    most = math.ceil(options.max_scale_up_rate * there)
    fewest = math.floor(there / options.max_scale_down_rate)
    stable, panic = (min(max(w, fewest), most) for w in (want_stable, want_panic))
    if want_stable > 0:
        stable = max(stable, options.activation_scale)
    if want_panic > 0:
        panic = max(panic, options.activation_scale)
    if want_panic / there >= options.panic_threshold:
        memory.panic_since_s = now_s
    elif memory.panic_since_s is not None and memory.panic_since_s + window_s < now_s:
        memory.panic_since_s, memory.max_panic_replicas = None, 0
    wanted = stable
    if memory.panic_since_s is not None:
        memory.max_panic_replicas = max(memory.max_panic_replicas, stable, panic)
        wanted = memory.max_panic_replicas
    return _delayed(options, memory, now_s, wanted)


def _mean_since(samples: list[tuple[float, float]], since_s: float) -> float:
    inside = [value for at_s, value in samples if at_s > since_s]
    return sum(inside) / len(inside)


def _delayed(options: KnativeOptions, memory: KnativeMemory, now_s: float, wanted: int) -> int:
    if options.scale_down_delay_s <= 0:
        return wanted
    memory.wanted = [w for w in memory.wanted if w[0] > now_s - options.scale_down_delay_s]
    memory.wanted.append((now_s, wanted))
    return max(count for _, count in memory.wanted)


def excess_burst_capacity(options: KnativeOptions, ready: int, holds: float, concurrency: float) -> int:
    """Requests that the ready replicas could still take beyond the burst to prepare for; < 0: the activator buffers."""
    return math.floor(ready * holds - options.target_burst_capacity - concurrency)


class KnativePolicy(EachDeployment):
    """See the module."""

    Options = KnativeOptions
    name = "knative"
    telemetry: str | None = "ideal"

    options: KnativeOptions

    def __init__(self, options: KnativeOptions) -> None:
        super().__init__(options)
        self.period_s: float | None = options.tick_interval_s

    def new_state(self) -> KnativeState:
        return KnativeState()

    def new_memory(self) -> KnativeMemory:
        return KnativeMemory()

    def decide(
        self, d: DeploymentView, present: int, running: int, memory: KnativeMemory, now_s: float
    ) -> ReplicaProposal:
        """The target stays while there is no data."""
        concurrency = in_system(d)
        if concurrency is None:
            return stays(present, "no concurrency is reported")
        holds = self.options.container_concurrency or d.capacity_batch or DEFAULT_CONCURRENCY
        target = self.options.target_utilization_fraction * holds
        wanted = scale(self.options, memory, now_s, running, target, concurrency)
        why = f"{concurrency:.4g} requests in the system, {target:.3g} per replica aimed at: {wanted}"
        if memory.panic_since_s is not None:
            why += f"; panic since {now_s - memory.panic_since_s:.0f} s ago"
        if wanted == 0 and d.min_replicas == 0 and present > 0 and not self._gone_idle(memory, now_s, running, holds):
            wanted, why = 1, f"{why}; the last one goes when the activator has taken over"
        elif wanted > 0:
            memory.zero_since_s = None
        count = bounded(d, wanted)
        return ReplicaProposal(count, (Term("concurrency", count, why),))

    def _gone_idle(self, memory: KnativeMemory, now_s: float, running: int, holds: float) -> bool:
        """None was wanted for long enough to switch to the activator (at once where it buffers anyway)."""
        o = self.options
        if memory.zero_since_s is None:
            memory.zero_since_s = now_s
        buffers = excess_burst_capacity(o, running, holds, 0.0) < 0
        wait_s = o.pod_retention_s if buffers else max(o.pod_retention_s, o.scale_to_zero_grace_s)
        return now_s - memory.zero_since_s >= wait_s
