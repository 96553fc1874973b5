"""request_resources under the suite of all ways, against the fake Jobs API, and what can go wrong with it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from unittest.mock import patch

import pytest

from autoscaler.actuators.prewarm import PrewarmActuator, RayHead
from autoscaler.actuators.ways.request_resources import MARK, RayRequestResources
from autoscaler.clients.ray_dashboard import DashboardClient
from autoscaler.core.types import Applied, Plan, PoolPlan, ServiceGpus
from autoscaler.core.types.pools import WarmPool
from tests.contract.prewarm_contract import PrewarmContract, apply, plan_of
from tests.fakes.jobs import FakeJobs

POOL = WarmPool("h100", "request_resources", 8, 8)
OTHER = WarmPool("l4", "request_resources", 4, 1, resources={"GPU": 1, "accelerator_type:L4": 0.001})


@dataclass
class JobsWorld:
    jobs: FakeJobs
    heads: list[RayHead]
    service: tuple[str, str] = ("default", "local")
    spare: bool = False
    actuator: PrewarmActuator = field(init=False)

    def __post_init__(self) -> None:
        self.actuator = self.another()

    def another(self) -> PrewarmActuator:
        return PrewarmActuator(RayRequestResources(lambda: self.heads), [POOL, OTHER], deadline_s=60.0)

    async def held(self) -> int:
        assert all(bundle == {"GPU": 8} for bundle in self.jobs.standing)
        return len(self.jobs.standing)

    async def writes(self) -> int:
        return len(self.jobs.posts)

    async def settle(self) -> None:
        """The fake's jobs end at once."""


@pytest.fixture
async def world() -> AsyncIterator[JobsWorld]:
    async with FakeJobs().serve() as jobs:
        client = DashboardClient(jobs.url, timeout_s=60.0)
        yield JobsWorld(jobs, [RayHead("default", "local", client)])
        await client.close()


def both(h100: int, l4: int, tick: int) -> Plan:
    pools = tuple(
        PoolPlan(name, nodes, 0, (), 0, (ServiceGpus("default", "local", 0),))
        for name, nodes in (("h100", h100), ("l4", l4))
    )
    return Plan(tick, 1000.0 + tick, True, False, (), pools)


class TestRayRequestResources(PrewarmContract):
    async def test_everything_is_given_back_at_once_when_asked(self, world: JobsWorld) -> None:
        await apply(world, plan_of(3, world=world))
        released = {one.what: one for one in (await world.actuator.release(1010.0)).applied}
        assert released["h100"].outcome == "ok"
        assert released["l4"].outcome == "unchanged"
        assert await world.held() == 0

    async def test_giving_back_what_is_not_held_writes_nothing(self, world: JobsWorld) -> None:
        assert {one.outcome for one in (await world.actuator.release(1010.0)).applied} == {"unchanged"}
        assert await world.writes() == 0

    async def test_the_command_stays_short_and_asks_for_every_bundle(self, world: JobsWorld) -> None:
        plan = Plan(1, 1001.0, True, False, (), (PoolPlan("h100", 100_000, 0, (), 0, ()),))
        await world.actuator.apply(plan, 1001.0)
        (body,) = world.jobs.posts
        python, option, code = shlex.split(body["entrypoint"])
        assert (python, option, len(body["entrypoint"]) < 1000) == ("python", "-c", True)
        asked: list[list[dict[str, float]]] = []
        sdk = SimpleNamespace(request_resources=lambda bundles: asked.append(bundles))
        ray = SimpleNamespace(init=lambda **given: None)
        modules = {"ray": ray, "ray.autoscaler": SimpleNamespace(sdk=sdk), "ray.autoscaler.sdk": sdk}
        with patch.dict(sys.modules, modules), patch.object(sys, "path", list(sys.path)):
            exec(code, {})
        assert asked == [[{"GPU": 8}] * 100_000]

    async def test_jobs_of_odd_shapes_are_no_trouble(self, world: JobsWorld) -> None:
        for n, odd in enumerate(({"metadata": None}, {"end_time": "soon"}, {"start_time": []}, {"status": 7})):
            job = {"submission_id": f"odd/{n}", "status": "FAILED", "metadata": {MARK: "[]"}, "message": 1, **odd}
            world.jobs.jobs[f"odd/{n}"] = job
        assert (await apply(world, plan_of(2, world=world))).outcome == "ok"
        assert await world.held() == 2

    async def test_a_dry_run_shows_the_call(self, world: JobsWorld) -> None:
        applied = await apply(world, plan_of(2, world=world, dry_run=True))
        assert applied.why == (
            'dry run; would send {"default/local": "request_resources(bundles=[{\\"GPU\\": 8}] * 2)"}'
        )

    async def test_one_request_speaks_for_all_pools_since_the_last_one_counts(self, world: JobsWorld) -> None:
        await world.actuator.apply(both(2, 1, tick=1), 1001.0)
        assert sorted(world.jobs.standing, key=str) == sorted(
            [{"GPU": 8}] * 2 + [{"GPU": 1, "accelerator_type:L4": 0.001}] * 4, key=str
        )
        await world.actuator.apply(both(0, 1, tick=2), 1002.0)
        assert len(world.jobs.standing) == 4

    async def test_a_head_that_lost_everything_is_asked_again(self, world: JobsWorld) -> None:
        await apply(world, plan_of(2, world=world))
        world.jobs.lose_everything()
        assert (await apply(world, plan_of(2, world=world, tick=2))).outcome == "ok"
        assert await world.held() == 2

    async def test_jobs_that_are_over_are_cleared_away_by_the_next(self, world: JobsWorld) -> None:
        for tick, nodes in enumerate((1, 2, 3), start=1):
            await apply(world, plan_of(nodes, world=world, tick=tick))
        assert len(world.jobs.jobs) == 1

    async def test_a_job_that_failed_is_told_of_and_the_next_one_waits(self, world: JobsWorld) -> None:
        world.jobs.status, world.jobs.message, world.jobs.now_ms = "FAILED", "no module named ray", 1_001_000
        assert (await apply(world, plan_of(2, world=world))).outcome == "ok"
        applied: Applied = await apply(world, plan_of(2, world=world, tick=2))
        assert applied.outcome == "unavailable"
        assert "the job that asks for resources failed: no module named ray" in applied.why
        assert await world.writes() == 1
        world.jobs.status = "SUCCEEDED"
        assert (await apply(world, plan_of(2, world=world, tick=70))).outcome == "ok"
        assert await world.held() == 2

    async def test_a_job_under_way_is_not_sent_again(self, world: JobsWorld) -> None:
        world.jobs.status = "PENDING"
        await apply(world, plan_of(2, world=world))
        applied = await apply(world, plan_of(2, world=world, tick=2))
        assert (applied.outcome, applied.why) == ("unchanged", "default/local: the job is pending")
        assert await world.writes() == 1

    @pytest.mark.parametrize(
        ("status", "outcome"), [(401, "forbidden"), (404, "notfound"), (400, "rejected"), (500, "unavailable")]
    )
    async def test_a_refusal_is_an_outcome(self, world: JobsWorld, status: int, outcome: str) -> None:
        world.jobs.refuse = status
        assert (await apply(world, plan_of(1, world=world))).outcome == outcome

    async def test_without_any_ray_cluster_it_says_so(self, world: JobsWorld) -> None:
        world.heads.clear()
        applied = await apply(world, plan_of(1, world=world))
        assert (applied.outcome, "no Ray cluster is known" in applied.why) == ("notfound", True)
