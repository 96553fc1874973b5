"""Nodes of the demo: what Ray's autoscaler is told of them, and what is said of them at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
import yaml

from autoscaler.api.telemetry import new_telemetry
from autoscaler.core.types import Applied, EndedStart, NodeSignal, Outcome, Plan, PoolPlan, PoolSignals, Signals
from autoscaler.settings import load_config
from leadtime.demo import baseline, play, summary
from leadtime.demo.nodes import POOL, Nodes, cluster_config
from leadtime.demo.nodes_watch import NodesWatch
from leadtime.demo.report import report
from leadtime.demo.spec import Spec, settings
from leadtime.demo.traffic import Request, arrivals, history
from leadtime.demo.watch import key_of
from policies.base import LeadPath, Term
from simulator.scenario.load import load_scenario

BEGIN_S = 1000.0
SPEC = Spec(nodes=Nodes(), start_s=(8.0, 10.0))
CHAT = key_of("chat")
Days = dict[str, Sequence[Request]]
State = Literal["starting", "ready"]


def node(name: str, state: State, used: int = 0) -> NodeSignal:
    return NodeSignal(name, state, gpus=2, gpus_used=used, workers=1)


class Pass:
    """A board that is told what to show, and the watch under test."""

    def __init__(self, tmp_path: Path) -> None:
        path = tmp_path / "leadtime.yaml"
        path.write_text(settings(SPEC, "http://127.0.0.1:1", tmp_path, 1, True, play.PROFILE), encoding="utf-8")
        self.telemetry = new_telemetry(load_config(path).controller)
        self.watch = NodesWatch(BEGIN_S)

    def tick(
        self,
        at_s: float,
        *nodes: NodeSignal,
        ended: Sequence[EndedStart] = (),
        outcome: str = "unchanged",
        learned: Sequence[str] = (),
    ) -> list[str]:
        now_s = BEGIN_S + at_s
        pools = (PoolPlan(POOL, 3, len(nodes), (Term("forecast", 3, "replicas expected fill 3 nodes"),)),)
        plan = Plan(1, now_s, True, False, (), pools, ended=tuple(ended), learned=tuple(learned))
        applied = (Applied("request_resources", POOL, outcome, 3, "asked"),)
        signals = Signals((), pools=(PoolSignals(POOL, now_s, nodes),))
        self.telemetry.publish(signals, plan, [Outcome("request_resources", applied)], 0.001)
        return [f"{d.name} {d.change}: {d.why}" for d in self.watch.take(self.telemetry)]


def start(took_s: float, path: LeadPath, runs: bool = True) -> EndedStart:
    return EndedStart(CHAT, 0.0, took_s, path, runs)


@pytest.fixture
def passed(tmp_path: Path) -> Pass:
    return Pass(tmp_path)


def test_nodes_that_are_busy_stand_ready_or_arrive_are_told_apart(passed: Pass) -> None:
    assert passed.watch.line() == ""
    passed.tick(1.0, node("a", "ready", 2), node("b", "ready"), node("c", "starting"))
    assert passed.watch.line() == "nodes  █▒░ 1 busy █, 1 prewarmed ▒, 1 arriving ░"


def test_a_node_that_stood_ready_before_a_replica_came_was_there_ahead(passed: Pass) -> None:
    passed.tick(0.0, node("a", "ready", 2))
    passed.tick(5.0, node("a", "ready", 2), node("early", "ready"), node("late", "ready"))
    passed.tick(6.0, node("a", "ready", 2), node("early", "ready"), node("late", "ready", 1))
    passed.tick(9.0, node("a", "ready", 2), node("early", "ready", 1), node("late", "ready", 1))
    assert set(passed.watch.came_s) == {"early", "late"}
    assert passed.watch.ahead == 1


def test_node_seconds_count_from_the_beginning_of_the_traffic_to_its_end(passed: Pass) -> None:
    passed.tick(-5.0, node("a", "ready", 2))
    passed.tick(10.0, node("a", "ready", 2), node("b", "ready"))
    assert passed.watch.node_seconds(30.0) == (50.0, 20.0)


def test_the_end_compares_starts_that_found_a_node_with_those_that_waited(passed: Pass) -> None:
    ended = [start(10.0, "free_gpu"), start(12.0, "free_gpu"), start(31.0, "new_node"), start(9.0, "new_node", False)]
    passed.tick(0.0, node("a", "ready", 2), ended=ended)
    words = " ".join(passed.watch.words(60.0))
    assert "2 (median 11 s) found a GPU on a node that was there; 1 (median 31 s) waited for a node" in words
    assert "spared a replica 20 s in this run" in words


def test_where_a_node_spared_nothing_the_end_says_so(passed: Pass) -> None:
    passed.tick(0.0, node("a", "ready", 2), ended=[start(12.0, "free_gpu"), start(11.0, "new_node")])
    assert "spared replicas nothing in this run" in " ".join(passed.watch.words(60.0))


def test_without_a_start_there_is_nothing_to_compare(passed: Pass) -> None:
    passed.tick(0.0, node("a", "ready", 2))
    words = " ".join(passed.watch.words(60.0))
    assert "Cold starts: 0 found a GPU on a node that was there; 0 waited" in words
    assert "spared" not in words


def test_what_was_asked_for_and_how_long_a_node_took_is_told_once_each(passed: Pass) -> None:
    words = "node b of pool gpu was Ready 18 s after it was asked for"
    assert passed.tick(0.0, outcome="ok") == ["nodes ask for 3: replicas expected fill 3 nodes"]
    assert passed.tick(1.0) == []
    assert passed.tick(2.0, learned=[words, "demo/chat: something"]) == [f"nodes : learned: {words}"]


def test_what_could_not_be_asked_for_is_told_until_it_could(passed: Pass) -> None:
    told = [passed.tick(float(i), outcome=outcome) for i, outcome in enumerate(("unavailable", "unavailable", "ok"))]
    assert told[0] == ["nodes : not asked for (unavailable): asked"]
    assert (told[1], len(told[2])) == ([], 1)


def test_the_settings_have_a_pool_whose_nodes_are_rays_and_are_asked_for_ahead(tmp_path: Path) -> None:
    path = tmp_path / "leadtime.yaml"
    path.write_text(settings(SPEC, "http://127.0.0.1:1", tmp_path, 1, True, play.PROFILE), encoding="utf-8")
    config = load_config(path)
    assert [(pool.name, pool.way) for pool in config.prewarm] == [(POOL, "request_resources")]
    assert config.services[0].nodes
    assert all(entry.node_pools == (POOL,) for entry in config.controller.deployments)


def test_rays_autoscaler_is_told_of_one_kind_of_node_and_where_its_nodes_come_from(tmp_path: Path) -> None:
    told = yaml.safe_load(cluster_config("127.0.1.1:6379", tmp_path, Nodes(gpus_per_node=4, most=3)))
    assert told["available_node_types"][POOL]["resources"] == {"CPU": 1, "GPU": 4}
    assert (told["max_workers"], told["provider"]["gcs"]) == (3, "127.0.1.1:6379")


def test_the_simulated_days_differ_in_nothing_but_who_asks_for_nodes(tmp_path: Path) -> None:
    before: Days = {demand.deployment: history(demand, 7, 150.0, 7) for demand in SPEC.demands}
    today: Days = {demand.deployment: arrivals(demand, 7, 150.0, 60.0) for demand in SPEC.demands}
    files = []
    for name, ahead in (("a", True), ("b", False)):
        path = baseline.write_scenario(SPEC, tmp_path / name, play.PROFILE, before, today, ahead)
        load_scenario(str(path))
        files.append(yaml.safe_load(path.read_text()))
    assert [file["node_pools"][0].pop("prewarm") for file in files] == ["request_resources", "none"]
    assert files[0] == files[1]


def test_the_report_sets_the_simulated_days_side_by_side(passed: Pass, tmp_path: Path) -> None:
    passed.tick(0.0, node("a", "ready", 2))
    outcomes = [
        summary.outcome(who, how, (), held, 1.0)
        for who, how, held in (
            (summary.LEADTIME, "live", 100.0),
            (summary.LEADTIME, "simulated", 90.0),
            (summary.NOT_AHEAD, "simulated", 80.0),
            (summary.SERVE, "simulated", 120.0),
        )
    ]
    text = "\n".join(report(SPEC, outcomes, (), tmp_path, 0, passed.watch))
    assert "0 late with nodes asked for ahead, 0 without (90 and 80 replica-seconds)." in text
    assert "Nodes: 0 came" in text
    assert all(len(line) <= 96 for line in text.splitlines() if "replica-seconds held" in line)
