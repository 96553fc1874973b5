"""CustomResourceDefinitions of KubeRay, cut down by hand to the fields that leadtime reads or writes.

The real files are used where they are at hand (LEADTIME_SCHEMAS, else ../shared/schemas beside the checkout); a test
proves that these agree with them.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_TEXT = {"type": "string"}
_WHOLE = {"type": "integer", "format": "int32"}
_YES_NO = {"type": "boolean"}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_QUANTITY = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    return {**schema, "required": list(required)} if required else schema


_NAMED = _object(metadata=_object(name=_TEXT, labels=_TEXTS, annotations=_TEXTS, namespace=_TEXT), spec=_OPEN)
_CONDITIONS = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
    "items": _object(
        ("lastTransitionTime", "message", "reason", "status", "type"),
        lastTransitionTime={"type": "string", "format": "date-time"},
        message=_TEXT,
        observedGeneration={"type": "integer"},
        reason={"type": "string", "minLength": 1},
        status={"type": "string", "enum": ["True", "False", "Unknown"]},
        type=_TEXT,
    ),
}
_HEAD = _object(
    ("template",),
    rayStartParams=_TEXTS,
    resources=_TEXTS,
    serviceType=_TEXT,
    headService=_NAMED,
    template=_NAMED,
)
_WORKERS = {
    "type": "array",
    "items": _object(
        ("groupName", "maxReplicas", "minReplicas", "template"),
        groupName=_TEXT,
        replicas={**_WHOLE, "default": 0},
        minReplicas={**_WHOLE, "default": 0},
        maxReplicas={**_WHOLE, "default": 2147483647},
        numOfHosts={**_WHOLE, "default": 1},
        priority={**_WHOLE, "default": 0},
        idleTimeoutSeconds=_WHOLE,
        suspend=_YES_NO,
        labels=_TEXTS,
        rayStartParams=_TEXTS,
        resources=_TEXTS,
        scaleStrategy=_object(workersToDelete={"type": "array", "items": _TEXT}),
        template=_NAMED,
    ),
}
_CLUSTER_SPEC = _object(
    ("headGroupSpec",),
    rayVersion=_TEXT,
    suspend=_YES_NO,
    enableInTreeAutoscaling=_YES_NO,
    autoscalerOptions=_object(version=_TEXT, idleTimeoutSeconds=_WHOLE, upscalingMode=_TEXT),
    authOptions=_object(mode={"type": "string", "enum": ["disabled", "token"]}, secretName=_TEXT),
    headGroupSpec=_HEAD,
    workerGroupSpecs=_WORKERS,
)
_CLUSTER_STATUS = _object(
    state=_TEXT,
    conditions=_CONDITIONS,
    desiredGPU=_QUANTITY,
    desiredWorkerReplicas=_WHOLE,
    readyWorkerReplicas=_WHOLE,
    availableWorkerReplicas=_WHOLE,
    endpoints=_TEXTS,
    head=_object(podIP=_TEXT, podName=_TEXT, serviceIP=_TEXT, serviceName=_TEXT),
)
_SERVICE_STATUS = _object(
    rayClusterName=_TEXT,
    rayClusterStatus=_CLUSTER_STATUS,
    targetCapacity=_WHOLE,
    trafficRoutedPercent=_WHOLE,
    lastTrafficMigratedTime={"type": "string", "format": "date-time"},
    applicationStatuses={
        "type": "object",
        "additionalProperties": _object(
            status=_TEXT,
            message=_TEXT,
            serveDeploymentStatuses={
                "type": "object",
                "additionalProperties": _object(status=_TEXT, message=_TEXT),
            },
        ),
    },
)


def _crd(kind: str, spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    plural = kind.lower() + "s"
    root = _object(apiVersion=_TEXT, kind=_TEXT, metadata={"type": "object"}, spec=spec, status=status)
    version = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.ray.io"},
        "spec": {
            "group": "ray.io",
            "names": {"kind": kind, "plural": plural},
            "scope": "Namespaced",
            "versions": [{**version, "schema": {"openAPIV3Schema": root}}],
        },
    }


RAY_SERVICES = _crd(
    "RayService",
    _object(
        ("rayClusterConfig",),
        serveConfigV2=_TEXT,
        suspend=_YES_NO,
        rayClusterDeletionDelaySeconds=_WHOLE,
        excludeHeadPodFromServeSvc=_YES_NO,
        upgradeStrategy=_object(
            type=_TEXT,
            clusterUpgradeOptions=_object(
                ("gatewayClassName", "intervalSeconds", "stepSizePercent"),
                gatewayClassName=_TEXT,
                intervalSeconds=_WHOLE,
                maxSurgePercent={**_WHOLE, "default": 100},
                stepSizePercent=_WHOLE,
            ),
        ),
        rayClusterConfig=_CLUSTER_SPEC,
    ),
    _object(
        conditions=_CONDITIONS,
        activeServiceStatus=_SERVICE_STATUS,
        pendingServiceStatus=_SERVICE_STATUS,
        numServeEndpoints=_WHOLE,
        observedGeneration={"type": "integer", "format": "int64"},
        serviceStatus=_TEXT,
    ),
)
RAY_CLUSTERS = _crd("RayCluster", _CLUSTER_SPEC, _CLUSTER_STATUS)
KUBERAY = (RAY_SERVICES, RAY_CLUSTERS)


def schemas_folder() -> Path | None:
    """The folder of real CRD files, if this machine has one."""
    given = os.environ.get("LEADTIME_SCHEMAS")
    folder = Path(given) if given else Path(__file__).parents[3] / "shared" / "schemas"
    return folder if (folder / "ray.io_rayservices.yaml").is_file() else None


@cache
def real_kuberay() -> tuple[dict[str, Any], ...]:
    """The real CRDs of RayService and RayCluster; empty where they are not at hand."""
    folder = schemas_folder()
    if folder is None:
        return ()
    names = ("ray.io_rayservices.yaml", "ray.io_rayclusters.yaml")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return tuple(yaml.load((folder / name).read_text(), Loader=loader) for name in names)
