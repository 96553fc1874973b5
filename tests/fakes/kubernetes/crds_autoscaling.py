"""CustomResourceDefinitions of autoscaling.x-k8s.io, cut down by hand to the fields that leadtime reads or writes.

A test proves that these agree with the real ones, where those are at hand.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml

from tests.fakes.kubernetes.crds import CONDITIONS, TEXT, WHOLE, object_of, schemas_folder

_REFERENCE = object_of(("name",), name=TEXT)


def _crd(kind: str, versions: tuple[str, ...], spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    root = object_of(("spec",), apiVersion=TEXT, kind=TEXT, metadata={"type": "object"}, spec=spec, status=status)
    plural = kind.lower() + "s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.autoscaling.x-k8s.io"},
        "spec": {
            "group": "autoscaling.x-k8s.io",
            "names": {"kind": kind, "plural": plural},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": version == versions[0],
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": root},
                }
                for version in versions
            ],
        },
    }


def capacity_buffers(*versions: str) -> dict[str, Any]:
    """The definition with these versions; all of them without any."""
    return _crd(
        "CapacityBuffer",
        versions or ("v1beta1", "v1alpha1"),
        object_of(
            podTemplateRef=_REFERENCE,
            replicas={**WHOLE, "minimum": 0},
            provisioningStrategy={"type": "string", "default": "buffer.x-k8s.io/active-capacity"},
        ),
        object_of(conditions=CONDITIONS, replicas=WHOLE),
    )


CAPACITY_BUFFERS = capacity_buffers()
PROVISIONING_REQUESTS = _crd(
    "ProvisioningRequest",
    ("v1",),
    object_of(
        ("podSets", "provisioningClassName"),
        provisioningClassName=TEXT,
        parameters={"type": "object", "additionalProperties": {"type": "string", "maxLength": 255}},
        podSets={
            "type": "array",
            "minItems": 1,
            "items": object_of(("count", "podTemplateRef"), count={**WHOLE, "minimum": 1}, podTemplateRef=_REFERENCE),
        },
    ),
    object_of(conditions=CONDITIONS),
)
AUTOSCALING = (CAPACITY_BUFFERS, PROVISIONING_REQUESTS)


@cache
def real_autoscaling() -> tuple[dict[str, Any], ...]:
    """The real definitions; empty where they are not at hand."""
    folder = schemas_folder()
    if folder is None:
        return ()
    names = ("autoscaling.x-k8s.io_capacitybuffers.yaml", "autoscaling.x-k8s.io_provisioningrequests.yaml")
    return tuple(yaml.safe_load((folder / name).read_text()) for name in names)
