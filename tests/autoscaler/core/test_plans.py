"""What a plan says of pools for those who pre-warm: which nodes are in use, which end soon, who needs their GPUs."""

from __future__ import annotations

from typing import Any

from autoscaler.api.status import is_refused
from autoscaler.core.build import new_controller
from autoscaler.core.types import (
    DeploymentSettings,
    NodeSignal,
    PauseState,
    PoolPlan,
    PoolSettings,
    PoolSignals,
    ServiceGpus,
    Signals,
    nodes_usd_per_hour,
)
from autoscaler.core.types.pools import WarmPool, shares
from policies.base.durations import Duration
from tests.autoscaler.build import Says, config, inventory, metrics, signals

POOLS = (PoolSettings("h100", gpus_per_node=8, max_nodes=4, min_nodes=2, provision_s=Duration(100.0)),)


def plan_of(*nodes: NodeSignal, now_s: float = 1000.0, **changes: Any) -> PoolPlan:
    deployment = DeploymentSettings(
        "chat/llm", min_replicas=1, max_replicas=8, node_pools=("h100",), gpus_per_replica=4
    )
    controller = new_controller(config(deployment, pools=POOLS), policy=Says(3))
    controller.state.pool_nodes["h100"] = 2
    seen = (PoolSignals("h100", now_s, nodes),) if nodes else ()
    told = signals(inventory(now_s), metrics(now_s), pools=seen, **changes)
    (plan,) = controller.step(told, now_s).pools
    return plan


def node(name: str, **changes: Any) -> NodeSignal:
    return NodeSignal(name, **{"state": "ready", "requested_at_s": None, "gpus": 8, "gpus_used": 0, **changes})


def test_a_node_with_a_worker_or_one_that_waits_for_it_is_in_use() -> None:
    plan = plan_of(
        node("a", workers=1),
        node("b", workers=0),
        node("c", state="starting", claimed=True),
        node("d", state="starting", claimed=False),
        node("e", state="deleting", workers=1),
    )
    assert (plan.nodes, plan.busy_nodes) == (2, 2)


def test_without_a_view_of_nodes_nobody_knows_which_are_in_use() -> None:
    assert plan_of().busy_nodes is None


def test_a_node_that_ends_before_another_could_come_is_as_good_as_gone() -> None:
    lasting, ending = node("a", workers=1, ends_at_s=1200.0), node("b", workers=1, ends_at_s=1090.0)
    assert plan_of(lasting, ending).busy_nodes == 1
    assert plan_of(lasting, ending).observed_nodes == 1


def test_the_kill_switch_leaves_pools_alone() -> None:
    assert plan_of(node("a"), pause=PauseState(everything=True)).nodes is None


def test_the_planned_replicas_say_whose_gpus_they_are() -> None:
    assert plan_of(node("a")).gpus == (ServiceGpus("default", "local", 12),)


# ---------------------------------------------------------------- levels in a way's own units


def test_a_spare_way_holds_what_is_beyond_the_nodes_in_use() -> None:
    pool = WarmPool("h100", "placeholder", gpus_per_node=8, unit_gpus=4)
    assert pool.wanted(PoolPlan("h100", 3, 2, (), 1)) == 4
    assert pool.wanted(PoolPlan("h100", 1, 2, (), 2)) == 0
    assert pool.wanted(PoolPlan("h100", 3, None)) is None


def test_a_floor_covers_all_nodes_and_rests_at_the_pools_own_minimum() -> None:
    pool = WarmPool("h100", "worker_group", gpus_per_node=8, unit_gpus=8, min_nodes=1)
    assert pool.wanted(PoolPlan("h100", 3, None)) == 3
    assert pool.wanted(PoolPlan("h100", 0, None)) == pool.rest == 1


def test_workers_are_shared_by_what_the_planned_replicas_need() -> None:
    one, two = ServiceGpus("llm", "a", 8), ServiceGpus("llm", "b", 24)
    assert shares(5, 8, [one]) == {("llm", "a"): 5}
    assert shares(4, 8, [one, two]) == {("llm", "a"): 1, ("llm", "b"): 3}
    assert shares(6, 8, [one, two]) == {("llm", "a"): 2, ("llm", "b"): 4}
    assert shares(2, 8, [one, two]) == {("llm", "a"): 1, ("llm", "b"): 1}
    assert sum(shares(3, 8, [ServiceGpus("llm", n, 0) for n in "ab"]).values()) == 3
    assert shares(3, 8, []) == {}


def test_signals_without_pools_are_signals_all_the_same() -> None:
    assert new_controller(config(pools=POOLS), policy=Says(1)).step(Signals(), 1.0).pools[0].gpus == ()


def test_nodes_cost_what_the_real_pool_that_they_came_from_costs() -> None:
    pool = PoolSettings("gpu-class", price_usd_per_hour=80.0, real_prices_usd_per_hour={"spot": 30.0})
    nodes = [node("a", pool="spot"), node("b", pool="on-demand"), node("c")]
    assert nodes_usd_per_hour(pool, nodes) == 190.0
    assert nodes_usd_per_hour(PoolSettings("x", real_prices_usd_per_hour={"spot": 30.0}), nodes) is None
    assert nodes_usd_per_hour(PoolSettings("x", price_usd_per_hour=80.0), []) == 0.0


def test_a_refusal_of_long_ago_counts_no_more() -> None:
    refused = PoolSignals("h100", 1000.0, (), refused_at_s=800.0)
    assert (is_refused(refused, 1000.0), is_refused(refused, 1100.0)) == (True, False)
    assert not is_refused(PoolSignals("h100", 1000.0, ()), 1000.0)
