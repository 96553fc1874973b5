"""What every way to pre-warm promises; live and simulated ones run the same suite.

Subclass `PrewarmContract` and give it a `world` fixture that yields a `WarmWorld`. Not collected by itself.
"""

from __future__ import annotations

from typing import Protocol

import pytest

from autoscaler.core.ports import Actuator
from autoscaler.core.types import Applied, Plan, PoolPlan, ServiceGpus


class WarmWorld(Protocol):
    """A way over one pool, `h100`, of which nothing is held at the start."""

    actuator: Actuator
    service: tuple[str, str]
    """(namespace, name) of the Ray service that runs on the pool."""
    spare: bool
    """It holds what is beyond the busy nodes; else it sets a floor for all."""

    def another(self) -> Actuator:
        """The same way in another process, which knows of no plan: `leadtime release`."""
        ...

    async def held(self) -> int:
        """Nodes held, by the world itself; a floor counts as a whole."""
        ...

    async def writes(self) -> int:
        """Writes that reached the world so far."""
        ...

    async def settle(self) -> None:
        """Let what was asked for come about (an operation, a job)."""
        ...


def plan_of(
    nodes: int | None, busy: int | None = 0, *, world: WarmWorld, pool: str = "h100", leader: bool = True,
    dry_run: bool = False, tick: int = 1,
) -> Plan:  # fmt: skip
    """A plan that wants so many nodes of a pool, of which `busy` have workers, and GPUs for those."""
    gpus = (ServiceGpus(*world.service, 8 * (busy or 0)),)
    pools = (PoolPlan(pool, nodes, busy, (), busy, gpus),)
    return Plan(tick=tick, now_s=1000.0 + tick, leader=leader, dry_run=dry_run, deployments=(), pools=pools)


async def apply(world: WarmWorld, plan: Plan) -> Applied:
    """Apply; the pool's outcome. The way answers for each of its pools once and names itself."""
    outcome = await world.actuator.apply(plan, plan.now_s)
    (applied,) = outcome.applied
    assert outcome.actuator == applied.actuator == world.actuator.name
    await world.settle()
    return applied


class PrewarmContract:
    async def test_the_level_of_the_plan_is_held(self, world: WarmWorld) -> None:
        applied = await apply(world, plan_of(2, world=world))
        assert (applied.what, applied.outcome) == ("h100", "ok")
        assert await world.held() == 2

    async def test_applying_a_plan_again_writes_nothing(self, world: WarmWorld) -> None:
        await apply(world, plan_of(2, world=world))
        before = await world.writes()
        assert (await apply(world, plan_of(2, world=world, tick=2))).outcome == "unchanged"
        assert await world.writes() == before
        assert await world.held() == 2

    async def test_a_level_is_no_difference(self, world: WarmWorld) -> None:
        for tick, nodes in enumerate((3, 1, 2), start=1):
            await apply(world, plan_of(nodes, world=world, tick=tick))
        assert await world.held() == 2

    async def test_nodes_in_use_are_not_held_once_more(self, world: WarmWorld) -> None:
        await apply(world, plan_of(3, 2, world=world))
        assert await world.held() == (1 if world.spare else 3)

    async def test_when_the_plan_falls_what_is_held_is_given_back(self, world: WarmWorld) -> None:
        await apply(world, plan_of(3, world=world))
        assert (await apply(world, plan_of(0, world=world, tick=2))).outcome == "ok"
        assert await world.held() == 0

    async def test_everything_is_given_back_at_once_when_asked(self, world: WarmWorld) -> None:
        await apply(world, plan_of(3, world=world))
        (applied,) = (await world.actuator.release(1010.0)).applied
        await world.settle()
        assert applied.outcome == "ok"
        assert await world.held() == 0

    async def test_who_gives_back_needs_no_memory_of_what_was_taken(self, world: WarmWorld) -> None:
        await apply(world, plan_of(3, world=world))
        (applied,) = (one for one in (await world.another().release(1010.0)).applied if one.what == "h100")
        await world.settle()
        assert applied.outcome == "ok"
        assert await world.held() == 0

    async def test_giving_back_what_is_not_held_writes_nothing(self, world: WarmWorld) -> None:
        before = await world.writes()
        (applied,) = (await world.actuator.release(1010.0)).applied
        assert applied.outcome == "unchanged"
        assert await world.writes() == before

    @pytest.mark.parametrize("switch", ["follower", "dry run"])
    async def test_followers_and_dry_runs_write_nothing(self, world: WarmWorld, switch: str) -> None:
        before = await world.writes()
        plan = plan_of(2, world=world, leader=switch != "follower", dry_run=switch == "dry run")
        applied = await apply(world, plan)
        assert applied.outcome == "withheld"
        assert applied.why.startswith("not the leader" if switch == "follower" else "dry run")
        assert await world.writes() == before
        assert await world.held() == 0

    async def test_a_pool_that_the_plan_leaves_alone_stays_as_it_is(self, world: WarmWorld) -> None:
        await apply(world, plan_of(2, world=world))
        plan = plan_of(None, world=world, tick=2)
        assert (await world.actuator.apply(plan, plan.now_s)).applied == ()
        assert await world.held() == 2

    async def test_a_late_plan_is_put_right_by_the_next_one(self, world: WarmWorld) -> None:
        newer, older = plan_of(3, world=world, tick=2), plan_of(1, world=world, tick=1)
        for plan in (newer, older, plan_of(3, world=world, tick=3)):
            await apply(world, plan)
        assert await world.held() == 3
