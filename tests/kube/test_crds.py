"""The hand-written definitions of KubeRay's kinds agree with the real ones, where those are at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.fakes.kubernetes import objects
from tests.fakes.kubernetes.crds import KUBERAY, real_kuberay
from tests.fakes.kubernetes.crds_autoscaling import AUTOSCALING, real_autoscaling
from tests.fakes.kubernetes.resources import from_crd
from tests.fakes.kubernetes.server import FakeApi

REAL = real_kuberay()
pytestmark = pytest.mark.skipif(not REAL, reason="the real CRD files are not here: set LEADTIME_SCHEMAS")


def schema(crd: Mapping[str, Any], version: str = "v1") -> Mapping[str, Any]:
    return next(v for v in crd["spec"]["versions"] if v["name"] == version)["schema"]["openAPIV3Schema"]


def disagreements(ours: Mapping[str, Any], real: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for word in ("type", "default", "enum", "x-kubernetes-int-or-string", "x-kubernetes-list-map-keys"):
        if word in ours and ours[word] != real.get(word):
            yield f"{path}: {word} is {ours[word]} here and {real.get(word)} there"
    if set(ours.get("required", ())) != set(real.get("required", ())) and "required" in ours:
        yield f"{path}: required is {ours['required']} here and {real.get('required')} there"
    for name, child in ours.get("properties", {}).items():
        if name not in real.get("properties", {}):
            yield f"{path}.{name}: not in the real definition"
        else:
            yield from disagreements(child, real["properties"][name], f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if isinstance(ours.get(word), dict):
            yield from disagreements(ours[word], real.get(word, {}), f"{path}.{word}")


@pytest.mark.parametrize("index", [0, 1], ids=["RayService", "RayCluster"])
def test_every_field_of_ours_is_in_the_real_definition_with_the_same_type(index: int) -> None:
    ours, real = KUBERAY[index], REAL[index]

    assert ours["spec"]["names"]["plural"] == real["spec"]["names"]["plural"]
    assert list(disagreements(schema(ours), schema(real))) == []


@pytest.mark.parametrize(("index", "version"), [(0, "v1beta1"), (0, "v1alpha1"), (1, "v1")])
def test_those_of_the_cluster_autoscaler_agree_too(index: int, version: str) -> None:
    ours, real = AUTOSCALING[index], real_autoscaling()[index]

    assert ours["spec"]["names"]["plural"] == real["spec"]["names"]["plural"]
    assert list(disagreements(schema(ours, version), schema(real, version))) == []


def test_a_disagreement_would_be_seen() -> None:
    ours = {"properties": {"spec": {"properties": {"suspend": {"type": "string"}, "colour": {"type": "string"}}}}}

    assert len(list(disagreements(ours, schema(REAL[0])))) == 2


def test_the_tests_objects_are_valid_and_whole_under_the_real_definitions() -> None:
    service = objects.ray_service(status=objects.service_status("a", "b", capacity=(50, 50), traffic=(50, 50)))
    cluster = objects.ray_cluster()
    with FakeApi(crds=REAL, namespaces=("llm",)) as api:
        for obj, crd in ((service, REAL[0]), (cluster, REAL[1])):
            kind = next(k for k in from_crd(crd) if k.version == "v1")
            assert kind.schema is not None
            assert kind.schema.admit(obj)[1] == []
            assert api.add(obj)["status"] == obj["status"]
