"""Pre-warming by placeholder pods: a Deployment per pool, made by the chart, whose scale is the only thing written.

Placeholders ask for as much as a replica needs and have the lowest priority that still makes nodes come (-10): a Ray
worker pushes them aside at once. Not for making or deleting that Deployment, and never for one without our label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoscaler.actuators.prewarm import Allowed, Held, Surroundings, shown
from autoscaler.common.errors import Conflict, Rejected
from autoscaler.common.fields import mapping, mappings, time_s, whole
from autoscaler.core.types import PoolPlan
from autoscaler.core.types.pools import WarmPool
from autoscaler.kubernetes.resources import DEPLOYMENTS, ClusterApi, Object, PatchOperation, Resource

OWNER_LABEL = "leadtime.dev/prewarm"
"""On everything that the chart makes for pre-warming; its value is the pool."""
STUCK_AFTER_S = 900.0
"""The cluster autoscaler gives up a node that has not come after 15 minutes."""


def refuse_others(obj: Object, pool: WarmPool) -> None:
    """Errors: Rejected for an object that was not made for pre-warming this pool."""
    label = mapping(mapping(obj, "metadata"), "labels").get(OWNER_LABEL)
    if label != pool.name:
        meta = mapping(obj, "metadata")
        said = "no such label" if label is None else f"{label!r}"
        raise Rejected(
            f"{obj.get('kind')} {meta.get('namespace')}/{meta.get('name')} is not ours: label {OWNER_LABEL} is to be "
            f"{pool.name!r}, and there is {said}; it is left alone"
        )


async def set_replicas(
    api: ClusterApi,
    resource: Resource,
    pool: WarmPool,
    operations: tuple[PatchOperation, ...],
    subresource: str,
    within_s: float,
) -> None:
    """Send a guarded patch. Errors: Conflict when the level was changed since it was read; as ClusterApi."""
    place = (pool.namespace, pool.object)
    try:
        await api.patch(resource, *place, operations, subresource=subresource, timeout_s=within_s)
    except Rejected as refusal:  # the server says 422 for a failed test and for a value it does not like
        now = await api.get(resource, *place, timeout_s=within_s)
        if any(one.op == "test" and _at(now, one.path) != one.value for one in operations):
            words = f"kubernetes: {resource.plural} {'/'.join(place)}: it changed since it was read"
            raise Conflict(f"{words}; decided again at the next tick") from refusal
        raise


def _at(obj: Any, pointer: str) -> Any:
    for part in pointer.removeprefix("/").split("/"):
        obj = obj.get(part) if isinstance(obj, Mapping) else None
    return obj


def scale_patch(version: str, seen: int, level: int) -> tuple[PatchOperation, ...]:
    """Of a scale subresource, if the object is still the one that was read.

    A Scale of 0 has no `spec.replicas` on the wire (Go's omitempty), so that can neither be tested nor replaced; its
    spec holds nothing else and is written whole.
    """
    if seen == level:
        return ()
    return (
        PatchOperation("test", "/metadata/resourceVersion", version),
        PatchOperation("add", "/spec", {"replicas": level}),
    )


def replicas_patch(seen: int | None, level: int) -> tuple[PatchOperation, ...]:
    """From one level to another, if it is still the one that was read."""
    if seen == level:
        return ()
    if seen is None:
        return (PatchOperation("add", "/spec/replicas", level),)
    return (PatchOperation("test", "/spec/replicas", seen), PatchOperation("replace", "/spec/replicas", level))


class PlaceholderPods:
    """The way `placeholder`."""

    name = "placeholder"

    def __init__(self, api: ClusterApi) -> None:
        self._api = api

    async def observe(self, pool: WarmPool, plan: PoolPlan | None, now_s: float) -> Held:
        obj = await self._api.get(DEPLOYMENTS, pool.namespace, pool.object)
        refuse_others(obj, pool)
        level = whole(mapping(obj, "spec").get("replicas"))
        level = 1 if level is None else level  # Kubernetes' own default
        words, stuck = _fares(obj, level, now_s)
        version = str(mapping(obj, "metadata").get("resourceVersion"))
        return Held(level, words, version, ("other", words) if stuck else None)

    def patch(self, pool: WarmPool, held: Held, level: int, plan: PoolPlan | None) -> str:
        return shown(scale_patch(held.seen, held.level, level))

    async def write(
        self, pool: WarmPool, held: Held, level: int, plan: PoolPlan | None, now_s: float, allowed_s: Allowed
    ) -> str:
        patch = scale_patch(held.seen, held.level, level)
        await set_replicas(self._api, DEPLOYMENTS, pool, patch, "scale", allowed_s())
        return f"{held.level} -> {level} placeholders"

    async def close(self) -> None:
        """The API belongs to who made it."""


def _fares(obj: Mapping[str, Any], level: int, now_s: float) -> tuple[str, bool]:
    """How the placeholders fare, in words, and whether they wait for longer than nodes ever take."""
    placed = whole(mapping(obj, "status").get("readyReplicas")) or 0
    missing = level - placed
    if missing <= 0:
        return f"{level} placeholders hold their nodes" if level else "", False
    words = f"{placed} of {level} placeholders hold a node, {missing} wait for one"
    conditions = mappings(mapping(obj, "status"), "conditions")
    short = next((c for c in conditions if c.get("type") == "Available" and c.get("status") == "False"), {})
    since_s = time_s(short.get("lastTransitionTime"))
    if since_s is None:
        return words, False
    waited_s = now_s - since_s
    if waited_s < STUCK_AFTER_S:
        return f"{words} (for {max(waited_s, 0):.0f} s)", False
    return f"{words}, for {waited_s / 60:.0f} minutes: no stock, no quota, or no node of the pool is large enough", True


def way(pools: Sequence[WarmPool], around: Surroundings) -> PlaceholderPods:
    """For the pools that are warmed so."""
    return PlaceholderPods(around.cluster)
