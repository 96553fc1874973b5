"""Ray Serve's side of scaling: targets, replicas from STARTING to gone, the order in which they go, new versions.

It creates replicas for a target, lets the cluster place them, loads and initialises them, tells the data plane when
they serve, drains them, and shows the inventory that Serve's API would show. It decides nothing by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b

from autoscaler.core.types import DeploymentInventory, ReplicaSignal
from simulator.cluster.placement import Cluster
from simulator.cluster.types import Claim
from simulator.kernel.draws import Draws
from simulator.kernel.events import Event, EventQueue
from simulator.kernel.meters import Meter
from simulator.serve.replicas import Plane, Replica, ServeSpec, Start
from simulator.serve.rollout import Update, first_gangs, outdated, stopping_first, surging

CONTROL_LOOP_S = 0.1
"""Serve's controller acts on a new target within this time."""
WAIT_LOOP_S = 2.0
"""A stopping replica looks this often whether its requests are done."""


@dataclass(slots=True)
class Serve:
    """One deployment under Serve: the target and its replicas."""

    spec: ServeSpec
    cluster: Cluster
    plane: Plane
    queue: EventQueue
    seed: int
    since_s: float
    on_gone: Callable[[Replica], None]
    """Told of every replica that disappears, while its last figures can still be read."""
    target: int = 0
    configured: int = 0
    """num_replicas of its configuration, which a redeploy goes back to."""
    version: int = 0
    update: Update | None = None
    """The newest redeploy."""
    image: str | None = None
    """The image of its own that a redeploy brought."""
    replicas: dict[str, Replica] = field(default_factory=dict)
    starts: list[Start] = field(default_factory=list)
    scale_ups: int = 0
    scale_downs: int = 0
    dead: int = 0
    numbered: int = 0
    reconciling: Event | None = None
    allocated: Meter = field(init=False)
    loads: Draws = field(init=False)

    def __post_init__(self) -> None:
        self.configured = self.spec.initial
        self.allocated = Meter(self.since_s)
        self.loads = Draws(self.seed, f"deployment/{self.spec.key.full}/start")

    # ------------------------------------------------------------ what Serve's API offers

    def scale(self, target: int) -> None:
        """A new target (>= 0), acted on at the controller's next loop; a level, so repeating it changes nothing."""
        if target == self.target:
            return
        if self.queue.now_s >= self.since_s:
            self.scale_ups += target > self.target
            self.scale_downs += target < self.target
        self.target = target
        self._reconcile_later()

    def inventory(self) -> DeploymentInventory:
        """What Serve's API shows now."""
        replicas = tuple(map(_replica_signal, self.replicas.values()))
        return DeploymentInventory(
            as_of_s=self.queue.now_s,
            target=self.target,
            replicas=replicas,
            external_scaler_enabled=True,
            max_ongoing_requests=self.spec.max_ongoing_requests,
            gpus_per_replica=self.spec.gpus,
            configured_replicas=self.configured,
            dead_replicas=min(self.dead, 10),
            gang_size=self.spec.gang_size,
        )

    def redeploy(self, update: Update, keep_target: bool) -> None:
        """A new configuration: replicas of the old one are replaced, and the target is what it says.

        `keep_target`: Serve's own autoscaler is in charge, and its target outlives the change.
        """
        self.version += 1
        self.update = update
        self.configured = update.replicas
        if update.new_image:
            self.image = f"{self.spec.key.full}@{self.version}"
        if not keep_target:
            self.target = update.replicas
        self._reconcile_later()

    def count(self, *states: str) -> int:
        return sum(1 for r in self.replicas.values() if r.state in states)

    # ------------------------------------------------------------ start

    def start_initial(self) -> bool:
        """Time 0: `initial` replicas that run already; False when the pools have no room for them."""
        self.target = self.spec.initial
        for _ in range(self.spec.initial):
            replica = self._new_replica()
            if not self.cluster.place_initial(replica.claim):
                return False
            self._run(replica)
        return True

    def _new_replica(self) -> Replica:
        self.numbered += 1
        name = f"{self.spec.key.full}#{self.numbered}"
        replica_id, worker_id = (blake2b(f"{name}{w}".encode(), digest_size=4).hexdigest() for w in ("", "worker"))
        now_s = self.queue.now_s
        claim = Claim(self.spec.service, self.spec.gpus, self.spec.pools, now_s, self._placed, self._lost)
        self.replicas[replica_id] = replica = Replica(replica_id, worker_id, now_s, claim, self.version)
        replica.gang = (self.numbered - 1) // self.spec.gang_size
        return replica

    def _gang_of(self, replica: Replica) -> list[Replica]:
        """The members of its gang that are listed, itself among them."""
        if self.spec.gang_size == 1:
            return [replica]
        return [r for r in self.replicas.values() if r.gang == replica.gang]

    def _replica_of(self, claim: Claim) -> Replica:
        return next(r for r in self.replicas.values() if r.claim is claim)

    def _placed(self, claim: Claim) -> None:
        """GPUs are there: load the weights, initialise, run."""
        replica = self._replica_of(claim)
        assert claim.worker is not None
        assert claim.worker.node is not None
        replica.node = claim.worker.node.name
        self.allocated.add(self.spec.gpus, self.queue.now_s)
        if self.numbered <= self.spec.initial:
            return  # an initial one is there already and takes no draw from those that follow
        seconds = self.loads.duration_s(self.spec.load_s) + self.loads.duration_s(self.spec.init_s)
        if self.image is not None and replica.version == self.version:
            seconds += self.cluster.image_at_s(claim.worker.node, self.image) - self.queue.now_s
        replica.loaded = self.queue.after(seconds, lambda: self._started(replica))

    def _started(self, replica: Replica) -> None:
        """A gang runs when its last member is ready."""
        replica.ready = True
        gang = self._gang_of(replica)
        if all(member.ready for member in gang):
            for member in gang:
                self._note_start(member, withdrawn=False)
                self._run(member)

    def _run(self, replica: Replica) -> None:
        replica.state = "RUNNING"
        replica.claim.serving = True
        replica.running_since_s = self.queue.now_s
        self.plane.advance(self.queue.now_s)
        self.plane.add_replica(replica.replica_id, self.queue.now_s)
        self._go_on_rolling()

    def _note_start(self, replica: Replica, withdrawn: bool) -> None:
        if replica.asked_at_s >= self.since_s:
            self.starts.append(Start(replica.asked_at_s, self.queue.now_s, replica.claim.path, withdrawn))

    def starts_so_far(self) -> list[Start]:
        """Every start, those under way as cut off."""
        pending = [r for r in self.replicas.values() if r.state == "STARTING" and r.asked_at_s >= self.since_s]
        return [*self.starts, *(Start(r.asked_at_s, None, r.claim.path, False) for r in pending)]

    # ------------------------------------------------------------ reconcile and stop

    def _reconcile_later(self) -> None:
        if self.reconciling is None:
            self.reconciling = self.queue.after(CONTROL_LOOP_S, self._reconcile)

    def _reconcile(self) -> None:
        self.reconciling = None
        self._end_broken_gangs()
        present = list(self.replicas.values())
        update = self.update if outdated(present, self.version) else None
        if update is not None and update.max_surge_fraction > 0 and self.target > 0:
            stop, start = surging(present, self.version, self.target, update, self.spec.gang_size)
            self._stop_and_start(stop, start)
            return
        if update is not None:
            stop = stopping_first(present, self.version, self.target, update, self.spec.gang_size)
            self._stop_and_start(stop, 0)
        missing = self.target - self.count("STARTING", "RUNNING")
        if missing > 0 and missing % self.spec.gang_size:
            return  # Serve starts no gang at all while a part of one is missing
        self._stop_and_start(self._victims(max(-missing, 0)), missing)

    def _end_broken_gangs(self) -> None:
        """Of a gang that lost a member the others are stopped by force, and a whole one starts in its place."""
        if self.spec.gang_size == 1:
            return
        alive = [r for r in self.replicas.values() if r.state != "STOPPING"]
        members = Counter(r.gang for r in alive)
        for replica in alive:
            if members[replica.gang] < self.spec.gang_size:
                self._end(replica)

    def _end(self, replica: Replica) -> None:
        """Stopped by force: its requests fail."""
        self.plane.advance(self.queue.now_s)
        if replica.state == "STARTING":
            self._note_start(replica, withdrawn=True)
            if replica.loaded is not None:
                replica.loaded.cancel()
            else:
                self.cluster.withdraw(replica.claim)
        self._gone(replica)

    def _stop_and_start(self, stop: list[Replica], start: int) -> None:
        for replica in stop:
            self._stop(replica)
        if self.spec.gang_size == 1:
            for _ in range(start):
                self.cluster.claim(self._new_replica().claim)
            return
        for _ in range(start // self.spec.gang_size):
            self.cluster.claim_gang([self._new_replica().claim for _ in range(self.spec.gang_size)])

    def _go_on_rolling(self) -> None:
        """Something moved: the next batch of a new version may be due."""
        if self.update is not None and outdated(list(self.replicas.values()), self.version):
            self._reconcile_later()

    def _victims(self, count: int) -> list[Replica]:
        """Serve's order: not RUNNING first, then on the nodes with the fewest replicas of any deployment, then the
        newest.
        """
        starting = [r for r in self.replicas.values() if r.state == "STARTING"][::-1]
        # Those without a node first: they hold nothing yet.
        starting.sort(key=lambda r: r.node is not None)
        on_node: dict[str, int] = {}
        for worker in self.cluster.workers:
            if worker.node is not None:
                on_node[worker.node.name] = on_node.get(worker.node.name, 0) + sum(c.serving for c in worker.claims)
        running = [r for r in self.replicas.values() if r.state == "RUNNING"][::-1]
        # Nodes are ranked once, before any is emptied, and then taken one after the other.
        running.sort(key=lambda r: (on_node.get(r.node or "", 0), r.node or ""))
        return first_gangs([*starting, *running], count, self.spec.gang_size)

    def _stop(self, replica: Replica) -> None:
        if replica.crashed:
            self._bury(replica)
            return
        grace_s = self.spec.graceful_shutdown_timeout_s
        replica.stop_at_s = self.queue.now_s + grace_s
        was_running = replica.state == "RUNNING"
        replica.state = "STOPPING"
        replica.claim.serving = False
        if was_running:
            self.plane.advance(self.queue.now_s)
            self.plane.drain_replica(replica.replica_id, self.queue.now_s)
            self.queue.after(min(WAIT_LOOP_S, grace_s), lambda: self._check_drained(replica))
            return
        self._note_start(replica, withdrawn=True)
        if replica.loaded is not None:
            replica.loaded.cancel()
            self.queue.after(min(WAIT_LOOP_S, grace_s), lambda: self._gone(replica))
        else:
            # Its actor does not exist, so the request to stop is not answered: Serve lists it for the whole grace.
            self.cluster.withdraw(replica.claim)
            self.queue.after(grace_s, lambda: self._gone(replica))

    def _check_drained(self, replica: Replica) -> None:
        if replica.replica_id not in self.replicas:
            return
        now_s = self.queue.now_s
        self.plane.advance(now_s)
        if self.plane.ongoing(replica.replica_id) == 0 or now_s >= replica.stop_at_s - 1e-9:
            self._gone(replica)
        else:
            self.queue.at(min(now_s + WAIT_LOOP_S, replica.stop_at_s), lambda: self._check_drained(replica))

    def _gone(self, replica: Replica) -> None:
        """Out of Serve's list; requests that it still has fail."""
        if replica.replica_id not in self.replicas:
            return
        self.on_gone(replica)
        if replica.running_since_s is not None:
            self.plane.kill_replica(replica.replica_id, self.queue.now_s)
        del self.replicas[replica.replica_id]
        if replica.claim.worker is not None:
            self.allocated.add(-self.spec.gpus, self.queue.now_s)
            self.cluster.release(replica.claim)
        self._go_on_rolling()

    def crash(self, replica: Replica, noticed_after_s: float) -> None:
        """The process of a RUNNING replica dies: its requests fail, handles send it nothing more.

        Serve lists it as RUNNING, and keeps its GPUs, until a health check finds out; then it starts another.
        """
        now_s = self.queue.now_s
        self.plane.advance(now_s)
        self.on_gone(replica)
        self.plane.kill_replica(replica.replica_id, now_s)
        replica.running_since_s, replica.crashed = None, True
        self.queue.after(noticed_after_s, lambda: self._bury(replica))

    def _bury(self, replica: Replica) -> None:
        """Serve has found out that a replica is dead."""
        if replica.replica_id in self.replicas:
            self.dead += 1
            self._gone(replica)
            self._reconcile_later()

    def _lost(self, claim: Claim) -> None:
        """Its node was taken away: requests fail, and Serve starts another one."""
        replica = self._replica_of(claim)
        now_s = self.queue.now_s
        self.plane.advance(now_s)
        self.on_gone(replica)
        if replica.running_since_s is not None:
            self.plane.kill_replica(replica.replica_id, now_s)
        elif replica.state == "STARTING":
            self._note_start(replica, withdrawn=True)
        if replica.loaded is not None:
            replica.loaded.cancel()
        self.dead += 1
        self.allocated.add(-self.spec.gpus, now_s)
        del self.replicas[replica.replica_id]
        self._reconcile_later()


def _replica_signal(replica: Replica) -> ReplicaSignal:
    """The same object as last time where nothing has changed."""
    before = replica.shown
    if before is None or before.state != replica.state or before.node_id != replica.node:
        worker_id = replica.worker_id if replica.node is not None else None
        replica.shown = before = ReplicaSignal(
            replica.replica_id, replica.state, replica.asked_at_s, replica.node, worker_id
        )
    return before
