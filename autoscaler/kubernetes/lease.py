"""The leader's record in a Lease of the coordination.k8s.io group. Not for the rules of an election: leader.py."""

from __future__ import annotations

from typing import Any

from autoscaler.common.errors import Forbidden, NotFound, Unavailable
from autoscaler.common.fields import count, mapping, text
from autoscaler.kubernetes.leader import LeaseRecord
from autoscaler.kubernetes.resources import LEASES, ClusterApi, Object


class KubernetesLease:
    """A LeaseStore in one Lease; writes carry the resourceVersion and all else of what was read."""

    def __init__(self, api: ClusterApi, namespace: str, name: str) -> None:
        self._api, self._namespace, self._name = api, namespace, name
        self._object: Object = {}

    async def read(self, timeout_s: float) -> LeaseRecord | None:
        try:
            self._object = await self._api.get(LEASES, self._namespace, self._name, timeout_s=timeout_s)
        except NotFound:
            return None
        return record_of(self._object)

    async def create(self, record: LeaseRecord, timeout_s: float) -> None:
        body = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": spec_of(record),
        }
        try:
            made = await self._api.create(LEASES, self._namespace, body, timeout_s=timeout_s)
        except Forbidden as refused:
            raise Forbidden(lost_lease(self._namespace, self._name)) from refused
        self._object = _checked(made, record)

    async def write(self, record: LeaseRecord, timeout_s: float) -> None:
        body = {**self._object, "spec": {**mapping(self._object, "spec"), **spec_of(record)}}
        written = await self._api.replace(LEASES, self._namespace, self._name, body, timeout_s=timeout_s)
        self._object = _checked(written, record)


def lost_lease(namespace: str, name: str) -> str:
    """What to do where the chart's Lease is gone: pods may not make one, a right that no name can narrow."""
    return (
        f"Lease {namespace}/{name} is gone and this account may not make one, so nobody can lead and nothing is "
        "written: the chart makes it again (helm upgrade, with the values that it has)"
    )


def _checked(lease: Object, record: LeaseRecord) -> Object:
    """The answer to a write, if it is the lease that was written: a proxy's friendly page is no renewal."""
    if record_of(lease).holder != record.holder or not text(mapping(lease, "metadata"), "resourceVersion"):
        raise Unavailable("kubernetes: the answer to writing the lease is not that lease")
    return lease


def record_of(lease: Object) -> LeaseRecord:
    """The record in a Lease; a field that is missing reads as nobody's."""
    spec = mapping(lease, "spec")
    return LeaseRecord(
        holder=text(spec, "holderIdentity"),
        duration_s=count(spec.get("leaseDurationSeconds")) or 0,
        acquired_at=text(spec, "acquireTime"),
        renewed_at=text(spec, "renewTime"),
        transitions=count(spec.get("leaseTransitions"), 2**31) or 0,
    )


def spec_of(record: LeaseRecord) -> dict[str, Any]:
    return {
        "holderIdentity": record.holder,
        "leaseDurationSeconds": record.duration_s,
        "acquireTime": record.acquired_at,
        "renewTime": record.renewed_at,
        "leaseTransitions": record.transitions,
    }
