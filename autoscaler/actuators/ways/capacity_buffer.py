"""Pre-warming by a CapacityBuffer (autoscaling.x-k8s.io): virtual pods in the cluster autoscaler, no real ones.

The chart makes the buffer and the PodTemplate that it points at; only `spec.replicas` is written, since the kind has no
scale subresource. Whether anybody acts on it is read back from its status. Not for making buffers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from autoscaler.actuators.prewarm import Allowed, Held, Surroundings, shown
from autoscaler.actuators.ways.placeholder import refuse_others, replicas_patch, set_replicas
from autoscaler.common.errors import ActuatorError, NotFound, Rejected
from autoscaler.common.fields import mapping, mappings, text, time_s, whole
from autoscaler.core.types import PoolPlan
from autoscaler.core.types.pools import WarmPool
from autoscaler.kubernetes.resources import CAPACITY_BUFFERS, ClusterApi, Object, Resource

GKE_LEAST = (1, 35, 2, 1842000)
"""GKE's first version with active buffers."""
_GKE_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)-gke\.(\d+)")
_NO_KIND = "could not find the requested resource"
_NOBODY = "nobody acts on the buffer: it has no status (is the cluster autoscaler's capacity buffer controller on?)"


class CapacityBuffers:
    """The way `capacity_buffer`."""

    name = "capacity_buffer"

    def __init__(self, api: ClusterApi) -> None:
        self._api = api
        self._resource: Resource | None = None
        """The version that the cluster serves, once known."""

    async def observe(self, pool: WarmPool, plan: PoolPlan | None, now_s: float) -> Held:
        obj = await self._read(pool)
        refuse_others(obj, pool)
        level = whole(mapping(obj, "spec").get("replicas"))
        words, failed = _fares(obj, level or 0, now_s)
        return Held(level or 0, words, level, ("other", words) if failed else None)

    def patch(self, pool: WarmPool, held: Held, level: int, plan: PoolPlan | None) -> str:
        return shown(replicas_patch(held.seen, level))

    async def write(
        self, pool: WarmPool, held: Held, level: int, plan: PoolPlan | None, now_s: float, allowed_s: Allowed
    ) -> str:
        assert self._resource is not None  # it was looked at
        await set_replicas(self._api, self._resource, pool, replicas_patch(held.seen, level), "", allowed_s())
        return f"{held.level} -> {level} chunks"

    async def close(self) -> None:
        """The API belongs to who made it."""

    async def _read(self, pool: WarmPool) -> Object:
        """The buffer, by the newest version that is served. Errors: NotFound with what is missing."""
        known = CAPACITY_BUFFERS if self._resource is None else (self._resource, *CAPACITY_BUFFERS)
        missing: NotFound | None = None
        for resource in dict.fromkeys(known):  # an upgraded cluster may serve another one
            try:
                found = await self._api.get(resource, pool.namespace, pool.object)
            except NotFound as error:
                missing = error if missing is None or _NO_KIND in str(missing) else missing
            else:
                self._resource = resource
                return found
        assert missing is not None
        raise await self._why_missing(missing)

    async def _why_missing(self, error: NotFound) -> ActuatorError:
        """GKE before buffers; else a missing kind and a missing buffer, which the server's words tell apart."""
        try:
            version = await self._api.version()
        except ActuatorError:
            return error
        refused = too_old(version)
        if refused is not None:
            return Rejected(refused)
        if _NO_KIND in str(error):
            return NotFound(f"the cluster ({version}) has no CapacityBuffers (autoscaling.x-k8s.io): {error}")
        return error


def too_old(version: str) -> str | None:
    """Why a GKE of this version has no active buffers; None for one that has, and for others than GKE."""
    match = _GKE_VERSION.fullmatch(version.strip())
    if match is None or tuple(int(part) for part in match.groups()) >= GKE_LEAST:
        return None
    least = "{}.{}.{}-gke.{}".format(*GKE_LEAST)
    return f"GKE {version} has no capacity buffers: they need {least} or newer (prewarm: placeholder works on any)"


def _fares(obj: Mapping[str, Any], level: int, now_s: float) -> tuple[str, bool]:
    """What the status says, in words, and whether it says that capacity cannot be had."""
    if level == 0:
        return "", False
    conditions = {text(c, "type"): c for c in mappings(mapping(obj, "status"), "conditions")}
    if not conditions:
        return _NOBODY, False
    ready, there = conditions.get("ReadyForProvisioning", {}), conditions.get("Provisioning", {})
    if ready.get("status") == "False":
        return f"the buffer is not accepted: {_said(ready)}", True
    if there.get("status") == "True":
        return f"{level} chunks of capacity are there", False
    if there.get("status") == "False":
        since_s = time_s(there.get("lastTransitionTime"))
        late = since_s is not None and now_s - since_s >= 900.0
        waited = "" if since_s is None else f" for {max(0.0, now_s - since_s):.0f} s"
        return f"{level} chunks are not there yet{waited}: {_said(there)}", late
    return f"{level} chunks asked for: " + "; ".join(f"{k} {c.get('status')}" for k, c in conditions.items()), False


def _said(condition: Mapping[str, Any]) -> str:
    return " ".join(f"{text(condition, 'reason')} {text(condition, 'message')}".split()) or "no reason given"


def way(pools: Sequence[WarmPool], around: Surroundings) -> CapacityBuffers:
    """For the pools that are warmed so."""
    return CapacityBuffers(around.cluster)
