"""The controller's view of the signals: rates instead of counters, freshness as a value, starts that ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from policies.base import DeploymentKey, LeadPath, StartView, TokenMix
from policies.base.record import record


@record(frozen=True, slots=True)
class QuantityStatus:
    """State of one quantity: a new value (`fresh`), zero confirmed by an independent signal (`idle`), or too little to
    act on (`unknown`, with the reason).
    """

    state: Literal["fresh", "idle", "unknown"] = "fresh"
    why: str = ""


FRESH, IDLE = QuantityStatus(), QuantityStatus("idle")


@record(frozen=True, slots=True)
class Knowledge:
    """State of each quantity of a deployment."""

    arrivals: QuantityStatus = FRESH
    in_flight: QuantityStatus = FRESH
    waiting: QuantityStatus = FRESH
    kv_usage: QuantityStatus = FRESH
    tokens: QuantityStatus = FRESH
    replicas: QuantityStatus = FRESH

    def unknown(self) -> str:
        """Why no replica may be removed; empty if every quantity is known."""
        for one in (self.replicas, self.arrivals, self.in_flight, self.waiting, self.tokens, self.kv_usage):
            if one.state == "unknown":
                return one.why
        return ""


ALL_FRESH = Knowledge()


@record(frozen=True, slots=True)
class ArrivalsSource:
    """Whose count of arrivals is in force, and what the witness (engines, else replicas) counted in the last minute."""

    source: Literal["handles", "front", "replicas", "engines"] = "handles"
    counted_rps: float | None = None
    witnessed_rps: float | None = None
    disagrees: str = ""
    """How they differ, where they have for long and no other source agrees; empty: they do not."""


BY_HANDLES = ArrivalsSource()


@record(frozen=True, slots=True)
class Judged:
    """Requests of one interval compared with the SLO (counts between histogram buckets are estimates)."""

    requests: float
    missed: float
    missed_ttft: float


@dataclass(frozen=True, slots=True)
class EndedStart:
    """A start that ended: the replica runs, was withdrawn, or died."""

    key: DeploymentKey
    asked_at_s: float
    ended_at_s: float
    path: LeadPath
    runs: bool
    watched: bool = True
    """Observations were close enough together to tell when and how it began and ended."""


@record(frozen=True, slots=True)
class Supply:
    """Replica counts of the inventory; None = unknown."""

    running: int | None = None
    draining: int | None = None
    target: int | None = None
    starting: tuple[StartView, ...] = ()


NO_SUPPLY = Supply()


@record(frozen=True, slots=True)
class Observation:
    """What `demand` made of a deployment's signals: rates instead of counters, freshness as a value."""

    key: DeploymentKey
    rate_rps: float | None = None
    """Demand: arrivals, those turned away included, without those taken for retries."""
    mix: TokenMix | None = None
    waiting: float | None = None
    ongoing: float | None = None
    kv_usage_fraction: float | None = None
    error_rate_rps: float | None = None
    uncounted_rps: float = 0.0
    """Arrivals of the newest interval that were taken for retries while requests failed."""
    completeness_fraction: float | None = None
    """Share of the running replicas whose own metrics are not missing (one that never reported misses nothing)."""
    attained_fraction: float | None = None
    """Share of requests in the window whose TTFT and mean ITL met the SLO, from the histograms."""
    judged: Judged | None = None
    """Requests that the newest metrics (`metrics_as_of_s`) added; None when they added none."""
    ttft_p99_s: float | None = None
    inventory_as_of_s: float | None = None
    metrics_as_of_s: float | None = None
    fresh: bool = False
    """Every quantity is fresh, or idle by witness: less may be asked for."""
    why_stale: str = ""
    knowledge: Knowledge = ALL_FRESH
    unseen_fraction: float = 0.0
    """Share of the arrivals that is estimated because their counters cannot be read; part of `rate_rps`."""
    arrivals: ArrivalsSource = BY_HANDLES
    failing: str = ""
    """Why users may stay away (recent failures, Serve reports the service unhealthy); empty: it is well."""
    running: int | None = None
    draining: int | None = None
    target: int | None = None
    starting: tuple[StartView, ...] = ()
