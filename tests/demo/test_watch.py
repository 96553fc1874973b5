"""What the screen says of a pass: made from the controller's board and the users' notes, and true to both."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from autoscaler.api.telemetry import Telemetry, new_telemetry
from autoscaler.core.build import new_controller
from autoscaler.core.types import (
    Applied,
    ControllerConfig,
    DeploymentInventory,
    DeploymentMetrics,
    DeploymentSettings,
    DeploymentSignals,
    Outcome,
    ReplicaSignal,
    Signals,
    SourceStatus,
)
from leadtime.demo.spec import Spec
from leadtime.demo.users import Served
from leadtime.demo.watch import Sample, Texts, Watch, held_seconds, key_of
from policies.references.static import StaticOptions, StaticPolicy

BEGIN_S = 1000.0
TEXTS = Texts("title", "http://127.0.0.1:1", ("words",))
USUAL = {"chat": (1.0,) * 42, "code": (0.5,) * 42}


class Pass:
    """A controller that wants three replicas, its board, and the watch under test."""

    def __init__(self, act: bool = True) -> None:
        names = ("demo/chat", "demo/code")
        self.config = ControllerConfig(
            deployments=tuple(DeploymentSettings(match=n, max_replicas=5) for n in names), tick_s=1.0, dry_run=not act
        )
        self.controller = new_controller(self.config, policy=StaticPolicy(StaticOptions(replicas=3)))
        self.telemetry: Telemetry = new_telemetry(self.config)
        self.watch = Watch(Spec(seconds=150.0), BEGIN_S, act, USUAL)
        self.arrivals = 0.0

    def tick(self, at_s: float, target: int, states: Sequence[str], outcome: str = "ok", up: bool = True) -> list[str]:
        """One tick `at_s` after the beginning; the new decisions as `change: why`."""
        now_s = BEGIN_S + at_s
        self.arrivals += 2.0
        signals = Signals(
            tuple(self._signals(name, now_s, target, states) for name in ("chat", "code")),
            sources=(SourceStatus("node_metrics", up, now_s, "" if up else "no answer"),),
        )
        plan = self.controller.step(signals, now_s)
        changed = [d for d in plan.deployments if d.target not in (None, d.observed_target)]
        applied = tuple(Applied("ray_serve", str(d.key), outcome, d.target, "because") for d in changed)
        self.telemetry.publish(signals, plan, [Outcome("ray_serve", applied)], 0.001)
        return [f"{d.name} {d.change}: {d.why}" for d in self.watch.take(self.telemetry)]

    def _signals(self, name: str, now_s: float, target: int, states: Sequence[str]) -> DeploymentSignals:
        replicas = tuple(ReplicaSignal(f"{name}{i}", state, now_s - 1.0) for i, state in enumerate(states))
        inventory = DeploymentInventory(now_s, target, replicas, external_scaler_enabled=True, max_ongoing_requests=8)
        metrics = DeploymentMetrics(now_s, arrivals_total={"h": self.arrivals}, queued_at_handles=0.0, ongoing=1.0)
        return DeploymentSignals(key_of(name), inventory, metrics)


def test_a_decision_is_shown_once_though_it_is_posted_until_serve_shows_it() -> None:
    run = Pass()
    first = run.tick(1.0, 1, ["RUNNING"])
    assert [line.split(":")[0] for line in first] == ["chat 1 → 3", "code 1 → 3"]
    assert run.tick(2.0, 1, ["RUNNING"]) == []
    assert run.tick(3.0, 3, ["RUNNING", "STARTING", "STARTING"]) == []


def test_a_decision_that_could_not_be_applied_says_so() -> None:
    assert "not applied (unavailable): because" in Pass().tick(1.0, 1, ["RUNNING"], outcome="unavailable")[0]


def test_what_was_learned_is_shown_when_the_first_replica_runs() -> None:
    run = Pass()
    run.tick(1.0, 1, ["RUNNING"])
    run.tick(2.0, 3, ["RUNNING", "STARTING", "STARTING"])
    lines = run.tick(25.0, 3, ["RUNNING", "RUNNING", "STARTING"])
    assert "chat : learned: a replica was RUNNING 24.0 s after it was asked for" in lines


def test_while_serve_decides_its_changes_are_shown_as_its_own() -> None:
    run = Pass(act=False)
    assert run.tick(1.0, 1, ["RUNNING"], outcome="withheld") == []
    lines = run.tick(2.0, 4, ["RUNNING", "STARTING"], outcome="withheld")
    assert lines[0].startswith("chat 1 → 4: Serve's own autoscaler")


def test_replica_seconds_count_every_replica_that_holds_a_gpu() -> None:
    samples = [
        Sample(0.5, 1.0, 1, 0, 0, 1, 1.0),
        Sample(10.0, 1.0, 1, 2, 0, 3, 1.0),
        Sample(20.0, 1.0, 2, 0, 1, 2, 1.0),
    ]
    assert held_seconds(samples, 0.0, 30.0) == pytest.approx(10 * 1 + 10 * 3 + 10 * 3)
    assert held_seconds(samples, 0.0, 15.0) == pytest.approx(10 * 1 + 5 * 3)
    assert held_seconds([], 0.0, 15.0) == 0.0


def test_samples_after_the_end_of_traffic_cost_nothing() -> None:
    samples = [Sample(0.0, 1.0, 2, 0, 0, 2, 1.0), Sample(151.0, 1.0, 2, 0, 0, 2, 1.0)]
    assert held_seconds(samples, 0.0, 150.0) == pytest.approx(300.0)


def test_the_scene_shows_replicas_by_state_and_when_the_next_is_expected() -> None:
    run = Pass()
    run.tick(1.0, 1, ["RUNNING"])
    run.tick(2.0, 3, ["RUNNING", "STARTING", "STARTING", "STOPPING"])
    lane = run.watch.scene(run.telemetry, [], BEGIN_S + 3.0, 42, TEXTS).lanes[0]
    assert (lane.running, lane.starting, lane.draining, lane.target) == (1, 2, 1, 3)
    assert lane.next_ready_in_s is not None
    assert lane.lead_p90_s is not None
    assert lane.queue == 0.0


def test_users_who_still_wait_past_the_promise_are_late_already() -> None:
    run = Pass()
    run.tick(1.0, 1, ["RUNNING"])
    served = [Served("chat", 9.0), Served("chat", 5.0), Served("chat", 4.0, "ok", 0.4, 2.0, 10)]
    scene = run.watch.scene(run.telemetry, served, BEGIN_S + 9.5, 42, TEXTS)
    assert scene.lanes[0].within_slo_fraction == pytest.approx(2 / 3)
    assert sum(scene.lanes[0].chart.late) == 1
    assert "3 requests, 1 got their first token later than 1 s (33.3 %)" in scene.so_far
    assert scene.lanes[1].within_slo_fraction is None


def test_before_the_first_tick_everything_is_unknown() -> None:
    run = Pass()
    scene = run.watch.scene(run.telemetry, [], BEGIN_S - 1.0, 42, TEXTS)
    assert scene.elapsed_s == 0.0
    assert scene.lanes[0].running is None
    assert scene.lanes[0].rate_rps is None


def test_a_source_that_is_down_raises_an_alarm() -> None:
    run = Pass()
    run.tick(1.0, 1, ["RUNNING"], up=False)
    assert run.watch.scene(run.telemetry, [], BEGIN_S + 1.0, 42, TEXTS).alarm == "node_metrics is down: no answer"


@pytest.mark.parametrize("elapsed_s", [0.0, 10.0, 75.0, 149.0, 150.0, 170.0])
def test_every_tuple_of_a_chart_fills_its_columns_at_any_time(elapsed_s: float) -> None:
    run = Pass()
    run.tick(1.0, 1, ["RUNNING"])
    chart = run.watch.scene(run.telemetry, [], BEGIN_S + elapsed_s, 42, TEXTS).lanes[0].chart
    lengths = {len(part) for part in (chart.traffic, chart.usual, chart.fan, chart.carries, chart.late)}
    assert lengths == {42}
    assert 0 <= chart.now_column < 42


def test_a_longer_demo_scrolls_and_keeps_now_in_sight() -> None:
    run = Pass()
    run.watch.spec = Spec(seconds=600.0)
    run.tick(1.0, 1, ["RUNNING"])
    chart = run.watch.scene(run.telemetry, [], BEGIN_S + 400.0, 42, TEXTS).lanes[0].chart
    assert chart.begin_s == pytest.approx(310.0)
    assert chart.end_s - chart.begin_s == pytest.approx(150.0)
    assert 20 < chart.now_column < 30
