"""One pool of nodes: asking for them, waiting for them, holding empty ones, deleting them, and what they cost.

A node is billed from the moment it is asked for (the cloud creates it then) until it is deleted. What runs on nodes is
in placement.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from autoscaler.core.types import ServiceGpus
from simulator.cluster.types import Node, PoolSpec
from simulator.kernel.draws import Draws
from simulator.kernel.events import EventQueue
from simulator.kernel.meters import Meter

BOOKED_S = 600.0
"""How long a queued node waits for its first worker; and of queued ones all come at once, or none."""
AGAIN_AFTER_S = 1800.0
"""Time (s) without a new queued request after a booking that expired unused."""
QUEUED_RUN_S = 7 * 86400.0
"""Queued nodes go after seven days, whatever runs on them."""
REFUSAL_BACKOFF_S = 300.0
"""Time (s) during which a pool that refused is not asked again (the cluster autoscaler's first back-off)."""


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
        on_floor: Callable[[NodePool, int, Sequence[ServiceGpus]], None] = lambda pool, nodes, services: None,
    ) -> None:
        """`on_floor`: called with the number of nodes whose workers are to be kept (pools that warm workers)."""
        self.spec = spec
        self._on_floor = on_floor
        self._expired_at_s = -math.inf
        self.nodes: list[Node] = []
        self.refused_at_s: float | None = None
        self.level = 0
        """Nodes that the plan wants, busy and warm together."""
        self.started = self.refused = self.preempted = 0
        """In the result's window: nodes started, requests for nodes that were refused, nodes taken away."""
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

    def request(self, prewarmed: bool, takes_s: float | None = None) -> Node | None:
        """Asks for a node; None when the pool is full, backs off or has no stock. `takes_s`: as another one takes."""
        if self.room <= 0 or self.backing_off:
            return None
        share = max((s.fraction for s in self.spec.stockouts if s.start_s <= self._queue.now_s < s.end_s), default=0.0)
        if self._refusals.uniform() < share:
            self.refused_at_s = self._queue.now_s
            self.refused += self._counts
            return None
        node = self._new_node(prewarmed)
        self.started += self._counts
        if prewarmed and self._counts:
            self.prewarmed.append(node)
        if takes_s is None:
            takes_s = self._provision.duration_s(self.spec.provision_s)
        self._queue.after(takes_s, lambda: self._become_ready(node))
        return node

    @property
    def _counts(self) -> bool:
        """The result's window has begun."""
        return self._queue.now_s >= self._since_s

    def _new_node(self, prewarmed: bool) -> Node:
        self._numbered += 1
        node = Node(f"{self.spec.name}-{self._numbered}", self.spec, self._queue.now_s, prewarmed)
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
        if self.spec.warms == "queued" and node.prewarmed:
            life_s = min(life_s, QUEUED_RUN_S)
            self._queue.after(BOOKED_S, self.review)
        if math.isfinite(life_s):
            self._queue.after(life_s, lambda: self._preempt(node))

    def _preempt(self, node: Node) -> None:
        if node.state == "ready":
            self._delete(node)
            self.preempted += self._counts
            self._on_preempted(node)
            self.review()

    # ------------------------------------------------------------ holding and deleting

    def set_level(self, nodes: int, services: Sequence[ServiceGpus] = ()) -> None:
        """What pre-warm wants in all: asks for what is missing; what is too much may go after a while.

        `services`: whose planned replicas need how many of its GPUs.
        """
        self.level = nodes if self.spec.prewarm else 0
        if self.spec.warms == "worker":
            self._on_floor(self, self.level, services)
        self.review()

    def review(self) -> None:
        """Ask for nodes under the floor, hold as many empty ones as the floor needs, let the others time out."""
        held = 0 if self.spec.warms == "worker" else self.level
        floor = min(max(self.spec.min_nodes, held), self.spec.max_nodes)
        if self.spec.warms == "queued":
            floor = self._queue_for(floor)
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

    def _queue_for(self, floor: int) -> int:
        """All that is missing at once; what remains to be held are those whose booking lasts."""
        now_s = self._queue.now_s
        missing = floor - len(self.nodes)
        waiting = any(node.state == "starting" for node in self.nodes)
        if missing > 0 and not waiting and now_s - self._expired_at_s >= AGAIN_AFTER_S:
            longest_s = max(self._provision.duration_s(self.spec.provision_s) for _ in range(missing))
            for _ in range(missing):
                if self.request(prewarmed=True, takes_s=longest_s) is None:
                    break
        unused = [n for n in self.nodes if n.state == "ready" and not n.workers and n.prewarmed]
        expired = [n for n in unused if n.ready_at_s is not None and now_s - n.ready_at_s >= BOOKED_S]
        if any(n.first_used_at_s is None and n.unneeded_since_s is None for n in expired):
            self._expired_at_s = now_s
        return min(floor, len(self.nodes) - len(expired))

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
