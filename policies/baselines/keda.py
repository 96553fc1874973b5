"""`keda`: a KEDA ScaledObject on the number of waiting requests, with activation, cooldown and zero.

Re-stated from kedacore/keda. KEDA itself only decides between none and some, every polling interval; from 1 to N it
hands the trigger to an HPA as an external metric with an average value, which is re-stated in hpa.py. Waiting requests
are all of them, also those that no replica has yet: a queue metric of engines alone could never wake from zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from policies.base import DeploymentView, ReplicaProposal, Term
from policies.baselines.each import EachDeployment, bounded, stays
from policies.baselines.hpa import HpaMemory, HpaOptions, limit_rate, recommend_external, stabilize
from policies.options import between, option


@dataclass(frozen=True, slots=True)
class KedaOptions:
    """KEDA's settings with its defaults, and those of the HPA that it makes; counts are the deployment's own."""

    threshold: float = option(
        5.0, low=1e-9, doc="waiting requests per replica to aim at", search=between(0.1, 20, log=True)
    )
    activation_threshold: float = option(0.0, low=0, doc="more waiting than this is active")
    polling_interval_s: float = option(30.0, low=1, high=3600, doc="how often none or some is decided")
    cooldown_s: float = option(
        300.0, low=0, high=86400, doc="inactive for so long: none", search=between(60, 3600, log=True)
    )
    initial_cooldown_s: float = option(0.0, low=0, high=86400, doc="so long after it was first seen: not none")
    tolerance_fraction: float = option(0.1, low=0, high=1, doc="of the HPA: a ratio this near to 1 changes nothing")
    scale_down_stabilization_s: float = option(
        300.0, low=0, high=3600, doc="of the HPA: greatest of this window", search=between(30, 3600, log=True)
    )


@dataclass(slots=True)
class KedaMemory:
    """One ScaledObject and its HPA. Times in seconds."""

    created_at_s: float | None = None
    polled_at_s: float | None = None
    active_at_s: float | None = None
    hpa: HpaMemory = field(default_factory=HpaMemory)


@dataclass(slots=True)
class KedaState:
    """One memory per deployment, by key."""

    deployments: dict[str, KedaMemory] = field(default_factory=dict)


def none_or_some(
    options: KedaOptions, memory: KedaMemory, now_s: float, value: float, replicas: int, fewest: int
) -> int:
    """The replicas after KEDA's own look: 0 -> max(1, fewest) when active, -> 0 after the cooldown, else unchanged.

    Never active so far: 0 as soon as the initial cooldown is over. Updates the memory.
    """
    if memory.created_at_s is None:
        memory.created_at_s = now_s
    if value > options.activation_threshold:
        memory.active_at_s = now_s
        return max(1, fewest) if replicas == 0 else replicas
    if replicas == 0 or fewest > 0 or now_s < memory.created_at_s + options.initial_cooldown_s:
        return replicas
    cooled = memory.active_at_s is None or now_s > memory.active_at_s + options.cooldown_s
    return 0 if cooled else replicas


class KedaPolicy(EachDeployment):
    """See the module. It decides at every sync of the HPA (15 s) and polls at the first sync after its interval."""

    Options = KedaOptions
    name = "keda"

    options: KedaOptions

    def __init__(self, options: KedaOptions) -> None:
        super().__init__(options)
        self.behaviour = HpaOptions(
            tolerance_fraction=options.tolerance_fraction, scale_down_stabilization_s=options.scale_down_stabilization_s
        )

    def new_state(self) -> KedaState:
        return KedaState()

    def new_memory(self) -> KedaMemory:
        return KedaMemory()

    def decide(
        self, d: DeploymentView, present: int, running: int, memory: KedaMemory, now_s: float
    ) -> ReplicaProposal:
        """A trigger that gives no value changes nothing."""
        o, value = self.options, d.waiting
        if value is None:
            return stays(present, "the trigger has no value")
        replicas = present
        due = memory.polled_at_s is None or now_s - memory.polled_at_s >= o.polling_interval_s - 1e-9
        if due:
            memory.polled_at_s = now_s
            replicas = none_or_some(o, memory, now_s, value, present, d.min_replicas)
        if replicas == 0:
            idle = "and the cooldown is over" if present else "and nothing runs"
            return ReplicaProposal(0, (Term("idle", 0, f"{value:.0f} requests wait, {idle}"),))
        if present == 0:
            count = bounded(d, replicas)
            return ReplicaProposal(count, (Term("active", count, f"{value:.0f} requests wait and nothing runs"),))
        wanted = recommend_external(value, o.threshold, replicas, o.tolerance_fraction)
        held = stabilize(self.behaviour, memory.hpa, now_s, replicas, wanted)
        count = limit_rate(self.behaviour, memory.hpa, now_s, replicas, held, (max(1, d.min_replicas), d.max_replicas))
        why = f"{value:.0f} requests wait, {o.threshold:g} per replica aimed at: {wanted}"
        if held > wanted:
            why += f"; {held} until the last {o.scale_down_stabilization_s:g} s allow fewer"
        return ReplicaProposal(count, (Term("queue", count, why),))
