"""RayService and RayCluster objects (KubeRay v1) as small nouns: the fields that leadtime needs, and no more.

Pure parsers. What is missing or odd reads as unknown (None) or empty, never as an error: the objects belong to others.
Not for what to do with them: services.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autoscaler.common.fields import mapping, mappings, quantity, text, whole
from autoscaler.core.audit import writer_of
from autoscaler.kubernetes.resources import Object
from autoscaler.sources.serve_config import ServeApp, parse_serve_config

DASHBOARD_PORT = 8265
ANNOTATION_PREFIX = "leadtime.dev/"
_FROM_NAME = "ray.io/originated-from-cr-name"
_FROM_KIND = "ray.io/originated-from-crd"
_GPU_SUFFIX = "/gpu"


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """One group of Ray worker pods of one kind; a replica of the group is `hosts` pods."""

    name: str
    replicas: int = 0
    min_replicas: int = 0
    max_replicas: int | None = None
    """None: no limit was set."""
    hosts: int = 1
    gpus_per_host: float = 0.0
    idle_timeout_s: int | None = None
    suspended: bool = False


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What a RayCluster, or the cluster part of a RayService, asks for."""

    ray_version: str = ""
    groups: tuple[WorkerGroup, ...] = ()
    autoscaled: bool = False
    """Ray's own autoscaler adds and removes workers (enableInTreeAutoscaling)."""
    auth_secret: str | None = None
    """Secret of the dashboard's token; None: no token, or the secret is named after the cluster."""
    token_auth: bool = False
    head_service: str | None = None
    """The head service's name, if the spec overrides it."""
    dashboard_port: int = DASHBOARD_PORT
    suspended: bool = False


@dataclass(frozen=True, slots=True)
class RayClusterView:
    """One RayCluster."""

    namespace: str
    name: str
    uid: str
    service: str | None
    """The RayService that owns it; None: it stands alone."""
    spec: ClusterSpec
    annotations: tuple[tuple[str, str], ...] = ()
    """Those of leadtime, without the prefix."""
    annotated_by: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Which field manager wrote them last, and when (`manager`, `written_at`); empty: nobody says."""
    head_service: str | None = None
    """As the operator reports it."""
    dashboard_port: int | None = None
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class ServiceHalf:
    """What a RayService's status says of its active or its pending cluster."""

    cluster: str
    target_capacity_percent: int | None = None
    traffic_percent: int | None = None
    deployments: tuple[tuple[str, str], ...] = ()
    """(app, deployment)."""
    head_service: str | None = None
    dashboard_port: int | None = None


@dataclass(frozen=True, slots=True)
class RayServiceView:
    """One RayService."""

    namespace: str
    name: str
    uid: str
    spec: ClusterSpec
    apps: tuple[ServeApp, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    """Those of leadtime, without the prefix."""
    annotated_by: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Which field manager wrote them last, and when (`manager`, `written_at`); empty: nobody says."""
    active: ServiceHalf | None = None
    pending: ServiceHalf | None = None
    incremental: bool = False
    """Upgrades move capacity step by step (NewClusterWithIncrementalUpgrade)."""
    ready: bool | None = None
    upgrading: bool = False
    rolling_back: bool = False
    suspended: bool = False
    deleting: bool = False
    version: str = field(default="", compare=False)
    """Its resourceVersion."""


# ---------------------------------------------------------------- parsers


def parse_ray_service(obj: Object) -> RayServiceView:
    meta, spec, status = mapping(obj, "metadata"), mapping(obj, "spec"), mapping(obj, "status")
    conditions = _conditions(status)
    return RayServiceView(
        namespace=text(meta, "namespace"),
        name=text(meta, "name"),
        uid=text(meta, "uid"),
        spec=parse_cluster_spec(mapping(spec, "rayClusterConfig")),
        apps=parse_serve_config(text(spec, "serveConfigV2")),
        annotations=_annotations(meta),
        annotated_by=_annotated_by(obj),
        active=_half(mapping(status, "activeServiceStatus")),
        pending=_half(mapping(status, "pendingServiceStatus")),
        incremental=mapping(spec, "upgradeStrategy").get("type") == "NewClusterWithIncrementalUpgrade",
        ready=conditions.get("Ready"),
        upgrading=conditions.get("UpgradeInProgress") is True,
        rolling_back=conditions.get("RollbackInProgress") is True,
        suspended=spec.get("suspend") is True or conditions.get("Suspended") is True,
        deleting="deletionTimestamp" in meta,
        version=text(meta, "resourceVersion"),
    )


def parse_ray_cluster(obj: Object) -> RayClusterView:
    meta, status = mapping(obj, "metadata"), mapping(obj, "status")
    head = mapping(status, "head")
    return RayClusterView(
        namespace=text(meta, "namespace"),
        name=text(meta, "name"),
        uid=text(meta, "uid"),
        service=_owner(meta),
        spec=parse_cluster_spec(mapping(obj, "spec")),
        annotations=_annotations(meta),
        annotated_by=_annotated_by(obj),
        head_service=text(head, "serviceName") or None,
        dashboard_port=_port(mapping(status, "endpoints").get("dashboard")),
        deleting="deletionTimestamp" in meta,
    )


def parse_cluster_spec(spec: Mapping[str, Any]) -> ClusterSpec:
    auth, head = mapping(spec, "authOptions"), mapping(spec, "headGroupSpec")
    service_meta = mapping(mapping(head, "headService"), "metadata")
    port = _port(mapping(head, "rayStartParams").get("dashboard-port")) or _named_port(head)
    return ClusterSpec(
        ray_version=text(spec, "rayVersion"),
        groups=tuple(_group(group) for group in mappings(spec, "workerGroupSpecs")),
        autoscaled=spec.get("enableInTreeAutoscaling") is True,
        auth_secret=text(auth, "secretName") or None,
        token_auth=auth.get("mode") == "token",
        head_service=text(service_meta, "name") or None,
        dashboard_port=port or DASHBOARD_PORT,
        suspended=spec.get("suspend") is True,
    )


def _group(group: Mapping[str, Any]) -> WorkerGroup:
    pod = mapping(mapping(group, "template"), "spec")
    most = whole(group.get("maxReplicas"))
    return WorkerGroup(
        name=text(group, "groupName"),
        replicas=whole(group.get("replicas")) or 0,
        min_replicas=whole(group.get("minReplicas")) or 0,
        max_replicas=None if most is None or most >= 2**31 - 1 else most,
        hosts=whole(group.get("numOfHosts")) or 1,
        gpus_per_host=_group_gpus(group, pod),
        idle_timeout_s=whole(group.get("idleTimeoutSeconds")),
        suspended=group.get("suspend") is True,
    )


def _group_gpus(group: Mapping[str, Any], pod: Mapping[str, Any]) -> float:
    """GPUs that Ray counts on one pod: said outright, else the Ray container's (always the first one's) limit."""
    for said in (mapping(group, "rayStartParams").get("num-gpus"), mapping(group, "resources").get("GPU")):
        if (number := quantity(said)) is not None:
            return number
    return container_gpus(next(iter(mappings(pod, "containers")), {}))


def container_gpus(container: Mapping[str, Any]) -> float:
    """GPUs of one container: limits, else requests, of any vendor's `.../gpu`."""
    resources = mapping(container, "resources")
    for amounts in (mapping(resources, "limits"), mapping(resources, "requests")):
        found = [quantity(v) for k, v in amounts.items() if str(k).endswith(_GPU_SUFFIX)]
        if found:
            return sum(number or 0.0 for number in found)
    return 0.0


def _half(status: Mapping[str, Any]) -> ServiceHalf | None:
    cluster = text(status, "rayClusterName")
    if not cluster:
        return None
    apps = mapping(status, "applicationStatuses")
    cluster_status = mapping(status, "rayClusterStatus")
    return ServiceHalf(
        cluster=cluster,
        target_capacity_percent=whole(status.get("targetCapacity")),
        traffic_percent=whole(status.get("trafficRoutedPercent")),
        deployments=tuple(
            (str(app), str(deployment))
            for app, state in apps.items()
            if isinstance(state, Mapping)
            for deployment in mapping(state, "serveDeploymentStatuses")
        ),
        head_service=text(mapping(cluster_status, "head"), "serviceName") or None,
        dashboard_port=_port(mapping(cluster_status, "endpoints").get("dashboard")),
    )


def _owner(meta: Mapping[str, Any]) -> str | None:
    labels = mapping(meta, "labels")
    if labels.get(_FROM_KIND) == "RayService" and labels.get(_FROM_NAME):
        return str(labels[_FROM_NAME])
    owners = [owner for owner in mappings(meta, "ownerReferences") if owner.get("kind") == "RayService"]
    return str(owners[0].get("name")) if owners else None


def _annotations(meta: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    found = mapping(meta, "annotations")
    ours = [(k[len(ANNOTATION_PREFIX) :], str(v)) for k, v in found.items() if str(k).startswith(ANNOTATION_PREFIX)]
    return tuple(sorted(ours))


def _annotated_by(obj: Object) -> Mapping[str, str]:
    """The last writer of any of them; of one that was taken away nobody tells, so that of the rest counts."""
    names = [name for name in mapping(mapping(obj, "metadata"), "annotations") if name.startswith(ANNOTATION_PREFIX)]
    found = [writer_of(obj, "metadata", "annotations", name) for name in names]
    return max((one for one in found if one), key=lambda one: one["written_at"], default={})


def _conditions(status: Mapping[str, Any]) -> dict[str, bool | None]:
    truth = {"True": True, "False": False}
    return {str(c.get("type")): truth.get(str(c.get("status"))) for c in mappings(status, "conditions")}


def _named_port(head: Mapping[str, Any]) -> int | None:
    """The head container's port called `dashboard`."""
    container = next(iter(mappings(mapping(mapping(head, "template"), "spec"), "containers")), {})
    ports = [p for p in mappings(container, "ports") if p.get("name") == "dashboard"]
    return _port(ports[0].get("containerPort")) if ports else None


def _port(value: Any) -> int | None:
    written = str(value)
    digits = written.isascii() and written.isdigit() and len(written) <= 5
    return int(written) if digits and 0 < int(written) < 65536 else None
