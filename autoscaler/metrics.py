"""The controller's own metrics, in a registry of its own. Names are a contract; what is unknown has no sample.

Values are read off the board when somebody asks for the page, so that what is gone (a deployment, a source) leaves
the page with it. The text formats and their encoders are prometheus_client's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from autoscaler import __version__
from autoscaler.board import STEP_EDGES_S, Board
from autoscaler.model import Plan, Signals
from autoscaler.status import nodes_by_state
from policies.base import DeploymentKey, LeadPath

_DEPLOYMENT = ("namespace", "service", "app", "deployment")
_PATHS: tuple[LeadPath, ...] = ("free_gpu", "warm_node", "new_node")
_QUANTILES = (0.5, 0.9, 0.99)


class Exporter(Collector):
    """Registers itself in `registry`; `now_s` gives the wall clock."""

    def __init__(self, board: Board, now_s: Callable[[], float] = time.time) -> None:
        self._board = board
        self._now_s = now_s
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        yield from self._controller()
        yield from self._counters()
        if self._board.plan is not None and self._board.signals is not None:
            yield from self._sources(self._board.signals)
            yield from self._deployments(self._board.plan)
            yield from self._pools(self._board.signals)

    def _controller(self) -> Iterator[Metric]:
        board, plan = self._board, self._board.plan
        yield InfoMetricFamily("leadtime_build", "Version of leadtime.", value={"version": __version__})
        yield _gauge("leadtime_dry_run", "1 while nothing is written.", [((), float(board.config.dry_run))])
        yield _gauge("leadtime_paused", "1 while everything is paused.", [((), float(board.pause.everything))])
        budget = board.config.gpu_budget
        pools = {kind: ",".join(p.name for p in board.config.pools if p.gpu == kind) for kind in budget}
        yield _gauge(
            "leadtime_gpu_budget", "GPUs that may be used, by kind.",
            [((pools[kind], kind), float(gpus)) for kind, gpus in budget.items()], ("pool", "kind"),
        )  # fmt: skip
        if plan is not None:
            yield _gauge("leadtime_leader", "1 on the controller that acts.", [((), float(plan.leader))])
            yield _gauge("leadtime_last_decision_timestamp_seconds", "When the last tick decided.", [((), plan.now_s)])

    def _counters(self) -> Iterator[Metric]:
        board = self._board
        yield _counter(
            "leadtime_guard", "Ticks at which a guard changed a number.",
            [((name,), count) for name, count in board.guards.items()], ("name",),
        )  # fmt: skip
        yield _counter(
            "leadtime_actuator", "Writes by what came of them.", board.outcomes.items(), ("actuator", "outcome")
        )
        yield _counter(
            "leadtime_cost_usd", "Cost of the nodes seen since the start.",
            [((pool,), usd) for pool, usd in board.cost_usd.items()], ("pool",),
        )  # fmt: skip
        yield _counter("leadtime_missed_ticks", "Ticks skipped since one took too long.", [((), board.missed_ticks)])
        yield _counter("leadtime_failed_steps", "Ticks at which the decision failed.", [((), board.failed_steps)])
        steps = HistogramMetricFamily("leadtime_step_seconds", "Time that a decision took.")
        total, buckets = 0, []
        for edge, count in zip(STEP_EDGES_S, board.step_counts, strict=True):
            total += count
            buckets.append(("+Inf" if edge == float("inf") else str(edge), float(total)))
        steps.add_metric([], buckets, board.step_sum_s)
        yield steps

    def _sources(self, signals: Signals) -> Iterator[Metric]:
        now_s = self._now_s()
        yield _gauge(
            "leadtime_source_up", "1 while a source answers.",
            [((source.name,), float(source.up)) for source in signals.sources], ("source",),
        )  # fmt: skip
        yield _gauge(
            "leadtime_source_age_seconds", "Age of what a source gave last.",
            [
                ((source.name,), max(0.0, now_s - source.as_of_s))
                for source in signals.sources if source.as_of_s is not None
            ], ("source",),
        )  # fmt: skip

    def _deployments(self, plan: Plan) -> Iterator[Metric]:
        yield self._replicas(plan)
        yield _gauge(
            "leadtime_replica_capacity_rps", "Requests per second that one replica carries within the SLO.",
            [(_labels(key), rps) for key, rps in plan.capacities_rps.items() if rps is not None], _DEPLOYMENT,
        )  # fmt: skip
        yield _gauge(
            "leadtime_slo_attainment_ratio", "Share of recent requests within the SLO.",
            [(_labels(o.key), o.attained_fraction) for o in plan.observations if o.attained_fraction is not None],
            _DEPLOYMENT,
        )  # fmt: skip
        yield _gauge(
            "leadtime_demand_replicas", "Replicas that the forecast demand needs, by quantile and horizon (seconds).",
            list(_demand(plan)), (*_DEPLOYMENT, "quantile", "horizon"),
        )  # fmt: skip
        yield _gauge(
            "leadtime_lead_time_seconds", "Time from asking for a replica until it runs, by the path it takes.",
            list(self._lead_times(plan)), (*_DEPLOYMENT, "pool", "stage", "quantile"),
        )  # fmt: skip

    def _replicas(self, plan: Plan) -> Metric:
        found: list[tuple[tuple[str, ...], float]] = []
        observations = {one.key: one for one in plan.observations}
        for one in plan.deployments:
            seen = observations.get(one.key)
            counts = {"target": one.observed_target, "planned": one.target}
            if seen is not None and seen.running is not None:
                counts |= {"running": seen.running, "starting": len(seen.starting), "draining": seen.draining}
            found += [((*_labels(one.key), state), float(n)) for state, n in counts.items() if n is not None]
        return _gauge("leadtime_replicas", "Replicas of a deployment.", found, (*_DEPLOYMENT, "state"))

    def _lead_times(self, plan: Plan) -> Iterator[tuple[tuple[str, ...], float]]:
        for key, times in plan.lead_times.items():
            settings = self._board.config.settings_for(key)
            if settings is None:
                continue
            pool = settings.node_pools[0] if settings.node_pools else ""
            for path in _PATHS:
                for level in _QUANTILES:
                    yield (*_labels(key), pool, path, str(level)), times.path(path).quantile(level)

    def _pools(self, signals: Signals) -> Iterator[Metric]:
        yield _gauge(
            "leadtime_warm_nodes", "Nodes of a pool, by what they do.",
            [
                ((pool.name, state), float(count))
                for pool in signals.pools for state, count in nodes_by_state(pool).items()
            ], ("pool", "state"),
        )  # fmt: skip


def _labels(key: DeploymentKey) -> tuple[str, str, str, str]:
    return key.namespace, key.service, key.app, key.deployment


def _demand(plan: Plan) -> Iterator[tuple[tuple[str, ...], float]]:
    for key, forecast in plan.forecasts.items():
        capacity_rps = plan.capacities_rps.get(key)
        if not capacity_rps:
            continue
        for horizon_s, row in zip(forecast.horizons_s, forecast.values_rps, strict=True):
            for level, rate_rps in zip(forecast.levels, row, strict=True):
                yield (*_labels(key), str(level), f"{horizon_s:g}"), rate_rps / capacity_rps


def _gauge(
    name: str, text: str, values: Iterable[tuple[tuple[str, ...], float]], labels: tuple[str, ...] = ()
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def _counter(
    name: str, text: str, values: Iterable[tuple[tuple[str, ...], float]], labels: tuple[str, ...] = ()
) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family
