"""Every object of the examples is taken by a real API server: defaults, strict validation and admission."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.generate.crd import definition
from tests.chart.examples import EXAMPLES, manifests, rendered
from tests.cluster import parts
from tests.cluster.api import RealApi
from tests.cluster.test_autoscalers import undefine
from tests.fakes.kubernetes.crds import TEXT, WHOLE, object_of

pytestmark = pytest.mark.cluster
SCALED_OBJECTS: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "scaledobjects.keda.sh"},
    "spec": {
        "group": "keda.sh",
        "names": {"kind": "ScaledObject", "plural": "scaledobjects"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": object_of(
                        ("spec",),
                        spec=object_of(
                            ("scaleTargetRef", "triggers"),
                            scaleTargetRef=object_of(("name",), name=TEXT),
                            minReplicaCount=WHOLE,
                            maxReplicaCount=WHOLE,
                            fallback=object_of(
                                ("failureThreshold", "replicas"), failureThreshold=WHOLE, replicas=WHOLE
                            ),
                            triggers={
                                "type": "array",
                                "items": object_of(
                                    ("metadata", "type"),
                                    type=TEXT,
                                    metadata={"type": "object", "additionalProperties": TEXT},
                                ),
                            },
                        ),
                    )
                },
            }
        ],
    },
}
"""KEDA's ScaledObject, cut down by hand to the fields that the example uses."""


@pytest.fixture(scope="module")
def kinds(cluster: RealApi) -> Iterator[RealApi]:
    """A cluster with KubeRay, KEDA and Autoscalers in it."""
    cluster.define([definition(), SCALED_OBJECTS])
    yield cluster
    undefine(cluster)
    cluster.remove(SCALED_OBJECTS)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_object_is_taken(example: str, kinds: RealApi, tmp_path: Path) -> None:
    docs = [*manifests(example), *rendered(example)]
    served = [doc for doc in docs if not doc["apiVersion"].startswith("monitoring.")]
    for namespace in {doc["metadata"].get("namespace", "") for doc in served} - {""}:
        kinds.namespace(namespace)
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump_all(served))
    kubectl = [str(parts.require("kubectl")), f"--kubeconfig={kinds.plane.admin}"]
    command = [*kubectl, "apply", "--dry-run=server", "--validate=strict", "-f", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    errors = [line for line in done.stderr.splitlines() if not line.startswith("Warning: resource")]
    assert (done.returncode, errors) == (0, [])
    assert len(done.stdout.splitlines()) == len(served)
