"""The chart's ValidatingAdmissionPolicy in a real API server, whose types, evaluation and cost limits of CEL are real.

The account is given every right by a binding of the test, so that only the policy stands between it and the objects.
What must be refused and what admitted is the list that tests/chart/test_admission.py tries on a CEL library.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.chart.test_admission import FORBIDDEN, counts, first_count
from tests.chart.test_admission import cluster as cluster_of
from tests.cluster.api import ApiError, RealApi
from tests.cluster.helm import Helm
from tests.fakes.kubernetes import objects

pytestmark = pytest.mark.cluster
NAMESPACE = "admission"
OBJECTS = {
    "rayservices": objects.ray_service(namespace=NAMESPACE),
    "rayclusters": objects.ray_cluster(namespace=NAMESPACE, service=None),
}
WIDE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "RoleBinding",
    "metadata": {"name": "wide", "namespace": NAMESPACE},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [{"kind": "ServiceAccount", "name": "demo-leadtime", "namespace": NAMESPACE}],
}
WRONG_OF_REAL_OBJECTS: dict[str, Callable[[dict[str, Any]], object]] = {
    **FORBIDDEN,
    # the same changes, with fields that KubeRay's definitions have
    "a template": lambda o: container(o).update(image="other"),
    "the head": lambda o: cluster_of(o)["headGroupSpec"].update(serviceType="NodePort"),
    "a group more": lambda o: cluster_of(o)["workerGroupSpecs"].append(objects.worker_group("new")),
    "a label": lambda o: o["metadata"].update(labels={"team": "x"}),
    "an owner": lambda o: o["metadata"].update(
        ownerReferences=[{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1"}]
    ),
    "a finalizer": lambda o: o["metadata"].update(finalizers=["leadtime.dev/x"]),
}
NEVER_VALID = ("a field of a group gone", "a group twice")
"""A group without its template, and one name twice: KubeRay's definition or the merge refuses these before or after."""


def container(obj: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = cluster_of(obj)["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
    return found


@pytest.fixture(scope="module")
def account(cluster: RealApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealApi]:
    """The API as the chart's account, which may do everything in its namespace as far as rights go."""
    cluster.namespace(NAMESPACE)
    helm = Helm(cluster.plane, tmp_path_factory.mktemp("helm"), NAMESPACE)
    helm.install({"admissionPolicy": {"enabled": True}})
    cluster.add(WIDE)
    as_account = cluster.as_account(NAMESPACE, "demo-leadtime")
    probe, tries = cluster.add(OBJECTS["rayclusters"]), itertools.count()

    def in_force() -> bool:
        """A change that was let through is none the second time."""
        return refused(lambda: as_account.change(probe, {"metadata": {"labels": {"try": str(next(tries))}}}))

    cluster.plane.until(in_force, "the policy is in force")
    cluster.remove(probe)
    yield as_account
    helm.uninstall()
    cluster.remove(WIDE)


@pytest.fixture(params=sorted(OBJECTS))
def stored(request: pytest.FixtureRequest, cluster: RealApi) -> Iterator[dict[str, Any]]:
    made = cluster.add(OBJECTS[request.param])
    yield made
    cluster.clear([NAMESPACE], (made["apiVersion"], made["kind"]))


def refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except ApiError as error:
        if "ValidatingAdmissionPolicy" not in str(error):
            raise
        return True
    return False


def put(api: RealApi, stored: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    new = copy.deepcopy(stored)
    change(new)
    new["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"]
    return api.request("PUT", api.path_of(stored), new)


def test_the_server_finds_no_wrong_type_in_its_expressions(account: RealApi, cluster: RealApi) -> None:
    for policy in cluster.all("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"):
        cluster.plane.until(
            lambda policy=policy: "typeChecking" in cluster.read(policy).get("status", {}), "it is checked"
        )
        assert cluster.read(policy)["status"]["typeChecking"] == {}


@pytest.mark.parametrize("change", [counts, first_count, lambda obj: None], ids=["counts", "a new count", "nothing"])
def test_worker_counts_may_be_changed(
    account: RealApi, stored: dict[str, Any], change: Callable[[dict[str, Any]], object]
) -> None:
    after = put(account, stored, change)

    wanted = copy.deepcopy(stored)
    change(wanted)
    assert cluster_of(after)["workerGroupSpecs"] == cluster_of(wanted)["workerGroupSpecs"]


@pytest.mark.parametrize("what", sorted(set(WRONG_OF_REAL_OBJECTS) - set(NEVER_VALID)))
def test_nothing_else_may_be_changed(account: RealApi, stored: dict[str, Any], what: str) -> None:
    with pytest.raises(ApiError, match="denied request: leadtime may change") as caught:
        put(account, stored, WRONG_OF_REAL_OBJECTS[what])

    assert caught.value.code == 422


def test_objects_are_neither_made_nor_deleted(account: RealApi, stored: dict[str, Any]) -> None:
    other = {**OBJECTS["rayservices"], "metadata": {"name": "other", "namespace": NAMESPACE}}
    for call in (lambda: account.add(other), lambda: account.remove(stored)):
        with pytest.raises(ApiError, match="not create or delete them"):
            call()


def test_others_may_do_as_they_please(account: RealApi, cluster: RealApi, stored: dict[str, Any]) -> None:
    put(cluster, stored, WRONG_OF_REAL_OBJECTS["a label"])


def test_a_large_service_is_within_the_cost_that_an_expression_may_have(account: RealApi, cluster: RealApi) -> None:
    """100 worker groups of some 5 kB: the policy compares each with each."""
    variables = [{"name": f"V{i}", "value": "x" * 50} for i in range(50)]
    groups = [objects.worker_group(f"g{i}") for i in range(100)]
    for group in groups:
        group["template"]["spec"]["containers"][0]["env"] = variables
    large = cluster.add(objects.ray_service("large", namespace=NAMESPACE, cluster=objects.cluster_spec(*groups)))
    assert len(json.dumps(large)) > 300_000

    put(account, large, counts)
    large = cluster.read(large)
    assert refused(lambda: put(account, large, WRONG_OF_REAL_OBJECTS["a template"]))
    cluster.remove(large)
