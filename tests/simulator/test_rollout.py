"""A new version in the middle: which replicas stop, which start, what the target is, what is pulled; and crashes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.serve.rollout import Update, outdated, stopping_first, surging
from tests.simulator.fleet import Fleet, fleet, pool, spec

LOOP_S, LOAD_S = 0.1, 12.0


@dataclass(frozen=True)
class Some:
    state: str
    version: int


def some(**counts: int) -> list[Some]:
    """`old_running=3, new_starting=1` as replicas; version 1 is the new one."""
    found = []
    for name, count in counts.items():
        age, _, state = name.partition("_")
        found += [Some(state.upper(), int(age == "new"))] * count
    return found


def redeploy(f: Fleet, at_s: float, update: Update, keep_target: bool = False) -> None:
    f.queue.at(at_s, lambda: f.serve.redeploy(update, keep_target))


def running(f: Fleet, version: int) -> int:
    return sum(r.state == "RUNNING" and r.version == version for r in f.serve.replicas.values())


# ---------------------------------------------------------------- the rule


@pytest.mark.parametrize(
    ("replicas", "target", "stops"),
    [
        (some(old_running=10), 10, 2),  # a fifth at once
        (some(old_running=3), 3, 1),  # at least one
        (some(old_running=9, old_stopping=1, new_starting=1), 10, 1),  # one is in transition
        (some(old_running=8, old_stopping=2, new_starting=2), 10, 0),
        (some(old_running=8, old_stopping=2, new_running=2), 10, 2),  # these are over, though the old still drain
        (some(old_running=8, old_stopping=3), 10, 0),  # a scale-down ends first
        (some(old_running=4), 0, 0),
        (some(new_running=4), 4, 0),
        (some(old_running=2, new_starting=6), 8, 0),  # a target that rose: what is missing is in transition
    ],
)
def test_old_replicas_stop_a_batch_at_a_time_when_the_new_ones_run(
    replicas: list[Some], target: int, stops: int
) -> None:
    assert len(stopping_first(replicas, 1, target, Update(target))) == stops


def test_old_replicas_that_only_start_stop_first() -> None:
    stopped = stopping_first(some(old_running=4, old_starting=1), 1, 5, Update(5))
    assert stopped == some(old_starting=1)


@pytest.mark.parametrize(
    ("replicas", "target", "stops", "starts"),
    [
        (some(old_running=4), 4, 0, 2),  # half of them may be there in addition
        (some(old_running=4, new_starting=2), 4, 0, 0),
        (some(old_running=4, new_running=1, new_starting=1), 4, 1, 0),  # one more runs than is wanted
        (some(old_running=3, old_stopping=1, new_running=1, new_starting=1), 4, 0, 1),
        (some(old_running=3, old_starting=1), 4, 1, 2),  # one that only starts is no loss
        (some(new_running=3, old_running=2), 4, 1, 1),
    ],
)
def test_with_surge_new_ones_start_first_and_no_running_one_goes_that_is_needed(
    replicas: list[Some], target: int, stops: int, starts: int
) -> None:
    stop, start = surging(replicas, 1, target, Update(target, max_surge_fraction=0.5))
    assert (len(stop), start) == (stops, starts)


@given(
    counts=st.lists(st.integers(0, 6), min_size=5, max_size=5),
    target=st.integers(1, 12),
    surge=st.sampled_from([0.1, 0.5, 1.0]),
)
def test_with_surge_capacity_never_falls_below_the_target(counts: list[int], target: int, surge: float) -> None:
    kinds = ("old_running", "old_starting", "old_stopping", "new_running", "new_starting")
    replicas = some(**dict(zip(kinds, counts, strict=True)))
    stop, start = surging(replicas, 1, target, Update(target, max_surge_fraction=surge))
    before = sum(r.state == "RUNNING" for r in replicas)
    assert before - sum(r.state == "RUNNING" for r in stop) >= min(before, target)
    active = sum(r.state in ("RUNNING", "STARTING") for r in replicas)
    assert start == 0 or active + start <= target + -(-surge * target // 1)


# ---------------------------------------------------------------- in the cluster


def test_replicas_are_replaced_one_after_the_other_where_gpus_are_scarce() -> None:
    f = fleet(pool(max_nodes=1), deployments=(spec(initial=2),))
    redeploy(f, 10.0, Update(2))
    f.run(10.2)
    assert sorted(f.states()) == ["RUNNING", "STARTING", "STOPPING"]
    f.run(12.3)  # the drained one gave its GPUs to the new one
    assert f.states() == ["RUNNING", "STARTING"]
    f.run(12.1 + LOAD_S + 0.2)
    assert sorted(f.states()) == ["RUNNING", "STARTING", "STOPPING"]
    f.run(60.0)
    assert (f.states(), running(f, 1)) == (["RUNNING", "RUNNING"], 2)
    first, second = f.plane.times("add")[2:]
    assert first == pytest.approx(12.1 + LOAD_S)
    assert second == pytest.approx(first + LOOP_S + 2.0 + LOAD_S)


def test_the_target_falls_back_to_the_configured_number_and_running_replicas_go_at_once() -> None:
    """What makes a redeploy at the peak dangerous: Serve knows nothing of the level that was set from outside."""
    f = fleet(deployments=(spec(initial=1),))
    f.at(1.0, 4)
    f.run(200.0)
    assert f.serve.count("RUNNING") == 4
    f.plane.busy = set(f.serve.replicas)
    redeploy(f, 200.0, Update(1))
    f.at(205.0, 4)  # the controller puts it back at its next tick
    f.run(204.0)
    assert (f.serve.target, f.serve.inventory().configured_replicas) == (1, 1)
    assert f.serve.count("RUNNING") == 1
    f.run(206.0)
    assert running(f, 0) == 1
    assert f.serve.count("STARTING") == 3
    f.run(400.0)
    assert running(f, 1) == 4


def test_a_single_replica_without_surge_leaves_nobody_in_between() -> None:
    f = fleet(deployments=(spec(initial=1),))
    redeploy(f, 10.0, Update(1))
    f.run(12.0)
    assert f.serve.count("RUNNING") == 0
    g = fleet(deployments=(spec(initial=1),))
    redeploy(g, 10.0, Update(1, max_surge_fraction=1.0))
    for time_s in range(10, 60):
        g.run(float(time_s))
        assert g.serve.count("RUNNING") >= 1
    assert running(g, 1) == 1


def test_a_number_in_the_new_configuration_keeps_the_fleet_up() -> None:
    f = fleet(deployments=(spec(initial=1),))
    f.at(1.0, 4)
    redeploy(f, 200.0, Update(4))
    for time_s in range(200, 400):
        f.run(float(time_s))
        assert f.serve.count("RUNNING") >= 3
    assert running(f, 1) == 4
    assert f.serve.inventory().configured_replicas == 4


def test_serves_own_autoscaler_keeps_its_target() -> None:
    f = fleet(deployments=(spec(initial=1),))
    f.at(1.0, 4)
    redeploy(f, 200.0, Update(1), keep_target=True)
    f.run(400.0)
    assert (f.serve.target, running(f, 1)) == (4, 4)


def test_a_new_image_is_pulled_once_on_each_node() -> None:
    f = fleet(pool(max_nodes=2), deployments=(spec(initial=4),))
    redeploy(f, 10.0, Update(4, new_image=True))
    f.run(300.0)
    starts = f.plane.times("add")[4:]
    assert starts[0] == pytest.approx(12.1 + 20 + LOAD_S)
    waits = [round(b - a - LOOP_S - 2.0 - LOAD_S, 6) for a, b in pairwise(starts)]
    assert sorted(waits) == [0, 0, 20]
    assert all(f"{f.serve.spec.key.full}@1" in n.images for n in f.cluster.pools["h100"].nodes)


def test_a_second_redeploy_overtakes_the_first() -> None:
    f = fleet(deployments=(spec(initial=3),))
    redeploy(f, 10.0, Update(3))
    redeploy(f, 15.0, Update(3))
    f.run(300.0)
    assert running(f, 2) == 3
    assert len(f.serve.replicas) == 3


@settings(max_examples=40, deadline=None)
@given(
    changes=st.lists(st.tuples(st.floats(0.5, 60.0), st.integers(0, 6)), max_size=8),
    updates=st.lists(st.tuples(st.floats(1.0, 300.0), st.integers(1, 5), st.sampled_from([0.0, 0.5])), max_size=3),
    crash_s=st.floats(1.0, 300.0),
    busy=st.booleans(),
)
def test_whatever_happens_in_between_all_replicas_are_new_in_the_end(
    changes: list[tuple[float, int]], updates: list[tuple[float, int, float]], crash_s: float, busy: bool
) -> None:
    f = fleet(pool(max_nodes=4), deployments=(spec(initial=2),))
    if busy:
        f.plane.busy = set(f.serve.replicas)
    now_s = 0.0
    for wait_s, target in changes:
        now_s += wait_s
        f.at(now_s, target)
    for at_s, replicas, surge in updates:
        redeploy(f, at_s, Update(replicas, max_surge_fraction=surge))

    def crash() -> None:
        alive = [r for r in f.serve.replicas.values() if r.state == "RUNNING"]
        if alive:
            f.serve.crash(alive[0], 4.0)

    f.queue.at(crash_s, crash)
    f.at(600.0, 3)
    f.run(2000.0)
    assert running(f, len(updates)) == 3 == len(f.serve.replicas)
    assert not outdated(list(f.serve.replicas.values()), f.serve.version)
    assert f.serve.allocated.level == 3 * f.serve.spec.gpus
    assert f.cluster.waiting == []


# ---------------------------------------------------------------- crashes


def test_a_crashed_replica_is_listed_until_the_health_check_and_then_replaced() -> None:
    f = fleet(deployments=(spec(initial=2),))
    victim = next(iter(f.serve.replicas.values()))
    f.queue.at(50.0, lambda: f.serve.crash(victim, 6.0))
    f.run(55.9)
    assert f.plane.log[-1] == ("kill", victim.replica_id, 50.0)
    assert (f.states(), f.serve.inventory().dead_replicas) == (["RUNNING", "RUNNING"], 0)
    f.run(56.2)
    assert (f.states(), f.serve.inventory().dead_replicas) == (["RUNNING", "STARTING"], 1)
    f.run(80.0)
    assert f.plane.times("add")[-1] == pytest.approx(56.0 + LOOP_S + LOAD_S)
    assert f.serve.starts[0].path == "free_gpu"


def test_a_crashed_replica_that_is_to_stop_is_gone_at_once() -> None:
    f = fleet(deployments=(spec(initial=1),))
    victim = next(iter(f.serve.replicas.values()))
    f.queue.at(50.0, lambda: f.serve.crash(victim, 9.0))
    f.at(52.0, 0)
    f.run(52.2)
    assert f.states() == []
    assert f.plane.times("drain") == []
    f.run(80.0)
    assert f.states() == []
    assert f.serve.dead == 1
