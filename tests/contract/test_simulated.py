"""The simulated actuators under the suite of all actuators, and what they do to Serve and to nodes."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from autoscaler.core.types import Plan, PoolPlan
from policies.base import DeploymentKey
from simulator.control.actuator import SimulatedPools, SimulatedServe
from tests.contract.actuator_contract import ActuatorContract, apply, plan_of
from tests.simulator.fleet import Fleet, fleet, pool, spec


@dataclass
class SimulatedWorld:
    fleet: Fleet
    actuator: SimulatedServe = field(init=False)
    key: DeploymentKey = DeploymentKey.parse("chat/llm")
    other: DeploymentKey = DeploymentKey.parse("chat/other")
    unknown: DeploymentKey = DeploymentKey.parse("chat/unknown")
    acts: bool = True

    def __post_init__(self) -> None:
        self.actuator = SimulatedServe({s.spec.key: s for s in self.fleet.serves})

    async def target(self, key: DeploymentKey) -> int:
        return next(s.target for s in self.fleet.serves if s.spec.key == key)


@pytest.fixture
def world() -> SimulatedWorld:
    deployments = tuple(spec(key=DeploymentKey.parse(f"chat/{name}"), initial=1) for name in ("llm", "other"))
    return SimulatedWorld(fleet(pool(max_nodes=4), deployments=deployments))


class TestSimulatedServe(ActuatorContract):
    async def test_serve_acts_on_a_target_within_its_control_loop(self, world: SimulatedWorld) -> None:
        await apply(world, plan_of((world.key, 2, 1)))
        assert world.fleet.states() == ["RUNNING"]
        world.fleet.run(0.2)
        assert world.fleet.states() == ["RUNNING", "STARTING"]


def pools_plan(nodes: int, name: str = "h100", leader: bool = True) -> Plan:
    return Plan(1, 0.0, leader, False, (), (PoolPlan(name, nodes, None),))


async def test_node_levels_are_levels_too() -> None:
    f = fleet()
    actuator = SimulatedPools(f.cluster.pools)
    for outcome in ("ok", "unchanged"):
        (applied,) = (await actuator.apply(pools_plan(2), 0.0)).applied
        assert (applied.outcome, applied.value) == (outcome, 2)
    assert len(f.cluster.pools["h100"].nodes) == 2
    assert (await actuator.apply(pools_plan(2, leader=False), 0.0)).applied[0].outcome == "withheld"
    assert (await actuator.apply(pools_plan(2, "h200"), 0.0)).applied[0].outcome == "notfound"
    no_way = SimulatedPools(fleet(pool(prewarm=False)).cluster.pools)
    assert (await no_way.apply(pools_plan(2), 0.0)).applied[0].why == "prewarm: none"
