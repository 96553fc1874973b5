"""The fake API server seen by the official client: it answers as the API conventions say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException

from tests.fakes.kubernetes import objects
from tests.fakes.kubernetes.crds import KUBERAY
from tests.fakes.kubernetes.rbac import Rbac
from tests.fakes.kubernetes.server import FakeApi

BOTH_SERVERS = True
DELAY = {"rayClusterDeletionDelaySeconds": 7}
RAY = ("ray.io", "v1", "llm", "rayservices")


@pytest.fixture
def connection(api: FakeApi) -> Iterator[client.ApiClient]:
    with client.ApiClient(client.Configuration(host=api.url)) as made:
        yield made


@pytest.fixture
def core(connection: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(connection)


@pytest.fixture
def custom(connection: client.ApiClient) -> client.CustomObjectsApi:
    return client.CustomObjectsApi(connection)


def config_map(name: str = "a", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "llm"}, "data": data}


def secret(name: str = "a", **labels: str) -> dict[str, Any]:
    """For lists and watches of everything: a real namespace always has a ConfigMap, and no Secret."""
    meta = {"name": name, "namespace": "llm", "labels": labels}
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": meta}


def refusal(call: Any) -> ApiException:
    with pytest.raises(ApiException) as caught:
        call()
    return caught.value


def test_a_created_object_gets_its_server_set_fields(custom: client.CustomObjectsApi) -> None:
    made = custom.create_namespaced_custom_object(*RAY, objects.ray_service())

    meta = made["metadata"]
    assert meta["generation"] == 1
    assert meta["uid"]
    assert meta["creationTimestamp"].endswith("Z")
    assert int(meta["resourceVersion"]) > 0


def test_create_answers_201_and_a_second_create_409_already_exists(api: FakeApi, core: client.CoreV1Api) -> None:
    core.create_namespaced_config_map("llm", config_map())
    error = refusal(lambda: core.create_namespaced_config_map("llm", config_map()))

    assert [r.status for r in api.traffic.of("create", "configmaps")] == [201, 409]
    assert '"reason":"AlreadyExists"' in error.body


def test_errors_are_status_objects_of_exactly_the_json_content_type(core: client.CoreV1Api) -> None:
    error = refusal(lambda: core.read_namespaced_config_map("nobody", "llm"))

    assert error.status == 404
    assert error.headers["Content-Type"] == "application/json"
    assert '"kind":"Status"' in error.body
    assert 'configmaps \\"nobody\\" not found' in error.body


def test_an_object_in_a_namespace_that_is_not_there_is_404(core: client.CoreV1Api) -> None:
    body = config_map()
    body["metadata"]["namespace"] = "nowhere"
    assert refusal(lambda: core.create_namespaced_config_map("nowhere", body)).status == 404


def test_versions_rise_with_every_change_and_a_write_without_change_is_none(
    api: FakeApi, core: client.CoreV1Api
) -> None:
    first = core.create_namespaced_config_map("llm", config_map(x="1"))
    same = core.patch_namespaced_config_map("a", "llm", {"data": {"x": "1"}})
    other = core.patch_namespaced_config_map("a", "llm", {"data": {"x": "2"}})

    assert same.metadata.resource_version == first.metadata.resource_version
    assert int(other.metadata.resource_version) > int(first.metadata.resource_version)


def test_a_stale_put_is_a_conflict(core: client.CoreV1Api) -> None:
    made = core.create_namespaced_config_map("llm", config_map(x="1"))
    core.patch_namespaced_config_map("a", "llm", {"data": {"x": "2"}})

    error = refusal(lambda: core.replace_namespaced_config_map("a", "llm", made))

    assert error.status == 409
    assert '"reason":"Conflict"' in error.body


def test_the_generation_counts_changes_of_the_spec_only(api: FakeApi, custom: client.CustomObjectsApi) -> None:
    custom.create_namespaced_custom_object(*RAY, objects.ray_service())
    labelled = custom.patch_namespaced_custom_object(*RAY, "chat-llm", {"metadata": {"labels": {"a": "b"}}})
    api.set_status(objects.ray_service(), objects.service_status())
    changed = custom.patch_namespaced_custom_object(*RAY, "chat-llm", {"spec": DELAY})

    assert labelled["metadata"]["generation"] == 1
    assert changed["metadata"]["generation"] == 2


def test_status_and_spec_are_written_apart(custom: client.CustomObjectsApi) -> None:
    made = custom.create_namespaced_custom_object(*RAY, objects.ray_service(status={"numServeEndpoints": 9}))
    by_status = custom.patch_namespaced_custom_object_status(
        *RAY, "chat-llm", {"spec": DELAY, "status": {"numServeEndpoints": 3}}
    )
    by_spec = custom.patch_namespaced_custom_object(*RAY, "chat-llm", {"status": {"numServeEndpoints": 7}})

    assert "status" not in made
    assert by_status["status"] == {"numServeEndpoints": 3}
    assert not DELAY.keys() & by_status["spec"].keys()
    assert by_spec["status"] == {"numServeEndpoints": 3}


def test_fields_that_the_definition_does_not_know_vanish(custom: client.CustomObjectsApi) -> None:
    made = custom.create_namespaced_custom_object(*RAY, objects.ray_service(spec={"nonsense": 1}))

    assert "nonsense" not in made["spec"]


def test_defaults_of_the_definition_are_filled_in(custom: client.CustomObjectsApi) -> None:
    group = objects.worker_group()
    for field in ("replicas", "numOfHosts"):
        del group[field]
    made = custom.create_namespaced_custom_object(*RAY, objects.ray_service(cluster=objects.cluster_spec(group)))

    written = made["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    assert (written["replicas"], written["numOfHosts"]) == (0, 1)


def test_a_value_of_the_wrong_type_is_422_with_the_field(custom: client.CustomObjectsApi) -> None:
    bad = objects.ray_service(cluster=objects.cluster_spec({**objects.worker_group(), "replicas": "two"}))

    error = refusal(lambda: custom.create_namespaced_custom_object(*RAY, bad))

    assert error.status == 422
    assert "spec.rayClusterConfig.workerGroupSpecs[0].replicas" in error.body


def test_strict_field_validation_names_the_unknown_field(custom: client.CustomObjectsApi) -> None:
    bad = objects.ray_service(spec={"nonsense": 1})

    error = refusal(lambda: custom.create_namespaced_custom_object(*RAY, bad, field_validation="Strict"))

    assert error.status == 400
    assert 'unknown field \\"spec.nonsense\\"' in error.body


def test_a_dry_run_changes_nothing(api: FakeApi, core: client.CoreV1Api) -> None:
    core.create_namespaced_config_map("llm", config_map(x="1"))
    shown = core.patch_namespaced_config_map("a", "llm", {"data": {"x": "2"}}, dry_run="All")

    assert shown.data == {"x": "2"}
    assert core.read_namespaced_config_map("a", "llm").data == {"x": "1"}


def test_a_put_of_a_custom_resource_needs_its_version(custom: client.CustomObjectsApi) -> None:
    custom.create_namespaced_custom_object(*RAY, objects.ray_service())

    error = refusal(lambda: custom.replace_namespaced_custom_object(*RAY, "chat-llm", objects.ray_service()))

    assert error.status == 422
    assert "must be specified for an update" in error.body


def test_a_lease_is_renewed_by_put_and_a_stale_renewal_is_refused(connection: client.ApiClient) -> None:
    leases = client.CoordinationV1Api(connection)
    spec = client.V1LeaseSpec(holder_identity="a", lease_duration_seconds=15)
    made = leases.create_namespaced_lease("llm", client.V1Lease(metadata={"name": "l"}, spec=spec))
    made.spec.holder_identity = "b"
    leases.replace_namespaced_lease("l", "llm", made)

    assert refusal(lambda: leases.replace_namespaced_lease("l", "llm", made)).status == 409
    made.metadata.resource_version = None
    assert refusal(lambda: leases.replace_namespaced_lease("l", "llm", made)).status == 422


def test_an_object_with_a_finalizer_stays_until_it_is_released(api: FakeApi, custom: client.CustomObjectsApi) -> None:
    service = objects.ray_service()
    service["metadata"]["finalizers"] = ["leadtime.dev/test"]
    custom.create_namespaced_custom_object(*RAY, service)
    custom.delete_namespaced_custom_object(*RAY, "chat-llm")

    marked = custom.get_namespaced_custom_object(*RAY, "chat-llm")
    assert marked["metadata"]["deletionTimestamp"]
    custom.patch_namespaced_custom_object(*RAY, "chat-llm", {"metadata": {"finalizers": None}})
    assert refusal(lambda: custom.get_namespaced_custom_object(*RAY, "chat-llm")).status == 404


def test_a_delete_with_another_uid_is_a_conflict(core: client.CoreV1Api) -> None:
    core.create_namespaced_config_map("llm", config_map())
    options = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="another"))

    assert refusal(lambda: core.delete_namespaced_config_map("a", "llm", body=options)).status == 409


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("", ["a", "b", "c"]),
        ("team=x", ["a"]),
        ("team==x,tier=gold", ["a"]),
        ("team!=x", ["b", "c"]),
        ("team in (x, y)", ["a", "b"]),
        ("team notin (x)", ["b", "c"]),
        ("team", ["a", "b"]),
        ("!team", ["c"]),
    ],
)
def test_label_selectors(core: client.CoreV1Api, selector: str, found: list[str]) -> None:
    for name, labels in (("a", {"team": "x", "tier": "gold"}), ("b", {"team": "y"}), ("c", {})):
        core.create_namespaced_secret("llm", secret(name, **labels))

    listed = core.list_namespaced_secret("llm", label_selector=selector)

    assert [item.metadata.name for item in listed.items] == found


def test_field_selectors_and_unknown_ones(api: FakeApi, core: client.CoreV1Api) -> None:
    api.add(objects.pod("p1", on="n1"))
    api.add(objects.pod("p2", on="n2"))

    listed = core.list_namespaced_pod("llm", field_selector="spec.nodeName=n1")

    assert [item.metadata.name for item in listed.items] == ["p1"]
    assert refusal(lambda: core.list_namespaced_pod("llm", field_selector="spec.colour=red")).status == 400


def test_a_list_comes_in_pages_of_one_version_and_old_pages_expire(api: FakeApi, core: client.CoreV1Api) -> None:
    for name in ("a", "b", "c"):
        core.create_namespaced_secret("llm", secret(name))
    first = core.list_namespaced_secret("llm", limit=2)
    core.create_namespaced_secret("llm", secret("d"))
    second = core.list_namespaced_secret("llm", limit=2, _continue=first.metadata._continue)

    assert [i.metadata.name for i in first.items + second.items] == ["a", "b", "c"]
    assert first.metadata.remaining_item_count == 1
    assert second.metadata.resource_version == first.metadata.resource_version
    api.compact()
    error = refusal(lambda: core.list_namespaced_secret("llm", limit=2, _continue=first.metadata._continue))
    assert error.status == 410


def test_a_watch_resumes_from_a_version_and_ends_with_its_time(api: FakeApi, core: client.CoreV1Api) -> None:
    listed = core.list_namespaced_config_map("llm")
    api.add(config_map("a", x="1"))
    api.change(config_map("a"), {"data": {"x": "2"}})
    api.remove(config_map("a"))

    events = watch.Watch().stream(
        core.list_namespaced_config_map, "llm", resource_version=listed.metadata.resource_version, timeout_seconds=1
    )

    seen = [(e["type"], (e["raw_object"].get("data") or {}).get("x")) for e in events]
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]


def test_a_watch_without_a_version_starts_with_what_is_there(api: FakeApi, core: client.CoreV1Api) -> None:
    api.add(secret("a"))

    events = list(watch.Watch().stream(core.list_namespaced_secret, "llm", timeout_seconds=1))

    assert [(e["type"], e["object"].metadata.name) for e in events] == [("ADDED", "a")]


def test_an_object_that_leaves_the_selection_is_deleted_for_the_watch(api: FakeApi, core: client.CoreV1Api) -> None:
    body = config_map("a")
    body["metadata"]["labels"] = {"team": "x"}
    listed = core.list_namespaced_config_map("llm")
    api.add(body)
    api.change(body, {"metadata": {"labels": {"team": "y"}}})

    version = listed.metadata.resource_version
    events = watch.Watch().stream(
        core.list_namespaced_config_map, "llm", label_selector="team=x", resource_version=version, timeout_seconds=1
    )

    assert [e["type"] for e in events] == ["ADDED", "DELETED"]


def test_a_watch_from_a_forgotten_version_is_410(api: FakeApi, core: client.CoreV1Api) -> None:
    version = core.list_namespaced_secret("llm").metadata.resource_version
    api.add(secret("a"))
    api.compact()

    stream = watch.Watch().stream(core.list_namespaced_secret, "llm", resource_version=version, timeout_seconds=1)

    assert refusal(lambda: list(stream)).status == 410


@pytest.mark.fake_only
def test_a_watch_from_a_forgotten_version_can_also_be_a_plain_410(api: FakeApi, core: client.CoreV1Api) -> None:
    version = core.list_namespaced_secret("llm").metadata.resource_version
    api.add(secret("a"))
    api.compact()
    api.expired_as_status = True

    stream = watch.Watch().stream(core.list_namespaced_secret, "llm", resource_version=version, timeout_seconds=1)

    assert refusal(lambda: list(stream)).status == 410


def test_a_watch_without_a_version_says_by_a_bookmark_that_its_beginning_is_over(
    api: FakeApi, core: client.CoreV1Api
) -> None:
    api.add(secret("a"))

    def kinds(**more: Any) -> list[str]:
        stream = watch.Watch().stream(core.list_namespaced_secret, "llm", timeout_seconds=1, **more)
        return [event["type"] for event in stream]

    assert kinds(allow_watch_bookmarks=True) == ["ADDED", "BOOKMARK"]
    assert kinds() == ["ADDED"]
    version = core.list_namespaced_secret("llm").metadata.resource_version
    assert kinds(allow_watch_bookmarks=True, resource_version=version) == [], "the next one comes after a minute"


def test_rights_come_from_the_role_and_unused_ones_are_listed() -> None:
    role = {
        "kind": "Role",
        "metadata": {"name": "r", "namespace": "llm"},
        "rules": [
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get", "list", "patch"]},
            {"apiGroups": ["ray.io"], "resources": ["rayservices"], "verbs": ["list"]},
        ],
    }
    binding = {
        "kind": "RoleBinding",
        "metadata": {"name": "b", "namespace": "llm"},
        "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "leadtime", "namespace": "leadtime"}],
    }
    user = "system:serviceaccount:leadtime:leadtime"
    rbac = Rbac.from_documents([role, binding])
    with FakeApi(crds=KUBERAY, rbac=rbac, tokens={"t": user}, namespaces=("llm", "other")) as api:
        api.add(config_map("a"))
        api.add(config_map("b"))
        configuration = client.Configuration(host=api.url)
        configuration.api_key = {"authorization": "Bearer t"}
        core = client.CoreV1Api(client.ApiClient(configuration))

        assert core.read_namespaced_config_map("a", "llm").metadata.name == "a"
        assert len(core.list_namespaced_config_map("llm", field_selector="metadata.name=a").items) == 1
        for call in (
            lambda: core.read_namespaced_config_map("b", "llm"),
            lambda: core.read_namespaced_config_map("a", "other"),
            lambda: core.list_namespaced_config_map("llm"),
            lambda: core.delete_namespaced_config_map("a", "llm"),
        ):
            error = refusal(call)
            assert error.status == 403
            assert f'User \\"{user}\\" cannot' in error.body

    assert [(p.verb, p.resource) for p in rbac.unused(user)] == [("patch", "configmaps"), ("list", "rayservices")]


def test_a_wrong_token_is_401() -> None:
    with FakeApi(tokens={"t": "someone"}) as api:
        configuration = client.Configuration(host=api.url)
        configuration.api_key = {"authorization": "Bearer wrong"}
        core = client.CoreV1Api(client.ApiClient(configuration))

        assert refusal(lambda: core.list_namespaced_config_map("llm")).status == 401
