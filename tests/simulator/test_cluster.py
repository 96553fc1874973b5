"""Nodes, workers and replicas: the three paths of a start, packing, pre-warm, refusals, spot, scale-down, the bill."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.core.state import ControllerState
from autoscaler.core.supply.learning import learn_losses
from policies.base.durations import Duration
from simulator.cluster.types import Stockout
from tests.simulator.fleet import Fleet, fleet, pool, spec

LOOP_S, LOAD_S = 0.1, 12.0


# ---------------------------------------------------------------- the three paths


def test_without_a_node_a_start_takes_every_stage() -> None:
    f = fleet()
    f.at(1.0, 1)
    f.run(300)
    # next look of Ray's autoscaler at 5 s, then node, image, worker, replica
    assert f.plane.times("add") == [pytest.approx(5.0 + 60 + 20 + 10 + LOAD_S)]
    assert f.serve.starts[0].path == "new_node"


def test_on_a_warm_node_a_start_skips_the_node() -> None:
    f = fleet(pool(min_nodes=1))
    f.at(101.0, 1)
    f.run(300)
    assert f.plane.times("add") == [pytest.approx(105.0 + 20 + 10 + LOAD_S)]
    assert f.serve.starts[0].path == "warm_node"


def test_on_a_free_gpu_of_a_running_worker_a_start_only_loads() -> None:
    f = fleet(deployments=(spec(initial=1),))
    f.at(7.0, 2)
    f.run(300)
    assert f.plane.times("add") == [0.0, pytest.approx(7.0 + LOOP_S + LOAD_S)]
    assert f.serve.starts[0].path == "free_gpu"


def test_a_second_worker_on_a_node_finds_the_image_there() -> None:
    f = fleet(pool(worker_gpus=2))
    f.at(1.0, 1)
    f.at(200.0, 2)
    f.run(400)
    assert f.plane.times("add")[1] == pytest.approx(205.0 + 10 + LOAD_S)


def test_replicas_are_packed_and_ask_for_no_more_nodes_than_they_need() -> None:
    f = fleet()
    f.at(1.0, 5)
    f.run(300)
    assert len(f.cluster.pools["h100"].nodes) == 3
    assert sorted(w.gpus_used for w in f.cluster.workers) == [2, 4, 4]


def test_what_does_not_fit_waits_until_something_is_given_back() -> None:
    f = fleet(pool(max_nodes=1), deployments=(spec(), spec(key=spec().key.parse("code/llm"))))
    f.at(1.0, 2)
    f.at(2.0, 1, which=1)
    f.run(200)
    assert f.states() == ["RUNNING", "RUNNING"]
    assert [r.state for r in f.serves[1].replicas.values()] == ["STARTING"]
    f.at(200.0, 1)
    f.run(203.0)  # the drained one is gone at the second look, and its GPUs are taken at once
    assert [r.node for r in f.serves[1].replicas.values()] == ["h100-1"]


# ---------------------------------------------------------------- stopping


def test_a_drained_replica_goes_at_the_next_look_of_the_wait_loop() -> None:
    f = fleet(deployments=(spec(initial=1),))
    f.at(10.0, 0)
    f.run(12.0)
    assert f.states() == ["STOPPING"]
    f.run(12.2)
    assert f.states() == []
    assert f.plane.times("drain") == [pytest.approx(10.1)]


def test_a_busy_replica_drains_until_its_grace_is_over() -> None:
    f = fleet(deployments=(spec(initial=1),))
    f.plane.busy = set(f.serve.replicas)
    f.at(10.0, 0)
    f.run(30.0)
    assert f.states() == ["STOPPING"]
    f.run(30.2)
    assert f.states() == []
    assert f.plane.times("kill") == [pytest.approx(10.1 + 20.0)]


def test_a_replica_that_waits_for_gpus_is_withdrawn_first_and_listed_for_its_grace() -> None:
    f = fleet(pool(max_nodes=1), deployments=(spec(initial=2),))
    f.at(10.0, 3)
    f.at(20.0, 2)
    f.run(21.0)
    assert sorted(f.states()) == ["RUNNING", "RUNNING", "STOPPING"]
    assert f.cluster.waiting == []
    f.run(41.0)
    assert f.states() == ["RUNNING", "RUNNING"]
    assert [s.withdrawn for s in f.serve.starts] == [True]


def test_victims_are_on_the_node_with_the_fewest_replicas_of_anybody_and_the_newest_there() -> None:
    other = spec(key=spec().key.parse("code/llm"), gpus=1, initial=2)
    f = fleet(deployments=(spec(initial=3), other))
    oldest, middle, newest = f.serve.replicas.values()
    assert [r.node for r in (oldest, middle, newest)] == ["h100-1", "h100-1", "h100-2"]
    assert {r.node for r in f.serves[1].replicas.values()} == {"h100-2"}  # three on the second node, two on the first
    f.at(1.0, 2)
    f.run(5.0)
    assert list(f.serve.replicas.values()) == [oldest, newest]


def test_repeating_a_level_changes_nothing() -> None:
    f = fleet(deployments=(spec(initial=1),))
    for time_s in (1.0, 2.0, 3.0):
        f.at(time_s, 2)
    f.run(100)
    assert len(f.serve.replicas) == 2
    assert f.serve.scale_ups == 1


# ---------------------------------------------------------------- nodes come, go and cost


def test_an_empty_worker_and_then_its_node_go_after_their_times() -> None:
    f = fleet(deployments=(spec(initial=1),))
    f.at(10.0, 0)
    f.run(44.9)  # gone at 12.1, idle for 30 s, then the autoscaler's next look: 45
    assert len(f.cluster.workers) == 1
    f.run(45.0)
    assert len(f.cluster.workers) == 0
    f.run(144.9)
    assert len(f.cluster.pools["h100"].nodes) == 1
    f.run(145.0)
    assert len(f.cluster.pools["h100"].nodes) == 0
    assert f.cluster.pools["h100"].billed_nodes.total(500.0) == pytest.approx(145.0)
    assert f.cluster.pools["h100"].cost_usd(500.0) == pytest.approx(1.45)


def test_a_level_warms_nodes_and_holds_them_and_lets_them_go() -> None:
    f = fleet()
    nodes = f.cluster.pools["h100"]
    f.queue.at(10.0, lambda: nodes.set_level(2))
    f.run(69.0)
    assert [n.state for n in nodes.nodes] == ["starting", "starting"]
    f.run(1000.0)
    assert [n.state for n in nodes.nodes] == ["ready", "ready"]
    f.queue.at(1000.0, lambda: nodes.set_level(1))
    f.run(1099.0)
    assert len(nodes.nodes) == 2
    f.run(1101.0)
    assert len(nodes.nodes) == 1
    assert nodes.prewarm_wasted_node_s(1101.0) == pytest.approx((1100.0 - 70.0) + (1101.0 - 70.0))


def test_a_level_counts_busy_nodes_too() -> None:
    f = fleet(deployments=(spec(initial=2),))
    nodes = f.cluster.pools["h100"]
    nodes.set_level(1)
    assert len(nodes.nodes) == 1
    nodes.set_level(2)
    assert len(nodes.nodes) == 2
    assert [n.prewarmed for n in nodes.nodes] == [False, True]


def test_pre_warming_stops_wasting_when_a_replica_is_placed() -> None:
    f = fleet()
    nodes = f.cluster.pools["h100"]
    nodes.set_level(1)
    f.at(100.0, 1)
    f.run(500.0)
    # Ready at 60; asked at 100.1, looked at 105, worker up at 135
    assert nodes.prewarm_wasted_node_s(500.0) == pytest.approx(75.0)
    assert (nodes.started, len(nodes.prewarmed)) == (1, 1)


def test_without_a_way_to_pre_warm_levels_are_ignored() -> None:
    f = fleet(pool(prewarm=False))
    f.cluster.pools["h100"].set_level(2)
    assert f.cluster.pools["h100"].nodes == []


def test_reserved_nodes_are_billed_also_when_they_are_not_there() -> None:
    f = fleet(pool(reserved_nodes=2))
    f.run(100.0)
    assert f.cluster.pools["h100"].billed_nodes.total(100.0) == pytest.approx(200.0)


def test_a_refusal_sends_replicas_to_the_next_pool_and_is_shown() -> None:
    short = pool(name="spot", stockouts=(Stockout(0.0, 50.0, 1.0),))
    f = fleet(short, pool(), deployments=(spec(pools=("spot", "h100")),))
    f.at(1.0, 1)
    f.run(300.0)
    assert [r.node for r in f.serve.replicas.values()] == ["h100-1"]
    assert f.cluster.signals()[0].refused_at_s == pytest.approx(5.0)
    assert [p.refused for p in f.cluster.pools.values()] == [1, 0]


def test_a_refusing_pool_is_asked_again_after_its_back_off() -> None:
    f = fleet(pool(stockouts=(Stockout(0.0, 50.0, 1.0),)))
    f.at(1.0, 1)
    f.run(900.0)
    assert f.plane.times("add") == [pytest.approx(305.0 + 60 + 20 + 10 + LOAD_S)]


def test_a_spot_node_that_is_taken_away_takes_its_replicas_and_serve_starts_others() -> None:
    f = fleet(pool(preemption_per_node_hour=30.0), deployments=(spec(initial=2),))
    f.run(1200.0)
    assert f.serve.dead >= 2
    assert f.cluster.pools["h100"].preempted >= 2
    assert len(f.plane.times("kill")) >= 2
    assert f.serve.count("STARTING", "RUNNING") == 2


def learned(f: Fleet, hours: float) -> ControllerState:
    """What a controller learns from what this cluster shows every 15 s."""
    state = ControllerState()
    for at_s in range(15, int(hours * 3600), 15):
        f.run(float(at_s))
        for shown in f.cluster.signals():
            learn_losses(state, shown)
    return state


def test_nodes_that_the_simulator_takes_away_are_learned_from_what_it_shows() -> None:
    f = fleet(pool(preemption_per_node_hour=0.5, gpus_per_node=2, worker_gpus=2), deployments=(spec(initial=3),))
    losses = learned(f, 24.0).pools["h100"].losses
    assert losses.events >= 20
    assert f.serve.dead * 0.8 < losses.taken <= f.serve.dead  # what is old is forgotten by and by
    assert losses.taken / losses.node_hours == pytest.approx(0.5, rel=0.3)


def test_nodes_that_were_given_up_in_the_simulator_were_not_taken_away() -> None:
    f = fleet(pool(gpus_per_node=2, worker_gpus=2), deployments=(spec(initial=3),))
    for i in range(20):
        f.at(300.0 + 400.0 * i, 1 if i % 2 == 0 else 3)
    assert learned(f, 3.0).pools["h100"].losses.taken == 0.0
    assert f.cluster.pools["h100"].started > 5


# ---------------------------------------------------------------- luck and conservation


def test_the_kth_node_takes_as_long_under_any_policy() -> None:
    luck = Duration.from_median_p99(60, 200)

    def ready_after(*targets: tuple[float, int]) -> list[float]:
        f = fleet(pool(provision_s=luck, gpus_per_node=2, worker_gpus=2, scale_down_after_s=9999))
        for at_s, target in targets:
            f.at(at_s, target)
        f.run(3000.0)
        return [round((n.ready_at_s or 0) - n.requested_at_s, 6) for n in f.cluster.pools["h100"].nodes]

    assert ready_after((1, 3)) == ready_after((50, 1), (700, 3)) == ready_after((1, 1), (2, 3))


def check(f: Fleet) -> None:
    """What must hold at any moment."""
    for nodes in f.cluster.pools.values():
        assert len(nodes.nodes) <= nodes.spec.max_nodes
        for node in nodes.nodes:
            assert 0 <= sum(w.gpus_used for w in node.workers) <= node.spec.gpus_per_node
            assert node.gpus_free_for_pods >= 0
    for worker in f.cluster.workers:
        assert 0 <= worker.gpus_used <= worker.gpus
        assert worker.state != "gone"
        assert all(c.worker is worker for c in worker.claims)
    held = {id(c) for w in f.cluster.workers for c in w.claims}
    placed = [r for s in f.serves for r in s.replicas.values() if r.claim.worker is not None]
    assert held == {id(r.claim) for r in placed}
    for serve in f.serves:
        own = [r for r in serve.replicas.values() if r.claim.worker is not None]
        assert serve.allocated.level == sum(r.claim.gpus for r in own)


@settings(max_examples=60, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.floats(0.5, 90.0), st.integers(0, 1), st.integers(0, 6), st.integers(0, 4)), max_size=14
    ),
    busy=st.booleans(),
    preemption=st.sampled_from([0.0, 40.0]),
    gpus=st.sampled_from([(1, 2), (2, 4), (2, 1)]),
)
def test_gpus_neither_leak_nor_go_negative(
    changes: list[tuple[float, int, int, int]], busy: bool, preemption: float, gpus: tuple[int, int]
) -> None:
    """Random targets and levels over two deployments and two pools; then all goes to zero and nothing is left."""
    spot = pool(
        name="spot", worker_gpus=2, preemption_per_node_hour=preemption, stockouts=(Stockout(100.0, 200.0, 0.5),)
    )
    one = spec(gpus=gpus[0], pools=("spot", "h100"), initial=1)
    two = spec(key=spec().key.parse("code/llm"), gpus=gpus[1], pools=("h100",), initial=1)
    f = fleet(spot, pool(), deployments=(one, two))
    now_s = 0.0
    for wait_s, which, target, level in changes:
        now_s += wait_s
        f.at(now_s, target, which)
        f.queue.at(now_s, lambda level=level: f.cluster.pools["spot"].set_level(level))  # type: ignore[misc]
        f.run(now_s)
        if busy:
            f.plane.busy = set(f.serve.replicas)
        check(f)
        allocated = sum(s.allocated.total(now_s) for s in f.serves)
        billed = sum(p.billed_nodes.total(now_s) * p.spec.gpus_per_node for p in f.cluster.pools.values())
        assert 0 <= allocated <= billed + 1e-6
    for which in (0, 1):
        f.at(now_s + 1, 0, which)
    f.queue.at(now_s + 1, lambda: f.cluster.pools["spot"].set_level(0))
    f.run(now_s + 1000.0)
    check(f)
    assert f.cluster.waiting == []
    assert f.cluster.workers == []
    assert [len(p.nodes) for p in f.cluster.pools.values()] == [0, 0]
    assert all(s.replicas == {} for s in f.serves)
