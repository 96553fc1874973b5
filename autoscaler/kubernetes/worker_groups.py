"""Changing worker counts of a RayService or RayCluster: a JSON patch of one field of one group, guarded by two tests.

`workerGroupSpecs` is one atomic list: a merge patch or a server-side apply would replace all groups. So the patch names
the group's place in the list, and tests that the group at that place and the whole object are still the ones that were
read. Not for deciding a number. The RayCluster of a RayService belongs to the operator: patch the RayService.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from autoscaler.common.errors import Conflict, NotFound, Rejected
from autoscaler.kubernetes.resources import RAY_SERVICES, ClusterApi, Object, PatchOperation, Resource

Field = Literal["replicas", "minReplicas", "maxReplicas"]
FIELDS: tuple[Field, ...] = ("replicas", "minReplicas", "maxReplicas")


@dataclass(frozen=True, slots=True)
class GroupChange:
    """Counts that a worker group should have; None: leave it as it is."""

    group: str
    replicas: int | None = None
    min_replicas: int | None = None
    max_replicas: int | None = None

    def wanted(self) -> dict[Field, int]:
        values = (self.replicas, self.min_replicas, self.max_replicas)
        return {name: value for name, value in zip(FIELDS, values, strict=True) if value is not None}


def patch_of(obj: Object, change: GroupChange) -> tuple[PatchOperation, ...]:
    """The operations that make the group of `obj`, as read, what `change` wants; empty when it already is.

    Errors: NotFound when there is no such group, Rejected for counts that contradict each other.
    """
    path, groups = _groups(obj)
    index, group = _find(obj, groups, change.group)
    wanted = change.wanted()
    _refuse_contradictions(obj, {name: wanted.get(name, group.get(name)) for name in FIELDS}, change.group)
    writes = [
        PatchOperation("add", f"{path}/{index}/{name}", value)
        for name, value in wanted.items()
        if group.get(name) != value
    ]
    if not writes:
        return ()
    guards = (
        PatchOperation("test", "/metadata/resourceVersion", obj["metadata"]["resourceVersion"]),
        PatchOperation("test", f"{path}/{index}/groupName", change.group),
    )
    return (*guards, *writes)


async def set_group(
    api: ClusterApi,
    resource: Resource,
    namespace: str,
    name: str,
    change: GroupChange,
    *,
    obj: Object | None = None,
    timeout_s: float | None = None,
) -> bool:
    """Bring one worker group to its counts; False when nothing had to be written.

    `obj` is the object as read for the decision; None: read it now. Never repeated here: after a Conflict the object is
    another one, and what to write must be decided again. Errors: as ClusterApi, NotFound, Conflict, Rejected.
    """
    seen = obj if obj is not None else await api.get(resource, namespace, name, timeout_s=timeout_s)
    operations = patch_of(seen, change)
    if not operations:
        return False
    try:
        await api.patch(resource, namespace, name, operations, timeout_s=timeout_s)
    except Rejected as refusal:
        # The server says 422 without a cause both for a failed test and for a value it does not like.
        now = await api.get(resource, namespace, name, timeout_s=timeout_s)
        if now["metadata"]["resourceVersion"] != seen["metadata"]["resourceVersion"]:
            words = (
                f"kubernetes: patch {resource.plural} {namespace}/{name}: it changed since it was read; decide again"
            )
            raise Conflict(words) from refusal
        raise
    return True


def _groups(obj: Object) -> tuple[str, list[Mapping[str, Any]]]:
    spec = obj.get("spec") or {}
    if obj.get("kind") == RAY_SERVICES.kind:
        return "/spec/rayClusterConfig/workerGroupSpecs", (spec.get("rayClusterConfig") or {}).get(
            "workerGroupSpecs"
        ) or []
    return "/spec/workerGroupSpecs", spec.get("workerGroupSpecs") or []


def _find(obj: Object, groups: list[Mapping[str, Any]], name: str) -> tuple[int, Mapping[str, Any]]:
    for index, group in enumerate(groups):
        if group.get("groupName") == name:
            return index, group
    known = ", ".join(str(group.get("groupName")) for group in groups) or "none"
    raise NotFound(f"{_words(obj)}: no worker group {name!r}; it has: {known}")


def _refuse_contradictions(obj: Object, counts: Mapping[Field, int | None], group: str) -> None:
    replicas, least, most = (counts[name] for name in FIELDS)
    if any(count is not None and count < 0 for count in (replicas, least, most)):
        raise Rejected(f"{_words(obj)}: group {group!r}: a count below 0")
    if least is not None and most is not None and least > most:
        raise Rejected(f"{_words(obj)}: group {group!r}: minReplicas {least} above maxReplicas {most}")
    if replicas is not None and most is not None and replicas > most:
        raise Rejected(f"{_words(obj)}: group {group!r}: replicas {replicas} above maxReplicas {most}")


def _words(obj: Object) -> str:
    meta = obj.get("metadata") or {}
    return f"{obj.get('kind')} {meta.get('namespace')}/{meta.get('name')}"
