"""The admission policy's expressions, evaluated: our account may change worker counts, and nothing else.

Evaluated by a CEL library and not by an API server: types and cost limits of a real one are not proven here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import cel
import pytest

from tests.chart.chart import Doc, of_kind, one, render

DOCS = render({"admissionPolicy": {"enabled": True}})
GROUP = {"groupName": "h100", "replicas": 1, "minReplicas": 0, "maxReplicas": 4, "template": {"spec": {"a": 1}}}
CPU = {"groupName": "cpu", "replicas": 1, "template": {"spec": {"b": 2}}}
CLUSTER = {"rayVersion": "2.60.0", "headGroupSpec": {"x": 1}, "workerGroupSpecs": [GROUP, CPU]}
META = {"name": "chat", "namespace": "llm", "labels": {"team": "llm"}, "resourceVersion": "1"}
OBJECTS: dict[str, Doc] = {
    "rayservices": {"metadata": META, "spec": {"serveConfigV2": "a", "rayClusterConfig": CLUSTER}},
    "rayclusters": {"metadata": META, "spec": CLUSTER},
}


def policy(resource: str) -> Doc:
    found: Doc = one(DOCS, "ValidatingAdmissionPolicy", f"lt-demo-leadtime-{resource}")["spec"]
    return found


def refusals(resource: str, old: Doc | None, new: Doc | None, operation: str = "UPDATE") -> list[str]:
    """The messages of the validations that fail."""
    spec = policy(resource)
    names: dict[str, Any] = {"object": new, "oldObject": old, "request": {"operation": operation}}
    variables: dict[str, Any] = {}
    for variable in spec["variables"]:
        variables[variable["name"]] = cel.evaluate(variable["expression"], {**names, "variables": variables})
    names["variables"] = variables
    return [v["message"] for v in spec["validations"] if cel.evaluate(v["expression"], names) is not True]


def cluster(obj: Doc) -> Doc:
    found: Doc = obj["spec"].get("rayClusterConfig", obj["spec"])
    return found


def changed(resource: str, change: Callable[[Doc], object]) -> Doc:
    new = copy.deepcopy(OBJECTS[resource])
    change(new)
    return new


def counts(obj: Doc) -> None:
    cluster(obj)["workerGroupSpecs"][0] |= {"replicas": 3, "minReplicas": 2, "maxReplicas": 8}
    obj["metadata"] |= {"resourceVersion": "2", "generation": 5, "managedFields": [{"manager": "leadtime"}]}


def first_count(obj: Doc) -> None:
    cluster(obj)["workerGroupSpecs"][1]["minReplicas"] = 1


@pytest.mark.parametrize("resource", OBJECTS)
@pytest.mark.parametrize("change", [counts, first_count, lambda obj: None], ids=["counts", "a new count", "nothing"])
def test_worker_counts_may_be_changed(resource: str, change: Callable[[Doc], object]) -> None:
    assert refusals(resource, OBJECTS[resource], changed(resource, change)) == []


FORBIDDEN: dict[str, Callable[[Doc], object]] = {
    "a template": lambda o: cluster(o)["workerGroupSpecs"][0]["template"]["spec"].update(a=2),
    "a new field of a group": lambda o: cluster(o)["workerGroupSpecs"][0].update(suspend=True),
    "a field of a group gone": lambda o: cluster(o)["workerGroupSpecs"][0].pop("template"),
    "a group gone": lambda o: cluster(o)["workerGroupSpecs"].pop(),
    "a group more": lambda o: cluster(o)["workerGroupSpecs"].append({"groupName": "new"}),
    "a group renamed": lambda o: cluster(o)["workerGroupSpecs"][0].update(groupName="other"),
    "a group twice": lambda o: cluster(o)["workerGroupSpecs"].__setitem__(1, cluster(o)["workerGroupSpecs"][0]),
    "all groups gone": lambda o: cluster(o).pop("workerGroupSpecs"),
    "the head": lambda o: cluster(o)["headGroupSpec"].update(x=2),
    "a new field": lambda o: cluster(o).update(suspend=True),
    "a field gone": lambda o: cluster(o).pop("rayVersion"),
    "a label": lambda o: o["metadata"]["labels"].update(team="x"),
    "an annotation": lambda o: o["metadata"].update(annotations={"a": "b"}),
    "a finalizer": lambda o: o["metadata"].update(finalizers=["x"]),
    "an owner": lambda o: o["metadata"].update(ownerReferences=[{"uid": "1"}]),
}


@pytest.mark.parametrize("resource", OBJECTS)
@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_else_may_be_changed(resource: str, what: str) -> None:
    assert refusals(resource, OBJECTS[resource], changed(resource, FORBIDDEN[what]))


def test_the_serve_config_of_a_service_may_not_be_changed() -> None:
    new = changed("rayservices", lambda o: o["spec"].update(serveConfigV2="b"))
    assert refusals("rayservices", OBJECTS["rayservices"], new)
    new = changed("rayservices", lambda o: o["spec"].pop("serveConfigV2"))
    assert refusals("rayservices", OBJECTS["rayservices"], new)


def test_a_cluster_without_worker_groups_may_be_left_as_it_is() -> None:
    alone = {"metadata": META, "spec": {"rayVersion": "2.60.0"}}
    assert refusals("rayclusters", alone, alone) == []


@pytest.mark.parametrize("resource", OBJECTS)
def test_it_holds_for_our_account_only_and_for_every_operation(resource: str) -> None:
    spec = policy(resource)
    (condition,) = spec["matchConditions"]
    for user, ours in (("system:serviceaccount:lt:demo-leadtime", True), ("system:serviceaccount:lt:other", False)):
        assert cel.evaluate(condition["expression"], {"request": {"userInfo": {"username": user}}}) is ours
    (rule,) = spec["matchConstraints"]["resourceRules"]
    assert rule["resources"] == [resource]
    assert set(rule["operations"]) == {"CREATE", "UPDATE", "DELETE"}
    first = spec["validations"][0]["expression"]
    assert cel.evaluate(first, {"request": {"operation": "DELETE"}}) is False


def test_every_policy_is_bound_and_denies() -> None:
    names = {doc["metadata"]["name"] for doc in of_kind(DOCS, "ValidatingAdmissionPolicy")}
    bindings = of_kind(DOCS, "ValidatingAdmissionPolicyBinding")
    assert {binding["spec"]["policyName"] for binding in bindings} == names
    assert all(binding["spec"]["validationActions"] == ["Deny"] for binding in bindings)
