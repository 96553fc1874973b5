"""Nodes and pods as PoolSignals: which GPU nodes a pool has, which are on their way, and when each was asked for.

Pure. A node object does not say when it was asked for: the pod that waited for it does. Pods that no node can take yet
stand for nodes that were asked for and are not there. Not for asking for nodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from autoscaler.clients.addresses import as_address
from autoscaler.common.fields import mapping, mappings, quantity, text, time_s
from autoscaler.core.types import NodeSignal, PoolSettings, PoolSignals, WorkerSignal
from autoscaler.kubernetes.resources import Object
from autoscaler.sources.kuberay.objects import container_gpus

PLACEHOLDER_LABEL = "leadtime.dev/placeholder"
"""On pods that hold a warm node's place: they use none of its GPUs, and make way."""
POOL_LABELS = (
    "cloud.google.com/gke-nodepool",
    "cloud.google.com/compute-class",
    "karpenter.sh/nodepool",
    "eks.amazonaws.com/nodegroup",
    "kubernetes.azure.com/agentpool",
    "leadtime.dev/node-pool",
)
REAL_POOL_LABELS = tuple(label for label in POOL_LABELS if not label.endswith("/compute-class"))
GPU_LABELS = ("cloud.google.com/gke-accelerator", "karpenter.k8s.aws/instance-gpu-name", "nvidia.com/gpu.product")
_LEAVING_TAINTS = (
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
    "cloud.google.com/impending-node-termination",
    "node.kubernetes.io/out-of-service",
)
_OVER = ("Succeeded", "Failed")
_LATE_S = 900.0


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node with GPUs."""

    name: str
    labels: tuple[str, ...]
    """Values of the labels that name pools, and those that name GPU kinds."""
    gpus: int
    created_at_s: float | None
    ready_at_s: float | None
    """None: not Ready."""
    leaving: bool = False
    pool: str = ""
    """The real node pool, where its label says it."""
    zone: str = ""


@dataclass(frozen=True, slots=True)
class PodView:
    """A Ray worker pod, or a placeholder."""

    namespace: str
    name: str
    node: str | None
    """None: no node was found for it yet."""
    gpus: float
    created_at_s: float | None
    wanted: tuple[str, ...] = ()
    """Values of node labels that it asks for."""
    unschedulable: bool = False
    """The scheduler said that no node can take it."""
    over: bool = False
    scheduled_at_s: float | None = None
    up_at_s: float | None = None
    """Since when it is Ready."""
    worker: bool = False
    placeholder: bool = False
    cluster: str = ""
    """The Ray cluster that it is of."""
    addresses: tuple[str, ...] = ()


def parse_node(obj: Object) -> NodeView | None:
    """None for a node without GPUs: there may be thousands, and nobody asks."""
    meta, spec, status = mapping(obj, "metadata"), mapping(obj, "spec"), mapping(obj, "status")
    amounts = mapping(status, "allocatable") or mapping(status, "capacity")
    gpus = sum(quantity(v) or 0.0 for k, v in amounts.items() if str(k).endswith("/gpu"))
    labels = mapping(meta, "labels")
    named = tuple(str(labels[key]) for key in (*POOL_LABELS, *GPU_LABELS) if key in labels)
    if gpus < 1 and not any(key in labels for key in GPU_LABELS):
        return None
    ready = next((c for c in mappings(status, "conditions") if c.get("type") == "Ready"), {})
    created_at_s, turned_at_s = time_s(meta.get("creationTimestamp")), time_s(ready.get("lastTransitionTime"))
    # Until the device plugin has registered them a Ready node has no GPUs, and can run none of our pods.
    ready_at_s = turned_at_s if ready.get("status") == "True" and gpus >= 1 else None
    taints = {str(taint.get("key")) for taint in mappings(spec, "taints")}
    leaving = (
        "deletionTimestamp" in meta
        or spec.get("unschedulable") is True
        or bool(taints & set(_LEAVING_TAINTS))
        or _failing(str(ready.get("status")), created_at_s, turned_at_s)
    )
    return NodeView(str(meta.get("name", "")), named, int(gpus), created_at_s, ready_at_s, leaving, *_place(labels))


def _place(labels: Mapping[str, Any]) -> tuple[str, str]:
    """The real node pool and the zone; "" = not said."""
    pool = next((str(labels[key]) for key in REAL_POOL_LABELS if key in labels), "")
    return pool, str(labels.get("topology.kubernetes.io/zone", ""))


def _failing(ready: str, created_at_s: float | None, turned_at_s: float | None) -> bool:
    """Not Ready any more, rather than not yet: its kubelet is silent, or it said no long after it had come."""
    if ready == "Unknown":
        return True
    late = created_at_s is not None and turned_at_s is not None and turned_at_s - created_at_s > _LATE_S
    return ready == "False" and late


def parse_pod(obj: Object) -> PodView | None:
    """None for a pod that is neither of a Ray cluster nor a placeholder."""
    meta, spec, status = mapping(obj, "metadata"), mapping(obj, "spec"), mapping(obj, "status")
    labels = mapping(meta, "labels")
    worker, placeholder = labels.get("ray.io/node-type") == "worker", labels.get(PLACEHOLDER_LABEL) == "true"
    if "ray.io/node-type" not in labels and not placeholder:
        return None
    conditions = {str(c.get("type")): c for c in mappings(status, "conditions")}
    scheduled, ready = conditions.get("PodScheduled", {}), conditions.get("Ready", {})
    done = scheduled.get("status") == "True"
    return PodView(
        namespace=str(meta.get("namespace", "")),
        name=str(meta.get("name", "")),
        node=str(spec["nodeName"]) if spec.get("nodeName") else None,
        gpus=sum(container_gpus(container) for container in mappings(spec, "containers")),
        created_at_s=time_s(meta.get("creationTimestamp")),
        wanted=_wanted(spec),
        unschedulable=not done and scheduled.get("reason") == "Unschedulable" and "deletionTimestamp" not in meta,
        over=status.get("phase") in _OVER,
        scheduled_at_s=time_s(scheduled.get("lastTransitionTime")) if done else None,
        up_at_s=time_s(ready.get("lastTransitionTime")) if ready.get("status") == "True" else None,
        worker=worker,
        placeholder=placeholder,
        cluster=text(labels, "ray.io/cluster"),
        addresses=_addresses(status),
    )


def _addresses(status: Mapping[str, Any]) -> tuple[str, ...]:
    listed = [text(one, "ip") for one in mappings(status, "podIPs")] or [text(status, "podIP")]
    return tuple(str(address) for one in listed if (address := as_address(one)) is not None)


def pools_of(
    settings: Iterable[PoolSettings],
    nodes: Iterable[NodeView],
    pods: Iterable[PodView],
    as_of_s: float,
    pulls_s: Mapping[tuple[str, str], float] | None = None,
) -> tuple[PoolSignals, ...]:
    """One PoolSignals for each pool of the settings, in their order; a node or pod of no such pool is left out.

    `pulls_s`: how long the images of pods (namespace, name) took to come; None: nobody knows.
    """
    settings = tuple(settings)
    pods = [pod for pod in pods if not pod.over and (pod.worker or pod.placeholder)]
    by_pool: dict[str, list[NodeSignal]] = {pool.name: [] for pool in settings}
    by_node: dict[str, list[PodView]] = {}
    for pod in pods:
        if pod.node is not None:
            by_node.setdefault(pod.node, []).append(pod)
    for node in sorted(nodes, key=lambda n: n.name):
        name = pool_name(settings, node.labels)
        if name is not None:
            signal = _signal(node, by_node.get(node.name, []))
            run_s = next(pool.max_run_s for pool in settings if pool.name == name)
            if run_s is not None and node.created_at_s is not None:
                signal = replace(signal, ends_at_s=node.created_at_s + run_s)
            by_pool[name].append(signal)
    for pool in settings:
        by_pool[pool.name] = _with_asked_for(by_pool[pool.name], _asked_for(pool, settings, pods))
    return tuple(
        PoolSignals(
            pool.name, as_of_s, tuple(by_pool[pool.name]),
            workers=_workers(by_pool[pool.name], by_node, pulls_s),
        )
        for pool in settings
    )  # fmt: skip


def _workers(
    nodes: Iterable[NodeSignal],
    by_node: Mapping[str, Sequence[PodView]],
    pulls_s: Mapping[tuple[str, str], float] | None,
) -> tuple[WorkerSignal, ...]:
    pods = [pod for node in nodes for pod in by_node.get(node.name, ()) if pod.worker]
    return tuple(
        WorkerSignal(
            f"{pod.namespace}/{pod.name}",
            pod.scheduled_at_s,
            pod.up_at_s,
            None if pulls_s is None else pulls_s.get((pod.namespace, pod.name), 0.0),
        )
        for pod in pods
    )


def pool_name(settings: Sequence[PoolSettings], labels: Iterable[str]) -> str | None:
    """The pool that label values point at: by its name, else by a GPU kind that only one pool has."""
    values = set(labels)
    for pool in settings:
        if pool.name in values:
            return pool.name
    of_kind = [pool.name for pool in settings if pool.gpu and pool.gpu in values]
    return of_kind[0] if len(of_kind) == 1 else None


def _signal(node: NodeView, pods: Sequence[PodView]) -> NodeSignal:
    state: Literal["starting", "ready", "deleting"] = "ready" if node.ready_at_s is not None else "starting"
    if node.leaving:
        state = "deleting"
    used = sum(pod.gpus for pod in pods if not pod.placeholder)
    return NodeSignal(
        name=node.name,
        state=state,
        requested_at_s=_asked_at(node, pods),
        ready_at_s=node.ready_at_s,
        gpus=node.gpus,
        gpus_used=math.ceil(used),
        workers=sum(1 for pod in pods if pod.worker),
        claimed=any(pod.worker for pod in pods),
        pool=node.pool,
        zone=node.zone,
    )


def _asked_at(node: NodeView, pods: Iterable[PodView]) -> float | None:
    """When the first of the pods that waited for this node was made; None when none of those on it had to wait."""
    if node.created_at_s is None:
        return None
    waited = [p.created_at_s for p in pods if p.created_at_s is not None and p.created_at_s < node.created_at_s]
    return min(waited, default=None)


def _asked_for(pool: PoolSettings, settings: Sequence[PoolSettings], pods: Iterable[PodView]) -> list[NodeSignal]:
    """Nodes that waiting pods stand for: those of workers first, since a placeholder makes way."""
    stuck = [p for p in pods if p.node is None and p.unschedulable and p.gpus > 0]
    ours = [p for p in stuck if pool_name(settings, p.wanted) == pool.name]
    waiting = sorted(ours, key=lambda p: (not p.worker, p.created_at_s or 0.0, p.namespace, p.name))
    asked: list[NodeSignal] = []
    free = 0.0
    for pod in waiting:
        if pod.gpus <= free:
            free -= pod.gpus
            continue
        free = max(0.0, pool.gpus_per_node - pod.gpus)
        name = f"asked-for-by/{pod.namespace}/{pod.name}"
        asked.append(NodeSignal(name, "starting", pod.created_at_s, None, pool.gpus_per_node, 0, 0, pod.worker))
    return asked


def _with_asked_for(known: Sequence[NodeSignal], asked: Sequence[NodeSignal]) -> list[NodeSignal]:
    """Nodes that have registered and are not Ready yet are the first of those asked for."""
    nodes, left = [], list(asked)
    for node in known:
        if node.state == "starting" and left:
            node = replace(node, claimed=bool(node.claimed or left.pop(0).claimed))
        nodes.append(node)
    return nodes + left


def _wanted(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Label values that the pod's node selector and required node affinity ask for."""
    values = [str(value) for value in mapping(spec, "nodeSelector").values()]
    required = mapping(
        mapping(mapping(spec, "affinity"), "nodeAffinity"), "requiredDuringSchedulingIgnoredDuringExecution"
    )
    for term in mappings(required, "nodeSelectorTerms"):
        for expression in mappings(term, "matchExpressions"):
            listed = expression.get("values")
            if expression.get("operator") == "In" and isinstance(listed, list):
                values += [str(value) for value in listed]
    return tuple(values)
