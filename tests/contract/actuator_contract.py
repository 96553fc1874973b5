"""What every actuator of replica targets promises; live, recording and simulated ones run the same suite.

Subclass `ActuatorContract` and give it a `world` fixture that yields a `World`. Not collected by itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import pytest

from autoscaler.core.ports import Actuator
from autoscaler.core.types import Applied, DeploymentPlan, Outcome, Plan
from policies.base import DeploymentKey


class World(Protocol):
    """An actuator and the fleet it works on."""

    actuator: Actuator
    key: DeploymentKey
    """A deployment that exists, with a target of 1 at the start."""
    other: DeploymentKey
    """Another one."""
    unknown: DeploymentKey
    """A key of the same service that does not exist."""
    acts: bool
    """False when the actuator only records."""

    async def target(self, key: DeploymentKey) -> int:
        """The level in force in the world itself, not as the actuator remembers it."""
        ...


def plan_of(
    *levels: tuple[DeploymentKey, int | None, int | None],
    leader: bool = True,
    dry_run: bool = False,
    blocked: str | None = None,
    tick: int = 1,
) -> Plan:
    """A plan of (key, target, observed target)."""
    deployments = tuple(
        DeploymentPlan(key, target, observed, target, blocked=blocked, service=key.service)
        for key, target, observed in levels
    )
    return Plan(tick=tick, now_s=1000.0 + tick, leader=leader, dry_run=dry_run, deployments=deployments)


async def apply(world: World, plan: Plan) -> dict[str, Applied]:
    """Apply and give the results by key; an actuator answers for each target once and names itself."""
    outcome = await world.actuator.apply(plan, plan.now_s)
    assert isinstance(outcome, Outcome)
    assert outcome.actuator == world.actuator.name
    assert all(applied.actuator == world.actuator.name for applied in outcome.applied)
    found = {applied.what: applied for applied in outcome.applied}
    assert len(found) == len(outcome.applied)
    return found


class ActuatorContract:
    async def test_a_target_becomes_the_level_in_force(self, world: World) -> None:
        (applied,) = (await apply(world, plan_of((world.key, 3, 1)))).values()
        assert (applied.what, applied.value) == (str(world.key), 3)
        assert applied.outcome == ("ok" if world.acts else "withheld")
        assert await world.target(world.key) == (3 if world.acts else 1)

    async def test_applying_a_plan_again_changes_nothing(self, world: World) -> None:
        plan = plan_of((world.key, 2, 1))
        await apply(world, plan)
        await apply(world, plan)
        assert await world.target(world.key) == (2 if world.acts else 1)

    async def test_a_target_is_a_level_and_not_a_difference(self, world: World) -> None:
        await apply(world, plan_of((world.key, 3, 1)))
        await apply(world, plan_of((world.key, 2, 1)))  # made before the first was seen: still 2, not 1 + 1 more
        assert await world.target(world.key) == (2 if world.acts else 1)

    async def test_a_remainder_of_a_gang_is_never_posted(self, world: World) -> None:
        plan = plan_of((world.key, 5, 4))
        [one] = plan.deployments
        refused = await apply(world, replace(plan, deployments=(replace(one, gang_size=4),)))
        assert refused[str(world.key)].outcome == ("rejected" if world.acts else "withheld")
        if world.acts:
            assert "5 replicas are no whole number of gangs of 4" in refused[str(world.key)].why
        assert await world.target(world.key) == 1

    async def test_a_late_plan_is_put_right_by_the_next_one(self, world: World) -> None:
        newer, older = plan_of((world.key, 3, 1), tick=2), plan_of((world.key, 2, 1), tick=1)
        for plan in (newer, older, plan_of((world.key, 3, 2), tick=3)):
            await apply(world, plan)
        assert await world.target(world.key) == (3 if world.acts else 1)

    async def test_zero_is_a_level_like_any_other(self, world: World) -> None:
        await apply(world, plan_of((world.key, 0, 1)))
        assert await world.target(world.key) == (0 if world.acts else 1)

    async def test_what_already_is_as_wanted_is_reported_as_unchanged(self, world: World) -> None:
        (applied,) = (await apply(world, plan_of((world.key, 1, 1)))).values()
        assert applied.outcome == "unchanged"
        assert await world.target(world.key) == 1

    async def test_no_target_means_that_nothing_is_written(self, world: World) -> None:
        assert await apply(world, plan_of((world.key, None, 1))) == {}
        assert await world.target(world.key) == 1

    async def test_an_unknown_deployment_is_an_outcome_and_not_an_exception(self, world: World) -> None:
        (applied,) = (await apply(world, plan_of((world.unknown, 2, 1)))).values()
        assert applied.outcome == ("notfound" if world.acts else "withheld")
        assert not world.acts or applied.why

    async def test_one_failure_does_not_stop_the_others(self, world: World) -> None:
        found = await apply(world, plan_of((world.unknown, 2, 1), (world.key, 2, 1), (world.other, 3, 1)))
        assert len(found) == 3
        assert await world.target(world.key) == (2 if world.acts else 1)
        assert await world.target(world.other) == (3 if world.acts else 1)

    async def test_an_empty_plan_is_harmless(self, world: World) -> None:
        assert await apply(world, plan_of()) == {}

    @pytest.mark.parametrize("switch", [{"leader": False}, {"dry_run": True}])
    async def test_followers_and_dry_runs_write_nothing(self, world: World, switch: dict[str, bool]) -> None:
        plan = plan_of((world.key, 4, 1), leader=switch.get("leader", True), dry_run=switch.get("dry_run", False))
        (applied,) = (await apply(world, plan)).values()
        assert applied.outcome == "withheld"
        assert await world.target(world.key) == 1

    async def test_a_blocked_plan_is_refused_with_its_reason(self, world: World) -> None:
        plan = plan_of((world.key, 4, 1), blocked="another scaler works on it: set x: null")
        (applied,) = (await apply(world, plan)).values()
        assert applied.outcome == ("conflict" if world.acts else "withheld")
        assert "set x: null" in applied.why
        assert await world.target(world.key) == 1
