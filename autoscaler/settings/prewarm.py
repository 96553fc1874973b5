"""Pre-warming in the settings: what contradicts itself or cannot work there, and its conversion. Not for its types."""

from __future__ import annotations

import re
from collections.abc import Iterator

from autoscaler.core.types.pools import WAYS, GkePool, WarmPool
from autoscaler.settings.document.problems import Problem
from autoscaler.settings.document.reading import Loc
from autoscaler.settings.pools import NodePool
from autoscaler.settings.settings import Settings

_PROVISIONERS = {
    "auto_provisioning": "node auto-provisioning, which makes and deletes node pools by itself",
    "compute_class": "a ComputeClass, which chooses the node pool by itself",
    "autopilot": "Autopilot, where node pools are Google's",
}
_QUEUED = "queued-provisioning.gke.io"
_SEVEN_DAYS_S = 604_800
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def check_prewarm(settings: Settings) -> Iterator[Problem]:
    for i, pool in enumerate(settings.node_pools):
        if pool.prewarm == "none":
            continue
        at: Loc = ("node_pools", i)
        yield from _where(at, pool, settings)
        yield from _keys(at, pool)
        gpus = pool.warm.gpus
        if gpus is not None and gpus > pool.gpus_per_node:
            text = f"{gpus}; allowed: at most gpus_per_node, which is {pool.gpus_per_node}"
            yield Problem((*at, "warm", "gpus"), text)
        if _has_object(pool.prewarm):
            yield from _names(at, pool, settings)
    yield from _shared(settings)


def _has_object(way: str) -> bool:
    """It writes to an object that the chart makes for the pool, whose label holds the pool's name."""
    return "object" in WAYS[way].keys


def _names(at: Loc, pool: NodePool, settings: Settings) -> Iterator[Problem]:
    """What Kubernetes does not take as a label or a name would fail in the middle of an install."""
    if not _LABEL.fullmatch(pool.name):
        text = "the chart's object bears it as a label; allowed: letters, digits, '-', '_' and '.', at most 63"
        yield Problem((*at, "name"), f"{pool.name!r}; {text}")
        return
    name = _object(pool, settings)
    if not _OBJECT_NAME.fullmatch(name):
        text = "as Kubernetes names objects: a-z, 0-9, '-' and '.' (warm.object names it otherwise than the pool)"
        yield Problem((*at, "warm", "object"), f"{name!r}; allowed: {text}")


def _object(pool: NodePool, settings: Settings) -> str:
    block = settings.kubernetes
    return warm_pool(pool, "leadtime" if block is None else block.name, "").object


def _shared(settings: Settings) -> Iterator[Problem]:
    """Two pools that write to one thing would take turns with two levels."""
    first: dict[tuple[str, ...], int] = {}
    for i, pool in enumerate(settings.node_pools):
        key = _target(pool, settings)
        if key is None:
            continue
        taken = first.setdefault(key, i)
        if taken != i:
            loc: Loc = ("node_pools", i, "warm", key[0])
            text = f"{'/'.join(key[1:])}; node_pools[{taken}] writes to it already; allowed: each by one pool only"
            yield Problem(loc, text)
    groups = [(i, p.warm.group, p.warm.service) for i, p in enumerate(settings.node_pools) if p.warm.group is not None]
    for n, (i, group, service) in enumerate(groups):
        for j, other, place in groups[:n]:
            if group == other and (service == place or None in (service, place)):
                text = f"{group!r}; node_pools[{j}] writes to it already; allowed: each by one pool only"
                yield Problem(("node_pools", i, "warm", "group"), text)


def _target(pool: NodePool, settings: Settings) -> tuple[str, ...] | None:
    """Which key of `warm` names what the pool's way writes to, and its name; None where that is no single thing."""
    if _has_object(pool.prewarm):
        return ("object", _object(pool, settings))
    gke = pool.warm.gke
    if pool.prewarm == "node_pool" and gke is not None:
        return ("gke", gke.project, gke.location, gke.cluster, gke.node_pool or pool.name)
    return None


def _where(at: Loc, pool: NodePool, settings: Settings) -> Iterator[Problem]:
    loc: Loc = (*at, "prewarm")
    way, facts = pool.prewarm, WAYS[pool.prewarm]
    if pool.provisioner not in facts.places:
        allowed = ", ".join(name for name, one in WAYS.items() if pool.provisioner in one.places)
        yield Problem(loc, f"{way}; its nodes come from {_PROVISIONERS[pool.provisioner]}; allowed: {allowed}")
    if facts.kubernetes and settings.kubernetes is None:
        yield Problem(loc, f"{way}; it writes to the Kubernetes API; allowed: with a kubernetes block")
    elif facts.spare and settings.kubernetes is not None and not settings.kubernetes.nodes:
        text = "it holds what is beyond the nodes in use, which nobody watches; allowed: with kubernetes.nodes true"
        yield Problem(loc, f"{way}; {text}")
    if pool.provisioner in ("auto_provisioning", "autopilot") and not pool.gpu:
        text = "missing; nodes without a pool of that name are known by their GPUs; allowed: a kind such as nvidia-l4"
        yield Problem((*at, "gpu"), text)


def _keys(at: Loc, pool: NodePool) -> Iterator[Problem]:
    warm, way = pool.warm, pool.prewarm
    for key, value in warm:
        if key in warm.model_fields_set and value is not None and key not in WAYS[way].keys:
            ways = " or ".join(name for name, facts in WAYS.items() if key in facts.keys)
            yield Problem((*at, "warm", key), f"given; allowed: only with prewarm {ways}, and it is {way}")
    if way == "node_pool":
        if warm.gke is None:
            yield Problem((*at, "warm", "gke"), "missing; allowed: {project, location, cluster}, as Google names them")
        elif not warm.gke.autoscaled and pool.max_nodes is None:
            text = "missing; the pool's size is set and no autoscaler bounds it; allowed: a whole number >= 0"
            yield Problem((*at, "max_nodes"), text)
    run_s = warm.max_run_s
    if way == "provisioning_request" and warm.provisioning_class == _QUEUED and run_s and run_s > _SEVEN_DAYS_S:
        text = f"{run_s}; allowed: at most {_SEVEN_DAYS_S} (seven days) for {_QUEUED}"
        yield Problem((*at, "warm", "max_run_s"), text)


def warm_pools(settings: Settings) -> tuple[WarmPool, ...]:
    """The pools that are pre-warmed. A namespace of "" is the pod's own."""
    block = settings.kubernetes
    name, namespace = ("leadtime", "") if block is None else (block.name, block.namespace or "")
    return tuple(warm_pool(pool, name, namespace) for pool in settings.node_pools if pool.prewarm != "none")


def warm_pool(pool: NodePool, name: str, namespace: str) -> WarmPool:
    """`name` of the chart's objects, `namespace` of them."""
    warm = pool.warm
    service = None
    if warm.service is not None:
        place, _, rest = warm.service.partition("/")
        service = (place, rest)
    gke = warm.gke
    run_s = warm.max_run_s
    if pool.prewarm == "provisioning_request" and run_s is None and warm.provisioning_class == _QUEUED:
        run_s = _SEVEN_DAYS_S
    return WarmPool(
        name=pool.name,
        way=pool.prewarm,
        gpus_per_node=pool.gpus_per_node,
        unit_gpus=warm.gpus or pool.gpus_per_node,
        min_nodes=pool.min_nodes,
        namespace=namespace,
        object=warm.object or f"{name}-warm-{pool.name}",
        group=warm.group,
        service=service,
        resources=dict(warm.resources),
        gpu=pool.gpu,
        provisioning_class=warm.provisioning_class,
        max_run_s=run_s,
        gke=None
        if gke is None
        else GkePool(gke.project, gke.location, gke.cluster, gke.node_pool or pool.name, gke.autoscaled),
    )
