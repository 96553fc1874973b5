"""Placeholder pods under the suite of all ways, against the fake Kubernetes API, and what can go wrong with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from autoscaler.actuators.prewarm import PrewarmActuator, Refusal
from autoscaler.actuators.ways.placeholder import PlaceholderPods
from autoscaler.core.types.pools import WarmPool
from autoscaler.kubernetes.api import KubernetesApi
from autoscaler.kubernetes.resources import DEPLOYMENTS
from tests.contract.prewarm_contract import PrewarmContract, apply, plan_of
from tests.fakes.kubernetes.server import FakeApi
from tests.fakes.kubernetes.traffic import Fault, when
from tests.kube.helpers import client_of

POOL = WarmPool("h100", "placeholder", 8, 4, namespace="lt", object="lt-warm-h100")
DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "lt-warm-h100", "namespace": "lt", "labels": {"leadtime.dev/prewarm": "h100"}},
    "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}},
}


@dataclass
class PlaceholderWorld:
    api: FakeApi
    client: KubernetesApi
    actuator: PrewarmActuator
    refused: list[Refusal]
    service: tuple[str, str] = ("llm", "chat-llm")
    spare: bool = True

    def another(self) -> PrewarmActuator:
        return PrewarmActuator(PlaceholderPods(self.client), [POOL], deadline_s=60.0)

    async def held(self) -> int:
        replicas: int = self.api.read(DEPLOYMENT)["spec"]["replicas"]
        assert replicas % 2 == 0
        return replicas // 2  # two replicas of 4 GPUs fill a node

    async def writes(self) -> int:
        return len(self.api.traffic.writes())

    async def settle(self) -> None:
        """The scale is written at once."""


@pytest.fixture
async def world() -> AsyncIterator[PlaceholderWorld]:
    with FakeApi(namespaces=("lt",)) as api:
        api.add(DEPLOYMENT)
        client, refused = client_of(api), list[Refusal]()
        actuator = PrewarmActuator(PlaceholderPods(client), [POOL], on_refusal=refused.append, deadline_s=60.0)
        yield PlaceholderWorld(api, client, actuator, refused)
        await client.close()


def waiting(ready: int, replicas: int, since: str = "1970-01-01T00:10:00Z") -> dict[str, object]:
    available = {"type": "Available", "status": "False", "lastTransitionTime": since}
    return {"replicas": replicas, "readyReplicas": ready, "conditions": [available]}


class TestPlaceholderPods(PrewarmContract):
    async def test_only_the_scale_is_written_and_only_if_it_is_as_it_was_read(self, world: PlaceholderWorld) -> None:
        version = world.api.read(DEPLOYMENT)["metadata"]["resourceVersion"]
        await apply(world, plan_of(1, world=world))
        (request,) = world.api.traffic.writes()
        assert (request.verb, request.resource, request.name) == ("patch", "deployments/scale", "lt-warm-h100")
        assert request.body == [
            {"op": "test", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/spec", "value": {"replicas": 2}},
        ]
        assert world.api.read(DEPLOYMENT)["spec"] == {**DEPLOYMENT["spec"], "replicas": 2}

    async def test_a_scale_of_zero_has_no_replicas_on_the_wire_and_is_raised_all_the_same(
        self, world: PlaceholderWorld
    ) -> None:
        for nodes in (1, 0, 1):
            assert (await apply(world, plan_of(nodes, world=world))).outcome == "ok"
            scale = await world.client.get(DEPLOYMENTS, "lt", "lt-warm-h100", subresource="scale")
            assert scale["spec"] == ({"replicas": 2} if nodes else {})

    async def test_a_dry_run_shows_the_very_patch(self, world: PlaceholderWorld) -> None:
        version = world.api.read(DEPLOYMENT)["metadata"]["resourceVersion"]
        applied = await apply(world, plan_of(1, world=world, dry_run=True))
        assert applied.why == (
            'dry run; would send [{"op":"test","path":"/metadata/resourceVersion","value":"' + version + '"},'
            '{"op":"add","path":"/spec","value":{"replicas":2}}]'
        )

    async def test_a_deployment_without_our_label_is_left_alone(self, world: PlaceholderWorld) -> None:
        world.api.change(DEPLOYMENT, {"metadata": {"labels": {"leadtime.dev/prewarm": None}}})
        applied = await apply(world, plan_of(1, world=world))
        assert applied.outcome == "rejected"
        assert "is not ours" in applied.why
        assert (await world.actuator.release(1.0)).applied[0].outcome == "rejected"
        assert await world.writes() == 0

    async def test_without_the_charts_deployment_it_says_so(self, world: PlaceholderWorld) -> None:
        world.api.remove(DEPLOYMENT)
        applied = await apply(world, plan_of(1, world=world))
        assert (applied.outcome, "lt-warm-h100" in applied.why) == ("notfound", True)

    async def test_unknown_nodes_leave_what_is_held(self, world: PlaceholderWorld) -> None:
        await apply(world, plan_of(2, world=world))
        applied = await apply(world, plan_of(0, None, world=world, tick=2))
        assert applied.outcome == "withheld"
        assert applied.why == "what nodes there are is unknown: 4 stay held"
        assert await world.held() == 2

    async def test_a_change_in_between_is_a_conflict_and_decided_again(self, world: PlaceholderWorld) -> None:
        def meddle(request: object) -> None:
            if getattr(request, "verb", "") == "patch" and world.api.read(DEPLOYMENT)["spec"]["replicas"] == 0:
                world.api.change(DEPLOYMENT, {"spec": {"replicas": 5}})

        world.api.traffic.hooks.append(meddle)
        applied = await apply(world, plan_of(1, world=world))
        assert applied.outcome == "conflict"
        assert "changed since it was read" in applied.why
        assert (await apply(world, plan_of(1, world=world, tick=2))).outcome == "ok"
        assert await world.held() == 1

    async def test_after_a_429_nothing_is_asked_until_its_time_is_over(self, world: PlaceholderWorld) -> None:
        world.api.traffic.hooks.append(when(fault=Fault(status=429, retry_after_s=7), times=1))
        assert (await apply(world, plan_of(1, world=world))).outcome == "throttled"
        asked = len(world.api.requests)
        applied = await apply(world, plan_of(1, world=world, tick=2))
        assert (applied.outcome, applied.why) == ("withheld", "asked to wait: next try in 6 s")
        assert len(world.api.requests) == asked
        assert (await apply(world, plan_of(1, world=world, tick=9))).outcome == "ok"

    @pytest.mark.parametrize(("status", "outcome"), [(403, "forbidden"), (500, "unavailable"), (503, "unavailable")])
    async def test_a_refusal_is_an_outcome(self, world: PlaceholderWorld, status: int, outcome: str) -> None:
        world.api.traffic.hooks.append(when(fault=Fault(status=status)))
        assert (await apply(world, plan_of(1, world=world))).outcome == outcome

    async def test_a_placeholder_that_was_evicted_and_waits_is_told_of(self, world: PlaceholderWorld) -> None:
        await apply(world, plan_of(1, world=world))
        world.api.set_status(DEPLOYMENT, waiting(1, 2, "1970-01-01T00:16:00Z"))
        applied = await apply(world, plan_of(1, world=world, tick=2))
        assert applied.outcome == "unchanged"
        assert applied.why == "1 of 2 placeholders hold a node, 1 wait for one (for 42 s)"
        assert world.refused == []

    async def test_one_that_is_stuck_counts_as_refused_capacity(self, world: PlaceholderWorld) -> None:
        await apply(world, plan_of(1, world=world))
        world.api.set_status(DEPLOYMENT, waiting(0, 2, "1970-01-01T00:01:00Z"))
        applied = await apply(world, plan_of(1, world=world, tick=2))
        assert "0 of 2 placeholders hold a node, 2 wait for one, for 16 minutes: no stock" in applied.why
        assert [(r.pool, r.kind) for r in world.refused] == [("h100", "other")]

    async def test_who_has_no_time_left_as_the_leader_writes_nothing(self, world: PlaceholderWorld) -> None:
        late = PrewarmActuator(PlaceholderPods(world.client), [POOL], write_budget_s=lambda: 0.0)
        world.actuator = late
        applied = await apply(world, plan_of(1, world=world))
        assert (applied.outcome, applied.why) == ("withheld", "the lease ran out")
        assert await world.writes() == 0
