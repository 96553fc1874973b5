"""Which kinds the fake API server serves, and how each behaves. Built-in kinds are few; custom ones come from CRDs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.kubernetes.schema import CustomSchema
from tests.fakes.kubernetes.status import ApiError

Check = Callable[[Mapping[str, Any]], list[tuple[str, str]]]
"""A built-in kind's own validation: (field, what is wrong) pairs."""

_META_FIELDS = frozenset({"metadata.name", "metadata.namespace"})


@dataclass(frozen=True, slots=True)
class ResourceType:
    """One kind at one version."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    custom: bool = False
    status_subresource: bool = False
    scale_subresource: bool = False
    counts_generation: bool = False
    unconditional_update: bool = True
    """PUT without a resourceVersion overwrites (built-ins, mostly); False: 422."""
    short_names: tuple[str, ...] = ()
    selectable: frozenset[str] = _META_FIELDS
    schema: CustomSchema | None = None
    check: Check | None = field(default=None, compare=False)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def storage_key(self) -> str:
        """Versions of one kind share their objects."""
        return self.qualified

    @property
    def singular(self) -> str:
        return self.kind.lower()


def _check_lease(obj: Mapping[str, Any]) -> list[tuple[str, str]]:
    spec = obj.get("spec") or {}
    problems = []
    duration = spec.get("leaseDurationSeconds")
    if duration is not None and (not isinstance(duration, int) or duration <= 0):
        problems.append(("spec.leaseDurationSeconds", f"Invalid value: {duration}: must be greater than 0"))
    for name in ("renewTime", "acquireTime"):
        value = spec.get(name)
        if value is not None and not _is_micro_time(value):
            why = f'parsing time "{value}" as "2006-01-02T15:04:05.000000Z07:00"'
            raise ApiError(400, f'Lease in version "v1" cannot be handled as a Lease: {why}')
    return problems


def _check_event(obj: Mapping[str, Any]) -> list[tuple[str, str]]:
    """events.k8s.io/v1 on create."""
    problems = [
        (name, "Required value")
        for name in ("eventTime", "reportingController", "reportingInstance", "action", "reason")
        if not obj.get(name)
    ]
    for name, longest in (("reportingInstance", 128), ("action", 128), ("reason", 128), ("note", 1024)):
        if len(obj.get(name) or "") > longest:
            problems.append((name, f"can have at most {longest} characters"))
    if obj.get("type") not in ("Normal", "Warning"):
        problems.append(("type", f'Invalid value: "{obj.get("type")}": must be Normal or Warning'))
    if obj.get("eventTime") and not _is_micro_time(obj["eventTime"]):
        problems.append(("eventTime", "is not a MicroTime"))
    regarding = obj.get("regarding") or {}
    if (regarding.get("namespace") or "default") != obj["metadata"]["namespace"]:
        problems.append(("involvedObject.namespace", "does not match event.namespace"))
    series = obj.get("series")
    if series is not None and (series.get("count", 0) < 2 or not _is_micro_time(series.get("lastObservedTime", ""))):
        problems.append(("series", "Invalid value: count must be at least 2 and lastObservedTime set"))
    return problems


def _is_micro_time(text: Any) -> bool:
    head, _, tail = str(text).partition(".")
    return len(head) == 19 and head[10] == "T" and len(tail) == 7 and tail[:6].isdigit() and tail[6] == "Z"


_EVENTS = _META_FIELDS | {"reason", "type", "reportingController", "regarding.kind", "regarding.name"}
_PODS = _META_FIELDS | {"spec.nodeName", "status.phase", "spec.schedulerName", "spec.restartPolicy"}

BUILT_IN: tuple[ResourceType, ...] = (
    ResourceType("", "v1", "namespaces", "Namespace", namespaced=False, status_subresource=True, short_names=("ns",)),
    ResourceType(
        "", "v1", "nodes", "Node", namespaced=False, status_subresource=True, short_names=("no",),
        selectable=_META_FIELDS | {"spec.unschedulable"},
    ),
    ResourceType("", "v1", "pods", "Pod", status_subresource=True, short_names=("po",), selectable=_PODS),
    ResourceType("", "v1", "podtemplates", "PodTemplate"),
    ResourceType("", "v1", "services", "Service", status_subresource=True, short_names=("svc",)),
    ResourceType("", "v1", "configmaps", "ConfigMap", short_names=("cm",)),
    ResourceType("", "v1", "secrets", "Secret"),
    ResourceType("events.k8s.io", "v1", "events", "Event", short_names=("ev",), check=_check_event, selectable=_EVENTS),
    ResourceType(
        "apps", "v1", "deployments", "Deployment", status_subresource=True, scale_subresource=True,
        counts_generation=True, short_names=("deploy",),
    ),
    ResourceType(
        "coordination.k8s.io", "v1", "leases", "Lease", unconditional_update=False, check=_check_lease
    ),
)  # fmt: skip


def from_crd(crd: Mapping[str, Any]) -> list[ResourceType]:
    """One type per served version of a CustomResourceDefinition."""
    spec = crd["spec"]
    types = []
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        subresources = version.get("subresources") or {}
        types.append(
            ResourceType(
                spec["group"],
                version["name"],
                spec["names"]["plural"],
                spec["names"]["kind"],
                namespaced=spec["scope"] == "Namespaced",
                custom=True,
                status_subresource="status" in subresources,
                scale_subresource="scale" in subresources,
                counts_generation=True,
                unconditional_update=False,
                short_names=tuple(spec["names"].get("shortNames", ())),
                schema=CustomSchema(version["schema"]["openAPIV3Schema"]),
            )
        )
    return types
