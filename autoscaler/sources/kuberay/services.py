"""From RayServices and RayClusters to services: where their Ray heads are, and which cluster serves.

Pure. A service may have two clusters for a while (a zero-downtime upgrade); it stays one service, with one key for each
of its deployments. How a planned level is split over the two: upgrade.py. Not for talking to anybody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from autoscaler.clients.addresses import ServiceHost, is_label, is_subdomain
from autoscaler.core.tenants import service_matches
from autoscaler.sources.kuberay.annotations import AnnotationReading, Annotations
from autoscaler.sources.kuberay.objects import ClusterSpec, RayClusterView, RayServiceView, ServiceHalf, WorkerGroup
from autoscaler.sources.serve_config import ServeApp

Role = Literal["active", "pending"]
Phase = Literal["starting", "steady", "upgrading", "incremental", "suspended", "gone"]
ServiceKey = tuple[str, str]
"""(namespace, name)."""
ObjectKey = tuple[str, str, str]
"""(kind, namespace, name)."""


@dataclass(frozen=True, slots=True)
class ServeCluster:
    """One Ray cluster of a service."""

    name: str
    role: Role
    head: ServiceHost
    """Its own head service: that of the RayService moves from cluster to cluster."""
    port: int
    groups: tuple[WorkerGroup, ...] = ()
    autoscaled: bool = False
    auth_secret: str | None = None
    """Secret with the dashboard's token; None: it wants none."""
    capacity_percent: int | None = None
    """Serve's target_capacity during an incremental upgrade."""
    traffic_percent: int | None = None
    deployments: tuple[tuple[str, str], ...] = ()
    """(app, deployment), as the operator saw them."""
    refused: str | None = None
    """Why it is not connected to: its objects name what Kubernetes would not."""

    @property
    def dashboard(self) -> str:
        return f"http://{self.head.host}:{self.port}"

    @property
    def most_gpus(self) -> float | None:
        """GPUs that its worker groups may grow to; None: without a limit."""
        total = 0.0
        for group in self.groups:
            if group.gpus_per_host > 0 and group.max_replicas is None:
                return None
            total += (group.max_replicas or 0) * group.hosts * group.gpus_per_host
        return total


@dataclass(frozen=True, slots=True)
class KubeService:
    """One service: a RayService, or a RayCluster that stands alone and runs Serve."""

    kind: Literal["RayService", "RayCluster"]
    namespace: str
    name: str
    uid: str
    phase: Phase
    opted_in: bool
    """leadtime may act on it: by annotation, by an Autoscaler, or because the settings name it."""
    reading: AnnotationReading = AnnotationReading(Annotations())
    active: ServeCluster | None = None
    pending: ServeCluster | None = None
    apps: tuple[ServeApp, ...] = ()
    rolling_back: bool = False

    @property
    def key(self) -> ServiceKey:
        return (self.namespace, self.name)

    @property
    def clusters(self) -> tuple[ServeCluster, ...]:
        return tuple(cluster for cluster in (self.active, self.pending) if cluster is not None)

    @property
    def serving(self) -> tuple[ServeCluster, ...]:
        """The clusters that traffic goes to: what runs elsewhere is no supply yet, and has no demand."""
        if self.phase in ("suspended", "gone"):
            return ()
        if self.phase != "incremental":
            return () if self.active is None else (self.active,)
        return tuple(c for c in self.clusters if c.role == "active" or (c.traffic_percent or 0) > 0)

    def refusal(self, app: str) -> str | None:
        """Why leadtime leaves an application alone, so far as its config shows."""
        return next((a.refused for a in self.apps if a.name == app), None)

    def gpus_per_replica(self, app: str, deployment: str) -> float | None:
        """As the config says; None: it does not."""
        found = (d for a in self.apps if a.name == app for d in a.deployments if d.name == deployment)
        return next((d.gpus_per_replica for d in found), None)


def discover(
    services: Iterable[RayServiceView],
    clusters: Iterable[RayClusterView],
    readings: Mapping[ObjectKey, AnnotationReading],
    patterns: Iterable[str] = (),
    asked: Collection[ServiceKey] = (),
) -> tuple[KubeService, ...]:
    """All services, by namespace and name.

    `readings` holds the objects' annotations, `patterns` those of the settings' `deployments`, `asked` the services
    that an Autoscaler is about. A RayCluster that a RayService owns is part of that service.
    """
    consents = _Consents(readings, tuple(patterns), frozenset(asked))
    by_name = {(view.namespace, view.name): view for view in clusters}
    found = [_of_service(view, by_name, consents) for view in services]
    taken = {service.key for service in found}
    alone = (view for key, view in by_name.items() if view.service is None and key not in taken)
    return tuple(sorted([*found, *(_of_cluster(v, consents) for v in alone)], key=lambda s: s.key))


@dataclass(frozen=True, slots=True)
class _Consents:
    """What says whether leadtime may act on a service."""

    readings: Mapping[ObjectKey, AnnotationReading]
    patterns: tuple[str, ...]
    asked: frozenset[ServiceKey]

    def of(self, kind: str, namespace: str, name: str) -> tuple[bool, AnnotationReading]:
        """(it may, the annotations)."""
        reading = self.readings.get((kind, namespace, name), AnnotationReading(Annotations()))
        asked = (namespace, name) in self.asked
        return opted_in(namespace, name, reading.annotations, self.patterns, asked), reading


def _of_service(
    view: RayServiceView,
    clusters: Mapping[ServiceKey, RayClusterView],
    consents: _Consents,
) -> KubeService:
    may, reading = consents.of("RayService", view.namespace, view.name)
    halves: list[tuple[Role, ServiceHalf | None]] = [("active", view.active), ("pending", view.pending)]
    active, pending = (
        None if half is None else _cluster(view, half, role, clusters.get((view.namespace, half.cluster)))
        for role, half in halves
    )
    return KubeService(
        "RayService",
        view.namespace,
        view.name,
        view.uid,
        _phase(view),
        may,
        reading,
        active,
        pending,
        _without_giants(view.apps, view.spec),
        view.rolling_back,
    )


def _of_cluster(view: RayClusterView, consents: _Consents) -> KubeService:
    may, reading = consents.of("RayCluster", view.namespace, view.name)
    phase: Phase = "gone" if view.deleting else "suspended" if view.spec.suspended else "steady"
    half = ServiceHalf(view.name)
    return KubeService(
        "RayCluster",
        view.namespace,
        view.name,
        view.uid,
        phase,
        may,
        reading,
        _cluster(view, half, "active", view),
    )


def opted_in(namespace: str, name: str, annotations: Annotations, patterns: Iterable[str], asked: bool = False) -> bool:
    """By `enabled: "true"`, an Autoscaler (`asked`), or an entry of the settings that names it in four parts (`*` too).

    `enabled: "false"` always wins. An entry in two parts (APP/DEPLOYMENT) gives settings and consents to nothing: it
    would match whatever else runs in the namespace.
    """
    if annotations.enabled is not None:
        return annotations.enabled
    return asked or any(pattern.count("/") == 3 and service_matches(pattern, namespace, name) for pattern in patterns)


def _phase(view: RayServiceView) -> Phase:
    if view.deleting:
        return "gone"
    if view.suspended:
        return "suspended"
    if view.active is None:
        return "starting"
    if view.pending is None:
        return "steady"
    stepwise = any(half.target_capacity_percent is not None for half in (view.active, view.pending))
    return "incremental" if view.incremental and stepwise else "upgrading"


def _cluster(
    owner: RayServiceView | RayClusterView, half: ServiceHalf, role: Role, seen: RayClusterView | None
) -> ServeCluster:
    """`seen` is the RayCluster object; without it the owner's own fields and KubeRay's rules for names must do."""
    spec = owner.spec if seen is None else seen.spec
    reported = (None, None) if seen is None else (seen.head_service, seen.dashboard_port)
    service = reported[0] or half.head_service or spec.head_service or f"{half.cluster}-head-svc"
    secret = (spec.auth_secret or half.cluster) if spec.token_auth else None
    return ServeCluster(
        name=half.cluster,
        role=role,
        head=ServiceHost(service, owner.namespace),
        port=reported[1] or half.dashboard_port or spec.dashboard_port,
        groups=spec.groups,
        autoscaled=spec.autoscaled,
        auth_secret=secret,
        capacity_percent=half.target_capacity_percent,
        traffic_percent=half.traffic_percent,
        deployments=half.deployments,
        refused=_refusal(owner.namespace, half.cluster, service, secret),
    )


def _refusal(namespace: str, cluster: str, service: str, secret: str | None) -> str | None:
    """Names become parts of addresses and paths: only what Kubernetes itself takes for a name may."""
    asked = (
        ("namespace", namespace, is_label),
        ("RayCluster", cluster, is_subdomain),
        ("head Service", service, is_label),
        ("Secret (authOptions.secretName)", secret or "none", is_subdomain),
    )
    for what, name, sound in asked:
        if not sound(name):
            return f"{name[:80]!a} is no name of a {what}; allowed: lower-case letters, digits and '-' (RFC 1123)"
    return None


def _without_giants(apps: tuple[ServeApp, ...], spec: ClusterSpec) -> tuple[ServeApp, ...]:
    """Applications with a replica that needs more GPUs than any one worker has are refused."""
    largest = max((group.gpus_per_host for group in spec.groups), default=0.0)
    if largest <= 0:
        return apps
    checked = []
    for app in apps:
        giants = [d for d in app.deployments if (d.gpus_per_replica or 0.0) > largest]
        if giants and app.refused is None:
            size = f"{giants[0].gpus_per_replica:g} GPUs, the largest worker has {largest:g}"
            why = f"a replica of {giants[0].name} needs {size}; leadtime cannot place replicas over several nodes yet"
            app = replace(app, refused=why)
        checked.append(app)
    return tuple(checked)
