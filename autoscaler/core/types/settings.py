"""Settings of the core, built from the controller's settings file or a scenario."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from policies.base import DeploymentKey, Slo
from policies.base.durations import Duration
from policies.capacity import EngineProfile

ActWay = Literal["external", "policy"]
"""How leadtime acts on a Serve deployment: by posting levels from outside, or by a policy inside Serve's controller
that follows the published plan."""

Widening = Literal["min_replicas", "max_replicas", "slo"]
"""What an entry may let tenants widen: a smaller minimum, a larger maximum, a stricter promise."""


@dataclass(frozen=True, slots=True)
class Startup:
    """Priors of a cold start's stages that belong to a deployment."""

    load_s: Duration = Duration(60.0, 0.5)
    init_s: Duration = Duration(30.0, 0.3)


@dataclass(frozen=True, slots=True)
class DeploymentSettings:
    """One `deployments:` entry. It applies to every key that matches `match`; the first match wins."""

    match: str
    profile: EngineProfile | None = None
    profile_by_tenant: bool = False
    """A tenant named the profile: it may not make a replica count as fewer GPUs than Serve says."""
    node_pools: tuple[str, ...] = ()
    min_replicas: int = 1
    max_replicas: int = 1
    slo: Slo = Slo()
    weight: float = 1.0
    priority: int = 0
    guaranteed_gpus: int = 0
    gpus_per_replica: int | None = None
    """None: the profile's, else what Serve's required resources say, else 1."""
    follows: Follows | None = None
    startup: Startup | None = None
    """None: the profile's, else defaults."""
    gpu: str = ""
    """Kind of its GPUs, if neither a profile nor a pool says; "" = no budget applies to it."""
    may_widen: tuple[Widening, ...] = ()
    """What tenants (annotations) may widen of this entry; all else they may only narrow."""
    entry: str = ""
    """`match` of the entry of the file that this one was made from, whose guarantee it shares; "" = itself."""
    insists_on: int | None = None
    """Replicas of its minimum that have precedence over others' wants; None: all. What a tenant added competes like any
    want.
    """
    max_step_up: int | None = None
    """Replicas that one tick may add, besides the guard's own limit; None: no other limit."""
    unlisted: bool = False
    """Made from a tenant's request alone, without an entry of the file."""
    schedule: tuple[RecurringLoad, ...] = ()
    """Demand that a calendar announces."""


@dataclass(frozen=True, slots=True)
class RecurringLoad:
    """Demand that comes at the times of a calendar; like a hint, it can only raise the forecast."""

    name: str
    cron: str
    """When it begins: minute, hour, day of the month, month, day of the week, by `time_zone`."""
    time_zone: str
    """Of the IANA, as Europe/Berlin."""
    duration_s: float
    rps: float | None = None
    """The level that demand reaches, or `multiplier`: times what is expected otherwise."""
    multiplier: float | None = None
    confidence_fraction: float = 1.0


@dataclass(frozen=True, slots=True)
class TenantRules:
    """Limits on tenants' requests (annotations) where no entry of the file allows more."""

    max_step_up: int = 2
    """Replicas that one tick may add where a tenant raised the minimum or the maximum, or has no entry."""
    max_replicas: int = 8
    """Of a deployment without an entry; 0: without an entry a service is only observed."""
    max_gpus_per_namespace: int = 8
    """Of all deployments without an entry of one namespace together."""
    gpu: str = ""
    """Kind of their GPUs; "" = the one kind that has a budget."""
    gpus_per_replica: int | None = None
    """What one of their replicas counts as; None: what Serve says, at least 1."""
    drain_s: float = 900.0
    """Longest time (s) that replicas beyond a deployment's grant hold GPUs back from others, until they
    have drained.
    """


@dataclass(frozen=True, slots=True)
class Follows:
    """A CPU-only deployment (an ingress) that is kept in proportion to another one, never at 0."""

    deployment: str
    ratio: float = 1.0
    min_replicas: int = 1


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """One `node_pools:` entry, with the priors of the stages that belong to nodes."""

    name: str
    gpus_per_node: int = 8
    gpu: str = ""
    min_nodes: int = 0
    max_nodes: int | None = None
    prewarm: str = "none"
    max_run_s: float | None = None
    """Time (s) after which its nodes are removed, with everything on them; None: never."""
    price_usd_per_hour: float | None = None
    real_prices_usd_per_hour: Mapping[str, float] = field(default_factory=dict)
    """Prices by the real node pool of a node (a ComputeClass); others: `price_usd_per_hour`."""
    provision_s: Duration = Duration(150.0, 0.45)
    image_pull_s: Duration = Duration(40.0, 0.47)
    worker_start_s: Duration = Duration(20.0, 0.47)


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """Limits that hold for any policy in a live cluster (guards: full)."""

    stale_after_s: float = 60.0
    """Metrics or inventory older than this are unknown: no scale-down."""
    scale_down_stabilization_s: float = 120.0
    """A scale-down happens only when every proposal of this window allowed it."""
    max_step_up: int | None = None
    """Replicas that one tick may add; None: no limit."""
    max_step_down: int | None = 1
    """Replicas that one tick may remove; None: no limit."""


@dataclass(frozen=True, slots=True)
class ControllerConfig:
    """All settings that the core needs; the policy comes as an object."""

    deployments: tuple[DeploymentSettings, ...] = ()
    pools: tuple[PoolSettings, ...] = ()
    policy_name: str = "predictive"
    policy_options: Mapping[str, Any] = field(default_factory=dict)
    tick_s: float = 5.0
    dry_run: bool = True
    gpu_budget: Mapping[str, int] = field(default_factory=dict)
    guards: GuardSettings = GuardSettings()
    full_guards: bool = False
    """True: every guard applies to any policy, as in a live cluster. False: as strong as the policy itself declares."""
    hint_max_rps: float | None = None
    """Level to which hints may raise a deployment's demand; None: only its own maximum limits them."""
    tenants: TenantRules = TenantRules()
    namespace_forecasters: int | None = None
    """Deployments of one namespace that have a forecaster; None: all (no tenant names deployments)."""
    namespace_deployments: int | None = None
    """Deployments of one namespace that are remembered at the same time; None: all."""
    sha256: str = ""
    """Of the settings file as read: journals carry it."""

    def settings_for(self, key: DeploymentKey) -> DeploymentSettings | None:
        """The first entry whose pattern matches the key; None: observed only."""
        return _first_match(self.deployments, key)


_MATCHED: dict[int, tuple[tuple[DeploymentSettings, ...], dict[DeploymentKey, DeploymentSettings | None]]] = {}
"""What was found in which entries, by their identity (the entries are kept here, so that it stays theirs): with a
hundred deployments, trying every pattern for every key was a quarter of a step."""
_MOST_ENTRIES, _MOST_KEYS = 8, 10_000


def _first_match(entries: tuple[DeploymentSettings, ...], key: DeploymentKey) -> DeploymentSettings | None:
    kept = _MATCHED.get(id(entries))
    if kept is None:
        if len(_MATCHED) >= _MOST_ENTRIES:
            _MATCHED.clear()
        kept = _MATCHED[id(entries)] = (entries, {})
    known = kept[1]
    found = known.get(key)
    if found is None and key not in known:
        if len(known) >= _MOST_KEYS:
            known.clear()
        found = known[key] = next((d for d in entries if key.matches(d.match)), None)
    return found
