"""Everything of a scenario that exists besides the controller: traffic, data planes, Serve, nodes, telemetry.

Builds it from a scenario, and answers what the controller may ask. It decides nothing and breaks nothing (control/).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from autoscaler.common.errors import ScenarioError
from autoscaler.core.scheduled_load import recurring_hints
from autoscaler.core.types import DeploymentInventory, DeploymentMetrics, Hint
from autoscaler.core.types.pools import WAYS
from policies.base import DeploymentKey, whole_up
from simulator.cluster.placement import Cluster
from simulator.cluster.types import PoolSpec, Stockout
from simulator.dataplane.deployment import Plane
from simulator.kernel.draws import component_seed
from simulator.kernel.events import EventQueue
from simulator.kernel.outcomes import Outcomes
from simulator.scenario.fleet import NodePoolBlock
from simulator.scenario.load import Deployment, Scenario
from simulator.serve.lifecycle import Serve
from simulator.serve.replicas import Replica, ServeSpec
from simulator.telemetry.pages import MetricPages
from simulator.telemetry.processes import DeploymentTelemetry
from simulator.telemetry.spec import TelemetrySpec
from simulator.workload.synthetic import Synthetic, generate_for
from simulator.workload.traces import RequestTrace
from simulator.workload.workload import ArrivalStream, Lengths, rate_arrivals, request_arrivals

_LONGEST_TAIL_S = 300.0
_SCHEDULED_AHEAD_S = 86400.0
"""How long before it begins what recurs is told: longer than any lead time."""


@dataclass(slots=True)
class Live:
    """One deployment of the running world."""

    spec: Deployment
    serve: Serve
    plane: Plane
    arrivals: ArrivalStream
    telemetry: DeploymentTelemetry
    outcomes: Outcomes

    @property
    def key(self) -> DeploymentKey:
        return self.spec.key


class Environment:
    """The simulated reality. `initial` overrides the replicas that run at time 0 (a constant fleet starts complete)."""

    def __init__(
        self, scenario: Scenario, telemetry: TelemetrySpec, initial: Mapping[DeploymentKey, int] | None = None
    ) -> None:
        self.scenario = scenario
        self.telemetry = telemetry
        self.queue = EventQueue()
        self.seed = scenario.file.seed
        since_s = scenario.file.warmup_s
        specs = [_pool_spec(scenario, p) for p in scenario.pools]
        self.cluster = Cluster(specs, self.queue, self.seed, since_s)
        self.live = [
            self._deployment(d, telemetry, since_s, (initial or {}).get(d.key, d.initial)) for d in scenario.deployments
        ]
        self.serves = {one.key: one.serve for one in self.live}
        self._pages = self._metric_pages(telemetry) if telemetry.read else []
        self._scheduled = [d for d in scenario.deployments if d.block.schedule]
        self._hints = [_hint(d, i) for d in scenario.deployments for i in range(len(d.block.hints))]
        self._start()

    def _deployment(self, spec: Deployment, telemetry: TelemetrySpec, since_s: float, initial: int) -> Live:
        block = spec.block
        plane = Plane(
            spec.profile,
            max_ongoing_requests=block.max_ongoing_requests,
            request_timeout_s=block.request_timeout_s,
            seed=self.seed,
            name=spec.key.full,
            since_s=since_s,
        )
        serve_spec = ServeSpec(
            key=spec.key,
            gpus=spec.gpus,
            pools=block.pools,
            load_s=spec.load_s,
            init_s=spec.init_s,
            initial=whole_up(initial, block.gang_size),
            max_ongoing_requests=block.max_ongoing_requests,
            graceful_shutdown_timeout_s=block.graceful_shutdown_timeout_s,
            gang_size=block.gang_size,
        )
        serve = Serve(
            serve_spec,
            self.cluster,
            plane,
            self.queue,
            self.seed,
            since_s,
            lambda replica: self._gone(spec.key, replica),
        )
        return Live(
            spec=spec,
            serve=serve,
            plane=plane,
            arrivals=arrivals_of(spec, self.scenario.duration_s, self.seed),
            telemetry=DeploymentTelemetry(serve, plane, telemetry, self.queue),
            outcomes=Outcomes(spec.slo, since_s, self.scenario.duration_s),
        )

    def _gone(self, key: DeploymentKey, replica: Replica) -> None:
        next(one for one in self.live if one.key == key).telemetry.gone(replica)

    def _metric_pages(self, telemetry: TelemetrySpec) -> list[MetricPages]:
        """One set of pages for each Ray cluster."""
        services: dict[str, list[DeploymentTelemetry]] = {}
        for one in self.live:
            services.setdefault(one.serve.spec.service, []).append(one.telemetry)
        return [MetricPages(members, telemetry, self.seed) for members in services.values()]

    def record_handles(self, metrics_interval_s: float, look_back_s: float) -> None:
        """Let every handle record and push for Serve's own autoscaler, with its intervals."""
        for pages in self._pages:
            pages.record_handles(self.queue, metrics_interval_s, look_back_s)

    def _start(self) -> None:
        """Time 0: initial nodes and replicas."""
        for one in self.live:
            if not one.serve.start_initial():
                raise ScenarioError(
                    f"{self.scenario.source}: deployments: {one.key}: its {one.serve.spec.initial} initial replicas do "
                    f"not fit on nodes.max of {', '.join(one.spec.block.pools)} beside those listed before it"
                )
        for block in self.scenario.pools:
            pool = self.cluster.pools[block.name]
            wanted = block.nodes.initial if block.nodes.initial is not None else block.nodes.min
            while len(pool.nodes) < wanted:
                pool.add_initial()
            pool.review()

    # ------------------------------------------------------------ time

    def feed(self, until_s: float) -> None:
        """Give the data planes their arrivals up to a time."""
        for one in self.live:
            requests = one.arrivals.take(min(until_s, self.scenario.duration_s))
            if len(requests):
                one.plane.feed(requests)

    # ------------------------------------------------------------ what the controller may ask

    def inventories(self) -> dict[DeploymentKey, DeploymentInventory]:
        """What Serve's API shows now."""
        return {key: serve.inventory() for key, serve in self.serves.items()}

    def metrics(
        self, inventories: Mapping[DeploymentKey, DeploymentInventory], read: bool, up: bool
    ) -> dict[DeploymentKey, DeploymentMetrics]:
        """What the metric pages say of these deployments; not `up`: pages as they were, not `read`: the last answer.

        Handle reports are pushed, not read: they are always the newest.
        """
        nodes = {n.name for pool in self.cluster.pools.values() for n in pool.nodes}
        found: dict[DeploymentKey, DeploymentMetrics] = {}
        for pages in self._pages:
            if not up:
                found.update(pages.as_they_were(inventories, self.queue.now_s))
            elif read:
                found.update(pages.read(inventories, nodes, self.queue.now_s))
            else:
                found.update(pages.last_read())
        return found

    def nobody_reads_before(self, at_s: float) -> None:
        """Pages are next read at this time or later."""
        for one in self.live:
            one.telemetry.read_next_s = at_s

    def forget_pages(self) -> None:
        """The reader of the pages restarts without memory of them."""
        for pages in self._pages:
            pages.forget()

    def hints(self, now_s: float) -> tuple[Hint, ...]:
        """What is announced and not over."""
        announced = [h for at_s, h in self._hints if at_s <= now_s < h.end_at_s]
        for d in self._scheduled:
            at_s = d.calendar_s
            schedule = [block.load for block in d.block.schedule]
            for hint in recurring_hints(schedule, d.key, at_s + now_s, _SCHEDULED_AHEAD_S):
                announced.append(replace(hint, start_at_s=hint.start_at_s - at_s, end_at_s=hint.end_at_s - at_s))
        return tuple(announced)


def arrivals_of(spec: Deployment, duration_s: float, seed: int) -> ArrivalStream:
    """The traffic of a deployment: it depends on the scenario and the seed only, not on any policy."""
    w = spec.block.workload
    name = spec.key.full
    traffic = spec.traffic
    draws = component_seed(seed, f"traffic/{name}")
    if isinstance(traffic, RequestTrace):
        return request_arrivals(
            traffic, start_s=spec.start_s, rate_scale=w.rate_scale, repeat=w.repeat, duration_s=duration_s, seed=draws
        )
    if isinstance(traffic, Synthetic):
        traffic = generate_for(traffic, seed, f"synthetic/{name}")
    lengths = None
    if spec.prompt_tokens is not None and spec.output_tokens is not None:
        lengths = Lengths(spec.prompt_tokens, spec.output_tokens)
    return rate_arrivals(
        traffic,
        lengths,
        start_s=spec.start_s,
        rate_scale=w.rate_scale,
        repeat=w.repeat,
        duration_s=duration_s,
        seed=draws,
    )


def tail_s(d: Deployment) -> float:
    """How long requests in flight get to end after the scenario's end: as long as they may take, but five minutes."""
    return min(d.block.request_timeout_s, _LONGEST_TAIL_S)


def _pool_spec(scenario: Scenario, p: NodePoolBlock) -> PoolSpec:
    return PoolSpec(
        name=p.name,
        gpus_per_node=p.gpus_per_node,
        min_nodes=p.nodes.min,
        max_nodes=p.nodes.max,
        reserved_nodes=p.nodes.reserved,
        provision_s=p.provision_s,
        image_pull_s=p.image_pull_s,
        worker_gpus=p.worker.gpus if p.worker.gpus is not None else p.gpus_per_node,
        worker_start_s=p.worker.start_s,
        idle_timeout_s=p.worker.idle_timeout_s,
        autoscaler_period_s=p.worker.autoscaler_period_s,
        scale_down_after_s=p.scale_down_after_s,
        prewarm=p.prewarm != "none",
        warms=WAYS[p.prewarm].warms,
        price_usd_per_hour=scenario.node_price_usd_per_hour(p),
        preemption_per_node_hour=p.preemption_per_node_hour,
        stockouts=tuple(Stockout(s.start_s, s.end_s, s.fraction) for s in p.stockouts),
    )


def _hint(d: Deployment, index: int) -> tuple[float, Hint]:
    h = d.block.hints[index]
    return h.at_s, Hint(f"{d.key}-{index}", d.key, h.start_s, h.end_s, h.rps, h.multiplier, h.confidence_fraction)
