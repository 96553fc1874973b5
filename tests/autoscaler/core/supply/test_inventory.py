"""Lead times from what is seen: ends of starts, and starts that do not end."""

from __future__ import annotations

import pytest

from autoscaler.core.build import new_controller
from autoscaler.core.controller import Controller
from autoscaler.core.state import ControllerState
from autoscaler.core.supply.inventory import longest_gap_s
from autoscaler.core.supply.learning import learn_nodes, learn_pool, refused_share
from autoscaler.core.types import (
    DeploymentSettings,
    NodeSignal,
    PoolRefusal,
    PoolSettings,
    PoolSignals,
    ReplicaSignal,
    Signals,
    WorkerSignal,
)
from policies.base.durations import Duration
from tests.autoscaler.build import KEY, Says, config, inventory, metrics, signals


def start(controller: Controller, name: str, asked_at_s: float, takes_s: float) -> float:
    """One replica more from STARTING to RUNNING and away again; the median lead time afterwards."""
    policy = controller.policy
    assert isinstance(policy, Says)
    plan = None
    starting = [(at_s, "STARTING", 2) for at_s in (1.0, *range(30, int(takes_s), 30))]
    for at_s, state, wants in (
        (0.0, None, 2), *starting, (takes_s, "RUNNING", 2), (takes_s + 60.0, None, 1),
    ):  # fmt: skip
        now_s = asked_at_s + at_s
        policy.replicas = wants
        replicas = (ReplicaSignal("r0", "RUNNING", 0.0), *([ReplicaSignal(name, state)] if state else []))
        found = inventory(now_s, running=len(replicas), replicas=replicas)
        plan = controller.step(signals(found, metrics(now_s)), now_s)
    assert plan is not None
    return plan.lead_times[KEY].free_gpu.median_s


def test_a_shift_is_followed_within_a_few_starts() -> None:
    controller = new_controller(config(), policy=Says(1))
    for i in range(20):
        before_s = start(controller, f"a{i}", 1000.0 * i, 60.0)
    assert 55 < before_s < 66
    medians = [start(controller, f"b{i}", 100_000.0 + 1000.0 * i, 240.0) for i in range(5)]
    assert medians[2] > 120
    assert medians[4] > 170
    assert medians == sorted(medians)


def replaced_unseen(gap_s: float, name: str, state: str, began_s: float) -> tuple[float, float]:
    """Its replica is replaced while nobody looks for so long; the median lead time before and after, once it runs."""
    controller = new_controller(config(), policy=Says(2))
    for i in range(20):
        before_s = start(controller, f"a{i}", 1000.0 * i, 27.0)
    policy = controller.policy
    assert isinstance(policy, Says)
    policy.replicas = 2
    last_s = 30_000.0
    for now_s, replica in (
        (last_s, ReplicaSignal("r1", "RUNNING", last_s - 87.0)),
        (last_s + gap_s, ReplicaSignal(name, state, last_s + began_s)),
        (last_s + gap_s + 5.0, ReplicaSignal(name, "RUNNING", last_s + began_s)),
    ):
        found = inventory(now_s, running=2, replicas=(ReplicaSignal("r0", "RUNNING", 0.0), replica))
        plan = controller.step(signals(found, metrics(now_s)), now_s)
    return before_s, plan.lead_times[KEY].free_gpu.median_s


@pytest.mark.parametrize(
    ("state", "began_s"), [("RUNNING", 600.0), ("STARTING", 600.0), ("RUNNING", 1490.0)],
    ids=["it runs for long", "it starts for long", "it runs since lately"],
)  # fmt: skip
def test_replicas_that_were_replaced_while_nobody_looked_teach_nothing(state: str, began_s: float) -> None:
    """The dashboard was away for 25 minutes: when the new replica ran is not known, or by which path it came."""
    before_s, after_s = replaced_unseen(1500.0, "r2", state, began_s)
    assert 25.0 < before_s < 30.0
    assert after_s == pytest.approx(before_s, rel=0.02)


def test_a_start_that_began_shortly_before_the_first_look_after_a_gap_is_learned() -> None:
    before_s, after_s = replaced_unseen(1500.0, "r2", "STARTING", 1450.0)
    assert after_s > 1.05 * before_s


def test_a_gap_of_a_few_looks_does_no_harm() -> None:
    before_s, after_s = replaced_unseen(55.0, "r2", "RUNNING", 5.0)
    assert after_s > 1.05 * before_s


def test_with_long_ticks_two_of_them_are_no_gap() -> None:
    assert [longest_gap_s(tick_s) for tick_s in (0.5, 5.0, 30.0, 300.0)] == [60.0, 60.0, 60.0, 600.0]


def test_a_start_that_went_while_nobody_looked_did_not_fail() -> None:
    controller = new_controller(config(), policy=Says(2))
    for i in range(10):
        now_s = 1500.0 * i
        replicas = (ReplicaSignal("r0", "RUNNING", 0.0), ReplicaSignal(f"s{i}", "STARTING", now_s - 10.0))
        controller.step(signals(inventory(now_s, replicas=replicas, target=2), metrics(now_s)), now_s)
    assert controller.state.deployments[KEY.full].supply.failed_starts == []


def under_way(controller: Controller, now_s: float, *starting: str) -> Duration:
    replicas = (ReplicaSignal("r0", "RUNNING", 0.0), *(ReplicaSignal(name, "STARTING", 0.0) for name in starting))
    found = inventory(now_s, running=1, target=2, replicas=replicas)
    return controller.step(signals(found, metrics(now_s)), now_s).lead_times[KEY].free_gpu


def test_a_start_that_does_not_end_tells_so_before_it_ends() -> None:
    controller = new_controller(config(), policy=Says(2))
    prior = under_way(controller, 0.0)
    early = under_way(controller, 30.0, "slow")
    assert early.median_s == prior.median_s, "not overdue yet"
    medians = [under_way(controller, now_s, "slow").median_s for now_s in (300.0, 600.0, 1200.0, 2400.0)]
    assert prior.median_s < medians[0] < medians[1] < medians[2] < medians[3]


def test_a_hung_start_that_is_given_up_does_not_stay_a_fear() -> None:
    controller = new_controller(config(), policy=Says(2))
    prior = under_way(controller, 0.0)
    for now_s in (100.0, 1000.0, 7200.0):
        feared = under_way(controller, now_s, "hung")
    assert feared.median_s > prior.median_s
    under_way(controller, 7300.0)
    assert under_way(controller, 7305.0).median_s == prior.median_s


def test_the_book_does_not_grow_with_starts_that_never_were() -> None:
    controller = new_controller(config(), policy=Says(1))
    for tick in range(50):
        under_way(controller, 5.0 * tick)
    assert controller.state.book.stages == {}


def pool(now_s: float, *nodes: NodeSignal) -> PoolSignals:
    return PoolSignals("h100", now_s, nodes)


def test_a_node_that_does_not_come_tells_so_too() -> None:
    controller = new_controller(config(pools=(PoolSettings("h100"),)), policy=Says(1))
    state = controller.state
    prior = PoolSettings("h100").provision_s
    key = "h100/provision"
    learn_nodes(state, pool(60.0, NodeSignal("n1", "starting", requested_at_s=0.0)), 60.0)
    assert state.book.estimate(key, prior).median_s == prior.median_s
    learn_nodes(state, pool(1500.0, NodeSignal("n1", "starting", requested_at_s=0.0)), 1500.0)
    assert state.book.estimate(key, prior).median_s > prior.median_s
    words = learn_nodes(state, pool(1600.0, NodeSignal("n1", "ready", 0.0, 1590.0)), 1600.0)
    assert words == ["node n1 of pool h100 was Ready 1590 s after it was asked for"]
    assert state.book.estimate(key, prior).median_s > prior.median_s


# ---------------------------------------------------------------- which way a start went, and what it teaches

SLOW_NODES = PoolSettings("h100")
WITH_POOL = DeploymentSettings("chat/llm", min_replicas=1, max_replicas=8, node_pools=("h100",))


def on_nodes(
    now_s: float, *nodes: NodeSignal, running: tuple[str, ...] = ("r",), starting: tuple[str, ...] = ()
) -> Signals:
    replicas = (
        *(ReplicaSignal(name, "RUNNING", 0.0) for name in running),
        *(ReplicaSignal(name, "STARTING") for name in starting),
    )
    found = inventory(now_s, running=len(running), target=len(replicas), replicas=replicas)
    return signals(found, metrics(now_s), pools=(pool(now_s, *nodes),))


def test_starts_on_a_warm_node_are_followed_when_they_take_longer_than_believed() -> None:
    policy = Says(2)
    controller = new_controller(config(WITH_POOL, pools=(SLOW_NODES,)), policy=policy)
    busy = NodeSignal("n0", "ready", gpus=1, gpus_used=1, workers=1)
    medians = []
    for i in range(6):
        at_s = 2000.0 * i
        warm = NodeSignal("n1", "ready", gpus=1, gpus_used=0, workers=0)
        taken = NodeSignal("n1", "ready", gpus=1, gpus_used=1, workers=1)
        policy.replicas = 2
        controller.step(on_nodes(at_s, busy, warm), at_s)
        for after_s in (5.0, *range(50, 400, 50)):
            controller.step(on_nodes(at_s + after_s, busy, taken, starting=(f"s{i}",)), at_s + after_s)
        plan = controller.step(on_nodes(at_s + 400.0, busy, taken, running=("r", f"s{i}")), at_s + 400.0)
        medians.append(plan.lead_times[KEY].warm_node.median_s)
        assert "(warm node)" in plan.learned[-1]
        policy.replicas = 1
        controller.step(on_nodes(at_s + 500.0, busy, warm), at_s + 500.0)
    assert medians[0] < 200.0
    assert medians[-1] == pytest.approx(400.0, rel=0.2)
    assert {"h100/worker_start", f"{KEY.full}/replica"} <= set(controller.state.book.stages)


def test_of_three_starts_at_once_only_the_first_finds_the_free_gpu() -> None:
    controller = new_controller(config(WITH_POOL, pools=(SLOW_NODES,)), policy=Says(4))
    used = NodeSignal("n0", "ready", gpus=2, gpus_used=1, workers=1)
    warm = NodeSignal("n1", "ready", gpus=1, gpus_used=0, workers=0)
    controller.step(on_nodes(0.0, used, warm), 0.0)
    full = (NodeSignal("n0", "ready", gpus=2, gpus_used=2, workers=1), warm)
    controller.step(on_nodes(5.0, *full, starting=("a", "b", "c")), 5.0)
    starts = controller.state.deployments[KEY.full].supply.starts
    assert [starts[name].path for name in "abc"] == ["free_gpu", "warm_node", "new_node"]


def test_a_start_that_waits_for_a_node_on_its_way_is_not_taken_for_a_slow_engine() -> None:
    controller = new_controller(config(WITH_POOL, pools=(SLOW_NODES,)), policy=Says(2))
    used = NodeSignal("n0", "ready", gpus=1, gpus_used=1, workers=1)
    coming = NodeSignal("n1", "starting", requested_at_s=0.0, gpus=1)
    prior = controller.step(on_nodes(0.0, used, coming), 0.0).lead_times[KEY]
    for now_s in (5.0, 1200.0):
        waiting = controller.step(on_nodes(now_s, used, coming, starting=("s",)), now_s).lead_times[KEY]
    assert waiting.free_gpu == prior.free_gpu
    assert waiting.new_node.median_s > prior.new_node.median_s
    there = NodeSignal("n1", "ready", requested_at_s=0.0, ready_at_s=200.0, gpus=1, gpus_used=1, workers=1)
    hung = controller.step(on_nodes(2400.0, used, there, starting=("s",)), 2400.0).lead_times[KEY]
    assert hung.free_gpu.median_s > prior.free_gpu.median_s


# ---------------------------------------------------------------- workers and refusals, as the cluster shows them


def seen(
    *workers: WorkerSignal, refusals: tuple[PoolRefusal, ...] = (), nodes: tuple[NodeSignal, ...] = ()
) -> PoolSignals:
    return PoolSignals("h100", 1000.0, nodes, workers=workers, refusals=refusals)


def test_a_worker_that_came_up_teaches_its_images_pull_and_its_own_start_once() -> None:
    state = ControllerState()
    worker = WorkerSignal("llm/w", 100.0, 190.0, pull_s=60.0)
    for _ in range(2):
        words = learn_pool(state, seen(worker), 1000.0)
    assert words == []
    assert state.book.stages["h100/image_pull"].starts == 1.0
    assert state.book.estimate("h100/image_pull", Duration(0.0)).median_s == pytest.approx(60.0)
    assert state.book.estimate("h100/worker_start", Duration(0.0)).median_s == pytest.approx(30.0)


def test_an_image_that_was_there_teaches_nothing_of_pulls() -> None:
    state = ControllerState()
    (words,) = learn_pool(state, seen(WorkerSignal("llm/w", 100.0, 112.0, pull_s=0.0)), 1000.0)
    assert words == "worker llm/w was up 12 s after it had a node, 0 s of it pull"
    assert set(state.book.stages) & {"h100/image_pull", "h100/worker_start"} == {"h100/worker_start"}


def test_without_events_nobody_can_tell_pull_from_start() -> None:
    state = ControllerState()
    assert learn_pool(state, seen(WorkerSignal("llm/w", 100.0, 190.0, pull_s=None)), 1000.0) == []
    assert "h100/worker_start" not in state.book.stages


def test_refusals_are_counted_by_zone_once_each_and_fade() -> None:
    state = ControllerState()
    refused = (PoolRefusal(900.0, "stockout", "us-central1-a"), PoolRefusal(950.0, "quota", "us-central1-b"))
    words = learn_pool(state, seen(refusals=refused), 1000.0)
    assert words == [
        "pool h100: nodes were refused in us-central1-a (stockout)",
        "pool h100: nodes were refused in us-central1-b (quota)",
    ]
    assert learn_pool(state, seen(refusals=refused), 1005.0) == []
    zones = state.pools["h100"].zones
    assert zones["us-central1-b"].kind == "quota"
    first = refused_share(zones["us-central1-a"])
    came = NodeSignal("n", "ready", 1000.0, 1100.0, 8, zone="us-central1-a")
    learn_pool(state, seen(refusals=refused, nodes=(came,)), 1100.0)
    assert refused_share(zones["us-central1-a"]) < first
    learn_pool(state, seen(refusals=refused), 1000.0 + 3 * 86400.0)
    assert zones["us-central1-a"].refused == pytest.approx(1 / 8, rel=0.01)


def test_a_refusal_that_lasts_is_one_however_often_it_is_told() -> None:
    state, words = ControllerState(), []
    for at_s in range(0, 900, 5):
        words += learn_pool(
            state, seen(refusals=(PoolRefusal(900.0 + at_s, "other", "", f"for {at_s} s"),)), 900.0 + at_s
        )
    assert words == ["pool h100: nodes were refused (other)"]
    assert learn_pool(state, seen(refusals=(PoolRefusal(2100.0, "other"),)), 2100.0) == words


def test_no_more_zones_are_kept_than_there_can_be() -> None:
    state = ControllerState()
    for n in range(500):
        learn_pool(state, seen(refusals=(PoolRefusal(float(n), "quota", f"z{n}"),)), float(n))
    zones = state.pools["h100"].zones
    assert (len(zones), "z499" in zones, "z0" in zones) == (64, True, False)


def test_what_was_learned_of_zones_survives_a_restart() -> None:
    state = ControllerState()
    learn_pool(state, seen(refusals=(PoolRefusal(900.0, "stockout", "a"),)), 1000.0)
    again = ControllerState.from_bytes(state.to_bytes())
    assert again.pools["h100"].zones["a"].refused == pytest.approx(1.0)
