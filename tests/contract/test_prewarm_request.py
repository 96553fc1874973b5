"""ProvisioningRequests under the suite of all ways, against the fake Kubernetes API, through every stage of one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from autoscaler.actuators.prewarm import PrewarmActuator
from autoscaler.actuators.ways.provisioning_request import ProvisioningRequests
from autoscaler.core.types import Applied, Plan, PoolPlan
from autoscaler.core.types.pools import WarmPool
from tests.contract.prewarm_contract import PrewarmContract, apply, plan_of
from tests.contract.prewarm_kubernetes import KubernetesWorld, api_with
from tests.fakes.kubernetes.crds_autoscaling import AUTOSCALING
from tests.fakes.kubernetes.status import ApiError

POOL = WarmPool("h100", "provisioning_request", 8, 8, namespace="lt", object="lt-warm-h100", max_run_s=604_800)
REQUEST: dict[str, Any] = {
    "apiVersion": "autoscaling.x-k8s.io/v1",
    "kind": "ProvisioningRequest",
    "metadata": {"name": "lt-warm-h100", "namespace": "lt"},
}


class RequestWorld(KubernetesWorld):
    async def held(self) -> int:
        try:
            found = self.api.read(REQUEST)
        except ApiError:
            return 0
        count: int = found["spec"]["podSets"][0]["count"]
        return count

    def patient(self) -> None:
        """As in a cluster: a request keeps its place in the queue for a while."""
        self.actuator = PrewarmActuator(
            ProvisioningRequests(self.client), [POOL], on_refusal=self.refused.append
        )  # fmt: skip

    async def at(self, seconds: float, nodes: int) -> Applied:
        """A plan so long from now."""
        now_s = time.time() + seconds
        plan = Plan(1, now_s, True, False, (), (PoolPlan("h100", nodes, 0, (), 0),))
        (applied,) = (await self.actuator.apply(plan, now_s)).applied
        return applied

    def becomes(self, kind: str, message: str = "", seconds: float = 0.0) -> None:
        at = datetime.fromtimestamp(time.time() + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        said = {"type": kind, "status": "True", "reason": "R", "message": message, "lastTransitionTime": at}
        self.api.set_status(REQUEST, {"conditions": [said]})


@pytest.fixture
async def world() -> AsyncIterator[RequestWorld]:
    async with api_with(crds=AUTOSCALING) as (api, client):
        world = RequestWorld(api, client)
        world.another = lambda: PrewarmActuator(
            ProvisioningRequests(client, settle_s=0.0), [POOL], on_refusal=world.refused.append
        )  # fmt: skip
        world.actuator = world.another()
        yield world


class TestProvisioningRequests(PrewarmContract):
    async def test_it_asks_for_all_at_once_with_the_charts_template(self, world: RequestWorld) -> None:
        await apply(world, plan_of(3, world=world))
        made = world.api.read(REQUEST)
        assert made["spec"] == {
            "provisioningClassName": "queued-provisioning.gke.io",
            "podSets": [{"podTemplateRef": {"name": "lt-warm-h100"}, "count": 3}],
            "parameters": {"maxRunDurationSeconds": "604800"},
        }
        assert made["metadata"]["labels"]["leadtime.dev/prewarm"] == "h100"

    async def test_a_request_that_a_finalizer_keeps_is_deleted_once_and_not_made_again(
        self, world: RequestWorld
    ) -> None:
        await apply(world, plan_of(3, world=world))
        world.api.change(REQUEST, {"metadata": {"finalizers": ["example.org/kept"]}})
        assert (await apply(world, plan_of(0, world=world, tick=2))).outcome == "ok"
        before = await world.writes()
        for tick, nodes in ((3, 0), (4, 2)):
            applied = await apply(world, plan_of(nodes, world=world, tick=tick))
            assert (applied.outcome, applied.why) == ("unchanged", "the request for 3 is being deleted")
        assert (await world.actuator.release(1010.0)).applied[0].outcome == "unchanged"
        assert await world.writes() == before
        world.api.change(REQUEST, {"metadata": {"finalizers": []}})
        await apply(world, plan_of(2, world=world, tick=5))
        assert await world.held() == 2

    async def test_a_dry_run_shows_the_object_that_would_be_made(self, world: RequestWorld) -> None:
        applied = await apply(world, plan_of(3, world=world, dry_run=True))
        assert applied.why.startswith('dry run; would send [{"create":{"apiVersion":"autoscaling.x-k8s.io/v1"')
        assert '"count":3' in applied.why

    async def test_somebody_elses_request_of_that_name_is_left_alone(self, world: RequestWorld) -> None:
        await apply(world, plan_of(3, world=world))
        world.api.change(REQUEST, {"metadata": {"labels": {"leadtime.dev/prewarm": None}}})
        for outcome in (await apply(world, plan_of(1, world=world)), (await world.actuator.release(1.0)).applied[0]):
            assert (outcome.outcome, "is not ours" in outcome.why) == ("rejected", True)
        assert await world.held() == 3


async def test_a_queued_request_keeps_its_place_though_the_plan_wavers(world: RequestWorld) -> None:
    world.patient()
    await world.at(0, 3)
    world.becomes("Accepted")
    applied = await world.at(60, 4)
    assert applied.outcome == "unchanged"
    assert applied.why.endswith("ago: accepted, in the queue")
    assert await world.held() == 3
    assert (await world.at(700, 4)).outcome == "ok"
    assert await world.held() == 4


async def test_a_request_that_nobody_wants_any_more_is_withdrawn_at_once(world: RequestWorld) -> None:
    world.patient()
    await world.at(0, 3)
    assert (await world.at(5, 0)).why == "the request is withdrawn"
    assert await world.held() == 0


async def test_what_is_provisioned_says_how_long_it_is_booked_and_when_its_nodes_end(world: RequestWorld) -> None:
    await world.at(0, 2)
    world.becomes("Provisioned")
    applied = await world.at(100, 3)
    assert applied.outcome == "unchanged"
    assert applied.why.startswith("2 provisioned; pods have ")
    assert applied.why.endswith("; its nodes end 168.0 h from now")
    assert await world.held() == 2


async def test_a_booking_that_expired_unused_is_said_and_asked_again_only_later(world: RequestWorld) -> None:
    world.patient()
    await world.at(0, 2)
    world.becomes("BookingExpired")
    applied = await world.at(60, 2)
    assert (applied.outcome, applied.value) == ("unchanged", 0)
    assert applied.why.startswith("the booking of 2 expired unused: no pod claimed it in 10 min; asked again in 17")
    before = len(world.api.traffic.writes())
    await world.at(1000, 2)
    assert len(world.api.traffic.writes()) == before
    assert (await world.at(1900, 2)).outcome == "ok"
    assert [r.verb for r in world.api.traffic.writes()][before:] == ["delete", "create"]


@pytest.mark.parametrize(
    ("message", "kind"),
    [("Quota 'NVIDIA_H100_GPUS' exceeded", "quota"), ("GCE_STOCKOUT in us-central1-a", "stockout"), ("", "other")],
)
async def test_a_failed_request_is_refused_capacity_of_its_kind(
    world: RequestWorld, message: str, kind: str
) -> None:  # fmt: skip
    world.patient()
    await world.at(0, 2)
    world.becomes("Failed", message)
    applied = await world.at(10, 2)
    assert applied.why.startswith("the request for 2 failed")
    assert [r.kind for r in world.refused] == [kind]


async def test_capacity_that_was_taken_back_after_its_time_is_said(world: RequestWorld) -> None:
    world.patient()
    await world.at(0, 2)
    world.becomes("CapacityRevoked")
    assert (await world.at(10, 2)).why.startswith("the 2 provisioned were taken back: their time was over; asked again")
    (applied,) = (await world.actuator.release(time.time())).applied
    assert applied.outcome == "ok"
    assert await world.held() == 0


async def test_a_cluster_without_the_kind_says_so() -> None:
    async with api_with() as (api, client):
        world = RequestWorld(api, client)
        world.patient()
        applied = await world.at(0, 2)
        assert (applied.outcome, "has no ProvisioningRequests" in applied.why) == ("notfound", True)
