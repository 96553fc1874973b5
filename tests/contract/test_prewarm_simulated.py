"""The simulated pools under the suite of all ways, for each thing that a way may warm, and what is warm afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from autoscaler.core.types import Plan, PoolPlan, ServiceGpus
from policies.base.durations import Duration
from simulator.control.actuator import SimulatedPools
from tests.contract.prewarm_contract import PrewarmContract, apply, plan_of
from tests.simulator.fleet import Fleet, fleet, pool


@dataclass
class SimulatedWarmWorld:
    fleet: Fleet
    service: tuple[str, str] = ("default", "local")
    spare: bool = False
    """The simulated way is told all nodes of the plan, those in use included."""
    actuator: SimulatedPools = field(init=False)

    def __post_init__(self) -> None:
        self.actuator = self.another()

    def another(self) -> SimulatedPools:
        return SimulatedPools(self.fleet.cluster.pools)

    async def held(self) -> int:
        return self.fleet.cluster.pools["h100"].level

    async def writes(self) -> int:
        return self.fleet.cluster.pools["h100"].started

    async def settle(self) -> None:
        """Time passes only when a test says so."""


@pytest.fixture(params=["node", "worker", "queued"])
def world(request: Any) -> SimulatedWarmWorld:
    return SimulatedWarmWorld(fleet(pool(gpus_per_node=8, worker_gpus=8, max_nodes=4, warms=request.param)))


class TestSimulatedPools(PrewarmContract):
    @pytest.mark.parametrize("switch", ["follower", "dry run"])
    async def test_followers_and_dry_runs_write_nothing(self, world: SimulatedWarmWorld, switch: str) -> None:
        plan = plan_of(2, world=world, leader=switch != "follower", dry_run=switch == "dry run")
        assert (await apply(world, plan)).outcome == "withheld"
        assert await world.held() == 0


# ---------------------------------------------------------------- what is warm


def told(f: Fleet, nodes: int, gpus: int = 0) -> None:
    service = f.serve.spec.service.split("/")
    needs = (ServiceGpus(service[0], service[1], gpus),)
    plan = Plan(1, f.queue.now_s, True, False, (), (PoolPlan("h100", nodes, 0, (), 0, needs),))
    SimulatedPools(f.cluster.pools).apply_now(plan)


def start_takes_s(warms: str | None, at_s: float = 300.0) -> float:
    """Seconds from asking for a replica to RUNNING on a pool that was told at 0 to have a node."""
    f = fleet(pool(warms=warms or "node", prewarm=warms is not None))
    if warms is not None:
        told(f, 1)
    f.at(at_s, 1)
    f.run(at_s + 300.0)
    assert f.states() == ["RUNNING"]
    return f.plane.times("add")[0] - at_s


def test_a_warm_worker_leaves_the_replicas_own_start_a_warm_node_its_image_and_worker_too() -> None:
    own_s, image_and_worker_s, node_s = 12.0, 30.0, 60.0
    assert start_takes_s("worker") == pytest.approx(own_s, abs=1.0)
    assert start_takes_s("node") == pytest.approx(own_s + image_and_worker_s, abs=6.0)
    assert start_takes_s("queued") == pytest.approx(own_s + image_and_worker_s, abs=6.0)
    assert start_takes_s(None) == pytest.approx(own_s + image_and_worker_s + node_s, abs=6.0)


def test_idle_workers_under_the_floor_stay_and_go_when_it_falls() -> None:
    f = fleet(pool(warms="worker"))
    told(f, 2)
    f.run(600.0)
    assert [w.state for w in f.cluster.workers] == ["running", "running"]
    assert [n.prewarmed for n in f.cluster.pools["h100"].nodes] == [True, True]
    told(f, 1)
    f.run(700.0)
    assert [w.state for w in f.cluster.workers] == ["running"]
    told(f, 0)
    f.run(1000.0)
    assert f.cluster.workers == []
    assert f.cluster.pools["h100"].nodes == []


def test_a_worker_that_is_lost_is_replaced_up_to_the_floor() -> None:
    f = fleet(pool(warms="worker"))
    told(f, 1)
    f.run(200.0)
    (node,) = f.cluster.pools["h100"].nodes
    f.cluster.pools["h100"]._preempt(node)
    f.run(500.0)
    assert [w.state for w in f.cluster.workers] == ["running"]


def test_the_floor_holds_no_more_than_the_pool_may_have() -> None:
    f = fleet(pool(warms="worker", max_nodes=2))
    told(f, 5)
    f.run(300.0)
    assert len(f.cluster.workers) == 2


def test_queued_nodes_come_all_at_once_and_go_unused_after_their_booking() -> None:
    f = fleet(pool(warms="queued", provision_s=Duration(60.0, 0.5)))
    told(f, 3)
    f.run(400.0)
    nodes = f.cluster.pools["h100"].nodes
    assert len({n.ready_at_s for n in nodes}) == 1
    f.run(400.0 + 600.0 + 200.0)
    assert f.cluster.pools["h100"].nodes == [], "booked for ten minutes, then idle for as long as the autoscaler waits"


def test_after_an_unused_booking_nothing_is_queued_for_again_for_half_an_hour() -> None:
    f = fleet(pool(warms="queued"))
    told(f, 1)
    for minute in range(1, 60):
        f.run(minute * 60.0)
        told(f, 1)
    asked = f.cluster.pools["h100"].started
    assert asked == 2
