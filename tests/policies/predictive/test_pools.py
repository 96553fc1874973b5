"""Nodes that are wanted warm."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.base import DeploymentKey, DeploymentView, LeadTimes, PoolProposal, PoolView
from policies.base.durations import Duration
from policies.predictive.pools import nodes_for
from policies.predictive.state import PredictiveState
from policies.registry import create_policy
from tests.policies.build import flat_forecast, fleet, rising_forecast, view

TIMES = LeadTimes(Duration(60.0), Duration(90.0), Duration(300.0))


def pool(name: str = "h100", **changes: Any) -> PoolView:
    known = {"gpus_per_node": 8, "nodes_ready": 1, "nodes_starting": 0, "gpus_free": 0, "max_nodes": 6}
    return PoolView(name, **(known | changes))


def served(key: str = "chat/llm", **changes: Any) -> DeploymentView:
    known: dict[str, Any] = {"node_pools": ("h100",), "gpus_per_replica": 4, "lead_times": TIMES, "max_replicas": 32}
    return view(key=DeploymentKey.parse(key), **(known | changes))


def nodes(views: list[DeploymentView], *pools: PoolView) -> dict[str, PoolProposal]:
    made = create_policy("predictive", {})
    return dict(made.propose(fleet(*views, pools=pools), PredictiveState(), 1000.0).pools)


def test_a_node_is_asked_for_one_node_lead_time_before_it_is_needed() -> None:
    """Four replicas fill two nodes now; 24 req/s within 305 s want ten replicas, five nodes."""
    d = served(forecast=rising_forecast(8.0, 24.0, 305.0))
    proposal = nodes([d], pool())["h100"]
    assert proposal.nodes == 5
    assert proposal.terms[0].name == "forecast"
    assert "within 305 s fill 5 nodes" in proposal.terms[0].why


def test_nodes_are_for_whole_gangs() -> None:
    """Ten replicas are wanted within 305 s: three gangs of four, six nodes."""
    d = served(forecast=rising_forecast(8.0, 24.0, 305.0), gang_size=4)
    assert nodes([d], pool())["h100"].nodes == 6
    five = served(forecast=flat_forecast(11.0), rate_rps=11.0, target=5, running=5, gang_size=4)
    assert nodes([five], pool())["h100"].nodes == 4


def test_the_deployments_of_a_pool_share_its_nodes() -> None:
    a = served("chat/a", running=3, target=3, rate_rps=7.0, forecast=flat_forecast(7.0))
    b = served("chat/b", running=1, target=1, rate_rps=2.0, forecast=flat_forecast(2.0))
    assert nodes([a, b], pool())["h100"].nodes == 2  # 3 * 4 + 1 * 4 GPUs


def test_never_above_the_maximum_never_below_what_is_needed_or_the_minimum() -> None:
    much = served(forecast=flat_forecast(200.0))
    assert nodes([much], pool())["h100"].nodes == 6
    little = served(running=4, target=4, forecast=flat_forecast(0.1), rate_rps=0.1)
    assert nodes([little], pool(nodes_ready=0))["h100"].nodes == 2  # four replicas still run
    assert nodes([little], pool(min_nodes=3))["h100"].nodes == 3


def test_nodes_that_may_be_wanted_back_soon_are_kept() -> None:
    later = rising_forecast(2.0, 20.0, 605.0)
    d = served(running=1, target=1, rate_rps=2.0, forecast=later)
    there = nodes([d], pool(nodes_ready=4))["h100"]
    assert there.terms[0].name == "keep"
    assert there.nodes == 4
    assert nodes([d], pool(nodes_ready=1))["h100"].nodes == 3


def test_without_a_forecast_only_what_is_wanted_now_is_packed() -> None:
    d = served(forecast=None, rate_rps=8.0)
    replicas = create_policy("predictive", {}).propose(fleet(d), PredictiveState(), 0.0).replicas[d.key].replicas
    assert nodes([d], pool(nodes_ready=1))["h100"].nodes == -(-replicas // 2)


def test_a_pool_that_refuses_keeps_what_it_has_and_the_next_one_takes_the_rest() -> None:
    d = served(node_pools=("spot", "h100"), forecast=flat_forecast(24.0))
    found = nodes([d], pool("spot", refused=True, nodes_ready=2), pool("h100", nodes_ready=0))
    assert {name: p.nodes for name, p in found.items()} == {"spot": 2, "h100": 3}


def test_what_exceeds_the_first_pool_falls_to_the_second() -> None:
    d = served(node_pools=("spot", "h100"), forecast=flat_forecast(24.0))
    found = nodes([d], pool("spot", max_nodes=3), pool("h100", nodes_ready=0))
    assert {name: p.nodes for name, p in found.items()} == {"spot": 3, "h100": 2}


def test_a_pool_that_nobody_prefers_is_left_alone() -> None:
    assert set(nodes([served()], pool(), pool("a100"))) == {"h100"}
    assert nodes([served(node_pools=())], pool()) == {}


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([], 0), ([1], 1), ([4, 4], 1), ([4, 4, 1], 2), ([5, 5, 3, 3], 2), ([8] * 3, 3), ([16], 2), ([12, 4], 3)],
)
def test_packing_on_nodes_of_eight(sizes: list[int], expected: int) -> None:
    assert nodes_for([(size, 1) for size in sizes], 8) == expected


@given(st.lists(st.integers(1, 8), max_size=30))
def test_packing_holds_everything_and_wastes_less_than_half(sizes: list[int]) -> None:
    count = nodes_for([(size, 1) for size in sizes], 8)
    assert count * 8 >= sum(sizes)
    assert count <= 2 * -(-sum(sizes) // 8)


def one_by_one(sizes: list[int], gpus_per_node: int) -> int:
    """First fit decreasing, said plainly: each replica on the first node that has room."""
    whole, free = 0, list[int]()
    for size in sorted(sizes, reverse=True):
        if size > gpus_per_node:
            whole += -(-size // gpus_per_node)
            continue
        place = next((i for i, left in enumerate(free) if left >= size), None)
        if place is None:
            free.append(gpus_per_node - size)
        else:
            free[place] -= size
    return whole + len(free)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 12)), max_size=12), st.integers(1, 17))
def test_many_replicas_at_once_are_packed_as_they_are_one_by_one(
    replicas: list[tuple[int, int]], gpus_per_node: int
) -> None:
    sizes = [size for size, count in replicas for _ in range(count)]
    assert nodes_for(replicas, gpus_per_node) == one_by_one(sizes, gpus_per_node)


def test_a_hundred_thousand_replicas_are_packed_by_their_sizes() -> None:
    assert nodes_for([(5, 100_000), (3, 100_000), (1, 7)], 8) == 100_001
    much = served(gpus_per_replica=3, running=100_000, target=100_000, max_replicas=100_000)
    assert nodes([much], pool(nodes_ready=50_000, max_nodes=60_000))["h100"].nodes >= 50_000
