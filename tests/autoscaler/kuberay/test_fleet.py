"""Discovered services read and scaled over real HTTP: they come and go, are slow, want tokens, and upgrade."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from autoscaler.core.types import Applied, DeploymentPlan, Plan
from autoscaler.kuberay.fleet import KubeRayFleet
from autoscaler.kuberay.reach import Reach
from autoscaler.kuberay.tokens import Tokens
from autoscaler.kuberay.writes import KubeRayActuator
from autoscaler.sources.kuberay.services import KubeService
from autoscaler.sources.readings import Inventories, JoinedMetrics
from policies.base import DeploymentKey
from tests.autoscaler.sources.test_kuberay import found
from tests.fakes.dashboard import FakeApplication, FakeDashboard, FakeDeployment
from tests.fakes.kubernetes import objects

LLM = DeploymentKey("llm", "chat-llm", "chat", "LLMServer:llama-70b")
STEPWISE = {"upgradeStrategy": {"type": "NewClusterWithIncrementalUpgrade"}}


@dataclass
class World:
    """A discovery that says what the test says, and a Ray dashboard for every cluster."""

    services_now: tuple[KubeService, ...] = ()
    up: bool = True
    dashboards: dict[str, FakeDashboard] = field(default_factory=dict)
    now_s: float = 100.0

    def services(self) -> tuple[KubeService, ...]:
        return self.services_now

    def status(self) -> tuple[bool, float | None, str]:
        return self.up, 0.0, "" if self.up else "away"

    def show(self, *objs: dict[str, Any]) -> None:
        self.services_now = found(*objs, patterns=["*/*/*/*"])

    def llm(self, cluster: str) -> FakeDeployment:
        return self.dashboards[cluster].of(LLM.app, LLM.deployment)


@asynccontextmanager
async def fleet_of(
    world: World, *clusters: str, tokens: Tokens | None = None, **options: Any
) -> AsyncIterator[KubeRayFleet]:
    async with AsyncExitStack() as stack:
        for name in clusters:
            app = FakeApplication({LLM.deployment: FakeDeployment(), "OpenAiIngress": FakeDeployment()})
            dashboard = FakeDashboard({LLM.app: app})
            world.dashboards[name] = await stack.enter_async_context(dashboard.serve())
        reach = Reach(tokens or Tokens(), dashboard=lambda cluster: world.dashboards[cluster.name].url, timeout_s=60.0)
        fleet = KubeRayFleet(world, reach, **{"wait_s": 60.0, **options})
        yield fleet
        await fleet.close()


async def inventories(fleet: KubeRayFleet, world: World) -> dict[DeploymentKey, Any]:
    world.now_s += 5
    reading = await fleet.inventories.read(world.now_s)
    assert isinstance(reading.data, Inventories), reading.why
    return dict(reading.data.deployments)


async def apply(
    fleet: KubeRayFleet, target: int, observed: int, *, leader: bool = True, dry_run: bool = False
) -> Applied:
    plan = Plan(1, 100.0, leader, dry_run, (DeploymentPlan(LLM, target, observed, target),))
    (applied,) = (await KubeRayActuator(fleet).apply(plan, 100.0)).applied
    return applied


async def test_services_are_read_as_they_come_and_go() -> None:
    world = World()
    async with fleet_of(world, "a-1", "b-1") as fleet:
        assert await inventories(fleet, world) == {}
        a = objects.ray_service("a", status=objects.service_status("a-1"))
        b = objects.ray_service("b", status=objects.service_status("b-1"))
        world.show(a, b)
        assert {(k.service, i.target) for k, i in (await inventories(fleet, world)).items()} == {("a", 1), ("b", 1)}
        world.show(b)
        assert {k.service for k in await inventories(fleet, world)} == {"b"}
        assert {k.service for k in fleet.known_keys()} == {"b"}


async def test_a_service_that_was_not_asked_for_is_never_contacted() -> None:
    world = World()
    async with fleet_of(world, "chat-llm-abcde") as fleet:
        world.services_now = found(objects.ray_service(status=objects.service_status()))
        assert await inventories(fleet, world) == {}
        assert world.dashboards["chat-llm-abcde"].reads == 0


async def test_both_sources_of_a_tick_share_one_round() -> None:
    world = World()
    async with fleet_of(world, "chat-llm-abcde") as fleet:
        world.show(objects.ray_service(status=objects.service_status()))
        await asyncio.gather(fleet.inventories.read(5.0), fleet.metrics.read(5.0))
        assert world.dashboards["chat-llm-abcde"].reads == 1


async def test_a_cluster_that_hangs_delays_nobody_and_its_last_reading_ages() -> None:
    world = World()
    async with fleet_of(world, "a-1", "b-1", wait_s=2.0) as fleet:
        world.show(
            objects.ray_service("a", status=objects.service_status("a-1")),
            objects.ray_service("b", status=objects.service_status("b-1")),
        )
        await inventories(fleet, world)
        world.dashboards["a-1"].hang = True
        async with asyncio.timeout(50):  # less than its own deadline
            seen = await inventories(fleet, world)
        assert {(k.service, i.as_of_s) for k, i in seen.items()} == {("a", 105.0), ("b", 110.0)}


async def test_clusters_that_cannot_be_read_are_summed_up() -> None:
    world = World()
    async with fleet_of(world, "a-1", "b-1", "c-1") as fleet:
        world.show(*(objects.ray_service(n, status=objects.service_status(f"{n}-1")) for n in "abc"))
        await inventories(fleet, world)
        for name in ("a-1", "b-1"):
            world.dashboards[name].status = 503
        reading = await fleet.inventories.read(200.0)
        assert reading.up
        assert reading.why.startswith("2 of 3 Ray clusters cannot be read: llm/")
        world.dashboards["c-1"].status = 503
        assert not (await fleet.inventories.read(205.0)).up


async def test_before_discovery_has_seen_anything_nothing_is_known() -> None:
    world = World(up=False)
    async with fleet_of(world) as fleet:
        reading = await fleet.inventories.read(1.0)
        assert (reading.up, reading.data, reading.why) == (False, None, "no services known: away")


async def test_while_kubernetes_is_away_the_known_services_are_still_read() -> None:
    world = World()
    async with fleet_of(world, "chat-llm-abcde") as fleet:
        world.show(objects.ray_service(status=objects.service_status()))
        await inventories(fleet, world)
        world.up = False
        reading = await fleet.inventories.read(200.0)
        assert (reading.up, reading.why) == (True, "new services are not seen: away")


async def test_a_token_comes_from_the_mounted_secret(tmp_path: Path) -> None:
    world = World()
    mounted = tmp_path / "llm" / "chat-llm-ray-token"
    async with fleet_of(world, "chat-llm-abcde", tokens=Tokens(tmp_path)) as fleet:
        world.show(objects.ray_service(status=objects.service_status()))
        world.dashboards["chat-llm-abcde"].token = "s3cret"
        reading = await fleet.inventories.read(1.0)
        assert not reading.up
        assert "chat-llm-ray-token/auth_token: no such file" in reading.why
        mounted.mkdir(parents=True)
        (mounted / "auth_token").write_text("s3cret\n")
        assert LLM in await inventories(fleet, world)


def test_a_token_is_never_that_of_another_namespace(tmp_path: Path) -> None:
    for place in ("chat-llm-ray-token", "other/chat-llm-ray-token"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "auth_token").write_text("of somebody else")
    tokens = Tokens(tmp_path, {"llm/elsewhere": tmp_path / "named"})
    assert tokens.file("llm", "chat-llm-ray-token") == tmp_path / "llm" / "chat-llm-ray-token" / "auth_token"
    assert tokens.file("llm", "elsewhere") == tmp_path / "named"
    assert tokens.file("other", "elsewhere") == tmp_path / "other" / "elsewhere" / "auth_token"
    assert tokens.file("llm", None) is None
    assert Tokens().file("llm", "chat-llm-ray-token") is None


# ---------------------------------------------------------------- writing


async def test_a_level_is_written_to_the_services_cluster() -> None:
    world = World()
    async with fleet_of(world, "chat-llm-abcde") as fleet:
        world.show(objects.ray_service(status=objects.service_status()))
        await inventories(fleet, world)
        assert (await apply(fleet, 3, 1)).outcome == "ok"
        assert world.llm("chat-llm-abcde").target == 3
        assert (await inventories(fleet, world))[LLM].target == 3
        assert (await apply(fleet, 3, 3)).outcome == "unchanged"


@pytest.mark.parametrize("options", [{"leader": False}, {"dry_run": True}])
async def test_followers_and_dry_runs_write_nothing(options: dict[str, bool]) -> None:
    world = World()
    async with fleet_of(world, "chat-llm-abcde") as fleet:
        world.show(objects.ray_service(status=objects.service_status()))
        await inventories(fleet, world)
        assert (await apply(fleet, 3, 1, **options)).outcome == "withheld"
        assert world.dashboards["chat-llm-abcde"].posts == []


async def test_without_time_left_of_the_lease_nothing_is_written() -> None:
    world = World()
    async with fleet_of(world, "chat-llm-abcde", write_budget_s=lambda: 0.0) as fleet:
        world.show(objects.ray_service(status=objects.service_status()))
        await inventories(fleet, world)
        assert (await apply(fleet, 3, 1)).outcome == "withheld"
        assert world.dashboards["chat-llm-abcde"].posts == []


async def test_an_application_that_is_not_understood_is_refused_with_the_reason() -> None:
    world = World()
    config = objects.SERVE_CONFIG.replace("build_openai_app", "build_pd_openai_app")
    async with fleet_of(world, "chat-llm-abcde") as fleet:
        world.show(objects.ray_service(serve_config=config, status=objects.service_status()))
        await inventories(fleet, world)
        applied = await apply(fleet, 3, 1)
        assert applied.outcome == "rejected"
        assert "prefill" in applied.why
        assert world.dashboards["chat-llm-abcde"].posts == []


async def test_a_suspended_service_is_left_alone() -> None:
    world = World()
    async with fleet_of(world, "chat-llm-abcde") as fleet:
        world.show(objects.ray_service(spec={"suspend": True}, status=objects.service_status()))
        assert await inventories(fleet, world) == {}
        assert (await apply(fleet, 3, 1)).outcome == "withheld"


async def test_an_upgrade_prepares_the_new_cluster_and_goes_on_after_the_switch() -> None:
    world = World()
    async with fleet_of(world, "old", "new") as fleet:
        world.show(objects.ray_service(status=objects.service_status("old")))
        await inventories(fleet, world)
        await apply(fleet, 4, 1)

        world.show(objects.ray_service(status=objects.service_status("old", "new")))
        seen = await inventories(fleet, world)
        assert (seen[LLM].target, len(seen[LLM].replicas)) == (4, 4)
        applied = await apply(fleet, 4, 4)
        assert (applied.outcome, world.llm("new").target) == ("unchanged", 4)
        assert "new 4 (prepared for the switch): ok" in applied.why

        world.show(objects.ray_service(status=objects.service_status("new")))
        assert (await inventories(fleet, world))[LLM].target == 4
        assert (await apply(fleet, 5, 4)).outcome == "ok"
        assert (world.llm("old").target, world.llm("new").target) == (4, 5)


async def test_a_new_cluster_that_has_no_such_deployment_yet_is_no_failure() -> None:
    world = World()
    async with fleet_of(world, "old", "new") as fleet:
        world.dashboards["new"].applications.clear()
        world.show(objects.ray_service(status=objects.service_status("old", "new")))
        await inventories(fleet, world)
        applied = await apply(fleet, 4, 1)
        assert applied.outcome == "ok"
        assert "new 4 (prepared for the switch): notfound" in applied.why


async def test_a_stepwise_upgrade_keeps_every_cluster_at_its_share_though_each_step_resets_it() -> None:
    world = World()
    async with fleet_of(world, "old", "new") as fleet:
        for old, new in ((100, 0), (100, 50), (50, 50), (50, 100), (0, 100)):
            world.llm("old").target, world.llm("new").target = old // 100, new // 100  # KubeRay's PUT
            status = objects.service_status("old", "new", capacity=(old, new), traffic=(100 - new, new))
            world.show(objects.ray_service(spec=STEPWISE, status=status))
            await inventories(fleet, world)
            applied = await apply(fleet, 10, 1)
            assert applied.outcome in ("ok", "unchanged")
            assert world.llm("old").target == max(old, 100 - new) // 10
            assert world.llm("new").target == new // 10
            assert (await inventories(fleet, world))[LLM].target == 10


async def test_a_stepwise_upgrade_gives_every_cluster_whole_gangs() -> None:
    world = World()
    async with fleet_of(world, "old", "new") as fleet:
        world.llm("old").gang_size, world.llm("new").gang_size = 4, 2  # the new version has gangs of another size
        for old, new in ((100, 0), (100, 10), (70, 30), (0, 100)):
            status = objects.service_status("old", "new", capacity=(old, new), traffic=(100 - new, new))
            world.show(objects.ray_service(spec=STEPWISE, status=status))
            await inventories(fleet, world)
            plan = DeploymentPlan(LLM, 8, 1, 8, gang_size=4)
            (applied,) = (await KubeRayActuator(fleet).apply(Plan(1, 100.0, True, False, (plan,)), 100.0)).applied
            assert applied.outcome in ("ok", "unchanged")
            posted = world.llm("old").target, world.llm("new").target
            assert posted == {0: (8, 0), 10: (8, 2), 30: (8, 2), 100: (0, 8)}[new]
            assert (await inventories(fleet, world))[LLM].target == 8


async def test_a_new_version_is_prepared_with_whole_gangs() -> None:
    world = World()
    async with fleet_of(world, "old", "new") as fleet:
        world.llm("new").gang_size = 4
        world.show(objects.ray_service(status=objects.service_status("old", "new")))
        await inventories(fleet, world)
        applied = await apply(fleet, 5, 1)
        assert (applied.outcome, world.llm("old").target, world.llm("new").target) == ("ok", 5, 8)


# ---------------------------------------------------------------- metrics


async def test_requests_to_both_clusters_of_a_stepwise_upgrade_are_added_once() -> None:
    def page(worker: str, requests: int) -> str:
        labels = f'application="chat",deployment="{LLM.deployment}",handle="{worker}",WorkerId="{worker}"'
        return f"# TYPE x counter\nray_serve_num_router_requests_total{{{labels}}} {requests}\n"

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(text=page(request.host, 7 if request.host == hosts[0] else 5))

    hosts: list[str] = []
    world = World()
    async with fleet_of(world, "old", "new") as fleet, AsyncExitStack() as stack:
        for cluster in ("old", "new"):
            app = web.Application()
            app.router.add_get("/metrics", metrics)
            runner = web.AppRunner(app)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            hosts.append(f"127.0.0.1:{runner.addresses[0][1]}")
            world.dashboards[cluster].metrics_pages = [hosts[-1]]
        status = objects.service_status("old", "new", capacity=(50, 50), traffic=(50, 50))
        world.show(objects.ray_service(spec=STEPWISE, status=status))
        await fleet.metrics.read(1.0)
        reading = await fleet.metrics.read(2.0)
        assert isinstance(reading.data, JoinedMetrics)
        assert sorted(reading.data.deployments[LLM].arrivals_total.values()) == [5, 7]

        world.show(objects.ray_service(status=objects.service_status("old", "new")))
        reading = await fleet.metrics.read(3.0)
        assert isinstance(reading.data, JoinedMetrics)
        assert sorted(reading.data.deployments[LLM].arrivals_total.values()) == [7]
