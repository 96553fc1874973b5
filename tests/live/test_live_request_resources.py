"""request_resources by a job on a real local Ray: what stands in its GCS, and that the fake Jobs API answers alike."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from autoscaler.actuators.prewarm import PrewarmActuator, RayHead
from autoscaler.actuators.ways.request_resources import RayRequestResources
from autoscaler.clients.ray_dashboard import DashboardClient
from autoscaler.core.types import Applied, Plan, PoolPlan, ServiceGpus
from autoscaler.core.types.pools import WarmPool
from tests.fakes.jobs import FakeJobs
from tests.live.local_serve import LocalServe

pytestmark = pytest.mark.ray
POOL = WarmPool("h100", "request_resources", 8, 8, resources={"CPU": 0.5})
READ = (
    "python -c \"import ray; ray.init(address='auto', log_to_driver=False); "
    "from ray.experimental.internal_kv import _internal_kv_get as get; "
    "from ray._private.ray_constants import AUTOSCALER_RESOURCE_REQUEST_CHANNEL as where; "
    "print('STANDS', (get(where) or b'[]').decode())\""
)
_numbers = itertools.count()


class World:
    """A Ray head and the way on it; `standing` is what the head itself says."""

    def __init__(self, client: DashboardClient, standing: Callable[[], list[dict[str, float]]]) -> None:
        self.client, self.standing = client, standing
        self.actuator = PrewarmActuator(
            RayRequestResources(lambda: [RayHead("default", "local", client)]), [POOL], deadline_s=20.0
        )

    async def apply(self, nodes: int) -> Applied:
        now_s = time.time()
        pools = (PoolPlan("h100", nodes, 0, (), 0, (ServiceGpus("default", "local", 0),)),)
        (applied,) = (await self.actuator.apply(Plan(1, now_s, True, False, (), pools), now_s)).applied
        return applied

    async def settled(self, nodes: int) -> Applied:
        """The outcome once the job is over."""
        for _ in range(300):
            applied = await self.apply(nodes)
            if applied.outcome == "unchanged" and not applied.why:
                return applied
            await asyncio.sleep(0.2)
        raise AssertionError(f"the job did not end: {applied}: {await self.jobs()}")

    async def jobs(self) -> list[dict[str, object]]:
        listed = (await self.client.get("/api/jobs/")).json()
        return [job for job in listed if str(job.get("submission_id", "")).startswith("leadtime-prewarm")]


def stands(serve: LocalServe) -> list[dict[str, float]]:
    """What was asked for last, read on the head by another job."""
    submission = f"reads-{next(_numbers)}"
    status, text = serve.request("POST", "/api/jobs/", {"entrypoint": READ, "submission_id": submission})
    assert status == 200, text

    def ended() -> bool:
        said = json.loads(serve.request("GET", f"/api/jobs/{submission}")[1])["status"]
        assert said != "FAILED", serve.request("GET", f"/api/jobs/{submission}/logs")[1]
        return bool(said == "SUCCEEDED")

    serve.wait("the reading job is over", ended)
    logs: str = json.loads(serve.request("GET", f"/api/jobs/{submission}/logs")[1])["logs"]
    line = next(line for line in logs.splitlines() if line.startswith("STANDS"))
    found: list[dict[str, float]] = json.loads(line.removeprefix("STANDS "))
    return found


@asynccontextmanager
async def real(serve: LocalServe) -> AsyncIterator[World]:
    client = DashboardClient(serve.dashboard, timeout_s=20.0)
    try:
        yield World(client, lambda: stands(serve))
    finally:
        await client.close()


@asynccontextmanager
async def fake() -> AsyncIterator[World]:
    async with FakeJobs(now_ms=int(time.time() * 1000)).serve() as jobs:
        client = DashboardClient(jobs.url)
        yield World(client, lambda: jobs.standing)
        await client.close()


async def follow(world: World) -> set[str]:
    """The whole life of a request; the fields of a job as the head lists it."""
    assert (await world.apply(2)).outcome == "ok"
    await world.settled(2)
    assert world.standing() == [{"CPU": 0.5}] * 2
    (job,) = await world.jobs()
    assert job["status"] == "SUCCEEDED"

    assert (await world.apply(1)).outcome == "ok"
    await world.settled(1)
    assert world.standing() == [{"CPU": 0.5}]
    assert len(await world.jobs()) == 1, "the job before is cleared away"

    (given_back,) = (await world.actuator.release(time.time())).applied
    assert given_back.outcome == "ok"
    await world.settled(0)
    assert world.standing() == []
    return set(job)


async def test_what_is_asked_for_stands_on_the_head_after_its_job_and_goes_when_given_back(
    ray_serve: LocalServe,
) -> None:
    async with real(ray_serve) as world:
        fields = await follow(world)
    async with fake() as world:
        assert await follow(world) <= fields, "the fake has a field that Ray has not"
