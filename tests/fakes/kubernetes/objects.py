"""Objects as a cluster that runs serve.llm holds them: RayService, RayCluster, nodes, pods, in chosen states."""

from __future__ import annotations

from typing import Any

NAMESPACE = "llm"
SERVE_CONFIG = """\
proxy_location: EveryNode
http_options: {host: 0.0.0.0, port: 8000, request_timeout_s: 900}
applications:
- name: chat
  route_prefix: /
  import_path: ray.serve.llm:build_openai_app
  external_scaler_enabled: true
  args:
    ingress_deployment_config: {num_replicas: 2}
    llm_configs:
    - model_loading_config: {model_id: llama-70b, model_source: "gs://models/llama-70b"}
      engine_kwargs: {tensor_parallel_size: 4, max_model_len: 16384}
      deployment_config: {num_replicas: 1, max_ongoing_requests: 256, graceful_shutdown_timeout_s: 600}
"""
GPU_LABEL = "cloud.google.com/gke-accelerator"
POOL_LABEL = "cloud.google.com/gke-nodepool"


def _container(name: str, gpus: int) -> dict[str, Any]:
    limits = {"cpu": "8", "memory": "32Gi", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    return {"name": name, "image": "rayproject/ray-llm:2.60.0-py311-cu128", "resources": {"limits": limits}}


def worker_group(
    name: str = "h100x8", *, replicas: int = 1, minimum: int = 0, maximum: int = 4, gpus: int = 8, hosts: int = 1
) -> dict[str, Any]:
    selector = {GPU_LABEL: "nvidia-h100-80gb", POOL_LABEL: "h100"} if gpus else {}
    return {
        "groupName": name,
        "replicas": replicas,
        "minReplicas": minimum,
        "maxReplicas": maximum,
        "numOfHosts": hosts,
        "idleTimeoutSeconds": 600,
        "rayStartParams": {},
        "template": {"spec": {"nodeSelector": selector, "containers": [_container("ray-worker", gpus)]}},
    }


def cluster_spec(*groups: dict[str, Any], **more: Any) -> dict[str, Any]:
    head = {"rayStartParams": {"num-cpus": "0"}, "template": {"spec": {"containers": [_container("ray-head", 0)]}}}
    return {
        "rayVersion": "2.60.0",
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {"version": "v2", "idleTimeoutSeconds": 300, "upscalingMode": "Default"},
        "authOptions": {"mode": "token", "secretName": "chat-llm-ray-token"},
        "headGroupSpec": head,
        "workerGroupSpecs": list(groups) or [worker_group(), worker_group("cpu", gpus=0, minimum=1, maximum=3)],
        **more,
    }


def autoscaler(
    name: str = "chat", *, namespace: str = NAMESPACE, target: dict[str, Any] | None = None, **spec: Any
) -> dict[str, Any]:
    """An Autoscaler object; `target` beside the service's name."""
    return {
        "apiVersion": "leadtime.dev/v1alpha1",
        "kind": "Autoscaler",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"target": {"name": "chat-llm", **(target or {})}, **spec},
    }


def ray_service(
    name: str = "chat-llm",
    *,
    namespace: str = NAMESPACE,
    annotations: dict[str, str] | None = None,
    serve_config: str = SERVE_CONFIG,
    spec: dict[str, Any] | None = None,
    cluster: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
) -> dict[str, Any]:
    obj: dict[str, Any] = {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations or {}},
        "spec": {
            "upgradeStrategy": {"type": "NewCluster"},
            "serveConfigV2": serve_config,
            "rayClusterConfig": cluster or cluster_spec(),
            **(spec or {}),
        },
    }
    if status is not None:
        obj["status"] = status
    return obj


def condition(kind: str, status: bool, reason: str, at: str = "2026-03-01T10:00:00Z") -> dict[str, Any]:
    return {
        "type": kind,
        "status": "True" if status else "False",
        "reason": reason,
        "message": "",
        "lastTransitionTime": at,
    }


def service_status(
    active: str | None = "chat-llm-abcde",
    pending: str | None = None,
    *,
    capacity: tuple[int | None, int | None] = (None, None),
    traffic: tuple[int | None, int | None] = (None, None),
    rollback: bool = False,
    generation: int = 1,
) -> dict[str, Any]:
    """A status as KubeRay writes it; `capacity` and `traffic` are (active, pending) of an incremental upgrade."""

    def of(cluster: str | None, capacity: int | None, traffic: int | None) -> dict[str, Any]:
        if cluster is None:
            return {}
        deployments = {"OpenAiIngress": {"status": "HEALTHY"}, "LLMServer:llama-70b": {"status": "HEALTHY"}}
        status: dict[str, Any] = {
            "rayClusterName": cluster,
            "applicationStatuses": {"chat": {"status": "RUNNING", "serveDeploymentStatuses": deployments}},
            "rayClusterStatus": cluster_status(cluster),
        }
        if capacity is not None:
            status["targetCapacity"] = capacity
        if traffic is not None:
            status["trafficRoutedPercent"] = traffic
        return status

    both = active is not None and pending is not None
    conditions = [
        condition("Ready", active is not None, "NonZeroServeEndpoints" if active else "ZeroServeEndpoints"),
        condition("UpgradeInProgress", both, "BothActivePendingClustersExist" if both else "NoPendingCluster"),
    ]
    if rollback:
        conditions.append(condition("RollbackInProgress", True, "DesiredClusterSpecChanged"))
    return {
        "activeServiceStatus": of(active, capacity[0], traffic[0]),
        "pendingServiceStatus": of(pending, capacity[1], traffic[1]),
        "conditions": conditions,
        "numServeEndpoints": 3 if active else 0,
        "observedGeneration": generation,
        "serviceStatus": "Running" if active else "",
    }


def cluster_status(name: str, *, service: str | None = None) -> dict[str, Any]:
    return {
        "state": "ready",
        "conditions": [condition("HeadPodReady", True, "HeadPodRunningAndReady")],
        "desiredGPU": "8",
        "readyWorkerReplicas": 2,
        "availableWorkerReplicas": 2,
        "desiredWorkerReplicas": 2,
        "endpoints": {"dashboard": "8265", "serve": "8000", "metrics": "8080"},
        "head": {
            "podIP": "10.0.0.7",
            "podName": f"{name}-head",
            "serviceIP": "10.0.0.7",
            "serviceName": service or f"{name}-head-svc",
        },
    }


def ray_cluster(
    name: str = "chat-llm-abcde",
    *,
    namespace: str = NAMESPACE,
    service: str | None = "chat-llm",
    spec: dict[str, Any] | None = None,
    annotations: dict[str, str] | None = None,
) -> dict[str, Any]:
    """`service` None: a cluster of its own; else owned by that RayService."""
    meta: dict[str, Any] = {"name": name, "namespace": namespace, "annotations": annotations or {}}
    if service is not None:
        meta["labels"] = {"ray.io/originated-from-cr-name": service, "ray.io/originated-from-crd": "RayService"}
        owner = {"apiVersion": "ray.io/v1", "kind": "RayService", "name": service, "uid": "0", "controller": True}
        meta["ownerReferences"] = [owner]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": meta,
        "spec": spec or cluster_spec(),
        "status": cluster_status(name),
    }


def node(
    name: str = "h100-1",
    *,
    pool: str = "h100",
    gpus: int = 8,
    ready_at: str | None = "2026-03-01T10:02:30Z",
    taints: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    """A GPU node of a GKE pool; `ready_at` None: registered, not Ready."""
    status = {"type": "Ready", "status": "True" if ready_at else "False", "reason": "KubeletReady"}
    transition = {"lastTransitionTime": ready_at or "2026-03-01T10:02:00Z"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {POOL_LABEL: pool, GPU_LABEL: "nvidia-h100-80gb"}},
        "spec": {"taints": taints or []},
        "status": {
            "allocatable": {"cpu": "208", "memory": "1800Gi", "nvidia.com/gpu": str(gpus)},
            "conditions": [{**status, **transition}],
        },
    }


def pod(
    name: str = "chat-llm-abcde-h100x8-worker-x1",
    *,
    namespace: str = NAMESPACE,
    on: str | None = "h100-1",
    gpus: int = 8,
    labels: dict[str, str] | None = None,
    created: str = "2026-03-01T10:00:00Z",
    scheduled: str | None = "2026-03-01T10:02:31Z",
    phase: str = "Running",
    selector: dict[str, str] | None = None,
) -> dict[str, Any]:
    """A Ray worker pod; `on` None: not scheduled."""
    scheduled_condition = {
        "type": "PodScheduled",
        "status": "True" if on else "False",
        "reason": "" if on else "Unschedulable",
        "lastTransitionTime": scheduled or created,
    }
    worker = {"ray.io/node-type": "worker", "ray.io/cluster": "chat-llm-abcde", "ray.io/group": "h100x8"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": worker if labels is None else labels,
            "creationTimestamp": created,
        },
        "spec": {
            "containers": [_container("ray-worker", gpus)],
            "nodeSelector": {POOL_LABEL: "h100"} if selector is None else selector,
            **({"nodeName": on} if on else {}),
        },
        "status": {"phase": phase if on else "Pending", "conditions": [scheduled_condition]},
    }
