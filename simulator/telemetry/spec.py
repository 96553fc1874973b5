"""Delay and completeness of the metrics that a policy reads: the measured paths, and an ideal one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TelemetrySpec:
    """`period_s` 0: everything is read as it is now. `handles`: Serve's own handle reports are shown too."""

    period_s: float
    delay_s: float
    drop_fraction: float = 0.0
    noise_fraction: float = 0.0
    gauges_linger_s: float = 20.0
    keep_dead_counters: bool = True
    handles: bool = False
    idle_gauges_s: float | None = None
    """Time (s) after its last step at which an engine's gauges leave the page (None: they stay, as on
    vLLM's own page).
    """
    read: bool = True
    """False: the metrics are not read, and nothing is reported."""


PROFILES: Mapping[str, TelemetrySpec] = {
    # Measured on Ray 2.60: a change shows after 4-8 s, at times after 13 s; gauges of dead replicas stay for 20 s, and
    # those of engines that make no step (decision 0008).
    "ray_serve": TelemetrySpec(period_s=10.0, delay_s=1.0, idle_gauges_s=20.0),
    "serve_handles": TelemetrySpec(period_s=10.0, delay_s=1.0, handles=True, idle_gauges_s=20.0),
    "prometheus_15s": TelemetrySpec(period_s=15.0, delay_s=0.0, gauges_linger_s=0.0, keep_dead_counters=False),
    "ideal": TelemetrySpec(period_s=0.0, delay_s=0.0, gauges_linger_s=0.0, keep_dead_counters=False),
}
