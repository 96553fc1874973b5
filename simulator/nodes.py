"""One pool of nodes: asking for them, waiting for them, holding empty ones, deleting them, and what they cost.

A node is billed from the moment it is asked for (the cloud creates it then) until it is deleted. What runs on nodes is
in cluster.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from policies.durations import Duration
from simulator.draws import Draws
from simulator.events import Event, EventQueue
from simulator.meters import Meter

if TYPE_CHECKING:
    from simulator.cluster import Worker

REFUSAL_BACKOFF_S = 300.0
"""How long nobody asks a pool again that refused (the cluster autoscaler's first back-off)."""


@dataclass(frozen=True, slots=True)
class Stockout:
    """From `start_s` to `end_s` this share of the requests for nodes is refused."""

    start_s: float
    end_s: float
    fraction: float


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """A pool as the simulation needs it; `price_usd_per_hour` of a node, None = unknown."""

    name: str
    gpus_per_node: int
    min_nodes: int
    max_nodes: int
    reserved_nodes: int
    provision_s: Duration
    image_pull_s: Duration
    worker_gpus: int
    worker_start_s: Duration
    idle_timeout_s: float
    autoscaler_period_s: float
    scale_down_after_s: float
    prewarm: bool
    price_usd_per_hour: float | None
    preemption_per_node_hour: float = 0.0
    stockouts: tuple[Stockout, ...] = ()


@dataclass(slots=True, eq=False)
class Node:
    """A node from the moment it is asked for."""

    name: str
    pool: NodePool
    requested_at_s: float
    prewarmed: bool
    state: Literal["starting", "ready", "deleted"] = "starting"
    ready_at_s: float | None = None
    deleted_at_s: float | None = None
    first_used_at_s: float | None = None
    workers: list[Worker] = field(default_factory=list)
    images: dict[str, float] = field(default_factory=dict)
    """Image (one per RayService) -> when its pull is over."""
    unneeded_since_s: float | None = None
    deletion: Event | None = None

    @property
    def gpus_free_for_pods(self) -> int:
        return self.pool.spec.gpus_per_node - sum(w.gpus for w in self.workers)

    @property
    def gpus_used(self) -> int:
        return sum(w.gpus_used for w in self.workers)


class NodePool:
    """The nodes of one pool. `on_ready` is called for each that becomes Ready, `on_preempted` for each taken away."""

    def __init__(
        self,
        spec: PoolSpec,
        queue: EventQueue,
        seed: int,
        since_s: float,
        on_ready: Callable[[Node], None],
        on_preempted: Callable[[Node], None],
    ) -> None:
        self.spec = spec
        self.nodes: list[Node] = []
        self.refused_at_s: float | None = None
        self.level = 0
        """Nodes that the plan wants, busy and warm together."""
        self.started = 0
        self.prewarmed: list[Node] = []
        self.billed_nodes = Meter(since_s)
        self._queue = queue
        self._since_s = since_s
        self._on_ready = on_ready
        self._on_preempted = on_preempted
        self._provision = Draws(seed, f"pool/{spec.name}/provision")
        self._refusals = Draws(seed, f"pool/{spec.name}/refusals")
        self._lives = Draws(seed, f"pool/{spec.name}/lives")
        self._numbered = 0
        self._bill()

    # ------------------------------------------------------------ asking and getting

    @property
    def backing_off(self) -> bool:
        return self.refused_at_s is not None and self._queue.now_s < self.refused_at_s + REFUSAL_BACKOFF_S

    @property
    def room(self) -> int:
        """Nodes that could still be asked for."""
        return self.spec.max_nodes - len(self.nodes)

    def ready(self) -> list[Node]:
        return [n for n in self.nodes if n.state == "ready"]

    def add_initial(self) -> Node:
        """A node that is there, Ready and with its images, at time 0."""
        node = self._new_node(prewarmed=False)
        self._set_ready(node)
        return node

    def request(self, prewarmed: bool) -> Node | None:
        """Asks for a node; None when the pool is full, backs off or has no stock."""
        if self.room <= 0 or self.backing_off:
            return None
        share = max((s.fraction for s in self.spec.stockouts if s.start_s <= self._queue.now_s < s.end_s), default=0.0)
        if self._refusals.uniform() < share:
            self.refused_at_s = self._queue.now_s
            return None
        node = self._new_node(prewarmed)
        if self._queue.now_s >= self._since_s:
            self.started += 1
            if prewarmed:
                self.prewarmed.append(node)
        self._queue.after(self._provision.duration_s(self.spec.provision_s), lambda: self._become_ready(node))
        return node

    def _new_node(self, prewarmed: bool) -> Node:
        self._numbered += 1
        node = Node(f"{self.spec.name}-{self._numbered}", self, self._queue.now_s, prewarmed)
        self.nodes.append(node)
        self._bill()
        return node

    def _become_ready(self, node: Node) -> None:
        self._set_ready(node)
        self._on_ready(node)
        self.review()

    def _set_ready(self, node: Node) -> None:
        node.state = "ready"
        node.ready_at_s = self._queue.now_s
        life_s = self._lives.exponential_s(self.spec.preemption_per_node_hour / 3600.0)
        if math.isfinite(life_s):
            self._queue.after(life_s, lambda: self._preempt(node))

    def _preempt(self, node: Node) -> None:
        if node.state == "ready":
            self._delete(node)
            self._on_preempted(node)
            self.review()

    # ------------------------------------------------------------ holding and deleting

    def set_level(self, nodes: int) -> None:
        """What pre-warm wants in all: asks for what is missing; what is too much may go after a while."""
        self.level = nodes if self.spec.prewarm else 0
        self.review()

    def review(self) -> None:
        """Ask for nodes under the floor, hold as many empty ones as the floor needs, let the others time out."""
        floor = min(max(self.spec.min_nodes, self.level), self.spec.max_nodes)
        while len(self.nodes) < floor and self.request(prewarmed=True) is not None:
            pass
        empty = [n for n in self.nodes if n.state == "ready" and not n.workers]
        hold = max(floor - (len(self.nodes) - len(empty)), 0)
        # Those that are held already stay held, else timers would restart for ever.
        empty.sort(key=lambda n: (n.unneeded_since_s is not None, n.requested_at_s))
        for i, node in enumerate(empty):
            if i < hold:
                self.keep(node)
            elif node.unneeded_since_s is None:
                node.unneeded_since_s = self._queue.now_s
                node.deletion = self._queue.after(self.spec.scale_down_after_s, lambda n=node: self._time_out(n))  # type: ignore[misc]

    def keep(self, node: Node) -> None:
        """The node is needed (again)."""
        node.unneeded_since_s = None
        if node.deletion is not None:
            node.deletion.cancel()
            node.deletion = None

    def _time_out(self, node: Node) -> None:
        if node.state == "ready" and not node.workers and node.unneeded_since_s is not None:
            self._delete(node)

    def _delete(self, node: Node) -> None:
        self.keep(node)
        node.state = "deleted"
        node.deleted_at_s = self._queue.now_s
        self.nodes.remove(node)
        self._bill()

    # ------------------------------------------------------------ money

    def _bill(self) -> None:
        self.billed_nodes.set(max(len(self.nodes), self.spec.reserved_nodes), self._queue.now_s)

    def prewarm_wasted_node_s(self, now_s: float) -> float:
        """Billed node-seconds of pre-warmed nodes from Ready to their first replica (or their end, or now)."""
        wasted_s = 0.0
        for node in self.prewarmed:
            if node.ready_at_s is not None:
                ends = (node.first_used_at_s, node.deleted_at_s, now_s)
                wasted_s += min(e for e in ends if e is not None) - node.ready_at_s
        return wasted_s

    def cost_usd(self, now_s: float) -> float | None:
        price = self.spec.price_usd_per_hour
        return None if price is None else self.billed_nodes.total(now_s) / 3600.0 * price
