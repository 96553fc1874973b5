"""The controller's own metrics, in a registry of its own. Names are a contract; what is unknown has no sample.

Values are read off the board when somebody asks for the page, so that what is gone (a deployment, a source) leaves
the page with it. The text formats and their encoders are prometheus_client's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from autoscaler import __version__
from autoscaler.api.deployment_metrics import counter, deployment_families, gauge
from autoscaler.api.status import is_refused, nodes_by_state
from autoscaler.api.telemetry import STEP_EDGES_S, Telemetry
from autoscaler.core.invariants import NAMES as INVARIANTS
from autoscaler.core.outages import KINDS
from autoscaler.core.types import PoolPlan, PoolSignals, Signals, nodes_usd_per_hour


class Exporter(Collector):
    """Registers itself in `registry`; `now_s` gives the wall clock."""

    def __init__(self, telemetry: Telemetry, now_s: Callable[[], float] = time.time) -> None:
        self._telemetry = telemetry
        self._now_s = now_s
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        yield from self._controller()
        yield from self._counters()
        if self._telemetry.plan is not None and self._telemetry.signals is not None:
            yield from self._sources(self._telemetry.signals)
            yield from self._outages()
            yield from deployment_families(self._telemetry, self._telemetry.plan)
            yield from self._pools(self._telemetry.signals)

    def _controller(self) -> Iterator[Metric]:
        telemetry, plan = self._telemetry, self._telemetry.plan
        yield InfoMetricFamily("leadtime_build", "Version of leadtime.", value={"version": __version__})
        yield gauge("leadtime_dry_run", "1 while nothing is written.", [((), float(telemetry.config.dry_run))])
        yield gauge("leadtime_paused", "1 while everything is paused.", [((), float(telemetry.pause.everything))])
        budget = telemetry.config.gpu_budget
        pools = {kind: ",".join(p.name for p in telemetry.config.pools if p.gpu == kind) for kind in budget}
        yield gauge(
            "leadtime_gpu_budget", "GPUs that may be used, by kind.",
            [((pools[kind], kind), float(gpus)) for kind, gpus in budget.items()], ("pool", "kind"),
        )  # fmt: skip
        if plan is not None:
            yield gauge("leadtime_leader", "1 on the controller that acts.", [((), float(plan.leader))])
            yield gauge("leadtime_last_decision_timestamp_seconds", "When the last tick decided.", [((), plan.now_s)])

    def _counters(self) -> Iterator[Metric]:
        telemetry = self._telemetry
        yield counter(
            "leadtime_guard", "Times that a guard came into force (one that lasts counts once).",
            [((name,), count) for name, count in telemetry.guards.items()], ("name",),
        )  # fmt: skip
        yield counter(
            "leadtime_actuator", "Writes by what came of them.", telemetry.outcomes.items(), ("actuator", "outcome")
        )
        yield counter(
            "leadtime_cost_usd", "Cost of the nodes seen since the start.",
            [((pool,), usd) for pool, usd in telemetry.cost_usd.items()], ("pool",),
        )  # fmt: skip
        yield counter(
            "leadtime_hint_messages", "Messages that announced demand, by what came of them.",
            [((result,), count) for result, count in telemetry.hint_messages.items()], ("result",),
        )  # fmt: skip
        yield counter("leadtime_missed_ticks", "Ticks skipped since one took too long.", [((), telemetry.missed_ticks)])
        yield counter("leadtime_failed_steps", "Ticks at which the decision failed.", [((), telemetry.failed_steps)])
        yield counter(
            "leadtime_invariant_breaches", "Decisions that broke what must always hold, and were not carried out.",
            [((name,), telemetry.breaches[name]) for name in INVARIANTS], ("invariant",),
        )  # fmt: skip
        steps = HistogramMetricFamily("leadtime_step_seconds", "Time that a decision took.")
        total, buckets = 0, []
        for edge, count in zip(STEP_EDGES_S, telemetry.step_counts, strict=True):
            total += count
            buckets.append(("+Inf" if edge == float("inf") else str(edge), float(total)))
        steps.add_metric([], buckets, telemetry.step_sum_s)
        yield steps

    def _sources(self, signals: Signals) -> Iterator[Metric]:
        now_s = self._now_s()
        yield gauge(
            "leadtime_source_up", "1 while a source answers.",
            [((source.name,), float(source.up)) for source in signals.sources], ("source",),
        )  # fmt: skip
        yield gauge(
            "leadtime_source_age_seconds", "Age of what a source gave last.",
            [
                ((source.name,), max(0.0, now_s - source.as_of_s))
                for source in signals.sources if source.as_of_s is not None
            ], ("source",),
        )  # fmt: skip

    def _outages(self) -> Iterator[Metric]:
        there = {one.kind for one in self._telemetry.outages}
        yield gauge(
            "leadtime_outage", "1 while nothing can be read, or nothing written.",
            [((kind,), float(kind in there)) for kind in KINDS], ("kind",),
        )  # fmt: skip

    def _pools(self, signals: Signals) -> Iterator[Metric]:
        yield gauge(
            "leadtime_warm_nodes", "Nodes of a pool, by what they do.",
            [
                ((pool.name, state), float(count))
                for pool in signals.pools for state, count in nodes_by_state(pool).items()
            ], ("pool", "state"),
        )  # fmt: skip
        yield gauge(
            "leadtime_pool_wanted_nodes", "Nodes that the plan wants of a pool, busy and warm together.",
            [((pool.name,), float(pool.nodes)) for pool in self._plans() if pool.nodes is not None], ("pool",),
        )  # fmt: skip
        yield gauge(
            "leadtime_pool_refused", "1 while the last request for a node was refused (stock-out, quota).",
            [((pool.name,), float(self._refused(pool))) for pool in signals.pools], ("pool",),
        )  # fmt: skip
        yield gauge(
            "leadtime_pool_taken_per_node_hour", "How often a node is taken away with replicas on it (spot).",
            [((pool.name,), pool.taken_per_node_hour) for pool in self._plans()], ("pool",),
        )  # fmt: skip
        settings = {pool.name: pool for pool in self._telemetry.config.pools}
        rates = {
            pool.name: nodes_usd_per_hour(settings[pool.name], pool.nodes)
            for pool in signals.pools
            if pool.name in settings
        }
        yield gauge(
            "leadtime_pool_cost_usd_per_hour", "Cost per hour of the nodes that a pool has now.",
            [
                ((name,), rate) for name, rate in rates.items() if rate is not None
            ], ("pool",),
        )  # fmt: skip
        yield gauge(
            "leadtime_pool_peak_cost_usd_per_hour", "What the pool would cost per hour at its most nodes, always.",
            [
                ((pool.name,), pool.price_usd_per_hour * pool.max_nodes)
                for pool in self._telemetry.config.pools
                if pool.price_usd_per_hour is not None and pool.max_nodes is not None
            ], ("pool",),
        )  # fmt: skip

    def _plans(self) -> tuple[PoolPlan, ...]:
        return self._telemetry.plan.pools if self._telemetry.plan is not None else ()

    def _refused(self, pool: PoolSignals) -> bool:
        return is_refused(pool, self._now_s())
