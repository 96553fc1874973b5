"""What is common to all ways to pre-warm, against a way that answers as it is told to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

import autoscaler.actuators.ways
from autoscaler.actuators.prewarm import Allowed, Held, PrewarmActuator, Surroundings
from autoscaler.common.errors import ConfigError
from autoscaler.core.types import Plan, PoolPlan
from autoscaler.core.types.pools import WAYS, GkePool, WarmPool
from autoscaler.kubernetes.resources import ClusterApi, Throttled
from autoscaler.settings.pools import WarmBlock
from autoscaler.wiring.ways import prewarm_actuators


class ToldWay:
    """Holds a number for each pool; `trouble` is called before each look."""

    name = "told"

    def __init__(self, trouble: Callable[[str], None] = lambda pool: None) -> None:
        self.levels: dict[str, int] = {}
        self.looks = 0
        self._trouble = trouble

    async def observe(self, pool: WarmPool, plan: PoolPlan | None, now_s: float) -> Held:
        self.looks += 1
        self._trouble(pool.name)
        return Held(self.levels.get(pool.name, 0))

    def patch(self, pool: WarmPool, held: Held, level: int, plan: PoolPlan | None) -> str:
        return "" if held.level == level else f"{held.level} -> {level}"

    async def write(
        self, pool: WarmPool, held: Held, level: int, plan: PoolPlan | None, now_s: float, allowed_s: Allowed
    ) -> str:
        self.levels[pool.name] = level
        return f"within {allowed_s():g} s"

    async def close(self) -> None:
        """Nothing is open."""


def of(way: ToldWay, *names: str, **given: Any) -> PrewarmActuator:
    return PrewarmActuator(way, [WarmPool(name, "placeholder", 8, 8) for name in names], **given)


def plan(*names: str, nodes: int = 2) -> Plan:
    return Plan(1, 1000.0, True, False, (), tuple(PoolPlan(name, nodes, 0, (), 0, ()) for name in names))


async def test_an_answer_of_a_shape_that_nobody_expected_costs_its_own_pool_only() -> None:
    def odd(pool: str) -> None:
        if pool == "a":
            raise TypeError("unsupported operand\n type")

    way = ToldWay(odd)
    a, b = (await of(way, "a", "b").apply(plan("a", "b"), 1000.0)).applied
    assert (a.outcome, a.why) == ("unavailable", "not understood: TypeError: unsupported operand type")
    assert (b.outcome, way.levels) == ("ok", {"b": 2})


async def test_a_write_may_take_no_longer_than_the_lease_and_none_begins_without_one() -> None:
    way = ToldWay()
    (applied,) = (await of(way, "a", write_budget_s=lambda: 1.5).apply(plan("a"), 1000.0)).applied
    assert applied.why == "within 1.5 s"
    (applied,) = (await of(way, "a", write_budget_s=lambda: 0.0).apply(plan("a", nodes=3), 1000.0)).applied
    assert (applied.outcome, applied.why, way.levels) == ("withheld", "the lease ran out", {"a": 2})


async def test_a_clock_that_is_set_back_does_not_prolong_a_wait() -> None:
    refusals = iter([Throttled("429", 60.0)])

    def once(pool: str) -> None:
        for refusal in refusals:
            raise refusal

    way = ToldWay(once)
    actuator = of(way, "a")
    (applied,) = (await actuator.apply(plan("a"), 10_000.0)).applied
    assert applied.outcome == "throttled"
    (applied,) = (await actuator.apply(plan("a"), 10_005.0)).applied
    assert (applied.why, way.looks) == ("asked to wait: next try in 55 s", 1)
    (applied,) = (await actuator.apply(plan("a"), 5_000.0)).applied
    assert (applied.outcome, way.looks) == ("ok", 2)


async def test_waits_begin_anew_after_a_time_without_refusals() -> None:
    throttled = {"a": True}

    def while_throttled(pool: str) -> None:
        if throttled[pool]:
            raise Throttled("429")

    way = ToldWay(while_throttled)
    actuator, now_s = of(way, "a"), 0.0
    for _ in range(4):
        await actuator.apply(plan("a", nodes=0), now_s)
        now_s += 200.0
    throttled["a"] = False
    await actuator.apply(plan("a", nodes=0), now_s)
    throttled["a"] = True
    await actuator.apply(plan("a", nodes=0), now_s + 5.0)
    (applied,) = (await actuator.apply(plan("a", nodes=0), now_s + 6.0)).applied
    assert applied.why == "asked to wait: next try in 9 s"


def test_each_way_of_the_table_is_a_file_that_bears_its_name() -> None:
    files = {path.stem for path in Path(autoscaler.actuators.ways.__file__).parent.glob("*.py")}
    assert files - {"__init__"} == set(WAYS) - {"none"}


@pytest.mark.parametrize("name", sorted(set(WAYS) - {"none"}))
async def test_a_way_is_made_under_its_name(name: str) -> None:
    pool = WarmPool("h100", name, group="g", gke=GkePool("p", "l", "c", "n"))
    (made,) = prewarm_actuators([pool], Surroundings(api=cast(ClusterApi, object())))
    assert made.name == f"prewarm_{name}"
    await made.close()


def test_a_way_of_the_kubernetes_api_is_refused_without_one() -> None:
    with pytest.raises(ConfigError, match="placeholder; it needs the Kubernetes API: add a kubernetes block"):
        prewarm_actuators([WarmPool("h100", "placeholder")], Surroundings())


@pytest.mark.parametrize("name", sorted(set(WAYS)))
def test_keys_of_a_way_are_settings(name: str) -> None:
    assert set(WAYS[name].keys) <= set(WarmBlock.model_fields)
