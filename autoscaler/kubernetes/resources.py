"""The nouns of the Kubernetes API that leadtime speaks, and the port to it. Pure: api.py is the adapter.

Objects stay the plain mappings of the wire; whoever reads fields of them makes nouns of its own (sources/).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol
from urllib.parse import quote

from autoscaler.common.errors import SourceError, Unavailable

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind at one version, as it is addressed."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, subresource: str = "") -> str:
        """The URL path; `namespace` None = all of them (of a list or watch), or a kind without namespaces."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/" + "/".join(quote(part, safe="") for part in parts)


RAY_SERVICES = Resource("ray.io", "v1", "rayservices", "RayService")
RAY_CLUSTERS = Resource("ray.io", "v1", "rayclusters", "RayCluster")
AUTOSCALERS = Resource("leadtime.dev", "v1alpha1", "autoscalers", "Autoscaler")
PODS = Resource("", "v1", "pods", "Pod")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
CAPACITY_BUFFERS = tuple(
    Resource("autoscaling.x-k8s.io", version, "capacitybuffers", "CapacityBuffer")
    for version in ("v1beta1", "v1alpha1")
)
"""Newest first."""
PROVISIONING_REQUESTS = Resource("autoscaling.x-k8s.io", "v1", "provisioningrequests", "ProvisioningRequest")


def micro_time(at: datetime) -> str:
    """Kubernetes' MicroTime."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True)
class ObjectList:
    """One page, or all, of a list; a watch may go on from `resource_version`."""

    items: tuple[Object, ...]
    resource_version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch. A BOOKMARK carries nothing but the version up to which all is told."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Object

    @property
    def resource_version(self) -> str:
        return str(self.object["metadata"]["resourceVersion"])


@dataclass(frozen=True, slots=True)
class PatchOperation:
    """One operation of a JSON patch (RFC 6902); `path` is a JSON pointer."""

    op: Literal["add", "replace", "remove", "test"]
    path: str
    value: Any = None

    def wire(self) -> dict[str, Any]:
        plain: dict[str, Any] = {"op": self.op, "path": self.path}
        return plain if self.op == "remove" else {**plain, "value": self.value}


class Expired(SourceError):
    """The version to go on from is forgotten (410): list again."""


class Throttled(Unavailable):
    """Too many requests (429), or an overloaded server that says when to come back."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ClusterApi(Protocol):
    """What leadtime needs of a cluster. Every call has a deadline (`timeout_s`; None: the adapter's own).

    Errors: Conflict (409), NotFound (404), Rejected (400, 415, 422), Forbidden (401, 403), Throttled (429), Expired
    (410), Unavailable (everything without a usable answer, also a call whose time was over before it was sent).
    """

    async def get(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        subresource: str = "",
        timeout_s: float | None = None,
    ) -> Object: ...

    async def version(self, timeout_s: float | None = None) -> str:
        """As the server calls itself: `v1.35.2-gke.1842000`."""
        ...

    def pages(
        self,
        resource: Resource,
        namespace: str | None,
        *,
        labels: str = "",
        fields: str = "",
        page_size: int = 250,
        timeout_s: float | None = None,
    ) -> AsyncIterator[ObjectList]:
        """A list, page by page; every page is true of the same version."""
        ...

    def watch(
        self,
        resource: Resource,
        namespace: str | None,
        resource_version: str,
        *,
        labels: str = "",
        fields: str = "",
        lasts_s: float = 270.0,
        silence_s: float = 90.0,
    ) -> AsyncIterator[tuple[WatchEvent, ...]]:
        """What happens after a version, in batches, until the server ends it after `lasts_s` (a normal end).

        The first batch is empty and says that the watch stands: from there on no news means no change.
        Errors, besides those above: Unavailable when nothing was heard for `silence_s`.
        """
        ...

    async def create(
        self, resource: Resource, namespace: str | None, body: Object, *, timeout_s: float | None = None
    ) -> Object: ...

    async def replace(
        self, resource: Resource, namespace: str | None, name: str, body: Object, *, timeout_s: float | None = None
    ) -> Object:
        """PUT; `body` carries the resourceVersion that it was made from."""
        ...

    async def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        operations: Sequence[PatchOperation],
        *,
        subresource: str = "",
        timeout_s: float | None = None,
    ) -> Object:
        """A JSON patch: all operations or none."""
        ...

    async def delete(
        self, resource: Resource, namespace: str | None, name: str, *, uid: str = "", timeout_s: float | None = None
    ) -> None:
        """With `uid`: only if it is still that object, else Conflict."""
        ...

    async def close(self) -> None: ...


async def list_all(
    api: ClusterApi,
    resource: Resource,
    namespace: str | None,
    *,
    labels: str = "",
    fields: str = "",
    timeout_s: float | None = None,
) -> ObjectList:
    """All pages of a list at once; begun again, twice at most, when its pages expire. Errors: as ClusterApi."""
    for attempt in range(3):
        items: list[Object] = []
        version = ""
        try:
            async for page in api.pages(resource, namespace, labels=labels, fields=fields, timeout_s=timeout_s):
                items += page.items
                version = page.resource_version
            break
        except Expired:
            if attempt == 2:
                raise
    return ObjectList(tuple(items), version)
