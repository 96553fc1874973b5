"""Counters to rates: counters of metric pages become arrivals per second, closed bins, and sums of intervals.

`ingest` takes the pages of one reading; all other functions answer from memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from operator import add, attrgetter
from struct import Struct

from autoscaler.core.demand import witness
from autoscaler.core.demand.knowledge import (
    NO_REPORTS,
    Reports,
    Served,
    count_shares,
    judge_arrivals,
    judge_ended,
    judge_failures,
    note_known,
    serves_nobody,
    unseen_share,
)
from autoscaler.core.demand.slo import ingest_latencies
from autoscaler.core.demand.token_mix import ingest_mix
from autoscaler.core.demand.witness import Counts
from autoscaler.core.state import HANDLES, DemandMemory
from autoscaler.core.types import DeploymentMetrics
from policies.base import Slo, Totals

_LONGEST_GAP_S = 35 * 86400.0
"""Longest gap (s) that is filled with unseen bins. Of a longer one (a machine whose clock began in 1970) only the end
has bins.
"""
_FAILING_SHARE = 0.05
"""Share of failing requests above which growth may consist of retries."""
_CALM_HALF_LIFE_S = 60.0
_GROWTH_DOUBLES_S = 120.0
"""While requests fail, demand may at once be twice the calm one, and twice as much again after each such time (s)."""
_LEAST_CALM_RPS = 1.0
"""Calm demand (req/s) that is assumed at least for a deployment that had next to no traffic."""
_INTERVAL = Struct("<4d")
Bin = tuple[float, float | None]
"""End of a bin (seconds) and its mean rate (req/s), None when it was not seen."""


def without_retries(memory: DemandMemory, now_s: float, seconds: float, arrivals: float, errors: float) -> float:
    """Arrivals of an interval, of which growth is capped while requests fail.

    Every failed request may be retried at once, so at least arrivals - errors are original requests. What exceeds that
    counts up to a level that begins at twice the calm demand and grows with time, since more users may have come.
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
    """Bins that end in (since_s, now_s]; `arrivals` None = the interval was not observed."""
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
    """Arrivals and errors per second over the rate window."""
    seconds, arrivals, errors = _lately(memory)
    return (arrivals / seconds, errors / seconds) if seconds > 0 else (None, None)


def remember(
    memory: DemandMemory, end_s: float, lasted_s: float, came: float, failed: float, window_s: float, of_before: float
) -> None:
    """Add the newest interval (seconds, requests arrived and failed) to the rate window and drop the expired ones.

    `of_before`: arrivals that belong to the interval before this one. They are booked there; otherwise the rate would
    rise when that interval expires.
    """
    kept = _packed(memory)
    if of_before and len(kept) >= _INTERVAL.size:
        at_s, seconds, arrivals, errors = _INTERVAL.unpack_from(kept, len(kept) - _INTERVAL.size)
        _INTERVAL.pack_into(kept, len(kept) - _INTERVAL.size, at_s, seconds, arrivals + of_before, errors)
        came -= of_before
    kept += _INTERVAL.pack(end_s, lasted_s, came, failed)
    while len(kept) > _INTERVAL.size and _INTERVAL.unpack_from(kept)[0] <= end_s - window_s:
        del kept[: _INTERVAL.size]
    memory.interval_sums = _sums(kept)


def forget(memory: DemandMemory) -> None:
    """Mark the time up to now as unknown."""
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
    """Sum from the oldest interval on every time: a running sum would drift."""
    seconds = arrivals = errors = 0.0
    for _, lasted_s, came, failed in _INTERVAL.iter_unpack(kept):
        seconds += lasted_s
        arrivals += came
        errors += failed
    return [seconds, arrivals, errors]


_LONGEST_BRIDGE_S = 600.0
"""Longest hole in the metrics (s) that is bridged by its mean rate. A longer one stays unknown in the bins."""
_CLOCK_S = 60.0
"""A time this far (s) in the future was recorded with a wrong clock."""
MOST_RPS = 1e6
"""Rates above this (req/s) are a broken counter, not demand."""


def ingest(
    memory: DemandMemory,
    metrics: DeploymentMetrics,
    slo: Slo,
    window_s: float,
    bin_s: float,
    reports: Reports = NO_REPORTS,
) -> list[Bin]:
    """Take new metrics into memory; returns the bins that they close, oldest first. A page already seen changes
    nothing.
    """
    since_s = memory.as_of_s
    if since_s is not None and metrics.as_of_s < since_s - _CLOCK_S:
        _begin_anew(memory)  # saved by a clock that was ahead
        since_s = None
    if since_s is not None and metrics.as_of_s <= since_s:
        return []
    now_s = metrics.as_of_s
    # A page without counters means zero only if another signal says that the deployment is idle.
    none_is_zero = serves_nobody(metrics, reports)
    latencies = ingest_latencies(memory, metrics, slo, now_s, since_s, none_is_zero)
    # Before arrivals: the mix compares with the handles that counted on the last page.
    tokens = ingest_mix(memory, metrics, now_s, since_s, latencies[1], none_is_zero)
    failed = memory.errors.advance(metrics.errors_total, now_s, since_s, metrics.baseline)
    # An ingress whose backend turns requests away fails as well, and those requests were counted when they arrived.
    # Serve creates these series at the first failing request: beside counted arrivals, no series means no errors.
    rejected = memory.rejected.advance(
        metrics.rejected_total, now_s, since_s, metrics.baseline,
        none_is_zero=none_is_zero or bool(metrics.arrivals_total),
    )  # fmt: skip
    rejected = max(0.0, rejected - failed)
    by_handles = memory.witness.source == HANDLES
    late = count_shares(memory, metrics) if by_handles and (len(metrics.arrivals_total) > 1 or memory.shares) else 0.0
    counted = memory.arrivals.advance(
        metrics.arrivals_total, now_s, since_s, metrics.baseline, renamed_is_old=True, none_is_zero=none_is_zero
    )
    counted = max(0.0, counted - late)  # the rate is the current one, without arrivals that were only reported late
    counts = Counts(counted, tokens[0], latencies[1], failed)
    counted = witness.arrivals(memory, metrics, reports, counts, now_s)
    by_handles = memory.witness.source == HANDLES
    frozen_since_s = memory.moved_at_s if memory.frozen and by_handles else None
    memory.unseen_fraction = unseen_share(memory, metrics, reports, now_s) if by_handles else 0.0
    note_known(memory, metrics, now_s)
    served = Served(max(latencies[1], tokens[0]), tokens[1] + tokens[2], tokens[0])
    if by_handles:
        judge_arrivals(memory, metrics, reports, counted, served, now_s)
    else:
        judge_ended(memory, metrics, reports, counted, served, now_s)
    if frozen_since_s is not None and since_s is not None and frozen_since_s < since_s:
        counted *= (now_s - since_s) / (now_s - frozen_since_s)  # spread late arrivals over the gap
    arrivals, errors = rejected + counted, rejected + failed
    hole_s = 0.0 if since_s is None else now_s - since_s
    absurd = since_s is not None and arrivals > MOST_RPS * max(hole_s, 1.0)
    if absurd:
        arrivals = 0.0
    unseen = absurd or hole_s > _LONGEST_BRIDGE_S  # or the clock was set forward: unknown
    memory.totals = _grown(memory.totals, (arrivals, *tokens, *latencies))
    memory.as_of_s = now_s
    if since_s is None:
        return []
    seconds = now_s - since_s
    if failed > 0.0 or memory.failing:
        judge_failures(memory, arrivals, failed, seconds, now_s)
    if unseen or memory.unknown:
        forget(memory)
        return list(close_bins(memory, since_s, now_s, None, bin_s))
    if memory.unseen_fraction > 0.0:
        arrivals /= 1.0 - memory.unseen_fraction
    demand = without_retries(memory, now_s, seconds, arrivals, errors)
    memory.uncounted_rps = (arrivals - demand) / seconds
    of_before = demand * min(1.0, memory.arrivals.of_before / arrivals) if arrivals > 0.0 else 0.0
    remember(memory, now_s, seconds, demand, errors, window_s, of_before)
    return list(close_bins(memory, since_s, now_s, demand, bin_s))


def _begin_anew(memory: DemandMemory) -> None:
    """Forget times that lie in the future. Counters stay, since they only grow."""
    forget(memory)
    memory.as_of_s = memory.bin_end_s = memory.begun_at_s = memory.moved_at_s = memory.served_at_s = None
    memory.bin_arrivals = memory.bin_covered_s = 0.0
    memory.still.clear()
    memory.known_at_s.clear()


_TOTALS = attrgetter(*(f.name for f in fields(Totals)))


def _grown(totals: Totals, added: tuple[float, ...]) -> Totals:
    """In the order of the fields of Totals."""
    return Totals(*map(add, _TOTALS(totals), added))
