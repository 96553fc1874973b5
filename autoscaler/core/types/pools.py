"""The nouns of pre-warming: which ways there are, what each one warms, and what the settings say of a pool's way.

Pure. What a way writes to the world is in actuators/ways (one file each); how the levels come about is the policy's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from autoscaler.core.types import PoolPlan, ServiceGpus

Provisioner = Literal["node_pool", "auto_provisioning", "compute_class", "autopilot"]
"""Where a pool's nodes come from: a named pool of the cluster autoscaler, GKE's node auto-provisioning, a ComputeClass
(the pool is the class), Autopilot."""
Warms = Literal["node", "worker", "queued"]
"""What is held: nodes, Ray workers with the nodes under them, or nodes that come all at once or not at all."""
_ANYWHERE: frozenset[Provisioner] = frozenset(get_args(Provisioner))
_CHOSEN_BY_PODS: frozenset[Provisioner] = _ANYWHERE - {"autopilot"}
_NAMED: frozenset[Provisioner] = frozenset({"node_pool"})


@dataclass(frozen=True, slots=True)
class WayFacts:
    """Properties of a way to pre-warm, for the settings, the core, the simulator and the chart."""

    warms: Warms
    places: frozenset[Provisioner]
    """Where the nodes may come from (docs/gke.md says why)."""
    keys: tuple[str, ...] = ()
    """Keys of the settings' `warm` that it knows."""
    spare: bool = False
    """Its level is spare capacity beyond the nodes that workers use or wait for; else a floor under all of the pool."""
    kubernetes: bool = False
    """It writes to the Kubernetes API."""
    extra: str | None = None
    """The optional part of leadtime (pyproject.toml) whose libraries it needs."""


WAYS: Mapping[str, WayFacts] = {
    "none": WayFacts("node", _ANYWHERE),
    "placeholder": WayFacts("node", _ANYWHERE, ("gpus", "object"), spare=True, kubernetes=True),
    "capacity_buffer": WayFacts("node", _ANYWHERE, ("gpus", "object"), spare=True, kubernetes=True),
    "worker_group": WayFacts("worker", _CHOSEN_BY_PODS, ("gpus", "group", "service"), kubernetes=True),
    "request_resources": WayFacts("worker", _CHOSEN_BY_PODS, ("gpus", "service", "resources")),
    "node_pool": WayFacts("node", _NAMED, ("gke",), extra="gke"),
    "provisioning_request": WayFacts(
        "queued", _NAMED, ("gpus", "object", "provisioning_class", "max_run_s"), spare=True, kubernetes=True
    ),
}
"""Every way to pre-warm by its name; what it writes is in the file of that name in autoscaler/actuators/ways."""

if TYPE_CHECKING:
    Way = str
else:
    Way = Literal[*WAYS]
CONTROLLER_DEFAULT: Way = "none"
"""A controller writes nothing to a pool unless its settings name a way to warm it."""
SCENARIO_DEFAULT: Way = "placeholder"
"""Default of pools in scenarios: docs/scenarios.md says what it assumes."""


@dataclass(frozen=True, slots=True)
class GkePool:
    """A node pool as Google's API addresses it."""

    project: str
    location: str
    cluster: str
    node_pool: str
    autoscaled: bool = True
    """The cluster autoscaler works on it; False: its size is set."""

    @property
    def path(self) -> str:
        return f"projects/{self.project}/locations/{self.location}/clusters/{self.cluster}/nodePools/{self.node_pool}"


@dataclass(frozen=True, slots=True)
class WarmPool:
    """One pool with its way."""

    name: str
    way: Way
    gpus_per_node: int = 8
    unit_gpus: int = 8
    """GPUs of one placeholder, buffer chunk or worker."""
    min_nodes: int = 0
    """Level to which a floor for all nodes returns when it is given up."""
    namespace: str = "default"
    object: str = ""
    """Name of the Deployment, CapacityBuffer, or PodTemplate and ProvisioningRequest."""
    group: str | None = None
    """The worker group; None: the one whose node selector leads to this pool."""
    service: tuple[str, str] | None = None
    """(namespace, RayService); None: every one that runs on this pool."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """Resources requested from Ray, one bundle a worker; empty: its GPUs."""
    gpu: str = ""
    provisioning_class: str = "queued-provisioning.gke.io"
    max_run_s: int | None = None
    """Time (s) after which provisioned nodes are removed, with everything on them; None: never."""
    gke: GkePool | None = None

    @property
    def per_node(self) -> int:
        return max(1, self.gpus_per_node // self.unit_gpus)

    def units(self, nodes: int) -> int:
        return nodes * self.per_node

    @property
    def rest(self) -> int:
        """Level at which no capacity is held."""
        return 0 if WAYS[self.way].spare else self.units(self.min_nodes)

    def wanted(self, plan: PoolPlan) -> int | None:
        """Level, in units, that the plan asks for; None: unknown (then what is held stays)."""
        if plan.nodes is None:
            return None
        if not WAYS[self.way].spare:
            return max(self.units(plan.nodes), self.rest)
        return None if plan.busy_nodes is None else self.units(max(0, plan.nodes - plan.busy_nodes))


def shares(units: int, unit_gpus: int, services: Sequence[ServiceGpus]) -> dict[tuple[str, str], int]:
    """Workers of a pool's level for each service: what its planned replicas fill; the rest by need (largest remainder,
    ties by name). A single service gets all; together never more than `units`.
    """
    if not services:
        return {}
    own = {(s.namespace, s.service): math.ceil(s.gpus / unit_gpus) for s in services}
    total = sum(own.values())
    if len(own) == 1:
        return dict.fromkeys(own, units)
    weights = own if total else dict.fromkeys(own, 1)
    left = units - total if total <= units else units
    base = dict(own) if total <= units else dict.fromkeys(own, 0)
    whole = sum(weights.values())
    exact = {place: left * weight / whole for place, weight in weights.items()}
    found = {place: base[place] + math.floor(share) for place, share in exact.items()}
    for place in sorted(exact, key=lambda p: (-(exact[p] % 1), p)):
        if sum(found.values()) < units:
            found[place] += 1
    return found
