"""The fake API server on the wire: patch types, content types and faults that no client would send by itself."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import urllib3

from tests.fakes.kubernetes import objects
from tests.fakes.kubernetes.server import FakeApi
from tests.fakes.kubernetes.traffic import Fault, when

BOTH_SERVERS = True
HTTP = urllib3.PoolManager(retries=False)
SERVICE = "/apis/ray.io/v1/namespaces/llm/rayservices/chat-llm"
DELAY = {"rayClusterDeletionDelaySeconds": 7}
REPLICAS = "/spec/rayClusterConfig/workerGroupSpecs/0/replicas"


def call(api: FakeApi, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    headers = {"Content-Type": content_type} if raw is not None else {}
    answer = HTTP.request(method, api.url + path, body=raw, headers=headers, timeout=60)
    return answer.status, json.loads(answer.data) if answer.headers[
        "Content-Type"
    ] == "application/json" else answer.data


@pytest.fixture
def service(api: FakeApi) -> dict[str, Any]:
    return dict(api.add(objects.ray_service()))


def json_patch(api: FakeApi, *operations: dict[str, Any]) -> Any:
    return call(api, "PATCH", SERVICE, list(operations), "application/json-patch+json")


def test_a_json_patch_changes_one_field_of_one_group(api: FakeApi, service: dict[str, Any]) -> None:
    group = "/spec/rayClusterConfig/workerGroupSpecs/0/groupName"
    code, after = json_patch(
        api, {"op": "test", "path": group, "value": "h100x8"}, {"op": "replace", "path": REPLICAS, "value": 3}
    )

    groups = after["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert (code, [g["replicas"] for g in groups]) == (200, [3, 1])
    assert after["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    "failing",
    [
        {"op": "test", "path": "/spec/rayClusterConfig/workerGroupSpecs/0/groupName", "value": "other"},
        {"op": "test", "path": "/metadata/resourceVersion", "value": "1"},
        {"op": "remove", "path": "/spec/nowhere"},
        {"op": "replace", "path": "/spec/rayClusterConfig/workerGroupSpecs/7/replicas", "value": 1},
    ],
)
def test_a_failing_operation_is_422_without_a_cause_and_changes_nothing(
    api: FakeApi, service: dict[str, Any], failing: dict[str, Any]
) -> None:
    code, status = json_patch(api, failing, {"op": "replace", "path": REPLICAS, "value": 3})

    assert code == 422
    assert status["reason"] == "Invalid"
    assert status["details"] == {}
    assert api.read(service) == service


def test_a_json_patch_that_makes_an_invalid_object_names_the_field(api: FakeApi, service: dict[str, Any]) -> None:
    code, status = json_patch(api, {"op": "replace", "path": REPLICAS, "value": "two"})

    assert code == 422
    assert "workerGroupSpecs[0].replicas" in status["message"]


def test_a_merge_patch_replaces_the_whole_list_of_groups(api: FakeApi, service: dict[str, Any]) -> None:
    patch = {"spec": {"rayClusterConfig": {"workerGroupSpecs": [objects.worker_group("only")]}}}
    code, after = call(api, "PATCH", SERVICE, patch, "application/merge-patch+json")

    assert code == 200
    assert [g["groupName"] for g in after["spec"]["rayClusterConfig"]["workerGroupSpecs"]] == ["only"]


def test_a_merge_patch_with_a_stale_version_is_a_conflict(api: FakeApi, service: dict[str, Any]) -> None:
    patch = {"metadata": {"resourceVersion": "1"}, "spec": {"rayClusterDeletionDelaySeconds": 7}}
    assert call(api, "PATCH", SERVICE, patch, "application/merge-patch+json")[0] == 409


def test_a_custom_resource_refuses_strategic_merge(api: FakeApi, service: dict[str, Any]) -> None:
    code, status = call(api, "PATCH", SERVICE, {"spec": {}}, "application/strategic-merge-patch+json")

    assert (code, status["reason"]) == (415, "UnsupportedMediaType")


def test_an_apply_creates_and_then_merges_and_needs_a_manager(api: FakeApi) -> None:
    body = {"apiVersion": "ray.io/v1", "kind": "RayService", "metadata": {"name": "chat-llm"}}
    spec = {"rayClusterConfig": objects.cluster_spec()}
    apply = "application/apply-patch+yaml"

    assert call(api, "PATCH", SERVICE, {**body, "spec": spec}, apply)[0] == 422
    assert call(api, "PATCH", SERVICE + "?fieldManager=t", {**body, "spec": spec}, apply)[0] == 201
    code, after = call(api, "PATCH", SERVICE + "?fieldManager=t", {**body, "spec": {**spec, **DELAY}}, apply)
    assert code == 200
    assert after["spec"]["rayClusterDeletionDelaySeconds"] == 7
    assert after["spec"]["rayClusterConfig"]["workerGroupSpecs"]


def test_an_apply_with_a_field_that_no_definition_knows_is_an_error_of_the_server(api: FakeApi) -> None:
    body = {"apiVersion": "ray.io/v1", "kind": "RayService", "metadata": {"name": "chat-llm"}}
    spec = {"rayClusterConfig": objects.cluster_spec(), "nonsense": 1}
    code, status = call(
        api, "PATCH", SERVICE + "?fieldManager=t", {**body, "spec": spec}, "application/apply-patch+yaml"
    )

    assert code == 500
    assert ".spec.nonsense: field not declared in schema" in status["message"]
    assert "reason" not in status


@pytest.mark.parametrize("content_type", ["text/plain", "application/vnd.kubernetes.protobuf", "application/json"])
def test_a_patch_of_another_content_type_is_415(api: FakeApi, service: dict[str, Any], content_type: str) -> None:
    assert call(api, "PATCH", SERVICE, {"spec": {}}, content_type)[0] == 415


def test_a_body_of_no_known_format_is_415_and_broken_json_400(api: FakeApi) -> None:
    path = "/api/v1/namespaces/llm/configmaps"
    assert call(api, "POST", path, b"name: a", "text/plain")[0] == 415
    assert call(api, "POST", path, b"{", "application/json")[0] == 400


def test_the_scale_of_a_deployment_is_read_and_patched_by_itself(api: FakeApi) -> None:
    pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    made = api.add(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "hold", "namespace": "llm"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": pod},
        }
    )
    path = "/apis/apps/v1/namespaces/llm/deployments/hold"

    patch = [{"op": "replace", "path": "/spec/replicas", "value": 5}]
    code, scale = call(api, "PATCH", path + "/scale", patch, "application/json-patch+json")

    assert (code, scale["kind"], scale["spec"]) == (200, "Scale", {"replicas": 5})
    assert call(api, "GET", path)[1]["spec"] == {**made["spec"], "replicas": 5}


def test_events_are_checked_as_the_events_group_does(api: FakeApi) -> None:
    path = "/apis/events.k8s.io/v1/namespaces/llm/events"
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": "chat-llm-"},
        "eventTime": "2026-03-01T10:00:00.000000Z",
        "reportingController": "leadtime.dev/controller",
        "reportingInstance": "pod",
        "action": "Scale",
        "reason": "Scaled",
        "regarding": {"kind": "RayService", "name": "chat-llm", "namespace": "llm"},
        "type": "Normal",
    }

    assert call(api, "POST", path, event)[0] == 201
    code, status = call(api, "POST", path, {**event, "metadata": {"generateName": "chat-llm."}})
    assert (code, "metadata.generateName" in status["message"]) == (422, True)
    for field in ("eventTime", "action", "type", "reportingInstance"):
        code, status = call(api, "POST", path, {k: v for k, v in event.items() if k != field})
        assert code == 422
        assert field in status["message"]
    assert call(api, "POST", path, {**event, "note": "x" * 1025})[0] == 422


@pytest.mark.fake_only
def test_faults_answer_wait_or_break_the_connection(api: FakeApi, service: dict[str, Any]) -> None:
    api.traffic.hooks += [
        when("get", "rayservices", times=1, fault=Fault(status=503, text="upstream connect error")),
        when("get", "rayservices", times=1, fault=Fault(status=429, retry_after_s=7)),
        when("get", "rayservices", times=1, fault=Fault(drop=True)),
        when("get", "rayservices", times=1, fault=Fault(delay_s=0.2)),
    ]

    assert call(api, "GET", SERVICE) == (503, b"upstream connect error")
    answer = HTTP.request("GET", api.url + SERVICE)
    assert (answer.status, answer.headers["Retry-After"], answer.json()["details"]) == (
        429,
        "7",
        {"retryAfterSeconds": 7},
    )
    with pytest.raises(urllib3.exceptions.ProtocolError):
        call(api, "GET", SERVICE)
    before = time.monotonic()
    assert call(api, "GET", SERVICE)[0] == 200
    assert time.monotonic() - before >= 0.2


@pytest.mark.fake_only
def test_a_write_can_be_done_and_its_answer_lost(api: FakeApi, service: dict[str, Any]) -> None:
    api.traffic.hooks.append(when("patch", "rayservices", times=1, fault=Fault(drop_after=True)))

    with pytest.raises(urllib3.exceptions.ProtocolError):
        json_patch(api, {"op": "replace", "path": REPLICAS, "value": 3})

    assert api.read(service)["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["replicas"] == 3


@pytest.mark.fake_only
def test_a_watch_can_be_cut(api: FakeApi) -> None:
    answer = HTTP.request("GET", api.url + "/api/v1/pods?watch=1", preload_content=False, timeout=60)
    events = answer.stream()
    api.add(objects.pod("p1"))
    assert json.loads(next(events))["object"]["metadata"]["name"] == "p1"

    api.cut_watches()

    with pytest.raises(urllib3.exceptions.HTTPError):
        list(events)


def test_the_log_forgets_by_itself_when_it_is_full() -> None:
    with FakeApi(keep_changes=10) as api:
        for i in range(30):
            api.add({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{i}", "namespace": "default"}})
        answer = HTTP.request("GET", api.url + "/api/v1/configmaps?watch=1&resourceVersion=3&timeoutSeconds=1")

    assert answer.status == 200
    event = answer.json()
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


@pytest.mark.fake_only
def test_every_request_is_logged_with_its_verb_and_body(api: FakeApi, service: dict[str, Any]) -> None:
    json_patch(api, {"op": "replace", "path": REPLICAS, "value": 3})

    (logged,) = api.traffic.writes()
    assert (logged.verb, logged.group, logged.resource, logged.namespace, logged.name, logged.status) == (
        "patch",
        "ray.io",
        "rayservices",
        "llm",
        "chat-llm",
        200,
    )
    assert logged.content_type == "application/json-patch+json"
    assert logged.body == [{"op": "replace", "path": REPLICAS, "value": 3}]
