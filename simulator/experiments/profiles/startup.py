"""How long a replica's weights take to load, and its engine to start: by size, from 59 logs of vLLM 0.19 on H100.

Weights came from a network volume at 1.1 GiB/s a GPU (middle half of the logs: 1.0 to 1.25); the rest of a start
(processes, compiling, graphs) grows with the model. Not for nodes and images: those are the scenario's.
"""

from __future__ import annotations

from policies.base.durations import Duration
from simulator.experiments.profiles.engine import Engine
from simulator.experiments.profiles.memory import GIB, all_weight_bytes, weight_bytes

_GIB_PER_S = 1.1
_LOAD_SPREAD = 2.44
"""99th percentile over median of the loading times."""
_INIT = ((20.0, 43.0, 60.0), (62.0, 85.0, 115.0), (float("inf"), 95.0, 125.0))
"""Weights of the whole model up to so many GiB; median and 99th percentile in seconds."""


def startup(engine: Engine) -> tuple[Duration, Duration]:
    """(loading, engine start)."""
    load_s = weight_bytes(engine) / GIB / _GIB_PER_S
    total = all_weight_bytes(engine) / GIB
    median_s, p99_s = next((median, p99) for most, median, p99 in _INIT if total < most)
    return Duration.from_median_p99(load_s, _LOAD_SPREAD * load_s), Duration.from_median_p99(median_s, p99_s)
