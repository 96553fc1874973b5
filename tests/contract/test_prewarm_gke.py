"""GKE node pools under the suite of all ways: the real client against a gRPC server with the real messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

pytest.importorskip("google.cloud.container_v1", reason="the extra `gke` is not installed")

import grpc
from google.cloud import container_v1 as api

from autoscaler.actuators.prewarm import PrewarmActuator, Refusal
from autoscaler.actuators.ways.node_pool import GkeNodePools
from autoscaler.core.types.pools import GkePool, WarmPool
from tests.contract.prewarm_contract import PrewarmContract, apply, plan_of
from tests.fakes.gke import FakeGke


@dataclass
class GkeWorld:
    gke: FakeGke
    autoscaled: bool = True
    service: tuple[str, str] = ("llm", "chat-llm")
    spare: bool = False
    busy: int | None = 0
    """What whoever sees the nodes says of those in use."""
    refused: list[Refusal] = field(default_factory=list)
    actuator: PrewarmActuator = field(init=False)

    def __post_init__(self) -> None:
        self.actuator = self._made(GkeNodePools(self.gke.client))

    def _made(self, way: GkeNodePools) -> PrewarmActuator:
        place = GkePool("p", "us-central1", "c", "h100", self.autoscaled)
        pool = WarmPool("h100", "node_pool", 8, 8, gke=place)
        return PrewarmActuator(way, [pool], on_refusal=self.refused.append)

    def another(self) -> PrewarmActuator:
        async def in_use(pool: str) -> int | None:
            return self.busy

        return self._made(GkeNodePools(self.gke.client, in_use=in_use))

    async def held(self) -> int:
        found = self.gke.pool
        if not found.autoscaling.enabled:
            return int(found.initial_node_count) * len(found.locations)
        least = found.autoscaling.total_min_node_count or found.autoscaling.min_node_count * len(found.locations)
        return int(least)

    async def writes(self) -> int:
        return len(self.gke.writes)

    async def settle(self) -> None:
        """The fake's operations end at once unless a test says otherwise."""


def node_pool(zones: int = 1, **autoscaling: int) -> api.NodePool:
    scaling = api.NodePoolAutoscaling(**{"enabled": bool(autoscaling), "location_policy": "ANY", **autoscaling})
    return api.NodePool(name="h100", autoscaling=scaling, locations=[f"us-central1-{z}" for z in "abc"[:zones]])


async def world_of(pool: api.NodePool, *, autoscaled: bool = True) -> AsyncIterator[GkeWorld]:
    async with FakeGke(pool).serve() as gke:
        world = GkeWorld(gke, autoscaled)
        yield world
        await world.actuator.close()


@pytest.fixture
async def world() -> AsyncIterator[GkeWorld]:
    async for one in world_of(node_pool(total_max_node_count=4)):
        yield one


@pytest.fixture
async def zonal() -> AsyncIterator[GkeWorld]:
    async for one in world_of(node_pool(zones=3, max_node_count=2)):
        yield one


@pytest.fixture
async def sized() -> AsyncIterator[GkeWorld]:
    async for one in world_of(node_pool(zones=2), autoscaled=False):
        yield one


class TestGkeNodePools(PrewarmContract):
    async def test_only_the_least_size_changes_and_the_rest_of_the_bounds_stays(self, world: GkeWorld) -> None:
        await apply(world, plan_of(3, world=world))
        (request,) = world.gke.writes
        scaling = request.autoscaling
        assert (scaling.total_min_node_count, scaling.total_max_node_count) == (3, 4)
        assert scaling.enabled
        assert scaling.location_policy.name == "ANY"

    async def test_a_dry_run_shows_the_very_request(self, world: GkeWorld) -> None:
        applied = await apply(world, plan_of(3, world=world, dry_run=True))
        assert applied.why == (
            'dry run; would send {"autoscaling":{"enabled":true,"location_policy":"ANY","total_max_node_count":4,'
            '"total_min_node_count":3},"name":"projects/p/locations/us-central1/clusters/c/nodePools/h100"}'
        )

    async def test_no_more_than_the_pool_may_have(self, world: GkeWorld) -> None:
        await apply(world, plan_of(9, world=world))
        assert await world.held() == 4

    async def test_while_an_operation_is_under_way_no_other_is_sent(self, world: GkeWorld) -> None:
        world.gke.quick = False
        await apply(world, plan_of(2, world=world))
        applied = await apply(world, plan_of(3, world=world, tick=61))
        assert (applied.outcome, applied.why) == ("unchanged", "operation operation-0 is under way for 60 s")
        applied = await apply(world, plan_of(3, world=world, tick=1001))
        assert applied.why == "operation operation-0 is under way for 1000 s, longer than 15 minutes"
        world.gke.finish()
        assert (await apply(world, plan_of(3, world=world, tick=1002))).outcome == "ok"
        assert await world.writes() == 2

    async def test_giving_back_waits_for_an_operation_under_way(self, world: GkeWorld) -> None:
        world.gke.quick = False
        await apply(world, plan_of(2, world=world))
        (applied,) = (await world.actuator.release(1005.0)).applied
        assert (applied.outcome, "under way" in applied.why) == ("withheld", True)
        world.gke.finish()
        (applied,) = (await world.actuator.release(1006.0)).applied
        assert applied.outcome == "ok"
        assert await world.held() == 0

    @pytest.mark.parametrize(
        ("message", "kind"),
        [
            ("Insufficient regional quota to satisfy request: resource NVIDIA_H100_GPUS", "quota"),
            ("[GCE_STOCKOUT] Instance creation failed: The zone does not have enough resources", "stockout"),
            ("Internal error", "other"),
        ],
    )
    async def test_an_operation_that_failed_says_why_and_is_tried_again_later(
        self, world: GkeWorld, message: str, kind: str
    ) -> None:
        world.gke.quick = False
        await apply(world, plan_of(2, world=world))
        world.gke.finish(message)
        applied = await apply(world, plan_of(3, world=world, tick=10))
        assert applied.outcome == "unchanged"
        assert applied.why == f"operation operation-0 failed ({kind}): {message}; tried again in 120 s"
        assert [refusal.kind for refusal in world.refused] == [kind]
        assert (await apply(world, plan_of(3, world=world, tick=131))).outcome == "ok"

    async def test_what_google_says_of_the_pool_is_refused_capacity(self, world: GkeWorld) -> None:
        condition = api.StatusCondition(code=api.StatusCondition.Code.GCE_STOCKOUT, message="in us-central1-a")
        world.gke.pool.conditions.append(condition)
        applied = await apply(world, plan_of(0, world=world))
        assert applied.why == "GCE_STOCKOUT in us-central1-a"
        assert [refusal.kind for refusal in world.refused] == ["stockout"]

    @pytest.mark.parametrize(
        ("status", "outcome"),
        [
            (grpc.StatusCode.NOT_FOUND, "notfound"),
            (grpc.StatusCode.PERMISSION_DENIED, "forbidden"),
            (grpc.StatusCode.UNAUTHENTICATED, "forbidden"),
            (grpc.StatusCode.RESOURCE_EXHAUSTED, "throttled"),
            (grpc.StatusCode.FAILED_PRECONDITION, "conflict"),
            (grpc.StatusCode.ABORTED, "conflict"),
            (grpc.StatusCode.INVALID_ARGUMENT, "rejected"),
            (grpc.StatusCode.UNAVAILABLE, "unavailable"),
            (grpc.StatusCode.INTERNAL, "unavailable"),
        ],
    )
    async def test_a_refusal_is_an_outcome(self, world: GkeWorld, status: grpc.StatusCode, outcome: str) -> None:
        world.gke.fail = (status, "because\nof this")
        applied = await apply(world, plan_of(1, world=world))
        assert applied.outcome == outcome
        assert "because of this" in applied.why

    async def test_somebody_elses_operation_is_a_conflict_and_decided_again(self, world: GkeWorld) -> None:
        world.gke.operations["theirs"] = api.Operation(name="theirs", status=api.Operation.Status.RUNNING)
        assert (await apply(world, plan_of(2, world=world))).outcome == "conflict"
        world.gke.finish()
        assert (await apply(world, plan_of(2, world=world, tick=2))).outcome == "ok"


class TestSizesOfGkeNodePools(PrewarmContract):
    """The same where no autoscaler works on the pool."""

    @pytest.fixture
    async def world(self) -> AsyncIterator[GkeWorld]:
        async for one in world_of(node_pool(), autoscaled=False):
            yield one

    @pytest.mark.parametrize(
        ("busy", "why"),
        [(2, "while workers run on the pool"), (None, "while nobody can say whether workers run on the pool")],
    )
    async def test_nodes_in_use_are_not_given_back(self, world: GkeWorld, busy: int | None, why: str) -> None:
        await apply(world, plan_of(3, world=world))
        world.busy = busy
        (applied,) = (await world.another().release(1010.0)).applied
        assert (applied.outcome, applied.why) == ("unchanged", f"size 3; it is not reduced {why}")
        assert await world.held() == 3


async def test_a_pool_bounded_per_zone_is_raised_in_every_zone(zonal: GkeWorld) -> None:
    await apply(zonal, plan_of(4, world=zonal))
    assert [w.autoscaling.min_node_count for w in zonal.gke.writes] == [2]
    assert zonal.gke.writes[0].autoscaling.total_min_node_count == 0
    assert (await apply(zonal, plan_of(5, world=zonal, tick=2))).outcome == "unchanged"


async def test_a_size_is_set_only_where_no_autoscaler_owns_it(sized: GkeWorld) -> None:
    await apply(sized, plan_of(3, world=sized))
    assert [w.node_count for w in sized.gke.writes] == [2]
    assert await sized.held() == 4


async def test_a_size_is_not_reduced_while_workers_run_on_the_pool(sized: GkeWorld) -> None:
    await apply(sized, plan_of(4, world=sized))
    applied = await apply(sized, plan_of(2, 1, world=sized, tick=2))
    assert (applied.outcome, applied.value) == ("unchanged", 4)
    assert applied.why == "size 4; it is not reduced while workers run on the pool"
    (kept,) = (await sized.actuator.release(1010.0)).applied
    assert (kept.outcome, kept.value) == ("unchanged", 4)
    assert kept.why == "size 4; it is not reduced while workers run on the pool"
    assert (await apply(sized, plan_of(0, 0, world=sized, tick=3))).outcome == "ok"
    assert await sized.held() == 0


async def test_a_size_is_given_back_at_the_end_only_where_nobody_uses_the_nodes(sized: GkeWorld) -> None:
    await apply(sized, plan_of(4, 0, world=sized))
    (kept,) = (await sized.actuator.release(2000.0)).applied  # the last plan is too old to be believed
    assert (kept.outcome, await sized.held()) == ("unchanged", 4)
    (given,) = (await sized.actuator.release(1010.0)).applied
    assert (given.outcome, await sized.held()) == ("ok", 0)


@pytest.mark.parametrize("autoscaled", [True, False])
async def test_who_owns_the_size_must_be_as_the_settings_say(autoscaled: bool) -> None:
    pool = node_pool() if autoscaled else node_pool(total_max_node_count=4)
    async for world in world_of(pool, autoscaled=autoscaled):
        applied = await apply(world, plan_of(2, world=world))
        assert (applied.outcome, "warm.gke.autoscaled" in applied.why) == ("rejected", True)
        assert await world.writes() == 0
