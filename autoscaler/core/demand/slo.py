"""Share of recent requests within the SLO, from histograms of the time to first token and of the time
between tokens.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Mapping
from functools import lru_cache
from struct import Struct

from autoscaler.core.state import CounterMemory, DemandMemory
from autoscaler.core.types import DeploymentMetrics, Histogram, Judged
from policies.base import Slo

ATTAINMENT_WINDOW_S = 600.0
_EXACT = 2.0**30
_ROW = Struct("<5d")
_NOTHING: frozenset[str] = frozenset()


def ingest_latencies(
    memory: DemandMemory,
    metrics: DeploymentMetrics,
    slo: Slo,
    now_s: float,
    since_s: float | None,
    none_is_zero: bool,
) -> tuple[float, float, float, float]:
    """Growth of the latency sums: seconds to first token and their number, seconds between tokens and their number.

    `none_is_zero`: as in `CounterMemory.advance`.
    """
    at = (now_s, since_s, metrics.baseline, none_is_zero)
    ttft_good, ttft_all = _within(memory.ttft, metrics.ttft, slo.ttft_s, *at)
    itl_good, itl_all = _within(memory.itl, metrics.itl, slo.itl_s, *at)
    _remember_attained(memory, now_s, (ttft_good, ttft_all, itl_good, itl_all))
    ttft_s = memory.ttft_sum.advance(metrics.ttft_sum_s, now_s, since_s, metrics.baseline, none_is_zero=none_is_zero)
    itl_s = memory.itl_sum.advance(metrics.itl_sum_s, now_s, since_s, metrics.baseline, none_is_zero=none_is_zero)
    return ttft_s, ttft_all, itl_s, itl_all


def _remember_attained(memory: DemandMemory, now_s: float, counts: tuple[float, float, float, float]) -> None:
    """Add the newest interval to the attainment window and its sums, and drop what has expired.

    Shares of a bucket are rounded to a billionth of a request: sums of such numbers are exact in any order.
    """
    rows = _rows(memory)
    if not memory.attained_sums:
        memory.attained_sums = _attained_sums(rows)
    sums = memory.attained_sums
    if counts[1] > 0 or counts[3] > 0:
        ttft_good, ttft_all, itl_good, itl_all = map(_exact, counts)
        rows += _ROW.pack(now_s, ttft_good, ttft_all, itl_good, itl_all)
        sums[0] += ttft_good
        sums[1] += ttft_all
        sums[2] += itl_good
        sums[3] += itl_all
    while rows and (row := _ROW.unpack_from(rows))[0] <= now_s - ATTAINMENT_WINDOW_S:
        _, ttft_good, ttft_all, itl_good, itl_all = row
        sums[0] -= ttft_good
        sums[1] -= ttft_all
        sums[2] -= itl_good
        sums[3] -= itl_all
        del rows[: _ROW.size]
    if not rows:
        sums[:] = (0.0, 0.0, 0.0, 0.0)


def _rows(memory: DemandMemory) -> bytearray:
    if memory.attained:
        memory.attained_rows = bytearray().join(_ROW.pack(*row) for row in memory.attained)
        memory.attained = []
    return memory.attained_rows


def _exact(count: float) -> float:
    return count if count.is_integer() else round(count * _EXACT) / _EXACT


def _attained_sums(rows: bytearray) -> list[float]:
    return [sum((row[i] for row in _ROW.iter_unpack(rows)), 0.0) for i in range(1, 5)]


def _within(
    memory: CounterMemory,
    histograms: Mapping[str, Histogram],
    limit_s: float | None,
    now_s: float,
    since_s: float | None,
    baseline: Collection[str],
    none_is_zero: bool,
) -> tuple[float, float]:
    """How many new observations were within the limit, and how many there were (linear inside a bucket)."""
    good: dict[str, float] = {}
    total: dict[str, float] = {}
    for series, histogram in histograms.items():
        within, every = _marked(series)
        count = histogram.counts[-1]
        good[within] = share_below(histogram, limit_s) * count
        total[every] = count
    started = memory.started
    marked = frozenset(f"{series}{mark}" for series in baseline for mark in "<=") if baseline else _NOTHING
    new_total = memory.advance(total, now_s, since_s, marked, none_is_zero=none_is_zero)
    memory.started = started
    new_good = memory.advance(good, now_s, since_s, marked, none_is_zero=none_is_zero)
    return min(new_good, new_total), new_total


@lru_cache(maxsize=16384)
def _marked(series: str) -> tuple[str, str]:
    """Names under which a histogram's counts are stored: within the limit, and all."""
    return f"{series}<", f"{series}="


def share_below(histogram: Histogram, limit_s: float | None) -> float:
    """Share of observations <= limit (1.0 without a limit or without observations), linear inside a bucket."""
    edges, counts = histogram.edges, histogram.counts
    total = counts[-1]
    if limit_s is None or total <= 0:
        return 1.0
    i = bisect_left(edges, limit_s)
    low_edge, low_count = (edges[i - 1], counts[i - 1]) if i else (0.0, 0.0)
    if i == len(edges) or edges[i] in (low_edge, math.inf):
        return low_count / total
    edge, count = edges[i], counts[i]
    return (low_count + (count - low_count) * (limit_s - low_edge) / (edge - low_edge)) / total


def attained_fraction(memory: DemandMemory) -> float | None:
    """Share of the last 10 minutes' requests within the SLO: the worse of TTFT and ITL; None without requests."""
    rows = _rows(memory)
    if not rows:
        return None
    ttft_good, ttft_all, itl_good, itl_all = memory.attained_sums or _attained_sums(rows)
    ttft_share = ttft_good / ttft_all if ttft_all > 0 else None
    itl_share = itl_good / itl_all if itl_all > 0 else ttft_share
    return itl_share if ttft_share is None or itl_share is None else min(ttft_share, itl_share)


def judged(memory: DemandMemory) -> Judged | None:
    """Requests that the newest metrics added to `attained_fraction`; None if they added none.

    Requests are counted by their first tokens, since some engines count every token between. The share that missed is
    the worse of TTFT and ITL, as in `attained_fraction`.
    """
    rows = _rows(memory)
    if not rows:
        return None
    end_s, ttft_good, ttft_all, itl_good, itl_all = _ROW.unpack_from(rows, len(rows) - _ROW.size)
    if end_s != memory.as_of_s or ttft_all <= 0:
        return None
    missed_ttft = ttft_all - ttft_good
    missed_itl_share = 1.0 - itl_good / itl_all if itl_all > 0 else 0.0
    return Judged(ttft_all, max(missed_ttft, ttft_all * missed_itl_share), missed_ttft)
