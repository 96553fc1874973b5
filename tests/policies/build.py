"""Small builders for the tests of policies."""

from __future__ import annotations

from typing import Any

from policies.base import DeploymentKey, DeploymentView, FleetView, Forecast, LeadTimes, PoolView, ReplicaMetrics
from policies.base.durations import Duration

KEY = DeploymentKey.parse("chat/llm")
LEVELS = (0.5, 0.75, 0.9, 0.95, 0.99)


def view(**changes: Any) -> DeploymentView:
    """Four replicas that run, each carrying 2.5 req/s, under 8 req/s, on a bare Ray; one minute to a new one."""
    minute = Duration(60.0)
    known: dict[str, Any] = {
        "key": KEY,
        "rate_rps": 8.0,
        "waiting": 0.0,
        "ongoing": 40.0,
        "kv_usage_fraction": 0.4,
        "metrics_as_of_s": 995.0,
        "target": 4,
        "running": 4,
        "capacity_rps": 2.5,
        "max_ongoing_requests": 64,
        "lead_times": LeadTimes(minute, minute, minute),
        "next_path": "free_gpu",
        "min_replicas": 1,
        "max_replicas": 16,
    }
    return DeploymentView(**(known | changes))


def flat_forecast(rps: float, *, calibrated: bool = True, spread: float = 0.0, why: str = "a test") -> Forecast:
    """The same rate at every horizon; `spread` is added per level above the lowest."""
    row = tuple(rps + spread * i for i in range(len(LEVELS)))
    return Forecast("seasonal", 1000.0, (10.0, 1000.0), LEVELS, (row, row), calibrated, why)


def rising_forecast(now_rps: float, later_rps: float, later_s: float) -> Forecast:
    """Linear from now to `later_s`, the same at every level."""
    rows = tuple((rps,) * len(LEVELS) for rps in (now_rps, later_rps))
    return Forecast("seasonal", 1000.0, (0.001, later_s), LEVELS, rows, True)


def fleet(*views: DeploymentView, pools: tuple[PoolView, ...] = (), now_s: float = 1000.0) -> FleetView:
    return FleetView(now_s, 5.0, views or (view(),), pools)


def replicas_with(ongoing: list[float | None]) -> tuple[ReplicaMetrics, ...]:
    return tuple(ReplicaMetrics(f"r{i}", ongoing=value) for i, value in enumerate(ongoing))
