"""A cluster with Serve on it and no engines: for tests of placing, starting, stopping and billing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from policies.base import DeploymentKey
from policies.base.durations import Duration
from simulator.cluster.placement import Cluster
from simulator.cluster.types import PoolSpec
from simulator.kernel.events import EventQueue
from simulator.serve.lifecycle import Serve
from simulator.serve.replicas import ServeSpec

POOL = PoolSpec(
    name="h100",
    gpus_per_node=4,
    min_nodes=0,
    max_nodes=3,
    reserved_nodes=0,
    provision_s=Duration(60.0),
    image_pull_s=Duration(20.0),
    worker_gpus=4,
    worker_start_s=Duration(10.0),
    idle_timeout_s=30.0,
    autoscaler_period_s=5.0,
    scale_down_after_s=100.0,
    prewarm=True,
    price_usd_per_hour=36.0,
)
SPEC = ServeSpec(
    key=DeploymentKey.parse("chat/llm"),
    gpus=2,
    pools=("h100",),
    load_s=Duration(8.0),
    init_s=Duration(4.0),
    initial=0,
    max_ongoing_requests=16,
    graceful_shutdown_timeout_s=20.0,
)


@dataclass
class NoEngines:
    """A data plane that only remembers who serves; `busy` are replicas with requests in flight."""

    log: list[tuple[str, str, float]] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)
    now_s: float = 0.0

    def advance(self, until_s: float) -> None:
        assert until_s >= self.now_s
        self.now_s = until_s

    def add_replica(self, replica_id: str, now_s: float) -> None:
        self.log.append(("add", replica_id, now_s))

    def drain_replica(self, replica_id: str, now_s: float) -> None:
        self.log.append(("drain", replica_id, now_s))

    def kill_replica(self, replica_id: str, now_s: float) -> None:
        self.log.append(("kill", replica_id, now_s))

    def ongoing(self, replica_id: str) -> int:
        return int(replica_id in self.busy)

    def times(self, what: str) -> list[float]:
        return [at_s for kind, _, at_s in self.log if kind == what]


@dataclass
class Fleet:
    """One cluster with some deployments."""

    queue: EventQueue
    cluster: Cluster
    serves: list[Serve]

    @property
    def serve(self) -> Serve:
        return self.serves[0]

    @property
    def plane(self) -> NoEngines:
        plane = self.serve.plane
        assert isinstance(plane, NoEngines)
        return plane

    def at(self, time_s: float, target: int, which: int = 0) -> None:
        self.queue.at(time_s, lambda: self.serves[which].scale(target))

    def run(self, until_s: float) -> None:
        self.queue.run_until(until_s)

    def states(self) -> list[str]:
        return [r.state for r in self.serve.replicas.values()]


def fleet(*pools: PoolSpec, deployments: tuple[ServeSpec, ...] = (SPEC,), seed: int = 1) -> Fleet:
    """Pools (default: one) and deployments, at time 0."""
    queue = EventQueue()
    cluster = Cluster(pools or (POOL,), queue, seed)
    serves = [Serve(spec, cluster, NoEngines(), queue, seed, 0.0, lambda replica: None) for spec in deployments]
    for serve in serves:
        assert serve.start_initial()
    for pool in cluster.pools.values():
        pool.review()
    return Fleet(queue, cluster, serves)


def pool(**changes: object) -> PoolSpec:
    return replace(POOL, **changes)  # type: ignore[arg-type]


def spec(**changes: object) -> ServeSpec:
    return replace(SPEC, **changes)  # type: ignore[arg-type]
