"""RayServices and RayClusters as they are in a cluster: read, found, and upgraded with two clusters at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.types import DeploymentInventory, ReplicaSignal
from autoscaler.sources.kuberay.annotations import AnnotationReading, Annotations, read_annotations
from autoscaler.sources.kuberay.objects import parse_ray_cluster, parse_ray_service
from autoscaler.sources.kuberay.services import KubeService, discover
from autoscaler.sources.kuberay.upgrade import change, cluster_levels, combined, replicas_that_fit, share
from tests.fakes.kubernetes import objects


def found(*objs: dict[str, Any], patterns: Iterable[str] = ()) -> tuple[KubeService, ...]:
    services = [parse_ray_service(o) for o in objs if o["kind"] == "RayService"]
    clusters = [parse_ray_cluster(o) for o in objs if o["kind"] == "RayCluster"]
    readings = {
        (kind, view.namespace, view.name): read_annotations(view.annotations)
        for kind, views in (("RayService", services), ("RayCluster", clusters))
        for view in views
    }
    return discover(services, clusters, readings, patterns)


def one(*objs: dict[str, Any], patterns: Iterable[str] = ()) -> KubeService:
    (service,) = found(*objs, patterns=patterns)
    return service


def upgrade(
    capacity: tuple[int | None, int | None] = (None, None),
    traffic: tuple[int | None, int | None] = (None, None),
    *,
    stepwise: bool = False,
    rollback: bool = False,
) -> KubeService:
    status = objects.service_status("old", "new", capacity=capacity, traffic=traffic, rollback=rollback)
    strategy = {"upgradeStrategy": {"type": "NewClusterWithIncrementalUpgrade" if stepwise else "NewCluster"}}
    return one(objects.ray_service(spec=strategy, status=status))


# ---------------------------------------------------------------- reading


def test_a_ray_service_is_read() -> None:
    view = parse_ray_service(objects.ray_service(status=objects.service_status()))

    assert (view.namespace, view.name, view.ready, view.upgrading) == ("llm", "chat-llm", True, False)
    assert view.active is not None
    assert view.active.cluster == "chat-llm-abcde"
    assert view.active.deployments == (("chat", "OpenAiIngress"), ("chat", "LLMServer:llama-70b"))
    assert view.pending is None
    assert (view.spec.ray_version, view.spec.autoscaled, view.spec.auth_secret) == (
        "2.60.0",
        True,
        "chat-llm-ray-token",
    )
    gpu, cpu = view.spec.groups
    assert (gpu.name, gpu.replicas, gpu.min_replicas, gpu.max_replicas, gpu.gpus_per_host) == ("h100x8", 1, 0, 4, 8.0)
    assert (cpu.gpus_per_host, cpu.idle_timeout_s) == (0.0, 600)


@pytest.mark.parametrize(
    ("changes", "gpus"),
    [
        ({"rayStartParams": {"num-gpus": "4"}}, 4.0),
        ({"resources": {"GPU": "2"}}, 2.0),
        ({"template": {"spec": {"containers": [{"resources": {"requests": {"amd.com/gpu": 1}}}]}}}, 1.0),
        ({"template": {"spec": {"containers": [{}, {"resources": {"limits": {"nvidia.com/gpu": 8}}}]}}}, 0.0),
        ({"template": {}}, 0.0),
    ],
)
def test_gpus_of_a_worker_are_what_ray_counts(changes: dict[str, Any], gpus: float) -> None:
    group = {**objects.worker_group(), **changes}
    view = parse_ray_service(objects.ray_service(cluster=objects.cluster_spec(group)))

    assert view.spec.groups[0].gpus_per_host == gpus


def test_a_maximum_that_is_none_is_unknown() -> None:
    group = objects.worker_group(maximum=2147483647)
    view = parse_ray_service(objects.ray_service(cluster=objects.cluster_spec(group)))

    assert view.spec.groups[0].max_replicas is None


def test_only_our_annotations_are_kept() -> None:
    meta = {"leadtime.dev/enabled": "true", "kubectl.kubernetes.io/last-applied-configuration": "x" * 10000}

    assert parse_ray_service(objects.ray_service(annotations=meta)).annotations == (("enabled", "true"),)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.data())
def test_an_odd_object_reads_as_little_and_never_fails(data: st.DataObject) -> None:
    """Any value in any place of an otherwise ordinary object."""
    for made, parse in (
        (objects.ray_service(status=objects.service_status("a", "b")), parse_ray_service),
        (objects.ray_cluster(), parse_ray_cluster),
    ):
        place: Any = made
        while isinstance(place, dict | list) and place and data.draw(st.integers(0, 4)):
            keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            if not isinstance(place[key], dict | list) or not data.draw(st.integers(0, 3)):
                place[key] = data.draw(JSON)
                break
            place = place[key]
        parse(made)


# ---------------------------------------------------------------- finding


def test_a_service_has_the_address_of_its_active_clusters_own_head() -> None:
    service = one(objects.ray_service(status=objects.service_status()), objects.ray_cluster())

    assert service.phase == "steady"
    assert service.active is not None
    assert service.active.dashboard == "http://chat-llm-abcde-head-svc.llm.svc:8265"
    assert service.active.auth_secret == "chat-llm-ray-token"
    assert service.serving == (service.active,)
    assert service.gpus_per_replica("chat", "LLMServer:llama-70b") == 4.0


def test_the_name_and_port_that_the_operator_reports_count() -> None:
    cluster = objects.ray_cluster()
    cluster["status"]["head"]["serviceName"] = "my-head"
    cluster["status"]["endpoints"]["dashboard"] = "9999"
    service = one(objects.ray_service(status=objects.service_status()), cluster)

    assert service.active is not None
    assert service.active.dashboard == "http://my-head.llm.svc:9999"


def test_without_the_ray_cluster_object_kuberays_rules_for_names_must_do() -> None:
    status = objects.service_status()
    status["activeServiceStatus"]["rayClusterStatus"] = {}
    service = one(objects.ray_service(status=status))

    assert service.active is not None
    assert service.active.dashboard == "http://chat-llm-abcde-head-svc.llm.svc:8265"


def test_an_owned_cluster_is_part_of_its_service_and_one_that_stands_alone_is_a_service() -> None:
    services = found(
        objects.ray_service(status=objects.service_status()),
        objects.ray_cluster(),
        objects.ray_cluster("alone", service=None),
    )

    assert [(s.kind, s.name) for s in services] == [("RayCluster", "alone"), ("RayService", "chat-llm")]
    assert services[0].active is not None
    assert services[0].active.head.host == "alone-head-svc.llm.svc"


def test_services_of_one_name_in_two_namespaces_are_two() -> None:
    services = found(objects.ray_service(), objects.ray_service(namespace="other"))

    assert [s.key for s in services] == [("llm", "chat-llm"), ("other", "chat-llm")]


@pytest.mark.parametrize(
    ("annotation", "patterns", "opted_in"),
    [
        (None, (), False),
        ("true", (), True),
        (None, ("llm/chat-llm/*/*",), True),
        (None, ("other/*/*/*",), False),
        (None, ("*/*/chat/LLMServer:*",), True),
        (None, ("chat/LLMServer:*",), False),
        ("true", ("chat/LLMServer:*",), True),
        ("false", ("llm/chat-llm/*/*",), False),
        ("perhaps", (), False),
    ],
)
def test_leadtime_acts_only_where_it_was_asked_to(
    annotation: str | None, patterns: tuple[str, ...], opted_in: bool
) -> None:
    annotations = {} if annotation is None else {"leadtime.dev/enabled": annotation}

    assert one(objects.ray_service(annotations=annotations), patterns=patterns).opted_in is opted_in


def test_a_replica_larger_than_any_worker_is_refused() -> None:
    small = objects.cluster_spec(objects.worker_group(gpus=2))
    service = one(objects.ray_service(cluster=small, status=objects.service_status()))

    refusal = service.refusal("chat")
    assert refusal is not None
    assert "needs 4 GPUs, the largest worker has 2" in refusal
    assert one(objects.ray_service()).refusal("chat") is None


@pytest.mark.parametrize(
    ("spec", "status", "phase"),
    [
        ({}, objects.service_status(None, None), "starting"),
        ({}, objects.service_status(None, "first"), "starting"),
        ({}, objects.service_status(), "steady"),
        ({}, objects.service_status("old", "new"), "upgrading"),
        ({"suspend": True}, objects.service_status(), "suspended"),
    ],
)
def test_phases(spec: dict[str, Any], status: dict[str, Any], phase: str) -> None:
    assert one(objects.ray_service(spec=spec, status=status)).phase == phase


def test_a_service_that_is_being_deleted_is_gone() -> None:
    made = objects.ray_service(status=objects.service_status())
    made["metadata"]["deletionTimestamp"] = "2026-03-01T10:00:00Z"

    assert one(made).phase == "gone"
    assert one(made).serving == ()


# ---------------------------------------------------------------- upgrades


def levels(service: KubeService, target: int, fits: int | None = None) -> dict[str, int]:
    return {level.cluster.name: level.replicas for level in cluster_levels(service, target, fits)}


def test_before_a_switch_the_active_cluster_is_scaled_and_the_pending_one_prepared() -> None:
    service = upgrade()

    assert levels(service, 5) == {"old": 5, "new": 5}
    assert [c.name for c in service.serving] == ["old"]


def test_a_pending_cluster_is_asked_for_no_more_than_fits() -> None:
    assert levels(upgrade(), 5, fits=2) == {"old": 5, "new": 2}
    assert levels(upgrade(), 5, fits=0) == {"old": 5}


def test_what_fits_comes_from_the_worker_groups() -> None:
    (cluster, *_) = upgrade().clusters

    assert replicas_that_fit(cluster, 4.0) == 8
    assert replicas_that_fit(cluster, 5.0) == 4
    assert replicas_that_fit(cluster, None) is None


def test_after_the_switch_the_other_cluster_is_the_active_one() -> None:
    after = one(objects.ray_service(status=objects.service_status("new")))

    assert levels(after, 5) == {"new": 5}
    step = change(upgrade(), after)
    assert step is not None
    assert (step.kind, step.words) == ("switched", "traffic goes to the Ray cluster new instead of old")


@pytest.mark.parametrize(
    ("capacity", "traffic", "expected"),
    [
        ((100, 0), (100, 0), {"old": 10, "new": 0}),
        ((100, 50), (100, 0), {"old": 10, "new": 5}),
        ((100, 50), (60, 40), {"old": 10, "new": 5}),
        ((50, 50), (50, 50), {"old": 5, "new": 5}),
        ((50, 50), (70, 30), {"old": 7, "new": 5}),
        ((0, 100), (0, 100), {"old": 0, "new": 10}),
        ((100, 100), (0, 100), {"old": 10, "new": 10}),
    ],
)
def test_a_stepwise_upgrade_shares_the_level_by_capacity_and_never_below_the_traffic(
    capacity: tuple[int, int], traffic: tuple[int, int], expected: dict[str, int]
) -> None:
    service = upgrade(capacity, traffic, stepwise=True)

    assert service.phase == "incremental"
    assert levels(service, 10) == expected


def test_a_rollback_shares_in_the_same_way() -> None:
    service = upgrade((75, 50), (75, 25), stepwise=True, rollback=True)

    assert service.rolling_back
    assert levels(service, 8) == {"old": 6, "new": 4}


@given(target=st.integers(1, 500), percent=st.integers(0, 100))
def test_shares_of_a_whole_capacity_never_fall_short(target: int, percent: int) -> None:
    assert target <= share(target, percent) + share(target, 100 - percent) <= target + 1


@pytest.mark.parametrize(
    ("target", "percent", "replicas"), [(10, 25, 3), (10, 24, 2), (1, 1, 1), (0, 50, 0), (3, 0, 0), (7, 100, 7)]
)
def test_shares_are_rounded_as_serve_does(target: int, percent: int, replicas: int) -> None:
    assert share(target, percent) == replicas


def test_shares_equal_serves_own_rounding() -> None:
    serve = pytest.importorskip("ray.serve._private.utils")
    for target in range(40):
        for percent in range(101):
            assert share(target, percent) == serve.get_capacity_adjusted_num_replicas(target, percent)


def inventory(target: int, *names: str, as_of_s: float = 100.0) -> DeploymentInventory:
    return DeploymentInventory(as_of_s, target, tuple(ReplicaSignal(name, "RUNNING") for name in names))


def test_replicas_of_a_cluster_that_is_only_prepared_are_no_supply() -> None:
    both = {"old": inventory(2, "a", "b"), "new": inventory(2, "c", "d")}

    assert combined(upgrade(), both, 2) == both["old"]


def test_both_clusters_of_a_stepwise_upgrade_are_supply_counted_once() -> None:
    service = upgrade((50, 50), (50, 50), stepwise=True)
    both = {"old": inventory(2, "a", "b"), "new": inventory(2, "c", "d", as_of_s=97.0)}

    seen = combined(service, both, 4)

    assert seen is not None
    assert (seen.target, seen.as_of_s) == (4, 97.0)
    assert [r.replica_id for r in seen.replicas] == ["a", "b", "c", "d"]


@given(target=st.integers(0, 100), capacity=st.integers(1, 99))
def test_our_own_level_is_recognised_in_its_shares(target: int, capacity: int) -> None:
    service = upgrade((capacity, 100 - capacity), (capacity, 100 - capacity), stepwise=True)
    shares = {level.cluster.name: inventory(level.replicas) for level in cluster_levels(service, target)}

    seen = combined(service, shares, target)

    assert seen is not None
    assert seen.target == target


def test_a_target_that_was_reset_in_a_step_shows() -> None:
    service = upgrade((50, 50), (50, 50), stepwise=True)

    seen = combined(service, {"old": inventory(1), "new": inventory(1)}, 8)

    assert seen is not None
    assert seen.target == 2


def test_half_of_an_inventory_is_unknown() -> None:
    service = upgrade((50, 50), (50, 50), stepwise=True)

    assert combined(service, {"old": inventory(2, "a")}, 4) is None
    assert combined(upgrade(), {"new": inventory(2, "a")}, 4) is None


def test_the_steps_of_a_services_life() -> None:
    steady, switched = one(objects.ray_service(status=objects.service_status("old"))), None
    steps = [
        (None, steady, "appeared"),
        (steady, steady, None),
        (steady, upgrade(), "upgrade_began"),
        (upgrade(), steady, "upgrade_ended"),
        (one(objects.ray_service(status=objects.service_status(None, "old"))), steady, "switched"),
        (steady, None, "gone"),
        (None, switched, None),
    ]
    assert [getattr(change(before, now), "kind", None) for before, now, _ in steps] == [kind for _, _, kind in steps]


def test_readings_that_are_missing_change_nothing() -> None:
    (service,) = discover([parse_ray_service(objects.ray_service())], [], {}, ())

    assert service.reading == AnnotationReading(Annotations())
