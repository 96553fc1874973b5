"""The source of node pools where there is no Kubernetes to ask: the nodes that a Ray cluster's own dashboard lists.

Which nodes there are and how many of their GPUs are used is in `/nodes?view=summary`; which ones Ray's autoscaler has
asked for and does not have yet, and of which node type each is, in `/api/cluster_status` (autoscaler version 1 tells;
of version 2 nothing arrives until it is there). It reads and never writes.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from autoscaler.clients.ray_dashboard import DashboardClient
from autoscaler.common.errors import LeadtimeError, SourceError
from autoscaler.common.fields import MOST_COUNT, MOST_NUMBER, count, mapping, mappings, text
from autoscaler.core.ports import Reading, Source
from autoscaler.core.types import NodeSignal, PoolSettings, PoolSignals
from autoscaler.sources.kubernetes.nodes import pool_name
from autoscaler.sources.ray_dashboard import check_status
from autoscaler.sources.readings import Pools

NODES, STATUS = "/nodes?view=summary", "/api/cluster_status"
_MOST_LAUNCHES = 10_000
_GPUS_USED = re.compile(r"^([\d.]+)/[\d.]+ GPU\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class RayNode:
    """A node with GPUs that is alive. `names`: what may tell its pool (values of its labels, its node type)."""

    node_id: str
    address: str
    gpus: int
    gpus_used: int | None
    started_at_s: float | None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AskedNode:
    """A node that Ray's autoscaler has asked for. `name` is its address, or says which launch it is one of."""

    name: str
    node_type: str
    addressed: bool = True
    """It has an address already; False: a launch that nobody has answered."""


def parse_nodes(summary: object, status: object) -> tuple[RayNode, ...]:
    """Nodes beside the head that are alive and have GPUs. `status` may be anything: then node types are unknown.

    Errors: SourceError when `summary` is no answer of `/nodes?view=summary`.
    """
    data = mapping(summary, "data") if isinstance(summary, Mapping) else {}
    if not isinstance(data.get("summary"), list):
        raise SourceError("the list of nodes is not that of a Ray dashboard (Ray 2.60 or newer)")
    usage = mapping(data, "nodeLogicalResources")
    types = mapping(_report(status), "nodeTypeMapping")
    nodes = []
    for entry in mappings(data, "summary"):
        raylet = mapping(entry, "raylet")
        node_id, address = text(raylet, "nodeId"), text(raylet, "nodeManagerAddress")
        gpus = _number(mapping(raylet, "resourcesTotal").get("GPU"))
        if text(raylet, "state") != "ALIVE" or not node_id or not gpus or gpus > MOST_COUNT:
            continue
        names = [str(value) for value in mapping(raylet, "labels").values()]
        names += [types[address]] if isinstance(types.get(address), str) else []
        used = _used(usage.get(node_id, usage.get(address)))
        started_ms = _number(raylet.get("startTimeMs"))
        started_at_s = None if started_ms is None else started_ms / 1000.0
        nodes.append(RayNode(node_id, address, int(gpus), used, started_at_s, tuple(names)))
    return tuple(nodes)


def parse_asked(status: object) -> tuple[AskedNode, ...]:
    """Nodes on their way: launched and not up yet, and launches that nobody has answered."""
    report = _report(status)
    asked = []
    pending = report.get("pendingNodes")
    for one in pending if isinstance(pending, list) else ():
        if isinstance(one, list) and len(one) >= 3 and all(isinstance(word, str) for word in one):
            *_, address, node_type, _ = one
            asked.append(AskedNode(address, node_type))
    for node_type, launches in mapping(report, "pendingLaunches").items():
        asked += [
            AskedNode(f"launch-of-{node_type}-{i}", str(node_type), False)
            for i in range(count(launches, _MOST_LAUNCHES) or 0)
        ]
    return tuple(asked)


def pool_of(pools: Sequence[PoolSettings], names: Sequence[str], gpus: int | None) -> str | None:
    """The pool that a label or the node type names, else the only one whose nodes have so many GPUs."""
    camel = {_as_a_key(pool.name): pool.name for pool in pools}  # Ray's dashboard writes a_b as aB where it is a key
    named = pool_name(pools, [*names, *(camel[name] for name in names if name in camel)])
    if named is not None or gpus is None:
        return named
    same = [pool.name for pool in pools if pool.gpus_per_node == gpus]
    return same[0] if len(same) == 1 else None


def _as_a_key(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


_BETWEEN_S = 10.0
"""A node that the autoscaler does not list as pending any more may take so long to be listed as alive."""


@dataclass(slots=True)
class _Asked:
    """One that is on its way, or has come."""

    node: AskedNode
    first_s: float
    last_s: float


@dataclass(slots=True)
class NodeMemory:
    """When each node that came was first seen to be asked for, by address: the node itself does not say."""

    asked: dict[str, _Asked] = field(default_factory=dict)
    ready_at_s: dict[str, float] = field(default_factory=dict)

    def pools(
        self, settings: Sequence[PoolSettings], nodes: Sequence[RayNode], asked: Sequence[AskedNode], now_s: float
    ) -> tuple[PoolSignals, ...]:
        """One PoolSignals for each pool of the settings; a node of none of them is left out.

        On Ray a node is itself a worker: while no replica is on it, it is held by nobody but whoever asked for it.
        """
        found: dict[str, list[NodeSignal]] = {pool.name: [] for pool in settings}
        there = {node.address for node in nodes}
        self._remember(nodes, there, asked, now_s)
        for node in nodes:
            name = pool_of(settings, node.names, node.gpus)
            if name is not None:
                found[name].append(self._ready(node))
        for one in (known.node for known in self.asked.values() if known.node.name not in there):
            name = pool_of(settings, [one.node_type], None) or (settings[0].name if len(settings) == 1 else None)
            if name is not None:
                gpus = next(pool.gpus_per_node for pool in settings if pool.name == name)
                found[name].append(NodeSignal(one.name, "starting", self.asked[one.name].first_s, gpus=gpus, workers=0))
        return tuple(PoolSignals(name, now_s, tuple(signals)) for name, signals in found.items())

    def _remember(
        self, nodes: Sequence[RayNode], there: AbstractSet[str], asked: Sequence[AskedNode], now_s: float
    ) -> None:
        for one in asked:
            if one.name not in there:
                self.asked.setdefault(one.name, _Asked(one, now_s, now_s)).last_s = now_s
        self.asked = {
            name: known
            for name, known in self.asked.items()
            if name in there or now_s - known.last_s <= (_BETWEEN_S if known.node.addressed else 0.0)
        }
        self.ready_at_s = {node.node_id: self.ready_at_s.get(node.node_id, now_s) for node in nodes}

    def _ready(self, node: RayNode) -> NodeSignal:
        seen_s = self.ready_at_s[node.node_id]
        ready_at_s = seen_s if node.started_at_s is None else min(node.started_at_s, seen_s)
        return NodeSignal(
            node.address,
            "ready",
            asked.first_s if (asked := self.asked.get(node.address)) is not None else None,
            ready_at_s,
            node.gpus,
            node.gpus_used,
            workers=1,
            claimed=None if node.gpus_used is None else node.gpus_used > 0,
        )


class RayNodesSource(Source):
    """Reads one Ray cluster; `data` of its readings is `Pools`. Down when its list of nodes cannot be had."""

    def __init__(self, name: str, client: DashboardClient, pools: Sequence[PoolSettings]) -> None:
        self.name = name
        self._client = client
        self._pools = tuple(pools)
        self._memory = NodeMemory()

    async def read(self, now_s: float) -> Reading:
        listed, status = await asyncio.gather(self._get(NODES), self._get(STATUS), return_exceptions=True)
        try:
            if isinstance(listed, BaseException):
                raise listed
            nodes = parse_nodes(listed, status)
        except LeadtimeError as error:
            return Reading(self.name, up=False, as_of_s=None, why=str(error))
        why = f"nodes on their way cannot be seen: {status}" if isinstance(status, LeadtimeError) else ""
        asked = () if isinstance(status, BaseException) else parse_asked(status)
        return Reading(self.name, True, now_s, Pools(self._memory.pools(self._pools, nodes, asked, now_s)), why)

    async def close(self) -> None:
        await self._client.close()

    async def _get(self, path: str) -> object:
        answer = await self._client.get(path)
        check_status(answer, self._client)
        try:
            return answer.json()
        except ValueError:
            raise SourceError(f"{self._client.shown}{path}: the answer is not JSON") from None


def _report(status: object) -> Mapping[str, Any]:
    """What Ray's autoscaler says of its nodes; empty where there is none."""
    if not isinstance(status, Mapping):
        return {}
    return mapping(mapping(mapping(status, "data"), "clusterStatus"), "autoscalerReport")


def _used(written: object) -> int | None:
    """GPUs in use, from Ray's lines such as `4.0/8.0 GPU`."""
    found = _GPUS_USED.search(written) if isinstance(written, str) else None
    used = None if found is None else _number(found[1])
    return None if used is None else count(math.ceil(used))


def _number(value: object) -> float | None:
    """A number, or one in quotes (as JSON has 64-bit integers of Ray's)."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if 0.0 <= number <= MOST_NUMBER else None
