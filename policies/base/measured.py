"""What was measured of a deployment: its requests, its replicas, what its handles told Serve."""

from __future__ import annotations

from dataclasses import dataclass

from policies.base.record import record


@record(frozen=True, slots=True)
class TokenMix:
    """Mean tokens of a request: prompt, output, and the part of the prompt found in the prefix cache."""

    prompt_tokens: float
    output_tokens: float
    cached_prompt_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class ReplicaMetrics:
    """One replica's own gauges, as a pod metric would give them."""

    replica_id: str
    ongoing: float | None = None
    running: float | None = None
    waiting: float | None = None
    kv_usage_fraction: float | None = None


@dataclass(frozen=True, slots=True)
class HandleReport:
    """What one Serve handle pushed to Serve's own autoscaler: series of (time_s, value). Only that policy reads it."""

    handle: str
    queued: tuple[tuple[float, float], ...]
    running: tuple[tuple[str, tuple[tuple[float, float], ...]], ...]


@record(frozen=True, slots=True)
class Totals:
    """What was counted of a deployment since its metrics were first read: what happened between two moments is the
    difference of their totals. `ttft_s` sums the times to first token of `first_tokens` requests, `itl_s` those between
    tokens of `gaps` gaps (of requests, where the engine exports one mean for each).
    """

    arrivals: float = 0.0
    finished: float = 0.0
    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    cached_prompt_tokens: float = 0.0
    ttft_s: float = 0.0
    first_tokens: float = 0.0
    itl_s: float = 0.0
    gaps: float = 0.0
