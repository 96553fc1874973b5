"""What is wrong with a deployment and lasts, as the core sees it: each with since when, why, and what to do. Pure.

How it is told (log, metric, Event, alert, runbook) is the shell's.
"""

from __future__ import annotations

from collections.abc import Iterator

from autoscaler import guard
from autoscaler.model import Condition
from autoscaler.outlook import Outlook

HOLDING_ON_UNKNOWN = "holding_on_unknown"
SECOND_WRITER = "second_writer"
ABOVE_MAXIMUM = "above_max_replicas"
COUNTER_WENT_BACK = "counter_went_back"
SILENT_PAGES = "silent_pages"
NAMES = (HOLDING_ON_UNKNOWN, SECOND_WRITER, ABOVE_MAXIMUM, COUNTER_WENT_BACK, SILENT_PAGES)
_LEAD_TIMES = 3.0
"""What is unknown for so many lead times (median) is told: by then it is no hiccup."""


def of(d: Outlook, now_s: float) -> Iterator[Condition]:
    """What is wrong with one deployment now. Remembers since when something has been unknown."""
    supply, demand, seen = d.memory.supply, d.memory.demand, d.observation
    if seen.fresh:
        supply.unknown_since_s = None
    elif supply.unknown_since_s is None:
        supply.unknown_since_s = now_s
    if d.settings is None:
        return
    if supply.unknown_since_s is not None and d.current != 0:
        since_s = supply.unknown_since_s
        if now_s - since_s >= _LEAD_TIMES * d.times.path(d.path).median_s:
            what = f"nothing is scaled down since {seen.why_stale}; look at the metric pages of its nodes and at Ray's"
            yield Condition(HOLDING_ON_UNKNOWN, d.key, since_s, f"{what} dashboard, or set the level by hand")
    if supply.contested_at_s is not None and guard.contested(supply, now_s):
        what = "another writer sets its level again and again; only higher levels are posted until it is quiet for"
        since_s = supply.turns[0] if supply.turns else supply.contested_at_s
        minutes = guard.CONTESTED_S / 60.0
        yield Condition(SECOND_WRITER, d.key, since_s, f"{what} {minutes:.0f} min: stop one of the two")
    if d.current is not None and d.current > d.settings.max_replicas:
        what = (
            f"the level is {d.current}, replicas.max is {d.settings.max_replicas}: raise the maximum or set the level"
        )
        yield Condition(ABOVE_MAXIMUM, d.key, now_s, what)
    if demand.arrivals.odd_at_s is not None:
        what = "a counter of its arrivals went back or holds no number; what it adds is left out until it is steady"
        yield Condition(COUNTER_WENT_BACK, d.key, demand.arrivals.odd_at_s, what)
    metrics = d.signals.metrics
    if metrics is not None and metrics.silent_pages:
        what = f"{metrics.silent_pages} metric pages with series of it are silent; their share of its arrivals"
        estimate = f"({seen.unseen_fraction:.0%}) is estimated: see which nodes do not answer"
        yield Condition(SILENT_PAGES, d.key, metrics.as_of_s, f"{what} {estimate}")
