"""The metric families that have deployments for labels, from the last plan and the sums since the start.

Part of the exporter (metrics.py). What is unknown has no sample; a deployment that is gone has none either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from autoscaler.api.slo_accounting import START_OUTCOMES
from autoscaler.api.telemetry import Telemetry
from autoscaler.core.conditions import KINDS
from autoscaler.core.types import Condition, Observation, Plan
from policies.base import DeploymentKey, LeadPath

_DEPLOYMENT = ("namespace", "service", "app", "deployment")
_PATHS: tuple[LeadPath, ...] = ("free_gpu", "warm_node", "new_node")
_QUANTILES = (0.5, 0.9, 0.99)

Row = tuple[tuple[str, ...], float]

_SEEN: tuple[tuple[str, str, Callable[[Observation], float | None]], ...] = (
    ("leadtime_demand_rps", "Requests per second that arrive.", lambda o: o.rate_rps),
    ("leadtime_waiting_requests", "Requests that wait for a replica or inside an engine.", lambda o: o.waiting),
    ("leadtime_ongoing_requests", "Requests sent to a replica and not finished.", lambda o: o.ongoing),
    ("leadtime_kv_cache_usage_ratio", "KV cache in use on the fullest replica.", lambda o: o.kv_usage_fraction),
    ("leadtime_error_rps", "Requests per second that fail.", lambda o: o.error_rate_rps),
    ("leadtime_slo_attainment_ratio", "Share of recent requests within the SLO.", lambda o: o.attained_fraction),
    (
        "leadtime_arrivals_disagreement_ratio",
        "By what share the count of arrivals differed from the engines' in the last minute.",
        lambda o: _apart(o),
    ),
    ("leadtime_uncounted_rps", "Arrivals taken for retries while requests fail.", lambda o: o.uncounted_rps),
    ("leadtime_signals_complete_ratio", "Running replicas that still report.", lambda o: o.completeness_fraction),
    ("leadtime_signals_fresh", "1 while what is known is young enough to scale down on.", lambda o: float(o.fresh)),
)


def deployment_families(telemetry: Telemetry, plan: Plan) -> Iterator[Metric]:
    """Every family, also those without a sample."""
    for name, text, value in _SEEN:
        rows = [(of(o.key), number) for o in plan.observations if (number := value(o)) is not None]
        yield gauge(name, text, rows, _DEPLOYMENT)
    yield gauge(
        "leadtime_arrivals_source", "1 for the source whose count of arrivals is in force.",
        [((*of(o.key), o.arrivals.source), 1.0) for o in plan.observations], (*_DEPLOYMENT, "source"),
    )  # fmt: skip
    yield _replicas(plan)
    yield from _limits(telemetry, plan)
    yield from _forecasts(plan)
    yield gauge(
        "leadtime_lead_time_seconds", "Time from asking for a replica until it runs, by the path it takes.",
        _lead_times(telemetry, plan), (*_DEPLOYMENT, "pool", "stage", "quantile"),
    )  # fmt: skip
    yield from _sums(telemetry, plan)
    yield gauge(
        "leadtime_stands_in", "1 while a standby looks after it, since its controller does not.",
        _stands_in(telemetry, plan), _DEPLOYMENT,
    )  # fmt: skip
    yield gauge(
        "leadtime_condition", "1 for everything that is wrong and lasts; without a deployment it is of the controller.",
        [((one.name, KINDS[one.name].severity, *_whose(one)), 1.0) for one in telemetry.conditions],
        ("condition", "severity", *_DEPLOYMENT),
    )  # fmt: skip


def _stands_in(telemetry: Telemetry, plan: Plan) -> list[Row]:
    """Only a standby has these samples. A deployment that is paused or unknown is not among them."""
    if telemetry.stands_in_for is None:
        return []
    looked_after = telemetry.stands_in_for()
    return [(of(one.key), float(one.key in looked_after and one.target is not None)) for one in plan.deployments]


def _apart(one: Observation) -> float | None:
    """By what share the count in force differs from the witness's; None: nothing to compare."""
    counted, witnessed = one.arrivals.counted_rps, one.arrivals.witnessed_rps
    if counted is None or not witnessed or witnessed <= 0.0:
        return None
    return abs(counted - witnessed) / witnessed


def _whose(one: Condition) -> tuple[str, str, str, str]:
    return ("", "", "", "") if one.deployment is None else of(one.deployment)


def _replicas(plan: Plan) -> Metric:
    rows: list[Row] = []
    observations = {one.key: one for one in plan.observations}
    for one in plan.deployments:
        seen = observations.get(one.key)
        counts = {"target": one.observed_target, "planned": one.target, "proposed": one.proposed}
        if seen is not None and seen.running is not None:
            counts |= {"running": seen.running, "starting": len(seen.starting), "draining": seen.draining}
        rows += [((*of(one.key), state), float(n)) for state, n in counts.items() if n is not None]
    return gauge("leadtime_replicas", "Replicas of a deployment.", rows, (*_DEPLOYMENT, "state"))


def _limits(telemetry: Telemetry, plan: Plan) -> Iterator[Metric]:
    limits: list[Row] = []
    targets: list[Row] = []
    for one in plan.deployments:
        settings = telemetry.settings_for(one.key)
        if settings is not None:
            limits += [((*of(one.key), "min"), float(settings.min_replicas))]
            limits += [((*of(one.key), "max"), float(settings.max_replicas))]
            targets += [(of(one.key), settings.slo.target_fraction)]
    yield gauge("leadtime_replica_limit", "Fewest and most replicas by the settings.", limits, (*_DEPLOYMENT, "bound"))
    yield gauge("leadtime_slo_target_ratio", "Share of requests that must be within the SLO.", targets, _DEPLOYMENT)
    blocked = [(of(one.key), float(one.blocked is not None)) for one in plan.deployments]
    yield gauge("leadtime_blocked", "1 while something keeps the plan from being applied.", blocked, _DEPLOYMENT)


def _forecasts(plan: Plan) -> Iterator[Metric]:
    labels = (*_DEPLOYMENT, "quantile", "horizon")
    capacities = {key: rps for key, rps in plan.capacities_rps.items() if rps}
    yield gauge(
        "leadtime_replica_capacity_rps", "Requests per second that one replica carries within the SLO.",
        [(of(key), rps) for key, rps in plan.capacities_rps.items() if rps is not None], _DEPLOYMENT,
    )  # fmt: skip
    rates = list(_quantiles(plan))
    yield gauge(
        "leadtime_forecast_rps", "Quantiles of the largest rate within a horizon (seconds).",
        [((*of(key), *which), rate) for key, which, rate in rates], labels,
    )  # fmt: skip
    yield gauge(
        "leadtime_demand_replicas", "Replicas that the forecast demand needs, by quantile and horizon (seconds).",
        [((*of(key), *which), rate / capacities[key]) for key, which, rate in rates if key in capacities], labels,
    )  # fmt: skip
    yield gauge(
        "leadtime_forecast_calibrated", "0 while the forecast is not to be relied on: too short a history, or off.",
        [(of(key), float(forecast.calibrated)) for key, forecast in plan.forecasts.items()], _DEPLOYMENT,
    )  # fmt: skip
    yield gauge(
        "leadtime_forecast_coverage_ratio", "Share of recent windows whose demand stayed under the quantile.",
        [((*of(key), str(level)), share) for key, record in plan.coverages.items() for level, share in record],
        (*_DEPLOYMENT, "quantile"),
    )  # fmt: skip


def _quantiles(plan: Plan) -> Iterator[tuple[DeploymentKey, tuple[str, str], float]]:
    for key, forecast in plan.forecasts.items():
        for horizon_s, row in zip(forecast.horizons_s, forecast.values_rps, strict=bool(forecast.values_rps)):
            if horizon_s in forecast.edges_s:
                continue  # these move from tick to tick: each would be a series of its own
            for level, rate_rps in zip(forecast.levels, row, strict=True):
                yield key, (str(level), f"{horizon_s:g}"), rate_rps


def _lead_times(telemetry: Telemetry, plan: Plan) -> Iterator[Row]:
    for key, times in plan.lead_times.items():
        settings = telemetry.settings_for(key)
        if settings is None:
            continue
        pool = settings.node_pools[0] if settings.node_pools else ""
        for path in _PATHS:
            for level in _QUANTILES:
                yield (*of(key), pool, path, str(level)), times.path(path).quantile(level)


def _sums(telemetry: Telemetry, plan: Plan) -> Iterator[Metric]:
    score, keys = telemetry.score, [one.key for one in plan.deployments]
    yield counter(
        "leadtime_slo_requests", "Requests that were held against the SLO.",
        [(of(key), score.requests.get(key, 0.0)) for key in keys], _DEPLOYMENT,
    )  # fmt: skip
    yield counter(
        "leadtime_slo_misses", "Requests that missed the SLO.",
        [(of(key), score.missed.get(key, 0.0)) for key in keys], _DEPLOYMENT,
    )  # fmt: skip
    yield counter(
        "leadtime_cold_starts", "Starts of replicas: exposed when a request missed its TTFT meanwhile, else hidden.",
        [((*of(key), outcome), float(score.starts[key, outcome])) for key in keys for outcome in START_OUTCOMES],
        (*_DEPLOYMENT, "outcome"),
    )  # fmt: skip


# ---------------------------------------------------------------- families


def of(key: DeploymentKey) -> tuple[str, str, str, str]:
    """The label values of a deployment."""
    return key.namespace, key.service, key.app, key.deployment


def gauge(name: str, text: str, rows: Iterable[Row], labels: tuple[str, ...] = ()) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def counter(name: str, text: str, rows: Iterable[Row], labels: tuple[str, ...] = ()) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family
