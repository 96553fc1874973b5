"""Pre-warming by Ray workers: `minReplicas` of the worker group of each RayService that runs on a pool.

A worker that is up and empty serves a new replica with nothing left to wait for but its weights. Ray's own autoscaler
(enableInTreeAutoscaling) raises the workers to the floor and takes none below it; `replicas` is its business, and
without it nobody would act on the floor. Not for RayClusters, whose spec is their owner's, nor for services that did
not consent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from autoscaler.actuators.prewarm import Allowed, Held, Surroundings
from autoscaler.common.errors import ActuatorError, NotFound, Rejected
from autoscaler.common.fields import mapping, mappings, text, whole
from autoscaler.core.types import PoolPlan, ServiceGpus
from autoscaler.core.types.pools import WarmPool, shares
from autoscaler.kubernetes.resources import RAY_SERVICES, ClusterApi, Object, Throttled, list_all
from autoscaler.kubernetes.worker_groups import GroupChange, patch_of, set_group

Place = tuple[str, str]
"""(namespace, RayService)."""


@dataclass(frozen=True, slots=True)
class _Group:
    """A worker group as read, with the object that it is part of."""

    obj: Object
    name: str
    least: int
    most: int | None
    hosts: int

    def floor(self, workers: int) -> int:
        """`minReplicas` for so many workers, as far as `maxReplicas` goes."""
        replicas = math.ceil(workers / self.hosts)
        return replicas if self.most is None else min(replicas, self.most)


class KubeRayWorkers:
    """The way `worker_group`. `consents(object)`: leadtime may act on that RayService.

    `version(namespace, name)`: its resourceVersion by a watch, None where that is not known now. An object that was
    read is not read again while the watch knows of no other version.
    """

    name = "worker_group"

    def __init__(
        self,
        api: ClusterApi,
        namespaces: Sequence[str],
        consents: Callable[[Object], bool],
        version: Callable[[str, str], str | None] | None = None,
    ) -> None:
        """`namespaces` empty: all of them."""
        self._api, self._consents = api, consents
        self._version = version or (lambda namespace, name: None)
        self._objects: dict[Place, Object] = {}
        """As read last; what was written since is not in here."""
        self._namespaces: list[str | None] = [*namespaces] or [None]
        self._known: dict[str, set[Place]] = {}
        """Services that run on a pool: also those that the plan does not name any more hold what they were given."""

    async def observe(self, pool: WarmPool, plan: PoolPlan | None, now_s: float) -> Held:
        if plan is None or pool.name not in self._known:
            self._known[pool.name] = await self._all_places(pool)
        known = self._known[pool.name] | {(s.namespace, s.service) for s in (plan.gpus if plan else ())}
        groups: dict[Place, _Group] = {}
        refused: dict[Place, Rejected] = {}
        for place in sorted(known if pool.service is None else {pool.service}):
            try:
                found = await self._read(pool, place, giving_back=plan is None)
            except Rejected as refusal:  # one service that cannot be held must not keep what others were given
                refused[place] = refusal
                continue
            if found is not None:
                groups[place] = found
        if refused and not groups:
            raise next(iter(refused.values()))
        if not groups and plan is not None:
            raise NotFound(f"pool {pool.name}: no RayService has a worker group on it (or consents to be scaled)")
        self._known[pool.name] = {*groups, *refused}
        level = sum(group.least * group.hosts for group in groups.values())
        capped = [f"{n}/{s} is at its maxReplicas {g.most}" for (n, s), g in groups.items() if g.least == g.most]
        return Held(level, "; ".join([*capped, *map(str, refused.values())]), groups)

    def patch(self, pool: WarmPool, held: Held, level: int, plan: PoolPlan | None) -> str:
        sent = {
            "/".join(place): [operation.wire() for operation in patch_of(group.obj, change)]
            for place, group, change in self._changes(pool, held, level, plan)
        }
        return msgspec.json.encode(sent).decode() if sent else ""

    async def write(
        self, pool: WarmPool, held: Held, level: int, plan: PoolPlan | None, now_s: float, allowed_s: Allowed
    ) -> str:
        words = []
        failed: ActuatorError | None = None
        for (namespace, name), group, change in self._changes(pool, held, level, plan):
            limit_s = allowed_s()
            self._objects.pop((namespace, name), None)
            try:
                await set_group(self._api, RAY_SERVICES, namespace, name, change, obj=group.obj, timeout_s=limit_s)
            except Throttled:
                raise
            except ActuatorError as error:  # the other services' levels do not wait for this one's
                failed = failed or error
                continue
            words.append(f"{namespace}/{name} group {group.name}: minReplicas {group.least} -> {change.min_replicas}")
        if failed is not None:
            raise failed
        return "; ".join(words)

    async def close(self) -> None:
        """The API belongs to who made it."""

    # ------------------------------------------------------------ which groups, and how much of the level

    def _changes(
        self, pool: WarmPool, held: Held, level: int, plan: PoolPlan | None
    ) -> list[tuple[Place, _Group, GroupChange]]:
        groups: Mapping[Place, _Group] = held.seen
        named = {(s.namespace, s.service): s for s in (plan.gpus if plan else ())}
        needs = [named.get(place, ServiceGpus(*place, 0)) for place in groups]
        found = []
        for place, workers in shares(level, pool.unit_gpus, needs).items():
            group = groups[place]
            floor = group.floor(workers)
            if floor != group.least:
                found.append((place, group, GroupChange(group.name, min_replicas=floor)))
        return found

    async def _all_places(self, pool: WarmPool) -> set[Place]:
        """Every consenting RayService with a group on the pool."""
        found = set()
        for namespace in self._namespaces:
            for obj in (await list_all(self._api, RAY_SERVICES, namespace)).items:
                if self._consents(obj) and _groups_on(obj, pool):
                    meta = mapping(obj, "metadata")
                    found.add((text(meta, "namespace"), text(meta, "name")))
        return found

    async def _object(self, place: Place, afresh: bool) -> Object:
        """Errors: ActuatorError."""
        kept = self._objects.get(place)
        read = None if kept is None or afresh else text(mapping(kept, "metadata"), "resourceVersion")
        if kept is not None and read is not None and read == self._version(*place):
            return kept
        self._objects.pop(place, None)
        found = self._objects[place] = await self._api.get(RAY_SERVICES, *place)
        return found

    async def _read(self, pool: WarmPool, place: Place, giving_back: bool) -> _Group | None:
        """The service's group on the pool; None where it has none, or is gone. Errors: Rejected."""
        try:
            obj = await self._object(place, afresh=giving_back)
        except NotFound:
            return None
        if not self._consents(obj) or "deletionTimestamp" in mapping(obj, "metadata"):
            return None
        groups = _groups_on(obj, pool)
        if not groups:
            return None
        where = f"RayService {'/'.join(place)}"
        if len(groups) > 1:
            names = ", ".join(text(group, "groupName") for group in groups)
            raise Rejected(f"{where}: groups {names} all run on pool {pool.name}: name one as node_pools[].warm.group")
        if mapping(mapping(obj, "spec"), "rayClusterConfig").get("enableInTreeAutoscaling") is not True:
            raise Rejected(f"{where}: nobody acts on minReplicas: set rayClusterConfig.enableInTreeAutoscaling: true")
        (group,) = groups
        gpus = _worker_gpus(group)
        if gpus not in (None, pool.unit_gpus) and not giving_back:
            words = f"a worker has {gpus:g} GPUs, and pool {pool.name} counts workers of {pool.unit_gpus}"
            raise Rejected(f"{where} group {text(group, 'groupName')}: {words}: set node_pools[].warm.gpus: {gpus:g}")
        most = whole(group.get("maxReplicas"))
        return _Group(
            obj,
            text(group, "groupName"),
            whole(group.get("minReplicas")) or 0,
            None if most is None or most >= 2**31 - 1 else most,
            whole(group.get("numOfHosts")) or 1,
        )


def _groups_on(obj: Object, pool: WarmPool) -> list[Mapping[str, Any]]:
    """The worker groups that the pool's settings name, or whose node selector leads to the pool."""
    config = mapping(mapping(obj, "spec"), "rayClusterConfig")
    groups = mappings(config, "workerGroupSpecs")
    if pool.group is not None:
        return [group for group in groups if group.get("groupName") == pool.group]
    selected = {i: _selector(group) for i, group in enumerate(groups)}
    by_name = [group for i, group in enumerate(groups) if pool.name in selected[i]]
    if by_name or not pool.gpu:
        return by_name
    return [group for i, group in enumerate(groups) if pool.gpu in selected[i]]


def _worker_gpus(group: Mapping[str, Any]) -> float | None:
    """GPUs of one worker pod of the group; None where its template does not say."""
    pod = mapping(mapping(group, "template"), "spec")
    found = 0.0
    for container in mappings(pod, "containers"):
        resources = mapping(container, "resources")
        asked = {**mapping(resources, "requests"), **mapping(resources, "limits")}
        found += sum(float(n) for name, n in asked.items() if name.endswith("/gpu") and str(n).isdecimal())
    return found or None


def _selector(group: Mapping[str, Any]) -> set[str]:
    pod = mapping(mapping(group, "template"), "spec")
    return {str(value) for value in mapping(pod, "nodeSelector").values()}


def way(pools: Sequence[WarmPool], around: Surroundings) -> KubeRayWorkers:
    """For the pools that are warmed so."""
    return KubeRayWorkers(around.cluster, around.watch_namespaces, around.consent(pools), around.service_version)
