"""Lead times from what is seen: ends of starts, and starts that do not end."""

from __future__ import annotations

from autoscaler.controller import Controller
from autoscaler.model import NodeSignal, PoolSettings, PoolSignals, ReplicaSignal
from autoscaler.supply import learn_nodes
from policies.durations import Duration
from tests.autoscaler.build import KEY, Says, config, inventory, metrics, signals


def start(controller: Controller, name: str, asked_at_s: float, takes_s: float) -> float:
    """One replica more from STARTING to RUNNING and away again; the median lead time afterwards."""
    policy = controller.policy
    assert isinstance(policy, Says)
    plan = None
    for at_s, state, wants in (
        (0.0, None, 2), (1.0, "STARTING", 2), (takes_s, "RUNNING", 2), (takes_s + 60.0, None, 1),
    ):  # fmt: skip
        now_s = asked_at_s + at_s
        policy.replicas = wants
        replicas = (ReplicaSignal("r0", "RUNNING", 0.0), *([ReplicaSignal(name, state)] if state else []))
        found = inventory(now_s, running=len(replicas), replicas=replicas)
        plan = controller.step(signals(found, metrics(now_s)), now_s)
    assert plan is not None
    return plan.lead_times[KEY].free_gpu.median_s


def test_a_shift_is_followed_within_a_few_starts() -> None:
    controller = Controller(config(), policy=Says(1))
    for i in range(20):
        before_s = start(controller, f"a{i}", 1000.0 * i, 60.0)
    assert 55 < before_s < 66
    medians = [start(controller, f"b{i}", 100_000.0 + 1000.0 * i, 240.0) for i in range(5)]
    assert medians[2] > 120
    assert medians[4] > 170
    assert medians == sorted(medians)


def under_way(controller: Controller, now_s: float, *starting: str) -> Duration:
    replicas = (ReplicaSignal("r0", "RUNNING", 0.0), *(ReplicaSignal(name, "STARTING", 0.0) for name in starting))
    found = inventory(now_s, running=1, target=2, replicas=replicas)
    return controller.step(signals(found, metrics(now_s)), now_s).lead_times[KEY].free_gpu


def test_a_start_that_does_not_end_tells_so_before_it_ends() -> None:
    controller = Controller(config(), policy=Says(2))
    prior = under_way(controller, 0.0)
    early = under_way(controller, 30.0, "slow")
    assert early.median_s == prior.median_s, "not overdue yet"
    medians = [under_way(controller, now_s, "slow").median_s for now_s in (300.0, 600.0, 1200.0, 2400.0)]
    assert prior.median_s < medians[0] < medians[1] < medians[2] < medians[3]


def test_a_hung_start_that_is_given_up_does_not_stay_a_fear() -> None:
    controller = Controller(config(), policy=Says(2))
    prior = under_way(controller, 0.0)
    for now_s in (100.0, 1000.0, 7200.0):
        feared = under_way(controller, now_s, "hung")
    assert feared.median_s > prior.median_s
    under_way(controller, 7300.0)
    assert under_way(controller, 7305.0).median_s == prior.median_s


def test_the_book_does_not_grow_with_starts_that_never_were() -> None:
    controller = Controller(config(), policy=Says(1))
    for tick in range(50):
        under_way(controller, 5.0 * tick)
    assert controller.state.book.stages == {}


def pool(now_s: float, *nodes: NodeSignal) -> PoolSignals:
    return PoolSignals("h100", now_s, nodes)


def test_a_node_that_does_not_come_tells_so_too() -> None:
    controller = Controller(config(pools=(PoolSettings("h100"),)), policy=Says(1))
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
