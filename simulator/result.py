"""The result of one run as others script against it: shortest round-trip numbers, null = unknown.

Definitions that matter: `slo_attainment_fraction` is of all requests, also the failed and unfinished ones; latencies
are of completed requests; up to 2,000,000 requests of a deployment percentiles are exact, beyond that off by at most
0.25 %; cold starts are judged to the second. Not for running anything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policies.base import DeploymentKey
from simulator.kernel.outcomes import ColdStarts, Outcomes
from simulator.kernel.samples import Samples

RESULT_VERSION = 1
_LEVELS = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class DeploymentFigures:
    """What was measured of one deployment. GPU-seconds are of the result's window."""

    key: DeploymentKey
    outcomes: Outcomes
    cold: ColdStarts
    starts: int
    scale_ups: int
    scale_downs: int
    allocated_gpu_s: float
    busy_gpu_s: float
    preemptions: int
    recomputed_tokens: int
    capacity_rps: float | None
    """What one replica carries within the SLO at the mix that was served; None = unknown."""
    gpus_per_replica: int

    @property
    def reaches_target(self) -> bool:
        """Whether enough of its requests got what was promised."""
        return reaches_target(self.outcomes.attainment_fraction, self.outcomes.slo.target_fraction)

    @property
    def demand_gpu_s(self) -> float | None:
        """Served demand in GPU-seconds at the SLO."""
        completed = self.outcomes.counts[0]
        if completed == 0:
            return 0.0
        return completed / self.capacity_rps * self.gpus_per_replica if self.capacity_rps else None


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """What was measured of one pool in the result's window; `cost_usd` None = no price is known."""

    name: str
    gpus_per_node: int
    billed_node_s: float
    cost_usd: float | None
    nodes_started: int
    nodes_prewarmed: int
    prewarm_wasted_node_s: float
    nodes_refused: int = 0
    """Requests for a node that the pool had no stock for."""
    nodes_preempted: int = 0
    """Ready nodes that were taken away."""


@dataclass(frozen=True, slots=True)
class Result:
    """One run."""

    scenario: str
    policy: str
    policy_options: Mapping[str, Any]
    clairvoyant: bool
    seed: int
    duration_s: float
    window_s: float
    deployments: tuple[DeploymentFigures, ...]
    pools: tuple[PoolFigures, ...]
    guards: Mapping[str, int]
    wall_s: float
    notes: tuple[str, ...] = ()
    reaches_target: bool = True

    @property
    def cost_usd(self) -> float | None:
        costs = [p.cost_usd for p in self.pools if p.billed_node_s > 0]
        return None if any(c is None for c in costs) else sum(c for c in costs if c is not None)

    @property
    def attainment_fraction(self) -> float | None:
        requests = sum(d.outcomes.requests for d in self.deployments)
        return sum(d.outcomes.within_slo for d in self.deployments) / requests if requests else None

    @property
    def billed_gpu_s(self) -> float:
        return sum(p.billed_node_s * p.gpus_per_node for p in self.pools)

    def document(self) -> dict[str, Any]:
        """The result's JSON as plain data, in the documented order."""
        requests = sum(d.outcomes.requests for d in self.deployments)
        simulated = {"simulated_s_per_wall_s": self.duration_s, "requests_per_wall_s": requests}
        wall = {name: _rounded(_ratio(value, self.wall_s)) for name, value in simulated.items()}
        return {
            "version": RESULT_VERSION,
            "scenario": self.scenario,
            "policy": self.policy,
            "policy_options": dict(self.policy_options),
            "clairvoyant": self.clairvoyant,
            "reaches_target": self.reaches_target,
            "seed": self.seed,
            "duration_s": self.duration_s,
            **_traffic(self.deployments, self.window_s),
            "gpu_hours": {
                "billed": self.billed_gpu_s / 3600,
                "allocated": sum(d.allocated_gpu_s for d in self.deployments) / 3600,
                "busy": sum(d.busy_gpu_s for d in self.deployments) / 3600,
            },
            "node_hours": sum(p.billed_node_s for p in self.pools) / 3600,
            "cost_usd": self.cost_usd,
            "cost_usd_per_million_tokens": self._cost_per_million_tokens(),
            "gpu_utilization_fraction": _ratio(sum(d.busy_gpu_s for d in self.deployments), self.billed_gpu_s),
            "capacity_utilization_fraction": self._capacity_utilization(),
            **_scaling(self.deployments),
            "nodes_started": sum(p.nodes_started for p in self.pools),
            "nodes_prewarmed": sum(p.nodes_prewarmed for p in self.pools),
            "prewarm_wasted_node_s": sum(p.prewarm_wasted_node_s for p in self.pools),
            "nodes_refused": sum(p.nodes_refused for p in self.pools),
            "nodes_preempted": sum(p.nodes_preempted for p in self.pools),
            **_engines(self.deployments),
            "dropped_by_guard": dict(sorted(self.guards.items())),
            "notes": list(self.notes),
            "wall": {"wall_s": _rounded(self.wall_s), **wall},
            "deployments": {str(d.key): _deployment(d, self.window_s) for d in self.deployments},
        }

    def _cost_per_million_tokens(self) -> float | None:
        tokens = sum(d.outcomes.prompt_tokens + d.outcomes.output_tokens for d in self.deployments)
        return None if self.cost_usd is None else _ratio(self.cost_usd * 1e6, tokens)

    def _capacity_utilization(self) -> float | None:
        demands = [d.demand_gpu_s for d in self.deployments]
        if any(d is None for d in demands):
            return None
        return _ratio(sum(d for d in demands if d is not None), self.billed_gpu_s)


def reaches_target(attained: float | None, target: float) -> bool:
    """Whether a share of requests is enough; no requests, no misses."""
    return attained is None or attained >= target


def to_json(document: Mapping[str, Any], indent: int | None = None) -> str:
    """JSON without NaN: what is not a finite number is null."""
    return json.dumps(_clean(document), indent=indent, allow_nan=False, ensure_ascii=False)


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _traffic(deployments: Sequence[DeploymentFigures], window_s: float) -> dict[str, Any]:
    parts = [d.outcomes for d in deployments]
    counts = [sum(o.counts[i] for o in parts) for i in range(4)]
    requests = sum(counts)
    prompt, output = sum(o.prompt_tokens for o in parts), sum(o.output_tokens for o in parts)
    worst = [w for w in (o.worst_hour_fraction for o in parts) if w is not None]
    return {
        "requests": requests,
        "completed": counts[0],
        "failed": counts[1],
        "timed_out": counts[2],
        "unfinished": counts[3],
        "prompt_tokens": prompt,
        "output_tokens": output,
        **{name: _spread([getattr(o, name) for o in parts]) for name in ("ttft_s", "itl_s", "e2e_s", "queue_s")},
        "slo_attainment_fraction": _ratio(sum(o.within_slo for o in parts), requests),
        "worst_hour_attainment_fraction": min(worst) if worst else None,
        "throughput_rps": counts[0] / window_s,
        "throughput_tokens_per_s": (prompt + output) / window_s,
    }


def _spread(parts: Sequence[Samples]) -> dict[str, float | None]:
    if len(parts) == 1:
        samples = parts[0]
    else:
        samples = Samples()
        for part in parts:
            samples.merge(part)
    p50, p90, p95, p99 = samples.quantiles(_LEVELS)
    return {"mean": samples.mean, "p50": p50, "p90": p90, "p95": p95, "p99": p99, "max": samples.max}


def _scaling(deployments: Sequence[DeploymentFigures]) -> dict[str, Any]:
    requests = sum(d.outcomes.requests for d in deployments)
    return {
        "replica_starts": sum(d.starts for d in deployments),
        "cold_starts_hidden": sum(d.cold.hidden for d in deployments),
        "cold_starts_exposed": sum(d.cold.exposed for d in deployments),
        "cold_starts_cancelled": sum(d.cold.cancelled for d in deployments),
        "cold_start_miss_fraction": _ratio(sum(d.cold.missed_requests for d in deployments), requests),
        "cold_start_wait_s": sum(d.cold.waited_s for d in deployments),
    }


def _engines(deployments: Sequence[DeploymentFigures]) -> dict[str, Any]:
    return {
        "scale_ups": sum(d.scale_ups for d in deployments),
        "scale_downs": sum(d.scale_downs for d in deployments),
        "preemptions": sum(d.preemptions for d in deployments),
        "recomputed_tokens": sum(d.recomputed_tokens for d in deployments),
    }


def _deployment(d: DeploymentFigures, window_s: float) -> dict[str, Any]:
    hours = {"allocated": d.allocated_gpu_s / 3600, "busy": d.busy_gpu_s / 3600}
    return {
        "target_fraction": d.outcomes.slo.target_fraction,
        "reaches_target": d.reaches_target,
        **_traffic([d], window_s),
        "gpu_hours": hours,
        **_scaling([d]),
        **_engines([d]),
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
