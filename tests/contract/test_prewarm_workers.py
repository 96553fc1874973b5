"""Worker groups under the suite of all ways, against the fake Kubernetes API with KubeRay's kinds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from autoscaler.actuators.prewarm import PrewarmActuator
from autoscaler.actuators.ways.worker_group import KubeRayWorkers
from autoscaler.core.types import Plan, PoolPlan, ServiceGpus
from autoscaler.core.types.pools import WarmPool
from autoscaler.wiring.ways import consent
from tests.contract.prewarm_contract import PrewarmContract, apply, plan_of
from tests.contract.prewarm_kubernetes import KubernetesWorld, api_with
from tests.fakes.kubernetes import objects
from tests.fakes.kubernetes.crds import KUBERAY

POOL = WarmPool("h100", "worker_group", 8, 8)
ENABLED = {"leadtime.dev/enabled": "true"}
SERVICE = objects.ray_service(annotations=ENABLED)


class WorkersWorld(KubernetesWorld):
    async def held(self) -> int:
        return self.least()

    def least(self, service: dict[str, Any] = SERVICE, group: int = 0) -> int:
        found: int = self.api.read(service)["spec"]["rayClusterConfig"]["workerGroupSpecs"][group]["minReplicas"]
        return found


def actuator(client: Any, pool: WarmPool = POOL, matches: tuple[str, ...] = ()) -> PrewarmActuator:
    return PrewarmActuator(KubeRayWorkers(client, ["llm"], consent([pool], matches)), [pool])


@pytest.fixture
async def world() -> AsyncIterator[WorkersWorld]:
    async with api_with(SERVICE, crds=KUBERAY, namespaces=("llm",)) as (api, client):
        world = WorkersWorld(api, client, spare=False)
        world.another = lambda: actuator(client)
        world.actuator = actuator(client)
        yield world


class TestKubeRayWorkers(PrewarmContract):
    async def test_one_field_of_one_group_is_patched_and_replicas_stay_rays(self, world: WorkersWorld) -> None:
        before = world.api.read(SERVICE)["spec"]
        await apply(world, plan_of(2, world=world))
        (request,) = world.api.traffic.writes()
        path = "/spec/rayClusterConfig/workerGroupSpecs/0"
        assert [(o["op"], o["path"]) for o in request.body] == [
            ("test", "/metadata/resourceVersion"),
            ("test", f"{path}/groupName"),
            ("add", f"{path}/minReplicas"),
        ]
        after = world.api.read(SERVICE)["spec"]
        after["rayClusterConfig"]["workerGroupSpecs"][0]["minReplicas"] = 0
        assert after == before

    async def test_a_dry_run_shows_the_very_patch(self, world: WorkersWorld) -> None:
        applied = await apply(world, plan_of(2, world=world, dry_run=True))
        assert applied.why.startswith('dry run; would send {"llm/chat-llm":[{"op":"test","path":"/metadata/resource')
        assert applied.why.endswith('/workerGroupSpecs/0/minReplicas","value":2}]}')

    async def test_no_more_than_the_group_may_have(self, world: WorkersWorld) -> None:
        await apply(world, plan_of(9, world=world))
        assert await world.held() == 4
        applied = await apply(world, plan_of(9, world=world, tick=2))
        assert (applied.outcome, applied.why) == ("unchanged", "llm/chat-llm is at its maxReplicas 4")

    async def test_without_rays_own_autoscaler_it_is_refused_with_the_mend(self, world: WorkersWorld) -> None:
        world.api.change(SERVICE, {"spec": {"rayClusterConfig": {"enableInTreeAutoscaling": False}}})
        applied = await apply(world, plan_of(2, world=world))
        assert applied.outcome == "rejected"
        assert applied.why.endswith("set rayClusterConfig.enableInTreeAutoscaling: true")
        assert await world.writes() == 0

    async def test_a_service_that_did_not_consent_is_left_alone(self, world: WorkersWorld) -> None:
        world.api.change(SERVICE, {"metadata": {"annotations": {"leadtime.dev/enabled": "false"}}})
        applied = await apply(world, plan_of(2, world=world))
        assert (applied.outcome, "consents" in applied.why) == ("notfound", True)
        assert await world.writes() == 0

    async def test_a_change_in_between_is_a_conflict_and_decided_again(self, world: WorkersWorld) -> None:
        def meddle(request: Any) -> None:
            if request.verb == "patch" and not world.api.read(SERVICE)["metadata"].get("labels"):
                world.api.change(SERVICE, {"metadata": {"labels": {"a": "b"}}})

        world.api.change(SERVICE, {"metadata": {"labels": {}}})
        world.api.traffic.hooks.append(meddle)
        assert (await apply(world, plan_of(2, world=world))).outcome == "conflict"
        assert (await apply(world, plan_of(2, world=world, tick=2))).outcome == "ok"


async def test_two_groups_on_one_pool_have_to_be_told_apart() -> None:
    twins = objects.cluster_spec(objects.worker_group("a"), objects.worker_group("b"))
    service = objects.ray_service(annotations=ENABLED, cluster=twins)
    async with api_with(service, crds=KUBERAY, namespaces=("llm",)) as (api, client):
        world = WorkersWorld(api, client)
        world.actuator = actuator(client)
        applied = await apply(world, plan_of(2, world=world))
        assert applied.outcome == "rejected"
        assert applied.why.endswith("groups a, b all run on pool h100: name one as node_pools[].warm.group")
        world.actuator = actuator(client, WarmPool("h100", "worker_group", 8, 8, group="b"))
        await apply(world, plan_of(2, world=world))
        assert (world.least(service, 0), world.least(service, 1)) == (0, 2)


async def test_services_on_one_pool_share_it_by_need_and_one_that_needs_none_any_more_gives_back() -> None:
    a, b = (objects.ray_service(name, annotations=ENABLED) for name in ("a", "b"))
    async with api_with(a, b, crds=KUBERAY, namespaces=("llm",)) as (api, client):
        world = WorkersWorld(api, client)
        world.actuator = actuator(client)

        async def plan(nodes: int, **gpus: int) -> None:
            needs = tuple(ServiceGpus("llm", name, count) for name, count in gpus.items())
            await world.actuator.apply(Plan(1, 1.0, True, False, (), (PoolPlan("h100", nodes, 0, (), 0, needs),)), 1.0)

        await plan(4, a=8, b=16)
        assert (world.least(a), world.least(b)) == (1, 3)
        await plan(2, b=16)
        assert (world.least(a), world.least(b)) == (0, 2)


async def test_a_service_that_only_the_settings_name_consents_by_that() -> None:
    service = objects.ray_service()
    async with api_with(service, crds=KUBERAY, namespaces=("llm",)) as (api, client):
        world = WorkersWorld(api, client)
        for matches, outcome in ((("chat/*",), "notfound"), (("llm/chat-llm/*/*",), "ok")):
            world.actuator = actuator(client, matches=matches)
            assert (await apply(world, plan_of(2, world=world))).outcome == outcome


async def test_a_service_is_read_again_only_when_the_watch_knows_of_another_version() -> None:
    async with api_with(SERVICE, crds=KUBERAY, namespaces=("llm",)) as (api, client):
        world = WorkersWorld(api, client)
        seen: dict[str, str | None] = {}

        def version(namespace: str, name: str) -> str | None:
            return seen.get(f"{namespace}/{name}")

        def reads() -> int:
            return sum(r.verb == "get" and r.resource == "rayservices" for r in api.requests)

        def watched() -> None:
            seen["llm/chat-llm"] = api.read(SERVICE)["metadata"]["resourceVersion"]

        world.actuator = PrewarmActuator(KubeRayWorkers(client, ["llm"], consent([POOL], ()), version), [POOL])
        watched()
        await apply(world, plan_of(2, world=world))
        assert (world.least(), reads()) == (2, 1)
        await apply(world, plan_of(2, world=world, tick=2))  # the watch has not seen our own write yet
        assert reads() == 2
        watched()
        for tick in range(3, 9):
            assert (await apply(world, plan_of(2, world=world, tick=tick))).outcome == "unchanged"
        assert reads() == 2
        groups = api.read(SERVICE)["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        api.change(SERVICE, {"spec": {"rayClusterConfig": {"workerGroupSpecs": [{**groups[0], "minReplicas": 0}]}}})
        watched()
        await apply(world, plan_of(2, world=world, tick=9))
        assert (world.least(), reads()) == (2, 3), "what somebody else wrote is put right"
        seen.clear()  # the watch is down
        for tick in (10, 11):
            await apply(world, plan_of(2, world=world, tick=tick))
        assert reads() == 5


async def test_a_worker_of_another_size_than_the_pool_counts_in_is_refused_and_still_given_back() -> None:
    halves = objects.cluster_spec(objects.worker_group("h100x4", gpus=4))
    service = objects.ray_service(annotations=ENABLED, cluster=halves)
    async with api_with(service, crds=KUBERAY, namespaces=("llm",)) as (api, client):
        world = WorkersWorld(api, client)
        world.actuator = actuator(client)
        applied = await apply(world, plan_of(2, world=world))
        assert applied.outcome == "rejected"
        assert applied.why.endswith("set node_pools[].warm.gpus: 4")
        world.actuator = actuator(client, WarmPool("h100", "worker_group", 8, 4))
        await apply(world, plan_of(2, world=world))
        assert world.least(service) == 4
        world.actuator = actuator(client)
        assert [one.outcome for one in (await world.actuator.release(5.0)).applied] == ["ok"]
        assert world.least(service) == 0


async def test_a_service_that_cannot_be_held_keeps_nothing_from_the_others() -> None:
    a, b = (objects.ray_service(name, annotations=ENABLED) for name in ("a", "b"))
    async with api_with(a, b, crds=KUBERAY, namespaces=("llm",)) as (api, client):
        world = WorkersWorld(api, client)
        world.actuator = actuator(client)
        needs = (ServiceGpus("llm", "a", 8), ServiceGpus("llm", "b", 8))
        plan = Plan(1, 1.0, True, False, (), (PoolPlan("h100", 2, 0, (), 0, needs),))
        await world.actuator.apply(plan, 1.0)
        assert (world.least(a), world.least(b)) == (1, 1)
        api.change(a, {"spec": {"rayClusterConfig": {"enableInTreeAutoscaling": False}}})
        nothing = Plan(2, 2.0, True, False, (), (PoolPlan("h100", 0, 0, (), 0, ()),))
        (applied,) = (await world.actuator.apply(nothing, 2.0)).applied
        assert (applied.outcome, world.least(b)) == ("ok", 0)
        api.change(a, {"spec": {"rayClusterConfig": {"enableInTreeAutoscaling": True}}})
        await world.actuator.apply(nothing, 3.0)
        assert world.least(a) == 0


async def test_the_second_of_two_writes_is_not_begun_when_the_lease_ran_out_during_the_first() -> None:
    a, b = (objects.ray_service(name, annotations=ENABLED) for name in ("a", "b"))
    left_s = iter((5.0, 5.0, 0.0))
    async with api_with(a, b, crds=KUBERAY, namespaces=("llm",)) as (api, client):
        world = WorkersWorld(api, client)
        ways = KubeRayWorkers(client, ["llm"], consent([POOL], ()))
        world.actuator = PrewarmActuator(ways, [POOL], write_budget_s=lambda: next(left_s))
        applied = await apply(world, plan_of(2, world=world))
        assert (applied.outcome, applied.why) == ("withheld", "the lease ran out")
        assert await world.writes() == 1
