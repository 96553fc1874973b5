"""Worker counts change by a guarded JSON patch of one field, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from autoscaler.common.errors import Conflict, NotFound, Rejected
from autoscaler.kubernetes.api import KubernetesApi
from autoscaler.kubernetes.resources import RAY_CLUSTERS, RAY_SERVICES
from autoscaler.kubernetes.worker_groups import GroupChange, patch_of, set_group
from tests.fakes.kubernetes import objects
from tests.fakes.kubernetes.crds import KUBERAY, real_kuberay
from tests.fakes.kubernetes.server import FakeApi
from tests.kube.helpers import client_of


@pytest.fixture(params=["ours", "real"])
def api(request: pytest.FixtureRequest) -> Any:
    crds = KUBERAY if request.param == "ours" else real_kuberay()
    if not crds:
        pytest.skip("the real CRD files are not here: set LEADTIME_SCHEMAS")
    with FakeApi(crds=crds, namespaces=("llm",)) as server:
        yield server


@pytest.fixture
async def client(api: FakeApi) -> AsyncIterator[KubernetesApi]:
    made = client_of(api)
    yield made
    await made.close()


def groups_of(obj: Any) -> list[dict[str, Any]]:
    spec = obj["spec"].get("rayClusterConfig", obj["spec"])
    return list(spec["workerGroupSpecs"])


@pytest.mark.parametrize(
    ("resource", "made"), [(RAY_SERVICES, objects.ray_service()), (RAY_CLUSTERS, objects.ray_cluster(service=None))]
)
async def test_one_field_of_one_group_is_written_and_nothing_else(
    api: FakeApi, client: KubernetesApi, resource: Any, made: dict[str, Any]
) -> None:
    before = api.add(made)
    name = made["metadata"]["name"]

    assert await set_group(client, resource, "llm", name, GroupChange("h100x8", replicas=3))

    after = api.read(made)
    expected = groups_of(before)
    expected[0] = {**expected[0], "replicas": 3}
    assert groups_of(after) == expected
    assert {**after, "metadata": 0, "spec": 0} == {**before, "metadata": 0, "spec": 0}
    (sent,) = api.traffic.of("patch")
    assert sent.content_type == "application/json-patch+json"
    assert [o["op"] for o in sent.body] == ["test", "test", "add"]
    assert [o["value"] for o in sent.body] == [before["metadata"]["resourceVersion"], "h100x8", 3]


async def test_a_group_that_is_as_wanted_is_not_written(api: FakeApi, client: KubernetesApi) -> None:
    api.add(objects.ray_service())

    assert not await set_group(client, RAY_SERVICES, "llm", "chat-llm", GroupChange("h100x8", 1, 0, 4))
    assert api.traffic.writes() == []


async def test_an_object_that_changed_since_it_was_read_is_a_conflict(api: FakeApi, client: KubernetesApi) -> None:
    read = api.add(objects.ray_service())
    api.change(read, {"metadata": {"labels": {"touched": "yes"}}})

    with pytest.raises(Conflict, match="decide again"):
        await set_group(client, RAY_SERVICES, "llm", "chat-llm", GroupChange("h100x8", 3), obj=read)

    assert groups_of(api.read(read)) == groups_of(read)


async def test_groups_that_changed_places_are_never_mixed_up(api: FakeApi, client: KubernetesApi) -> None:
    read = api.add(objects.ray_service())
    api.change(read, {"spec": {"rayClusterConfig": {"workerGroupSpecs": groups_of(read)[::-1]}}})
    stale_but_same_version = {**read, "metadata": {**read["metadata"], **_version(api, read)}}

    with pytest.raises(Rejected):  # only the group's name gives it away
        await set_group(client, RAY_SERVICES, "llm", "chat-llm", GroupChange("h100x8", 3), obj=stale_but_same_version)

    assert [g["replicas"] for g in groups_of(api.read(read))] == [1, 1]


def _version(api: FakeApi, obj: Any) -> dict[str, str]:
    return {"resourceVersion": api.read(obj)["metadata"]["resourceVersion"]}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (GroupChange("h200", 1), NotFound, "no worker group 'h200'; it has: h100x8, cpu"),
        (GroupChange("h100x8", replicas=5), Rejected, "replicas 5 above maxReplicas 4"),
        (GroupChange("h100x8", min_replicas=5), Rejected, "minReplicas 5 above maxReplicas 4"),
        (GroupChange("h100x8", replicas=-1), Rejected, "below 0"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_before_it_is_sent(
    change: GroupChange, error: type[Exception], words: str
) -> None:
    service = objects.ray_service()
    service["metadata"]["resourceVersion"] = "7"

    with pytest.raises(error, match=words):
        patch_of(service, change)
