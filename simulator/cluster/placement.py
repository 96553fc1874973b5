"""Where replicas get their GPUs: Ray worker pods on nodes, packed across deployments, as on KubeRay.

Three paths for a replica that is asked for: a free GPU in a running worker; a Ready node without a worker (the pod
pulls its image and starts Ray); no node (which comes first). Ray's autoscaler looks every few seconds at what cannot be
placed, counts what is on its way, and asks for workers; a worker without replicas goes after its idle timeout. Replicas
themselves (load, init, drain) are in serve/lifecycle.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autoscaler.core.types import NodeSignal, PoolSignals, ServiceGpus
from policies.base import LeadPath
from simulator.cluster.nodes import NodePool
from simulator.cluster.types import Claim, Node, PoolSpec, Worker
from simulator.cluster.warm_workers import WorkerFloor
from simulator.kernel.draws import Draws
from simulator.kernel.events import Event, EventQueue


@dataclass(slots=True)
class _Spare:
    """GPUs of a worker under way that are not yet assigned in this round of the autoscaler."""

    service: str
    pool: str
    gpus: int


class Cluster:
    """All pools and workers. Every method acts at the queue's present time."""

    def __init__(self, specs: Sequence[PoolSpec], queue: EventQueue, seed: int, since_s: float = 0.0) -> None:
        self._queue = queue
        self.pools = {s.name: self._pool(s, queue, seed, since_s) for s in specs}
        self.workers: list[Worker] = []
        self.waiting: list[Claim] = []
        self._pulls = {s.name: Draws(seed, f"pool/{s.name}/image_pull") for s in specs}
        self._starts = {s.name: Draws(seed, f"pool/{s.name}/worker_start") for s in specs}
        self._checks: dict[str, Event] = {}
        self._floors = {s.name: WorkerFloor(s.worker_gpus, s.gpus_per_node // s.worker_gpus) for s in specs}

    def _pool(self, spec: PoolSpec, queue: EventQueue, seed: int, since_s: float) -> NodePool:
        return NodePool(spec, queue, seed, since_s, self._node_ready, self._node_preempted, self._set_floor)

    # ------------------------------------------------------------ claims

    def claim(self, claim: Claim) -> None:
        """Asks for GPUs: at once where a running worker has them free, else when one comes."""
        self.waiting.append(claim)
        self._place_waiting()
        if claim.worker is None:
            self._look_later()

    def claim_gang(self, claims: Sequence[Claim]) -> None:
        """Asks for the GPUs of a gang: one placement group, which is there as a whole or not at all."""
        for claim in claims:
            claim.gang = claims
        self.waiting += claims
        self._place_waiting()
        if claims[0].worker is None:
            self._look_later()

    def withdraw(self, claim: Claim) -> None:
        """Takes a waiting wish back; nodes already on their way still come."""
        self.waiting.remove(claim)

    def release(self, claim: Claim) -> None:
        """Gives GPUs back."""
        worker = claim.worker
        if worker is None:
            return
        worker.claims.remove(claim)
        claim.worker = None
        self._watch_idle(worker)
        self._place_waiting()

    def place_initial(self, claim: Claim) -> bool:
        """Time 0: on the running workers, else on a new one on an initial node; False when no pool has room."""
        spare = [w for w in self.workers if self._fits(w, claim) and w.state == "running"]
        worker = min(spare, key=lambda w: w.gpus_free, default=None)
        for name in claim.pools:
            if worker is not None:
                break
            worker = self._initial_worker(self.pools[name], claim.service)
        if worker is None:
            return False
        self._bind(claim, worker, "free_gpu")
        return True

    def _initial_worker(self, pool: NodePool, service: str) -> Worker | None:
        node = next((n for n in pool.ready() if n.gpus_free_for_pods >= pool.spec.worker_gpus), None)
        if node is None:
            if pool.room <= 0:
                return None
            node = pool.add_initial()
        worker = Worker(
            pool.spec, service, pool.spec.worker_gpus, self._queue.now_s, node, "running", [], self._queue.now_s
        )
        node.workers.append(worker)
        node.images[service] = self._queue.now_s
        pool.keep(node)
        self.workers.append(worker)
        return worker

    def _place_waiting(self) -> None:
        """First come, first served; one that does not fit lets those behind it through. Fullest worker first."""
        if not self.waiting:
            return
        spare = [w for w in self.workers if w.state == "running" and w.gpus_free > 0]
        if not spare:
            return
        for claim in list(self.waiting):
            if claim.gang:
                if claim.worker is None:
                    self._place_gang(claim.gang, spare)
                continue
            for name in claim.pools:
                fitting = [w for w in spare if w.spec.name == name and self._fits(w, claim)]
                if fitting:
                    self.waiting.remove(claim)
                    worker = min(fitting, key=lambda w: w.gpus_free)
                    self._bind(claim, worker, self._path(claim, worker))
                    break

    def _place_gang(self, claims: Sequence[Claim], spare: Sequence[Worker]) -> None:
        """All of them, each on the fullest worker that has room, or none."""
        left = [worker.gpus_free for worker in spare]
        chosen: list[int] = []
        for claim in claims:
            fitting = [
                i
                for name in claim.pools
                for i, worker in enumerate(spare)
                if worker.spec.name == name and worker.service == claim.service and left[i] >= claim.gpus
            ]
            if not fitting:
                return
            preferred = [i for i in fitting if spare[i].spec is spare[fitting[0]].spec]
            chosen.append(min(preferred, key=lambda i: left[i]))
            left[chosen[-1]] -= claim.gpus
        for claim, i in zip(claims, chosen, strict=True):
            self.waiting.remove(claim)
            self._bind(claim, spare[i], self._path(claim, spare[i]))

    @staticmethod
    def _fits(worker: Worker, claim: Claim) -> bool:
        return worker.service == claim.service and worker.gpus_free >= claim.gpus and worker.spec.name in claim.pools

    @staticmethod
    def _path(claim: Claim, worker: Worker) -> LeadPath:
        if worker.running_since_s is not None and worker.running_since_s <= claim.asked_at_s:
            return "free_gpu"
        ready_at_s = worker.node.ready_at_s if worker.node is not None else None
        return "warm_node" if ready_at_s is not None and ready_at_s <= claim.asked_at_s else "new_node"

    def _bind(self, claim: Claim, worker: Worker, path: LeadPath) -> None:
        claim.worker, claim.path = worker, path
        worker.claims.append(claim)
        if worker.idle is not None:
            worker.idle.cancel()
            worker.idle = None
        assert worker.node is not None
        if worker.node.first_used_at_s is None:
            worker.node.first_used_at_s = self._queue.now_s
        claim.on_placed(claim)

    # ------------------------------------------------------------ Ray's autoscaler

    def _look_later(self) -> None:
        """Each pool's autoscaler runs at its next full period as long as a claim waits."""
        for name, pool in self.pools.items():
            if name not in self._checks:
                period_s = pool.spec.autoscaler_period_s
                at_s = (math.floor(self._queue.now_s / period_s) + 1) * period_s
                self._checks[name] = self._queue.at(at_s, lambda p=pool: self._check(p))  # type: ignore[misc]

    def _check(self, pool: NodePool) -> None:
        """Pack what waits onto what is free or on its way; ask for workers in this pool for the rest."""
        del self._checks[pool.spec.name]
        self._place_waiting()
        coming = [w for w in self.workers if w.state in ("pending", "starting")]
        spare = [_Spare(w.service, w.spec.name, w.gpus) for w in coming]
        if any(claim.gang for claim in self.waiting):  # a part of a gang fits what is free
            free = [w for w in self.workers if w.state == "running" and w.gpus_free > 0]
            spare = [*(_Spare(w.service, w.spec.name, w.gpus_free) for w in free), *spare]
        imagined: dict[str, int] = {}
        for claim in self.waiting:
            if self._has_supply(claim, spare):
                continue
            for name in claim.pools:
                target = self.pools[name]
                if self._can_add_worker(target, imagined.get(name, 0)):
                    if target is pool:
                        self._ask_for_worker(pool, claim.service)
                    else:  # the other pool's autoscaler will ask at its own look
                        imagined[name] = imagined.get(name, 0) + 1
                    spare.append(_Spare(claim.service, name, target.spec.worker_gpus - claim.gpus))
                    break
        self._raise_to_floor(pool)
        if self.waiting:
            self._look_later()

    @staticmethod
    def _has_supply(claim: Claim, spare: list[_Spare]) -> bool:
        """Takes what the claim needs from the first worker on its way that can hold it."""
        for name in claim.pools:
            for entry in spare:
                if entry.service == claim.service and entry.pool == name and entry.gpus >= claim.gpus:
                    entry.gpus -= claim.gpus
                    return True
        return False

    def _can_add_worker(self, pool: NodePool, imagined: int) -> bool:
        """A Ready node has room for the pod, or one more node may be asked for."""
        per_node = pool.spec.gpus_per_node // pool.spec.worker_gpus
        pods = sum(1 for w in self.workers if w.spec is pool.spec) + imagined
        if pool.backing_off:
            return pods < per_node * len(pool.nodes)
        return pods < per_node * pool.spec.max_nodes

    def _ask_for_worker(self, pool: NodePool, service: str, warm: bool = False) -> None:
        self.workers.append(Worker(pool.spec, service, pool.spec.worker_gpus, self._queue.now_s, warm=warm))
        self._schedule_pods(pool)

    # ------------------------------------------------------------ warm workers

    def _set_floor(self, pool: NodePool, nodes: int, services: Sequence[ServiceGpus]) -> None:
        """As Ray's autoscaler takes it: at its next look, and idle workers above it may go from now on."""
        if self._floors[pool.spec.name].set_level(nodes, services):
            self._look_later()
            for worker in self.workers:
                if worker.spec is pool.spec:
                    self._watch_idle(worker)

    def _raise_to_floor(self, pool: NodePool) -> None:
        for service, floor in self._floors[pool.spec.name].floors.items():
            while self._count(pool, service) < floor and self._can_add_worker(pool, 0):
                self._ask_for_worker(pool, service, warm=True)
            if self._count(pool, service) < floor:  # no room, or it was refused
                self._look_later()

    def _count(self, pool: NodePool, service: str) -> int:
        return sum(1 for w in self.workers if w.spec is pool.spec and w.service == service)

    # ------------------------------------------------------------ pods on nodes

    def _schedule_pods(self, pool: NodePool) -> None:
        """Pending pods onto Ready nodes (the fullest first); nodes are asked for those that none to come will hold."""
        for worker in [w for w in self.workers if w.spec is pool.spec and w.state == "pending"]:
            nodes = [n for n in pool.ready() if n.gpus_free_for_pods >= worker.gpus]
            if nodes:
                self._start(worker, min(nodes, key=lambda n: n.gpus_free_for_pods))
        pending = sum(1 for w in self.workers if w.spec is pool.spec and w.state == "pending")
        per_node = pool.spec.gpus_per_node // pool.spec.worker_gpus
        coming = sum(1 for n in pool.nodes if n.state == "starting")
        while pending > coming * per_node:
            ahead = all(w.warm for w in self.workers if w.spec is pool.spec and w.state == "pending")
            if pool.request(prewarmed=ahead) is None:
                self._give_up_pods(pool, keep=coming * per_node)
                return
            coming += 1

    def _give_up_pods(self, pool: NodePool, keep: int) -> None:
        """Refused: pods beyond what is coming are taken back, so that their replicas may look at the next pool."""
        for worker in [w for w in self.workers if w.spec is pool.spec and w.state == "pending"][keep:]:
            worker.state = "gone"
            self.workers.remove(worker)

    def _start(self, worker: Worker, node: Node) -> None:
        """A pod gets its node (a placeholder makes room): pull the image if it is not there, then start Ray."""
        worker.node, worker.state = node, "starting"
        node.workers.append(worker)
        pool = self.pools[node.spec.name]
        pool.keep(node)
        there_at_s = self.image_at_s(node, worker.service)
        start_s = self._starts[node.spec.name].duration_s(node.spec.worker_start_s)
        self._queue.at(there_at_s + start_s, lambda: self._worker_up(worker))
        pool.review()

    def image_at_s(self, node: Node, image: str) -> float:
        """Time at which an image is on a node (now, if it is there). Starts its pull if none is under way."""
        now_s = self._queue.now_s
        if image not in node.images:
            node.images[image] = now_s + self._pulls[node.spec.name].duration_s(node.spec.image_pull_s)
        return max(node.images[image], now_s)

    def _worker_up(self, worker: Worker) -> None:
        if worker.state != "starting":
            return
        worker.state = "running"
        worker.running_since_s = self._queue.now_s
        self._watch_idle(worker)
        self._place_waiting()

    def _watch_idle(self, worker: Worker) -> None:
        """An empty worker goes at the autoscaler's first look after its idle timeout."""
        if worker.claims or worker.state != "running" or worker.idle is not None:
            return
        due_s, period_s = self._queue.now_s + worker.spec.idle_timeout_s, worker.spec.autoscaler_period_s
        at_s = math.ceil(due_s / period_s - 1e-9) * period_s
        worker.idle = self._queue.at(max(at_s, due_s), lambda: self._remove(worker))

    def _remove(self, worker: Worker) -> None:
        worker.idle = None
        pool = self.pools[worker.spec.name]
        if self._count(pool, worker.service) <= self._floors[worker.spec.name].of(worker.service):
            return  # it is watched again when the floor falls
        worker.state = "gone"
        self.workers.remove(worker)
        if worker.node is not None and worker.node.state == "ready":
            worker.node.workers.remove(worker)
            self._schedule_pods(pool)
            pool.review()

    # ------------------------------------------------------------ what Kubernetes shows

    def signals(self) -> tuple[PoolSignals, ...]:
        """Every pool's nodes as they stand now."""
        now_s = self._queue.now_s
        return tuple(
            PoolSignals(name, now_s, tuple(_node_signal(n) for n in pool.nodes), pool.refused_at_s)
            for name, pool in self.pools.items()
        )

    # ------------------------------------------------------------ nodes come and go

    def _node_ready(self, node: Node) -> None:
        self._schedule_pods(self.pools[node.spec.name])

    def _node_preempted(self, node: Node) -> None:
        """The node and everything on it is gone at once."""
        lost = [c for w in node.workers for c in w.claims]
        for worker in list(node.workers):
            if worker.idle is not None:
                worker.idle.cancel()
            worker.state = "gone"
            worker.claims.clear()
            self.workers.remove(worker)
        node.workers.clear()
        for claim in lost:
            claim.worker = None
            claim.on_lost(claim)
        pool = self.pools[node.spec.name]
        self._schedule_pods(pool)
        self._raise_to_floor(pool)


def _node_signal(node: Node) -> NodeSignal:
    """The same object as last time where nothing has changed."""
    used = running = 0
    for worker in node.workers:
        running += worker.state == "running"
        for claim in worker.claims:
            used += claim.gpus
    before = node.shown
    if before is None or (before.ready_at_s, before.gpus_used, before.workers) != (node.ready_at_s, used, running):
        node.shown = before = NodeSignal(
            name=node.name,
            state="ready" if node.state == "ready" else "starting",
            requested_at_s=node.requested_at_s,
            ready_at_s=node.ready_at_s,
            gpus=node.spec.gpus_per_node,
            gpus_used=used,
            workers=running,
        )
    return before
