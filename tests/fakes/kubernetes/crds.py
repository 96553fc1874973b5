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

TEXT = {"type": "string"}
WHOLE = {"type": "integer", "format": "int32"}
_YES_NO = {"type": "boolean"}
_TEXTS = {"type": "object", "additionalProperties": TEXT}
_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_QUANTITY = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}


def object_of(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    return {**schema, "required": list(required)} if required else schema


_NAMED = object_of(metadata=object_of(name=TEXT, labels=_TEXTS, annotations=_TEXTS, namespace=TEXT), spec=_OPEN)
CONDITIONS = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
    "items": object_of(
        ("lastTransitionTime", "message", "reason", "status", "type"),
        lastTransitionTime={"type": "string", "format": "date-time"},
        message=TEXT,
        observedGeneration={"type": "integer"},
        reason={"type": "string", "minLength": 1},
        status={"type": "string", "enum": ["True", "False", "Unknown"]},
        type=TEXT,
    ),
}
_HEAD = object_of(
    ("template",),
    rayStartParams=_TEXTS,
    resources=_TEXTS,
    serviceType=TEXT,
    headService=_NAMED,
    template=_NAMED,
)
_WORKERS = {
    "type": "array",
    "items": object_of(
        ("groupName", "maxReplicas", "minReplicas", "template"),
        groupName=TEXT,
        replicas={**WHOLE, "default": 0},
        minReplicas={**WHOLE, "default": 0},
        maxReplicas={**WHOLE, "default": 2147483647},
        numOfHosts={**WHOLE, "default": 1},
        priority={**WHOLE, "default": 0},
        idleTimeoutSeconds=WHOLE,
        suspend=_YES_NO,
        labels=_TEXTS,
        rayStartParams=_TEXTS,
        resources=_TEXTS,
        scaleStrategy=object_of(workersToDelete={"type": "array", "items": TEXT}),
        template=_NAMED,
    ),
}
_CLUSTER_SPEC = object_of(
    ("headGroupSpec",),
    rayVersion=TEXT,
    suspend=_YES_NO,
    enableInTreeAutoscaling=_YES_NO,
    autoscalerOptions=object_of(version=TEXT, idleTimeoutSeconds=WHOLE, upscalingMode=TEXT),
    authOptions=object_of(mode={"type": "string", "enum": ["disabled", "token"]}, secretName=TEXT),
    headGroupSpec=_HEAD,
    workerGroupSpecs=_WORKERS,
)
_CLUSTER_STATUS = object_of(
    state=TEXT,
    conditions=CONDITIONS,
    desiredGPU=_QUANTITY,
    desiredWorkerReplicas=WHOLE,
    readyWorkerReplicas=WHOLE,
    availableWorkerReplicas=WHOLE,
    endpoints=_TEXTS,
    head=object_of(podIP=TEXT, podName=TEXT, serviceIP=TEXT, serviceName=TEXT),
)
_SERVICE_STATUS = object_of(
    rayClusterName=TEXT,
    rayClusterStatus=_CLUSTER_STATUS,
    targetCapacity=WHOLE,
    trafficRoutedPercent=WHOLE,
    lastTrafficMigratedTime={"type": "string", "format": "date-time"},
    applicationStatuses={
        "type": "object",
        "additionalProperties": object_of(
            status=TEXT,
            message=TEXT,
            serveDeploymentStatuses={
                "type": "object",
                "additionalProperties": object_of(status=TEXT, message=TEXT),
            },
        ),
    },
)


def _crd(kind: str, spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    plural = kind.lower() + "s"
    root = object_of(apiVersion=TEXT, kind=TEXT, metadata={"type": "object"}, spec=spec, status=status)
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
    object_of(
        ("rayClusterConfig",),
        serveConfigV2=TEXT,
        suspend=_YES_NO,
        rayClusterDeletionDelaySeconds=WHOLE,
        excludeHeadPodFromServeSvc=_YES_NO,
        upgradeStrategy=object_of(
            type=TEXT,
            clusterUpgradeOptions=object_of(
                ("gatewayClassName", "intervalSeconds", "stepSizePercent"),
                gatewayClassName=TEXT,
                intervalSeconds=WHOLE,
                maxSurgePercent={**WHOLE, "default": 100},
                stepSizePercent=WHOLE,
            ),
        ),
        rayClusterConfig=_CLUSTER_SPEC,
    ),
    object_of(
        conditions=CONDITIONS,
        activeServiceStatus=_SERVICE_STATUS,
        pendingServiceStatus=_SERVICE_STATUS,
        numServeEndpoints=WHOLE,
        observedGeneration={"type": "integer", "format": "int64"},
        serviceStatus=TEXT,
    ),
)
RAY_CLUSTERS = _crd("RayCluster", _CLUSTER_SPEC, _CLUSTER_STATUS)
KUBERAY = (RAY_SERVICES, RAY_CLUSTERS)


def schemas_folder() -> Path | None:
    """The folder of real CRD files, if this machine has one."""
    given = os.environ.get("LEADTIME_SCHEMAS")
    folder = Path(given) if given else Path(__file__).parents[4] / "shared" / "schemas"
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
