"""What users ask for: counters become rates, a token mix and bins for the forecaster; freshness is part of the value.

Demand is exogenous: requests are counted where they queue, whatever our own scaling lets through, and where they are
turned away. A retry cannot be told from a request: while requests fail, growth counts only as far as it could be real.
Pure; time is an argument. Capacity and decisions live elsewhere.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from operator import add, attrgetter

from autoscaler.controller_state import CounterMemory, DemandMemory
from autoscaler.idle_engines import engine_gauges
from autoscaler.model import (
    NO_SUPPLY,
    DeploymentMetrics,
    DeploymentSignals,
    GuardSettings,
    Histogram,
    Judged,
    Observation,
    Supply,
)
from policies.base import Slo, TokenMix, Totals

_MIX_HALF_LIFE_S = 600.0
_MIX_MIN_REQUESTS = 10.0
_SEEDED_REQUESTS = 50.0
"""What the past counts for against the first requests that are seen."""
ATTAINMENT_WINDOW_S = 600.0
_LONGEST_BRIDGE_S = 600.0
"""A hole in the metrics up to this long is bridged by its mean rate; a longer one stays unknown in the bins."""

MOST_RPS = 1e6
"""More than that is no demand but a broken counter."""

_FAILING_SHARE = 0.05
"""From this share of failing requests on, growth may be retries."""
_CALM_HALF_LIFE_S = 60.0
_GROWTH_DOUBLES_S = 120.0
"""While requests fail demand may be twice the calm one at once, and twice as much again after each such time."""
_LEAST_CALM_RPS = 1.0
"""A deployment that had next to no traffic may have this much at least."""
_VANISHED_S = 300.0
"""A running replica whose own metrics vanished is missing for so long; then it counts as one that does not report."""

Bin = tuple[float, float | None]
"""End of a bin (seconds) and its mean rate (req/s), None when it was not seen."""


def take_in(memory: DemandMemory, metrics: DeploymentMetrics, slo: Slo, window_s: float, bin_s: float) -> list[Bin]:
    """Take new metrics into memory; the bins that they close, oldest first. A page already seen changes nothing."""
    since_s = memory.as_of_s
    if since_s is not None and metrics.as_of_s <= since_s:
        return []
    now_s = metrics.as_of_s
    failed = memory.errors.advance(metrics.errors_total, now_s, since_s, metrics.baseline)
    # An ingress whose backend turns requests away fails as well, and those requests were counted when they came.
    rejected = max(0.0, memory.rejected.advance(metrics.rejected_total, now_s, since_s, metrics.baseline) - failed)
    arrivals = rejected + memory.arrivals.advance(metrics.arrivals_total, now_s, since_s, metrics.baseline)
    errors = rejected + failed
    hole_s = 0.0 if since_s is None else now_s - since_s
    absurd = since_s is not None and arrivals > MOST_RPS * max(hole_s, 1.0)
    if absurd:
        arrivals = 0.0
    unseen = absurd or hole_s > _LONGEST_BRIDGE_S  # or the clock was set forward: nothing is known of this interval
    tokens = _take_in_mix(memory, metrics, now_s, since_s)
    latencies = _take_in_latencies(memory, metrics, slo, now_s, since_s)
    memory.totals = _grown(memory.totals, (arrivals, *tokens, *latencies))
    memory.as_of_s = now_s
    if since_s is None:
        return []
    seconds = now_s - since_s
    if unseen:
        memory.recent.clear()
        memory.uncounted_rps = 0.0
        return list(_close_bins(memory, since_s, now_s, None, bin_s))
    demand = _without_retries(memory, now_s, seconds, arrivals, errors)
    memory.uncounted_rps = (arrivals - demand) / seconds
    memory.recent.append([now_s, seconds, demand, errors])
    while len(memory.recent) > 1 and memory.recent[0][0] <= now_s - window_s:
        memory.recent.pop(0)
    return list(_close_bins(memory, since_s, now_s, demand, bin_s))


def _without_retries(memory: DemandMemory, now_s: float, seconds: float, arrivals: float, errors: float) -> float:
    """Arrivals of an interval, of which growth is capped while requests fail.

    Every failed request may come back at once, so at least arrivals - errors are requests of their own. What is more
    than that counts up to a level that begins at twice the calm demand and grows with time, since users may be more.
    """
    errors_lately = demand_lately = 0.0
    for row in memory.recent:
        errors_lately += row[3]
        demand_lately += row[2]
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


def _take_in_mix(
    memory: DemandMemory, metrics: DeploymentMetrics, now_s: float, since_s: float | None
) -> tuple[float, float, float, float]:
    """What was added: finished requests, prompt, output and cached prompt tokens."""
    added = (
        memory.prompt_tokens.advance(metrics.prompt_tokens_total, now_s, since_s, metrics.baseline),
        memory.output_tokens.advance(metrics.output_tokens_total, now_s, since_s, metrics.baseline),
        memory.cached_tokens.advance(metrics.cached_tokens_total, now_s, since_s, metrics.baseline),
        memory.finished.advance(metrics.finished_total, now_s, since_s, metrics.baseline),
    )
    tokens = (added[3], added[0], added[1], added[2])
    before, memory.in_progress = memory.in_progress, metrics.ongoing
    if since_s is None:
        return tokens
    if before is not None and memory.in_progress is not None:
        # Tokens are counted as they come, requests when they end. Without those half done the first requests to end
        # would seem to have had everybody's tokens; in the long run as many join as leave.
        added = (*added[:3], added[3] + 0.5 * (memory.in_progress - before))
    keep = 0.5 ** ((now_s - since_s) / _MIX_HALF_LIFE_S)
    # Without traffic nothing fades: the last known mix is still the best guess for the next request.
    keep = keep if tokens[0] > 0 else 1.0
    memory.mix_sums = [max(0.0, keep * s + a) for s, a in zip(memory.mix_sums, added, strict=True)]
    return tokens


def _take_in_latencies(
    memory: DemandMemory, metrics: DeploymentMetrics, slo: Slo, now_s: float, since_s: float | None
) -> tuple[float, float, float, float]:
    """What was added: seconds to first tokens and how many, seconds between tokens and how many gaps."""
    ttft_good, ttft_all = _within(memory.ttft, metrics.ttft, slo.ttft_s, now_s, since_s, metrics.baseline)
    itl_good, itl_all = _within(memory.itl, metrics.itl, slo.itl_s, now_s, since_s, metrics.baseline)
    _remember_attained(memory, now_s, (ttft_good, ttft_all, itl_good, itl_all))
    ttft_s = memory.ttft_sum.advance(metrics.ttft_sum_s, now_s, since_s, metrics.baseline)
    itl_s = memory.itl_sum.advance(metrics.itl_sum_s, now_s, since_s, metrics.baseline)
    return ttft_s, ttft_all, itl_s, itl_all


def _remember_attained(memory: DemandMemory, now_s: float, counts: tuple[float, float, float, float]) -> None:
    """The newest interval enters the attainment window, and its sums; what is too old leaves both.

    Shares of a bucket are rounded to a billionth of a request: sums of such numbers are exact, in whatever order.
    """
    rows = memory.attained
    if not memory.attained_sums:
        memory.attained_sums = _attained_sums(rows)
    sums = memory.attained_sums
    if counts[1] > 0 or counts[3] > 0:
        row = [now_s, *(count if count.is_integer() else round(count * _EXACT) / _EXACT for count in counts)]
        rows.append(row)
        for i in range(4):
            sums[i] += row[i + 1]
    while rows and rows[0][0] <= now_s - ATTAINMENT_WINDOW_S:
        gone = rows.pop(0)
        for i in range(4):
            sums[i] -= gone[i + 1]
    if not rows:
        sums[:] = (0.0, 0.0, 0.0, 0.0)


_EXACT = 2.0**30


def _attained_sums(rows: Sequence[Sequence[float]]) -> list[float]:
    return [sum((row[i] for row in rows), 0.0) for i in range(1, 5)]


def _grown(totals: Totals, added: tuple[float, ...]) -> Totals:
    """In the order of the fields of Totals."""
    return Totals(*map(add, _TOTALS(totals), added))


_TOTALS = attrgetter(*(f.name for f in fields(Totals)))


_NOTHING: frozenset[str] = frozenset()


def _within(
    memory: CounterMemory,
    histograms: Mapping[str, Histogram],
    limit_s: float | None,
    now_s: float,
    since_s: float | None,
    baseline: Collection[str],
) -> tuple[float, float]:
    """How many new observations were within the limit, and how many there were (linear inside a bucket)."""
    good: dict[str, float] = {}
    total: dict[str, float] = {}
    for series, histogram in histograms.items():
        within, every = _marked(series)
        good[within] = share_below(histogram, limit_s) * histogram.counts[-1]
        total[every] = histogram.counts[-1]
    started = memory.started
    marked = frozenset(f"{series}{mark}" for series in baseline for mark in "<=") if baseline else _NOTHING
    new_good = memory.advance(good, now_s, since_s, marked)
    memory.started = started
    new_total = memory.advance(total, now_s, since_s, marked)
    return min(new_good, new_total), new_total


@lru_cache(maxsize=16384)
def _marked(series: str) -> tuple[str, str]:
    """Under which names a histogram's counts are remembered: those within the limit, and all."""
    return f"{series}<", f"{series}="


def share_below(histogram: Histogram, limit_s: float | None) -> float:
    """Share of observations <= limit (1.0 without a limit or without observations), linear inside a bucket."""
    total = histogram.counts[-1]
    if limit_s is None or total <= 0:
        return 1.0
    i = bisect_left(histogram.edges, limit_s)
    low_edge, low_count = (histogram.edges[i - 1], histogram.counts[i - 1]) if i else (0.0, 0.0)
    if i == len(histogram.edges) or histogram.edges[i] in (low_edge, math.inf):
        return low_count / total
    edge, count = histogram.edges[i], histogram.counts[i]
    return (low_count + (count - low_count) * (limit_s - low_edge) / (edge - low_edge)) / total


def _close_bins(
    memory: DemandMemory, since_s: float, now_s: float, arrivals: float | None, bin_s: float
) -> Iterator[Bin]:
    """The bins that end in (since_s, now_s]; `arrivals` None = not seen."""
    rate_rps = None if arrivals is None else arrivals / (now_s - since_s)
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
    return _per_second(memory, 2)


def error_rate_rps(memory: DemandMemory) -> float | None:
    """Failed requests per second over the rate window."""
    return _per_second(memory, 3)


def _per_second(memory: DemandMemory, column: int) -> float | None:
    """One column of the rows of the rate window, over their seconds."""
    total = seconds = 0.0
    for row in memory.recent:
        total += row[column]
        seconds += row[1]
    return total / seconds if seconds > 0 else None


@dataclass(frozen=True, slots=True)
class TokenSums:
    """What `requests` finished requests had together; cached tokens are a part of the prompts'."""

    requests: float
    prompt_tokens: float
    output_tokens: float
    cached_prompt_tokens: float = 0.0


def seed_mix(memory: DemandMemory, sums: TokenSums) -> bool:
    """Begin with the mix of the past, as if a few requests of it had been seen; False when one is known already."""
    if token_mix(memory) is not None or sums.requests <= 0.0:
        return False
    share = min(1.0, _SEEDED_REQUESTS / sums.requests)
    past = (sums.prompt_tokens, sums.output_tokens, sums.cached_prompt_tokens, sums.requests)
    memory.mix_sums = [own + share * old for own, old in zip(memory.mix_sums, past, strict=True)]
    return True


def token_mix(memory: DemandMemory) -> TokenMix | None:
    """Mean tokens of a request lately; None before enough requests have finished."""
    prompt, output, cached, requests = memory.mix_sums
    if requests < _MIX_MIN_REQUESTS or prompt <= 0:
        return None
    return TokenMix(prompt / requests, output / requests, min(cached, prompt) / requests)


def attained_fraction(memory: DemandMemory) -> float | None:
    """Share of the last 10 minutes' requests within the SLO: the worse of TTFT and ITL; None without requests."""
    if not memory.attained:
        return None
    ttft_good, ttft_all, itl_good, itl_all = memory.attained_sums or _attained_sums(memory.attained)
    shares = [good / total for good, total in ((ttft_good, ttft_all), (itl_good, itl_all)) if total > 0]
    return min(shares) if shares else None


def judged(memory: DemandMemory) -> Judged | None:
    """What the newest metrics added to `attained_fraction`; None when they added no request.

    Requests are counted by their first tokens, since some engines count every token between. The share that missed is
    the worse of the two, as in `attained_fraction`.
    """
    if not memory.attained or memory.attained[-1][0] != memory.as_of_s:
        return None
    _, ttft_good, ttft_all, itl_good, itl_all = memory.attained[-1]
    if ttft_all <= 0:
        return None
    missed_ttft = ttft_all - ttft_good
    missed_itl_share = 1.0 - itl_good / itl_all if itl_all > 0 else 0.0
    return Judged(ttft_all, max(missed_ttft, ttft_all * missed_itl_share), missed_ttft)


def observe(
    memory: DemandMemory, signals: DeploymentSignals, guards: GuardSettings, now_s: float, supply: Supply = NO_SUPPLY
) -> Observation:
    """Everything that is known of a deployment at `now_s`; of its replicas supply.py tells."""
    metrics, inventory = signals.metrics, signals.inventory
    running, missing = _missing_reports(memory, signals)
    why = _why_stale(signals, guards, now_s)
    if not why and missing:
        why = f"{len(missing)} of {running} running replicas stopped reporting: {', '.join(missing[:3])}"
    young = metrics is not None and now_s - metrics.as_of_s <= guards.stale_after_s
    waiting, ongoing, kv_fraction = _gauges(metrics) if metrics is not None and young else (None, None, None)
    return Observation(
        key=signals.key,
        rate_rps=rate_rps(memory) if young else None,
        mix=token_mix(memory),
        waiting=waiting,
        ongoing=ongoing,
        kv_usage_fraction=kv_fraction,
        error_rate_rps=error_rate_rps(memory),
        uncounted_rps=memory.uncounted_rps if young else 0.0,
        completeness_fraction=1.0 - len(missing) / running if running and young else None,
        attained_fraction=attained_fraction(memory),
        judged=judged(memory),
        inventory_as_of_s=inventory.as_of_s if inventory else None,
        metrics_as_of_s=metrics.as_of_s if metrics else None,
        fresh=not why,
        why_stale=why,
        running=supply.running,
        draining=supply.draining,
        target=supply.target,
        starting=supply.starting,
    )


def _missing_reports(memory: DemandMemory, signals: DeploymentSignals) -> tuple[int, Sequence[str]]:
    """Running replicas, and those of them that reported lately and do not any more: what they hold is not seen.

    One that never reported misses nothing (it may have no metrics of its own, or none yet).
    """
    if signals.inventory is None or signals.metrics is None:
        return 0, ()
    as_of_s = signals.metrics.as_of_s
    reporting = {r.replica_id for r in signals.metrics.replicas}
    listed = {r.replica_id for r in signals.inventory.replicas}
    running = {r.replica_id for r in signals.inventory.replicas if r.state == "RUNNING"}
    if reporting == memory.reporters.keys() and reporting <= listed:
        for name in reporting:
            memory.reporters[name] = as_of_s
        return len(running), ()
    kept = {name: at_s for name, at_s in memory.reporters.items() if name in listed and at_s > as_of_s - _VANISHED_S}
    memory.reporters = {**kept, **dict.fromkeys(sorted(reporting & listed), as_of_s)}
    return len(running), sorted(set(memory.reporters) & running - reporting)


def _gauges(metrics: DeploymentMetrics) -> tuple[float | None, float | None, float | None]:
    """Waiting (at handles and in engines), ongoing, and the fullest replica's KV share."""
    replicas = engine_gauges(metrics)
    in_engines = [r.waiting for r in replicas if r.waiting is not None]
    waiting = None
    if metrics.queued_at_handles is not None or in_engines:
        waiting = (metrics.queued_at_handles or 0.0) + sum(in_engines)
    kv = [r.kv_usage_fraction for r in replicas if r.kv_usage_fraction is not None]
    return waiting, metrics.ongoing, max(kv) if kv else None


def _why_stale(signals: DeploymentSignals, guards: GuardSettings, now_s: float) -> str:
    if signals.inventory is None:
        return "Ray's dashboard does not tell what runs"
    if signals.metrics is None:
        return "no metrics of this deployment"
    for what, as_of_s in (("replica list", signals.inventory.as_of_s), ("metrics", signals.metrics.as_of_s)):
        if now_s - as_of_s > guards.stale_after_s:
            return f"{what} {now_s - as_of_s:.0f} s old (limit {guards.stale_after_s:.0f} s)"
    return ""
