"""CapacityBuffers under the suite of all ways, against the fake Kubernetes API, and what can go wrong with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from autoscaler.actuators.prewarm import PrewarmActuator
from autoscaler.actuators.ways.capacity_buffer import CapacityBuffers, too_old
from autoscaler.core.types.pools import WarmPool
from autoscaler.kubernetes.resources import CAPACITY_BUFFERS as RESOURCES
from tests.contract.prewarm_contract import PrewarmContract, apply, plan_of
from tests.contract.prewarm_kubernetes import LABELS, KubernetesWorld, api_with
from tests.fakes.kubernetes import discovery
from tests.fakes.kubernetes.crds_autoscaling import CAPACITY_BUFFERS, capacity_buffers

POOL = WarmPool("h100", "capacity_buffer", 8, 8, namespace="lt", object="lt-warm-h100")
BUFFER: dict[str, Any] = {
    "apiVersion": "autoscaling.x-k8s.io/v1beta1",
    "kind": "CapacityBuffer",
    "metadata": {"name": "lt-warm-h100", "namespace": "lt", "labels": LABELS},
    "spec": {"podTemplateRef": {"name": "lt-warm-h100"}, "replicas": 0},
}


class BufferWorld(KubernetesWorld):
    async def held(self) -> int:
        replicas: int = self.api.read(BUFFER)["spec"]["replicas"]
        return replicas


@pytest.fixture
async def world() -> AsyncIterator[BufferWorld]:
    async with api_with(BUFFER, crds=[CAPACITY_BUFFERS]) as (api, client):
        world = BufferWorld(api, client)
        world.another = lambda: PrewarmActuator(CapacityBuffers(client), [POOL], on_refusal=world.refused.append)
        world.actuator = world.another()
        yield world


def condition(kind: str, status: str, reason: str = "Why", message: str = "") -> dict[str, str]:
    at = "1970-01-01T00:00:00Z"
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": at}


async def state(world: BufferWorld, *conditions: dict[str, str]) -> str:
    """The words on a buffer of 2 with such a status."""
    await apply(world, plan_of(2, world=world))
    if conditions:
        world.api.set_status(BUFFER, {"conditions": list(conditions), "replicas": 2})
    applied = await apply(world, plan_of(2, world=world, tick=2))
    assert applied.outcome == "unchanged"
    return applied.why


class TestCapacityBuffers(PrewarmContract):
    async def test_only_the_replicas_of_the_spec_are_patched(self, world: BufferWorld) -> None:
        await apply(world, plan_of(1, world=world))
        (request,) = world.api.traffic.writes()
        assert (request.verb, request.resource, request.name) == ("patch", "capacitybuffers", "lt-warm-h100")
        assert request.body == [
            {"op": "test", "path": "/spec/replicas", "value": 0},
            {"op": "replace", "path": "/spec/replicas", "value": 1},
        ]

    async def test_somebody_elses_buffer_is_left_alone(self, world: BufferWorld) -> None:
        world.api.change(BUFFER, {"metadata": {"labels": {"leadtime.dev/prewarm": "a100"}}})
        applied = await apply(world, plan_of(1, world=world))
        assert (applied.outcome, "is not ours" in applied.why) == ("rejected", True)
        assert await world.held() == 0

    async def test_capacity_that_is_there_is_told_from_capacity_to_come(self, world: BufferWorld) -> None:
        ready = condition("ReadyForProvisioning", "True")
        assert await state(world, ready, condition("Provisioning", "True")) == "2 chunks of capacity are there"
        words = await state(world, ready, condition("Provisioning", "False", "NoStock", "in us-central1-a"))
        assert words == "2 chunks are not there yet for 1002 s: NoStock in us-central1-a"
        assert [r.pool for r in world.refused] == ["h100"]

    async def test_a_buffer_that_nobody_acts_on_says_so(self, world: BufferWorld) -> None:
        assert (await state(world)).startswith("nobody acts on the buffer: it has no status")

    async def test_a_buffer_that_is_not_accepted_says_why(self, world: BufferWorld) -> None:
        words = await state(world, condition("ReadyForProvisioning", "False", "PodTemplateNotFound", "lt-warm-h100"))
        assert words == "the buffer is not accepted: PodTemplateNotFound lt-warm-h100"
        assert len(world.refused) == 1


async def test_the_older_version_is_used_where_only_that_is_served() -> None:
    old = {**BUFFER, "apiVersion": "autoscaling.x-k8s.io/v1alpha1"}
    async with api_with(old, crds=[capacity_buffers("v1alpha1")]) as (api, client):
        world = BufferWorld(api, client)
        world.actuator = PrewarmActuator(CapacityBuffers(client), [POOL])
        assert (await apply(world, plan_of(2, world=world))).outcome == "ok"
        assert api.read(old)["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    ("version", "outcome", "words"),
    [
        ("v1.35.1-gke.1999999", "rejected", "they need 1.35.2-gke.1842000 or newer"),
        ("v1.34.9-gke.10", "rejected", "prewarm: placeholder works on any"),
        ("v1.35.2-gke.1842000", "notfound", "the cluster (v1.35.2-gke.1842000) has no CapacityBuffers"),
        ("v1.37.0", "notfound", "the cluster (v1.37.0) has no CapacityBuffers"),
    ],
)
async def test_a_cluster_without_the_kind_is_told_what_it_needs(
    version: str, outcome: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(discovery.VERSION, "gitVersion", version)
    async with api_with() as (api, client):
        world = BufferWorld(api, client)
        world.actuator = PrewarmActuator(CapacityBuffers(client), [POOL])
        applied = await apply(world, plan_of(2, world=world))
        assert (applied.outcome, words in applied.why) == (outcome, True)


async def test_a_missing_buffer_is_told_from_a_missing_kind() -> None:
    async with api_with(crds=[CAPACITY_BUFFERS]) as (api, client):
        world = BufferWorld(api, client)
        world.actuator = PrewarmActuator(CapacityBuffers(client), [POOL])
        applied = await apply(world, plan_of(2, world=world))
        assert (applied.outcome, '"lt-warm-h100" not found' in applied.why) == ("notfound", True)


async def test_a_cluster_that_was_upgraded_is_asked_for_the_version_that_it_serves_now() -> None:
    old = {**BUFFER, "apiVersion": "autoscaling.x-k8s.io/v1alpha1"}
    async with api_with(old, crds=[capacity_buffers("v1alpha1")]) as (api, client):
        way = CapacityBuffers(client)
        way._resource = RESOURCES[0]
        world = BufferWorld(api, client)
        world.actuator = PrewarmActuator(way, [POOL])
        assert (await apply(world, plan_of(1, world=world))).outcome == "ok"
        assert way._resource == RESOURCES[1]


def test_versions_are_compared_number_by_number() -> None:
    assert too_old("v1.35.10-gke.1") is None
    assert too_old("v1.36.0-gke.2253000") is None
    assert too_old("v1.35.2-gke.1841999") is not None
    assert too_old("v1.31.0") is None
