"""Levels that somebody else sets: above the maximum, absurd, again and again."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from autoscaler.core import conditions, guards
from autoscaler.core.build import new_controller
from autoscaler.core.types import (
    DeploymentInventory,
    DeploymentSettings,
    DeploymentSignals,
    Follows,
    PauseState,
    Signals,
)
from policies.base import DeploymentKey
from tests.autoscaler.build import KEY, Says, config, inventory, metrics, signals
from tests.fakes.small_world import SETTINGS, World, busy_world, carries_rps, without

EIGHT = (replace(SETTINGS, max_replicas=8),)


def test_a_level_above_the_maximum_goes_there_in_one_write() -> None:
    world = busy_world(settings=EIGHT)
    world.posts.clear()
    world.target = 30
    world._follow()
    world.runs(2.0)
    assert world.posts[0] == 8, "not 29, 28, 27"
    assert max(world.posts) <= 8


def test_a_level_above_the_maximum_that_carries_what_is_in_flight_is_left_alone_and_told() -> None:
    world = busy_world(settings=EIGHT)
    world.target = 30
    world._follow()
    world.rps = 20.0 * carries_rps()
    world.posts.clear()
    world.runs(0.2)  # the level above is there before the traffic shows
    world.target = 30
    world._follow()
    world.runs(3.0)
    world.posts.clear()
    world.target = 30
    world._follow()
    world.runs(2.0)
    assert world.posts == []
    assert set(world.targets[-20:]) == {None}
    assert [one.name for one in world.plan.conditions] == [conditions.ABOVE_MAXIMUM]
    assert "left as it is" in world.plan.deployments[0].sentence


def test_a_level_above_the_maximum_is_left_alone_on_what_is_not_known() -> None:
    world = busy_world(settings=EIGHT)
    world.bend = without("ray_")
    world.runs(1.0)
    world.posts.clear()
    world.target = 30
    world._follow()
    world.runs(5.0)
    assert world.posts == []


def test_a_whole_budget_is_a_maximum_too() -> None:
    settings = DeploymentSettings("chat/llm", profile=SETTINGS.profile, min_replicas=1, max_replicas=8)
    assert settings.profile is not None
    controller = new_controller(config(settings, gpu_budget={settings.profile.gpu: 4}), policy=Says(4))
    controller.step(signals(inventory(0.0, running=4), metrics(0.0)), 0.0)
    plan = controller.step(signals(inventory(5.0, running=4, target=7), metrics(5.0)), 5.0)
    assert plan.deployments[0].target == 4


@pytest.mark.parametrize("absurd", [10**30, 10**6])
def test_an_absurd_level_is_not_known(absurd: int) -> None:
    world = busy_world()

    def shown(one: DeploymentInventory) -> DeploymentInventory:
        return replace(one, target=absurd)

    world.posts.clear()
    world.bend_inventory = shown
    world.runs(3.0)
    assert world.posts == []
    assert world.plan.deployments[0].target is None


# ---------------------------------------------------------------- a second writer


class Two:
    """Two controllers with states of their own on one cluster; every tick both post."""

    def __init__(self, first: int, second: int) -> None:
        self.policies = Says(first), Says(second)
        self.controllers = [new_controller(config(), policy=policy) for policy in self.policies]
        self.level, self.now_s = 4, 0.0
        self.accepted: list[int | None] = [None, None]
        self.levels = [4]
        self.names: set[str] = set()

    def runs(self, ticks: int) -> None:
        for _ in range(ticks):
            for i, controller in enumerate(self.controllers):
                self.now_s += 2.5
                seen = inventory(self.now_s, running=self.level, configured_replicas=99)
                told = DeploymentSignals(KEY, seen, metrics(self.now_s), accepted=self.accepted[i])
                plan = controller.step(Signals((told,)), self.now_s)
                self.accepted[i] = None
                self.names |= {one.name for one in plan.conditions}
                target = plan.deployments[0].target
                if target is not None and target != self.level:
                    self.level = self.accepted[i] = target
                    self.levels.append(target)

    @property
    def turns(self) -> int:
        ways = [after > before for before, after in pairwise(self.levels)]
        return sum(before != after for before, after in pairwise(ways))


def test_two_controllers_that_disagree_settle_at_the_higher_level_and_say_so() -> None:
    two = Two(6, 3)
    two.runs(100)
    assert two.turns <= 8
    assert two.level == 6
    two.runs(500)
    assert two.turns <= 20, "once in ten minutes it is tried whether the other is gone"
    assert conditions.SECOND_WRITER in two.names


def test_two_controllers_with_other_maxima_settle_at_the_higher_level() -> None:
    """To the one the level of the other is above the most that it may be: three times, and then no more."""
    two = Two(6, 6)
    two.controllers[1] = new_controller(config(DeploymentSettings("chat/llm", max_replicas=5)), policy=two.policies[1])
    two.runs(100)
    assert two.turns <= 8
    assert two.level == 6
    assert {conditions.SECOND_WRITER, conditions.ABOVE_MAXIMUM} <= two.names


def test_a_second_writer_who_is_quiet_for_ten_minutes_is_forgotten() -> None:
    two = Two(6, 3)
    two.runs(6)
    alone, policy = two.controllers[0], two.policies[0]
    policy.replicas = 2
    levels = {}
    for tick in range(150):
        now_s = two.now_s + 5.0 * (tick + 1)
        seen = inventory(now_s, running=two.level, configured_replicas=99)
        plan = alone.step(signals(seen, metrics(now_s)), now_s)
        two.level = plan.deployments[0].target or two.level
        levels[now_s - two.now_s] = two.level
    assert levels[550.0] == 6
    assert levels[750.0] == 2


def test_a_person_who_sets_a_level_twice_is_no_second_writer() -> None:
    policy = Says(4)
    controller = new_controller(config(), policy=policy)
    level, seen = 4, set()
    for tick in range(60):
        now_s = 5.0 * tick
        if tick in (10, 30):
            level = 2
        plan = controller.step(signals(inventory(now_s, running=level), metrics(now_s)), now_s)
        level = plan.deployments[0].target or level
        seen |= {one.name for one in plan.conditions}
    assert seen == set()


# ---------------------------------------------------------------- those that follow


FOLLOWS = (
    DeploymentSettings("chat/llm", max_replicas=8),
    DeploymentSettings("chat/ingress", max_replicas=3, follows=Follows("chat/llm")),
)
NO_PAUSE = PauseState()
INGRESS = DeploymentKey.parse("chat/ingress")


def followed(policy: Says, pause: PauseState = NO_PAUSE, running: int = 1, status: str = "HEALTHY") -> int | None:
    controller = new_controller(config(*FOLLOWS), policy=policy)
    ingress = DeploymentSignals(INGRESS, inventory(0.0, running=running, status=status), metrics(0.0))
    seen = Signals((DeploymentSignals(KEY, inventory(0.0), metrics(0.0)), ingress), pause=pause)
    return {d.key: d.target for d in controller.step(seen, 0.0).deployments}[INGRESS]


def test_who_follows_keeps_to_its_own_maximum() -> None:
    assert followed(Says(5)) == 3


def test_who_follows_and_is_paused_stays_where_it_is() -> None:
    assert followed(Says(2), PauseState(deployments=frozenset({INGRESS}))) is None


def test_who_follows_gives_nothing_up_while_it_is_unhealthy() -> None:
    assert followed(Says(1), running=3) == 1
    assert followed(Says(1), running=3, status="UNHEALTHY") == 3


# ---------------------------------------------------------------- told


def test_holding_on_what_is_unknown_is_told_after_three_lead_times() -> None:
    world = busy_world()
    world.bend = without("ray_")
    began_s = world.now_s
    named_at_s = None
    for _ in range(12 * 60):
        world.step()
        if named_at_s is None and world.plan.conditions:
            named_at_s = world.now_s
            [told] = world.plan.conditions
            assert told.name == conditions.HOLDING_ON_UNKNOWN
            assert "cannot be read" in told.why
    assert named_at_s is not None
    lead_s = world.plan.lead_times[world.plan.deployments[0].key].free_gpu.median_s
    assert 3.0 * lead_s <= named_at_s - began_s <= 3.0 * lead_s + 60.0
    world.bend = lambda text, node: text
    world.runs(3.0)
    assert world.plan.conditions == ()


def test_a_silent_node_and_a_counter_that_goes_back_are_told() -> None:
    world = World(rps=4.2 * carries_rps())
    world.runs(10.0)
    world.bend = lambda text, node: None if node == 1 else text
    world.runs(2.0)
    assert conditions.NODE_SILENT in {one.name for one in world.plan.conditions}
    world.bend = lambda text, node: text
    world.arrived[0] *= 0.99
    world.step()
    assert conditions.COUNTER_WENT_BACK in {one.name for one in world.plan.conditions}
    assert guards.UNKNOWN == "unknown_is_not_zero"
