"""Nodes and pods as pools: which nodes there are, which are on their way, and when each was asked for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.common.fields import time_s
from autoscaler.core.types import PoolSettings, PoolSignals
from autoscaler.sources.kubernetes.nodes import PLACEHOLDER_LABEL, parse_node, parse_pod, pools_of
from tests.fakes.kubernetes import objects

H100, L4 = (
    PoolSettings("h100", gpus_per_node=8, gpu="nvidia-h100-80gb"),
    PoolSettings("l4", gpus_per_node=1, gpu="nvidia-l4"),
)
T0 = "2026-03-01T10:00:00Z"


def node(name: str = "h100-1", *, created: str = "2026-03-01T10:02:00Z", **more: Any) -> dict[str, Any]:
    made = objects.node(name, **more)
    made["metadata"]["creationTimestamp"] = created
    return made


def pools(nodes: list[dict[str, Any]], pods: list[dict[str, Any]], *settings: PoolSettings) -> tuple[PoolSignals, ...]:
    node_views = [view for n in nodes if (view := parse_node(n)) is not None]
    pod_views = [view for p in pods if (view := parse_pod(p)) is not None]
    return pools_of(settings or (H100,), node_views, pod_views, 5.0)


def only(nodes: list[dict[str, Any]], pods: list[dict[str, Any]]) -> Any:
    (pool,) = pools(nodes, pods)
    return pool.nodes


def test_a_ready_node_was_asked_for_when_the_pod_that_waited_for_it_was_made() -> None:
    (seen,) = only([node()], [objects.pod()])

    assert (seen.name, seen.state, seen.gpus, seen.gpus_used, seen.workers) == ("h100-1", "ready", 8, 8, 1)
    assert seen.requested_at_s == time_s(T0)
    assert seen.ready_at_s == time_s("2026-03-01T10:02:30Z")


def test_a_node_that_no_pod_had_to_wait_for_was_asked_for_at_an_unknown_time() -> None:
    (seen,) = only([node()], [objects.pod(created="2026-03-01T11:00:00Z")])

    assert seen.requested_at_s is None


def test_a_warm_node_has_no_worker_and_all_its_gpus() -> None:
    holder = objects.pod("hold-1", labels={PLACEHOLDER_LABEL: "true"})
    (seen,) = only([node()], [holder])

    assert (seen.gpus_used, seen.workers) == (0, 0)
    assert seen.requested_at_s == time_s(T0)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "ready"),
        ({"ready_at": None}, "starting"),
        ({"gpus": 0}, "starting"),
        ({"taints": [{"key": "ToBeDeletedByClusterAutoscaler"}]}, "deleting"),
        ({"taints": [{"key": "nvidia.com/gpu"}]}, "ready"),
    ],
)
def test_states_of_a_node(changes: dict[str, Any], state: str) -> None:
    (seen,) = only([node(**changes)], [])

    assert seen.state == state
    assert (seen.ready_at_s is None) == (state == "starting")


def test_a_node_that_is_cordoned_deleted_silent_or_broken_is_leaving() -> None:
    cordoned, deleted, silent, broken = node("a"), node("b"), node("c"), node("d")
    cordoned["spec"]["unschedulable"] = True
    deleted["metadata"]["deletionTimestamp"] = T0
    silent["status"]["conditions"][0]["status"] = "Unknown"
    broken["status"]["conditions"][0].update(status="False", lastTransitionTime="2026-03-01T15:00:00Z")

    assert [n.state for n in only([cordoned, deleted, silent, broken], [])] == ["deleting"] * 4


def test_waiting_pods_stand_for_nodes_that_were_asked_for() -> None:
    waiting = [objects.pod(f"w{i}", on=None, created=f"2026-03-01T10:0{i}:00Z") for i in range(3)]
    seen = only([], waiting)

    assert [(n.state, n.gpus, n.requested_at_s) for n in seen] == [
        ("starting", 8, time_s(f"2026-03-01T10:0{i}:00Z")) for i in range(3)
    ]


def test_small_pods_share_the_node_that_was_asked_for() -> None:
    waiting = [objects.pod(f"w{i}", on=None, gpus=4) for i in range(5)]

    assert len(only([], waiting)) == 3


def test_a_node_that_has_registered_is_not_counted_again_by_the_pod_that_waits_for_it() -> None:
    seen = only([node(ready_at=None)], [objects.pod("w", on=None)])

    assert [n.name for n in seen] == ["h100-1"]


@pytest.mark.parametrize(
    "changes",
    [
        {"gpus": 0},
        {"selector": {objects.POOL_LABEL: "another"}},
        {"labels": {"app": "web"}},
    ],
)
def test_other_pods_stand_for_no_node(changes: dict[str, Any]) -> None:
    assert only([], [objects.pod("w", on=None, **changes)]) == ()


def test_a_pod_that_is_scheduled_late_and_not_refused_stands_for_no_node() -> None:
    fresh = objects.pod("w", on=None)
    fresh["status"]["conditions"] = []

    assert only([], [fresh]) == ()


def test_a_pod_that_ends_uses_its_gpus_until_it_is_gone_and_waits_no_more() -> None:
    ending, waiting, failed = objects.pod("e"), objects.pod("w", on=None), objects.pod("f", phase="Failed")
    for pod in (ending, waiting):
        pod["metadata"]["deletionTimestamp"] = T0
    (seen,) = only([node()], [ending, waiting, failed])

    assert (seen.gpus_used, seen.workers) == (8, 1)


def test_node_affinity_points_at_a_pool_too() -> None:
    term = {"matchExpressions": [{"key": objects.POOL_LABEL, "operator": "In", "values": ["h100"]}]}
    pod = objects.pod("w", on=None, selector={})
    pod["spec"]["affinity"] = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    }

    assert len(only([], [pod])) == 1


def test_a_pool_is_found_by_name_or_by_a_gpu_kind_that_only_one_pool_has() -> None:
    nodes = [node("a", pool="h100"), node("b", pool="gke-prefixed-name"), node("c", pool="l4")]
    h100, l4 = pools(nodes, [], H100, L4)

    assert ([n.name for n in h100.nodes], [n.name for n in l4.nodes]) == (["a", "b"], ["c"])
    spot = PoolSettings("h100-spot", gpu="nvidia-h100-80gb")
    of_name, of_spot = pools(nodes[:2], [], H100, spot)
    assert ([n.name for n in of_name.nodes], of_spot.nodes) == (["a"], ())


def test_nodes_without_gpus_are_not_kept() -> None:
    plain = node()
    plain["status"]["allocatable"] = {"cpu": "8"}
    plain["metadata"]["labels"] = {}

    assert parse_node(plain) is None


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([1, 2, 4, 8])), max_size=12),
    st.integers(0, 4),
)
def test_no_gpu_is_asked_for_twice(asked: list[tuple[bool, int]], registered: int) -> None:
    waiting = [objects.pod(f"p{i}", on=None, gpus=gpus) for i, (_, gpus) in enumerate(asked)]
    coming = [node(f"n{i}", ready_at=None) for i in range(registered)]
    starting = [n for n in only(coming, waiting) if n.state == "starting"]

    needed = sum(gpus for _, gpus in asked)
    assert len(starting) >= max(registered, -(-needed // 8))
    assert len(starting) <= max(registered, len(asked))


def test_a_node_that_a_worker_waits_for_is_not_held_for_nobody() -> None:
    coming = objects.node("h100-2", ready_at=None)
    worker = objects.pod("w", on=None)
    holder = objects.pod("p", on=None, labels={PLACEHOLDER_LABEL: "true"}, created="2026-03-01T09:00:00Z")
    (pool,) = pools([coming], [worker, holder])
    assert [(n.name, n.state, n.busy) for n in pool.nodes] == [
        ("h100-2", "starting", True),
        ("asked-for-by/llm/p", "starting", False),
    ]


def test_the_real_pool_and_the_zone_of_a_computeclass_are_read_back() -> None:
    found = objects.node(pool="nap-h100-abc")
    found["metadata"]["labels"] |= {
        "cloud.google.com/compute-class": "gpu-class",
        "topology.kubernetes.io/zone": "us-central1-a",
    }
    (pool,) = pools([found], [], PoolSettings("gpu-class"))
    assert [(n.pool, n.zone) for n in pool.nodes] == [("nap-h100-abc", "us-central1-a")]


def test_a_node_that_was_queued_for_ends_at_a_known_time() -> None:
    (pool,) = pools([node(created="2026-03-01T10:02:00Z")], [], PoolSettings("h100", max_run_s=3600.0))
    assert pool.nodes[0].ends_at_s == time_s("2026-03-01T11:02:00Z")
