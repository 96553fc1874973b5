"""New metrics into memory: what was added since the last page, of everything that is counted."""

from __future__ import annotations

from dataclasses import fields
from operator import add, attrgetter

from autoscaler.demand.arrivals import Bin, close_bins, forget, remember, without_retries
from autoscaler.demand.attainment import take_in_latencies
from autoscaler.demand.knowledge import (
    NO_REPORTS,
    Reports,
    count_shares,
    judge_arrivals,
    judge_failures,
    note_known,
    serves_nobody,
    unseen_share,
)
from autoscaler.demand.mix import take_in_mix
from autoscaler.memories import DemandMemory
from autoscaler.model import DeploymentMetrics
from policies.base import Slo, Totals

_LONGEST_BRIDGE_S = 600.0
"""A hole in the metrics up to this long is bridged by its mean rate; a longer one stays unknown in the bins."""
_CLOCK_S = 60.0
"""What was seen further ahead than that was seen by a clock that was wrong."""
MOST_RPS = 1e6
"""More than that is no demand but a broken counter."""


def take_in(
    memory: DemandMemory,
    metrics: DeploymentMetrics,
    slo: Slo,
    window_s: float,
    bin_s: float,
    reports: Reports = NO_REPORTS,
) -> list[Bin]:
    """Take new metrics into memory; the bins that they close, oldest first. A page already seen changes nothing."""
    since_s = memory.as_of_s
    if since_s is not None and metrics.as_of_s < since_s - _CLOCK_S:
        _begin_anew(memory)  # saved by a clock that was ahead
        since_s = None
    if since_s is not None and metrics.as_of_s <= since_s:
        return []
    now_s = metrics.as_of_s
    # A page without counters is one of a deployment that counted nothing only where something says that it is idle.
    none_is_zero = serves_nobody(metrics, reports)
    latencies = take_in_latencies(memory, metrics, slo, now_s, since_s, none_is_zero)
    # Before arrivals: the mix asks who counted those of the last page.
    tokens = take_in_mix(memory, metrics, now_s, since_s, latencies[1], none_is_zero)
    failed = memory.errors.advance(metrics.errors_total, now_s, since_s, metrics.baseline)
    # An ingress whose backend turns requests away fails as well, and those requests were counted when they came.
    # Serve creates those series with the first request that fails: beside counted arrivals their absence is none.
    rejected = memory.rejected.advance(
        metrics.rejected_total, now_s, since_s, metrics.baseline,
        none_is_zero=none_is_zero or bool(metrics.arrivals_total),
    )  # fmt: skip
    rejected = max(0.0, rejected - failed)
    late = count_shares(memory, metrics)
    counted = memory.arrivals.advance(
        metrics.arrivals_total, now_s, since_s, metrics.baseline, renamed_is_old=True, none_is_zero=none_is_zero
    )
    counted = max(0.0, counted - late)  # the rate is that of now, not of what comes to light
    frozen_since_s = memory.moved_at_s if memory.frozen else None
    memory.unseen_fraction = unseen_share(memory, metrics, reports, now_s)
    note_known(memory, metrics, now_s)
    served = (max(latencies[1], tokens[0]), tokens[1] + tokens[2])
    judge_arrivals(memory, metrics, reports, counted, served, now_s)
    if frozen_since_s is not None and since_s is not None and frozen_since_s < since_s:
        counted *= (now_s - since_s) / (now_s - frozen_since_s)  # what comes to light is of all that time
    arrivals, errors = rejected + counted, rejected + failed
    hole_s = 0.0 if since_s is None else now_s - since_s
    absurd = since_s is not None and arrivals > MOST_RPS * max(hole_s, 1.0)
    if absurd:
        arrivals = 0.0
    unseen = absurd or hole_s > _LONGEST_BRIDGE_S  # or the clock was set forward: nothing is known of this interval
    memory.totals = _grown(memory.totals, (arrivals, *tokens, *latencies))
    memory.as_of_s = now_s
    if since_s is None:
        return []
    seconds = now_s - since_s
    judge_failures(memory, arrivals, failed, seconds, now_s)
    if unseen or memory.unknown:
        forget(memory)
        return list(close_bins(memory, since_s, now_s, None, bin_s))
    if memory.unseen_fraction > 0.0:
        arrivals /= 1.0 - memory.unseen_fraction
    demand = without_retries(memory, now_s, seconds, arrivals, errors)
    memory.uncounted_rps = (arrivals - demand) / seconds
    remember(memory, now_s, seconds, demand, errors, window_s)
    return list(close_bins(memory, since_s, now_s, demand, bin_s))


def _begin_anew(memory: DemandMemory) -> None:
    """Nothing is compared with times that have not come yet; counters are kept, since they only grow."""
    forget(memory)
    memory.as_of_s = memory.bin_end_s = memory.begun_at_s = memory.moved_at_s = memory.served_at_s = None
    memory.bin_arrivals = memory.bin_covered_s = 0.0
    memory.still.clear()
    memory.known_at_s.clear()


_TOTALS = attrgetter(*(f.name for f in fields(Totals)))


def _grown(totals: Totals, added: tuple[float, ...]) -> Totals:
    """In the order of the fields of Totals."""
    return Totals(*map(add, _TOTALS(totals), added))
