"""Small made-up services for the acceptance lines, as scenario documents. Anybody can make them: no trace is needed.

One engine throughout (a 32B model, two GPUs a replica, a node each, about 2.8 requests a second within the SLO), one
kind of node, a tick of ten seconds, telemetry as on Ray; what a line is about is what differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

HOUR_S = 3600.0
DAY_S = 86400.0
TICK_S = 10.0
GPUS = 2
GPU = "nvidia-h100-80gb"
TARGET_FRACTION = 0.99
_PRICE_USD_PER_HOUR = 22.0
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Start:
    """How long a replica takes to come, on a node that is not there yet: the median, by stages; p99 1.5 times that."""

    median_s: float

    def _stage(self, share: float) -> Any:
        median_s = share * self.median_s
        return {"median": median_s, "p99": 1.5 * median_s} if median_s > 0 else 0.0

    @property
    def of_the_replica(self) -> Document:
        return {"load_s": self._stage(0.25), "init_s": self._stage(0.15)}

    @property
    def of_the_node(self) -> Document:
        return {
            "provision_s": self._stage(0.5),
            "image_pull_s": 0.0,
            "worker": {"start_s": self._stage(0.1)},
        }


@dataclass(frozen=True, slots=True)
class Service:
    """One deployment. `start_s`: where in its traffic the scenario begins; what lies before is its history."""

    name: str
    base_rps: float
    start: Start
    most: int
    initial: int
    start_s: float = 0.0
    shape: Mapping[str, Any] = field(default_factory=dict)
    pool: str = "h100"
    rights: Mapping[str, Any] = field(default_factory=dict)
    """Guarantee, priority, weight."""
    request_timeout_s: float = 900.0

    def document(self, duration_s: float) -> Document:
        history = {"history": {"workload": True}} if self.start_s > 0 else {}
        return {
            "name": self.name,
            "profile": "qwen3-32b/h100/tp2",
            "node_pool": self.pool,
            "replicas": {"min": 1, "max": self.most, "initial": self.initial},
            "slo": {"ttft_s": 5.0, "itl_s": 0.06, "target_fraction": TARGET_FRACTION},
            **self.rights,
            "max_ongoing_requests": 256,
            "request_timeout_s": self.request_timeout_s,
            "graceful_shutdown_timeout_s": 300,
            "startup": self.start.of_the_replica,
            "workload": {
                "start_s": self.start_s,
                "synthetic": {
                    "bin_s": 30,
                    "duration_s": self.start_s + duration_s,
                    "base_rps": self.base_rps,
                    **self.shape,
                    "prompt_tokens": {"median": 1500, "p99": 8000},
                    "output_tokens": {"median": 600, "p99": 2400},
                },
            },
            **history,
        }


def world(
    name: str,
    hours: float,
    services: Sequence[Service],
    seed: int,
    pools: Mapping[str, Mapping[str, Any]] | None = None,
    **more: Any,
) -> Document:
    """A whole scenario. `pools`: what is special about a pool, by name; `more`: other keys of the file."""
    duration_s = hours * HOUR_S
    nodes: dict[str, Document] = {}
    for service in services:
        pool = nodes.setdefault(
            service.pool,
            {
                "name": service.pool,
                "gpus_per_node": GPUS,
                "nodes": {"min": 0, "max": 0},
                **service.start.of_the_node,
                "price_usd_per_hour": _PRICE_USD_PER_HOUR,
                "scale_down_after_s": 300,
                **(pools or {}).get(service.pool, {}),
            },
        )
        pool["nodes"]["max"] += service.most
    return {
        "version": 1,
        "name": name,
        "duration_s": duration_s,
        "seed": seed,
        "tick_s": TICK_S,
        **more,
        "deployments": [service.document(duration_s) for service in services],
        "node_pools": list(nodes.values()),
    }
