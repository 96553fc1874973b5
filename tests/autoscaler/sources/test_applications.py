"""Ray Serve's application list: what is read of it, and what makes it unusable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.common.errors import SourceError
from autoscaler.core.types import DeploymentInventory
from autoscaler.sources.applications import parse_applications, read_applications
from policies.base import DeploymentKey

RAY = Path(__file__).resolve().parents[4] / "shared" / "samples" / "ray"
recorded = pytest.mark.skipif(not RAY.exists(), reason="no recorded samples here")
LISTS = sorted(RAY.glob("applications_*.json"))


def load(name: str) -> Any:
    answer = json.loads((RAY / name).read_text())
    return answer.get("body", answer)


def inventories(answer: object) -> dict[str, DeploymentInventory]:
    return {str(key): found for key, found in parse_applications(answer, "default", "local", 7.0).items()}


def minimal(**changes: Any) -> dict[str, Any]:
    deployment = {"deployment_config": {"num_replicas": 2}, "target_num_replicas": 3, "replicas": []} | changes
    return {"controller_info": {}, "applications": {"chat": {"deployments": {"llm": deployment}}}}


@recorded
@pytest.mark.parametrize("file", [f for f in LISTS if "no_controller" not in f.name], ids=lambda f: f.stem)
def test_every_recorded_list_is_read(file: Path) -> None:
    found = inventories(load(file.name))
    assert {"chat/LLMServer", "chat/OpenAiIngress"} <= set(found)
    for inventory in found.values():
        assert inventory.as_of_s == 7.0
        assert inventory.external_scaler_enabled is not None
        assert all(r.worker_id for r in inventory.replicas if r.state == "RUNNING")


@recorded
def test_a_scale_up_shows_the_target_and_the_replicas_on_their_way() -> None:
    llm = inventories(load("applications_scaling_up.json"))["chat/LLMServer"]
    assert (llm.target, llm.configured_replicas, llm.count("RUNNING"), llm.count("STARTING")) == (3, 1, 1, 2)
    assert llm.max_ongoing_requests == 2
    starting = next(r for r in llm.replicas if r.state == "STARTING")
    assert (starting.worker_id, starting.node_id) == (None, None)
    assert starting.start_time_s == pytest.approx(1795533321.86, abs=0.01)


@recorded
def test_serves_own_autoscaler_and_a_switched_off_external_one_are_recognised() -> None:
    auto = inventories(load("applications_scaling_up.json"))["auto/Auto"]
    assert (auto.autoscaled_by_serve, auto.external_scaler_enabled, auto.configured_replicas) == (True, False, None)
    llm = inventories(load("applications_scaling_up.json"))["chat/LLMServer"]
    assert (llm.autoscaled_by_serve, llm.external_scaler_enabled) == (False, True)


@recorded
def test_a_crash_loop_and_missing_resources_are_seen() -> None:
    found = inventories(load("applications_pending_no_resources_and_crashloop.json"))
    assert (found["boom/Boom"].dead_replicas, found["gpu/GpuDep"].gpus_per_replica) == (10, 1)
    assert "scheduled" in found["gpu/GpuDep"].message
    assert found["gpu/GpuDep"].app_status == "DEPLOYING"


@recorded
def test_zero_replicas_are_a_known_zero() -> None:
    llm = inventories(load("applications_zero.json"))["chat/LLMServer"]
    assert (llm.target, llm.replicas) == (0, ())


@recorded
def test_no_serve_controller_is_unknown_and_not_an_empty_cluster() -> None:
    with pytest.raises(SourceError, match="not running"):
        parse_applications(load("applications_no_controller.json"), "default", "local", 1.0)


def test_a_cluster_with_serve_and_no_application_is_empty() -> None:
    assert parse_applications({"controller_info": {"node_id": "n"}, "applications": {}}, "a", "b", 1.0) == {}


def test_the_key_carries_namespace_and_service() -> None:
    assert list(parse_applications(minimal(), "prod", "east", 1.0)) == [DeploymentKey("prod", "east", "chat", "llm")]


@pytest.mark.parametrize(
    ("required", "bundles", "gpus"),
    [
        ({"CPU": 1}, None, 0),
        ({"CPU": 1, "GPU": 2}, None, 2),
        ({"GPU": 0.5}, None, 1),
        ({"CPU": 1}, [{"GPU": 1, "CPU": 1}, {"GPU": 1}, {"GPU": 1}, {"GPU": 1}], 4),
        ({"CPU": 1}, [{"CPU": 1}], 0),
        (None, None, None),
    ],
)
def test_gpus_of_a_replica_come_from_its_placement_group_or_its_resources(
    required: object, bundles: object, gpus: int | None
) -> None:
    config = {"num_replicas": 1, "placement_group_bundles": bundles}
    found = inventories(minimal(required_resources=required, deployment_config=config))["chat/llm"]
    assert found.gpus_per_replica == gpus


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({}, 1),
        ({"gang_scheduling_config": None}, 1),
        ({"gang_scheduling_config": {"gang_size": 1}}, 1),
        (
            {
                "gang_scheduling_config": {
                    "gang_size": 4, "gang_placement_strategy": "PACK", "runtime_failure_policy": "RESTART_GANG",
                }
            },
            4,
        ),
    ],
)  # fmt: skip
def test_the_size_of_a_gang_is_read(config: dict[str, Any], size: int) -> None:
    assert inventories(minimal(deployment_config=config))["chat/llm"].gang_size == size


def test_an_absent_flag_is_unknown() -> None:
    assert inventories(minimal())["chat/llm"].external_scaler_enabled is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "the answer is null"),
        ([], "the answer is a list"),
        ({}, "no 'applications'"),
        ({"applications": []}, "applications is a list"),
        ({"applications": {"chat": None}}, "applications.chat is null"),
        ({"applications": {"chat": {}}}, "applications.chat has no 'deployments'"),
    ],
)
def test_a_shape_that_is_not_serves_is_refused_by_place(answer: object, words: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_applications(answer, "default", "local", 1.0)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (minimal(target_num_replicas=None), "target_num_replicas is None"),
        (minimal(target_num_replicas=-1), "target_num_replicas is -1"),
        (minimal(target_num_replicas=True), "target_num_replicas is True"),
        (minimal(replicas={}), "chat/llm.replicas is an object"),
        (minimal(replicas=["r"]), "chat/llm.replicas is a string"),
        (minimal(replicas=[{"state": "RUNNING"}]), "no 'replica_id'"),
        (minimal(deployment_config=3), "deployment_config is a number"),
        *(
            (minimal(deployment_config={"gang_scheduling_config": block}), words)
            for block, words in (
                (4, "gang_scheduling_config is a number, expected an object"),
                ([4], "gang_scheduling_config is a list"),
                (False, "gang_scheduling_config is a boolean"),
                ({}, "gang_scheduling_config has no 'gang_size'"),
                ({"gang_size": None}, "gang_scheduling_config.gang_size is None"),
                ({"gang_size": 0}, "gang_size is 0, expected a whole number from 1 to 10000"),
                ({"gang_size": -4}, "gang_size is -4"),
                ({"gang_size": True}, "gang_size is True"),
                ({"gang_size": 4.0}, "gang_size is 4.0"),
                ({"gang_size": "4"}, "gang_size is '4'"),
                ({"gang_size": 10**30}, "gang_size is 1000000000000000000000000000000, expected"),
            )
        ),
    ],
)
def test_a_deployment_that_makes_no_sense_is_refused_by_itself(answer: Any, words: str) -> None:
    answer["applications"]["chat"]["deployments"]["other"] = {
        "deployment_config": {}, "target_num_replicas": 1, "replicas": [],
    }  # fmt: skip
    found = read_applications(answer, "default", "local", 1.0)
    assert list(map(str, found.deployments)) == ["chat/other"]
    assert words in found.unreadable[DeploymentKey.parse("chat/llm")]
    assert "\n" not in found.unreadable[DeploymentKey.parse("chat/llm")]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["applications", "deployments", "replicas", "deployment_config", "target_num_replicas", "chat", "replica_id",
         "state", "required_resources", "placement_group_bundles", "gang_scheduling_config", "gang_size",
         "recent_dead_replicas", "GPU"]), inner, max_size=5),
    max_leaves=25,
)  # fmt: skip


@given(json_values, json_values, json_values)
def test_any_json_is_read_or_refused_and_never_crashes(top: Any, deployment: Any, replica: Any) -> None:
    changes = deployment if isinstance(deployment, dict) else {"replicas": [replica]}
    for answer in (top, minimal(**changes), minimal(replicas=[{"replica_id": 1, "state": 2, "start_time_s": replica}])):
        said = ""
        try:
            parse_applications(answer, "default", "local", 1.0)
        except SourceError as error:
            said = str(error)
        assert "\n" not in said


@pytest.mark.parametrize(
    ("topology", "place"),
    [
        ({"ingress_deployment": "llm", "nodes": {"llm": {"outbound_deployments": []}}}, (True, "")),
        ({"ingress_deployment": "x", "nodes": {"llm": {"outbound_deployments": [{"name": "x"}]}}}, (False, "x")),
        ({"ingress_deployment": "x", "nodes": {"llm": {"outbound_deployments": [{"name": "y"}]}}}, (False, "")),
        ({"ingress_deployment": ["llm"], "nodes": []}, (False, "")),
        (None, (False, "")),
    ],
)
def test_the_topology_tells_the_ingress_and_the_router_of_direct_streaming(
    topology: object, place: tuple[bool, str]
) -> None:
    answer = minimal()
    answer["applications"]["chat"]["deployment_topology"] = topology
    [found] = parse_applications(answer, "default", "local", 1.0).values()
    assert (found.is_ingress, found.chooses_for) == place
