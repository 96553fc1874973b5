"""Requests that came: rates over the window, bins for the forecaster, and how much growth may be retries.

A retry cannot be told from a request: while requests fail, growth counts only as far as it could be real.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from struct import Struct

from autoscaler.memories import DemandMemory

_LONGEST_GAP_S = 35 * 86400.0
"""Nothing is learned of what nobody saw: of a longer gap (a machine that began in 1970) only the end has bins."""
_FAILING_SHARE = 0.05
"""From this share of failing requests on, growth may be retries."""
_CALM_HALF_LIFE_S = 60.0
_GROWTH_DOUBLES_S = 120.0
"""While requests fail demand may be twice the calm one at once, and twice as much again after each such time."""
_LEAST_CALM_RPS = 1.0
"""A deployment that had next to no traffic may have this much at least."""
_INTERVAL = Struct("<4d")
Bin = tuple[float, float | None]
"""End of a bin (seconds) and its mean rate (req/s), None when it was not seen."""


def without_retries(memory: DemandMemory, now_s: float, seconds: float, arrivals: float, errors: float) -> float:
    """Arrivals of an interval, of which growth is capped while requests fail.

    Every failed request may come back at once, so at least arrivals - errors are requests of their own. What is more
    than that counts up to a level that begins at twice the calm demand and grows with time, since users may be more.
    """
    _, demand_lately, errors_lately = _lately(memory)
    errors_lately += errors
    demand_lately += arrivals
    if errors_lately <= _FAILING_SHARE * demand_lately:
        memory.failing_since_s = None
        calm = arrivals / seconds if memory.calm_rps is None else memory.calm_rps
        memory.calm_rps = calm + (1.0 - 0.5 ** (seconds / _CALM_HALF_LIFE_S)) * (arrivals / seconds - calm)
        return arrivals
    if memory.calm_rps is None:
        return arrivals
    if memory.failing_since_s is None:
        memory.failing_since_s = now_s
    doublings = 1.0 + min((now_s - memory.failing_since_s) / _GROWTH_DOUBLES_S, 64.0)
    may_be = max(memory.calm_rps, _LEAST_CALM_RPS) * math.pow(2.0, doublings) * seconds
    return min(arrivals, max(may_be, arrivals - errors))


def close_bins(
    memory: DemandMemory, since_s: float, now_s: float, arrivals: float | None, bin_s: float
) -> Iterator[Bin]:
    """The bins that end in (since_s, now_s]; `arrivals` None = not seen."""
    rate_rps = None if arrivals is None else arrivals / (now_s - since_s)
    if rate_rps is None and now_s - since_s > _LONGEST_GAP_S:
        since_s, memory.bin_end_s = now_s - _LONGEST_GAP_S, None
        memory.bin_arrivals = memory.bin_covered_s = 0.0
    if memory.bin_end_s is None:
        memory.bin_end_s = (since_s // bin_s + 1) * bin_s
    at_s = since_s
    while at_s < now_s:
        upto_s = min(memory.bin_end_s, now_s)
        if rate_rps is not None:
            memory.bin_arrivals += rate_rps * (upto_s - at_s)
            memory.bin_covered_s += upto_s - at_s
        at_s = upto_s
        if at_s >= memory.bin_end_s:
            seen_s = memory.bin_covered_s
            yield memory.bin_end_s, (memory.bin_arrivals / seen_s if seen_s >= 0.5 * bin_s else None)
            memory.bin_end_s += bin_s
            memory.bin_arrivals = memory.bin_covered_s = 0.0


def rate_rps(memory: DemandMemory) -> float | None:
    """Mean arrivals per second over the rate window; None before two readings."""
    return rates_rps(memory)[0]


def error_rate_rps(memory: DemandMemory) -> float | None:
    """Failed requests per second over the rate window."""
    return rates_rps(memory)[1]


def rates_rps(memory: DemandMemory) -> tuple[float | None, float | None]:
    """Both of them."""
    seconds, arrivals, errors = _lately(memory)
    return (arrivals / seconds, errors / seconds) if seconds > 0 else (None, None)


def remember(memory: DemandMemory, end_s: float, lasted_s: float, came: float, failed: float, window_s: float) -> None:
    """The newest interval (seconds, requests that came and failed) enters the rate window; the too old leave it."""
    kept = _packed(memory)
    kept += _INTERVAL.pack(end_s, lasted_s, came, failed)
    while len(kept) > _INTERVAL.size and _INTERVAL.unpack_from(kept)[0] <= end_s - window_s:
        del kept[: _INTERVAL.size]
    memory.interval_sums = _sums(kept)


def forget(memory: DemandMemory) -> None:
    """Nothing is known of the time up to now."""
    _packed(memory).clear()
    memory.interval_sums = []
    memory.uncounted_rps = 0.0


def intervals(memory: DemandMemory) -> list[tuple[float, ...]]:
    """End, seconds, arrivals and errors of each interval of the rate window, oldest first."""
    return list(_INTERVAL.iter_unpack(_packed(memory)))


def _lately(memory: DemandMemory) -> list[float]:
    """Seconds, arrivals and errors of the rate window."""
    return memory.interval_sums or _sums(_packed(memory))


def _packed(memory: DemandMemory) -> bytearray:
    if memory.recent:
        memory.intervals = bytearray().join(_INTERVAL.pack(*interval) for interval in memory.recent)
        memory.recent = []
    return memory.intervals


def _sums(kept: bytearray) -> list[float]:
    """Always from the oldest on: a sum that is carried along drifts."""
    seconds = arrivals = errors = 0.0
    for _, lasted_s, came, failed in _INTERVAL.iter_unpack(kept):
        seconds += lasted_s
        arrivals += came
        errors += failed
    return [seconds, arrivals, errors]
