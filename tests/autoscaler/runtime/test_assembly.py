"""From readings to the signals of a tick: joined, merged, and unknown where nothing came."""

from __future__ import annotations

from typing import Any

from autoscaler.core.ports import Reading
from autoscaler.core.types import (
    DeploymentInventory,
    DeploymentMetrics,
    Hint,
    PauseState,
    PoolSignals,
    ReplicaSignal,
    SourceStatus,
)
from autoscaler.runtime.assembly import Held, assemble
from autoscaler.sources import names
from autoscaler.sources.exposition import Sample
from autoscaler.sources.join import NodePage
from autoscaler.sources.readings import Hints, Inventories, JoinedMetrics, NodePages, Paused, Pools
from policies.base import DeploymentKey

LLM, OTHER = DeploymentKey.parse("chat/llm"), DeploymentKey.parse("prod/east/chat/llm")


def inventory(target: int = 1) -> DeploymentInventory:
    return DeploymentInventory(90.0, target, (ReplicaSignal("r", "RUNNING", worker_id="w"),))


def held(name: str, data: Any, as_of_s: float = 90.0, up: bool = True) -> Held:
    reading = None if data is None else Reading(name, True, as_of_s, data)
    return Held(SourceStatus(name, up, None if data is None else as_of_s, "" if up else "down"), reading)


def pages(value: float = 3.0, as_of_s: float = 95.0) -> NodePages:
    sample = Sample.of(names.SERVE_QUEUED, value, application="chat", deployment="llm", handle="h")
    return NodePages("default", "local", {"node": NodePage(as_of_s, (sample,))})


def test_metric_pages_are_joined_to_the_inventory_of_their_own_cluster() -> None:
    signals = assemble(
        [
            held("metrics", pages()),  # the order of the sources does not matter
            held("ray", Inventories("default", "local", {LLM: inventory(2)})),
            held("ray2", Inventories("prod", "east", {OTHER: inventory(5)})),
        ],
        PauseState(),
        True,
        100.0,
    )
    assert [d.key for d in signals.deployments] == [LLM, OTHER]
    llm, other = signals.deployments
    assert llm.inventory is not None
    assert llm.metrics is not None
    assert (llm.inventory.target, llm.metrics.queued_at_handles, llm.metrics.as_of_s) == (2, 3.0, 95.0)
    assert other.metrics is None


def test_without_any_reading_there_is_nothing_and_the_sources_say_why() -> None:
    signals = assemble([held("ray", None, up=False)], PauseState(), True, 100.0)
    assert signals.deployments == ()
    assert [(s.name, s.up, s.as_of_s, s.why) for s in signals.sources] == [("ray", False, None, "down")]


def test_a_source_that_is_down_contributes_what_it_gave_last_with_its_age() -> None:
    signals = assemble(
        [held("ray", Inventories("default", "local", {LLM: inventory(2)}), up=False)], PauseState(), True, 500.0
    )
    (llm,) = signals.deployments
    assert llm.inventory is not None
    assert (llm.inventory.as_of_s, signals.sources[0].up) == (90.0, False)


def test_metrics_without_an_inventory_belong_to_nobody() -> None:
    assert assemble([held("metrics", pages())], PauseState(), True, 100.0).deployments == ()


def test_of_two_sources_of_the_same_metrics_the_first_wins() -> None:
    ready = held("prometheus", JoinedMetrics({LLM: DeploymentMetrics(80.0, queued_at_handles=7.0)}))
    ray = held("ray", Inventories("default", "local", {LLM: inventory()}))
    first = assemble([ray, ready, held("metrics", pages())], PauseState(), True, 100.0).deployments[0].metrics
    second = assemble([ray, held("metrics", pages()), ready], PauseState(), True, 100.0).deployments[0].metrics
    assert first is not None
    assert second is not None
    assert (first.queued_at_handles, second.queued_at_handles) == (7.0, 3.0)


def test_pools_hints_and_pauses_of_all_sources_are_put_together() -> None:
    hint = Hint("id", LLM, 0.0, 10.0, rps=5.0)
    signals = assemble(
        [
            held("k8s", Pools((PoolSignals("b", 90.0, ()), PoolSignals("a", 90.0, ())))),
            held("mqtt", Hints((hint,))),
            held("annotations", Paused(PauseState(deployments=frozenset({OTHER})))),
        ],
        PauseState(deployments=frozenset({LLM})),
        False,
        100.0,
    )
    assert [pool.name for pool in signals.pools] == ["a", "b"]
    assert signals.hints == (hint,)
    assert signals.pause == PauseState(False, frozenset({LLM, OTHER}))
    assert signals.leader is False
