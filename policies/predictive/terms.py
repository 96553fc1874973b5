"""Arguments of `predictive` for a number of replicas, one function each: figures in, a Term with text out.

No argument wants fewer replicas when there is more demand. None = the argument does not apply or cannot be computed.
"""

from __future__ import annotations

import math
from functools import lru_cache

from policies.base import UNBOUNDED_SLOTS, DeploymentView, Forecast, Term
from policies.base.durations import Duration
from policies.base.forecast import announced
from policies.base.record import record
from policies.predictive.state import DeploymentMemory, Reflex, level

KV_SATURATED = 0.9
"""KV occupancy above which vLLM soon preempts."""
USABLE_SLOTS = 0.7
"""Assumed share of max_ongoing_requests that a replica holds at capacity without better knowledge."""
_LASTING_SHARE = 0.4
"""Fraction of a median lead time that a saturation must last before it asks for more than the models."""


@record(frozen=True, slots=True)
class Situation:
    """One deployment at one moment: inputs that the arguments share.

    `replicas_per_rps`: replicas per request per second; None = unknown. `forecast`: only if it can be used, else
    `no_forecast` says why not. `horizon_s`: time until a replica asked for now almost surely serves. `break_even_s`:
    idle time that a start costs, None = the median lead time. `start_level`, `shift`: start and shift of the quantile.
    """

    view: DeploymentView
    now_s: float
    period_s: float
    lead: Duration
    horizon_s: float
    break_even_s: float | None
    start_level: float
    shift: float
    headroom_fraction: float
    reactive_headroom_fraction: float
    drain_s: float
    wake_rps: float
    replicas_per_rps: float | None
    forecast: Forecast | None
    no_forecast: str

    @property
    def keep_s(self) -> float:
        """Time (s) until a replica given up now and wanted back would have paid off."""
        return self.horizon_s + (self.lead.quantile(0.5) if self.break_even_s is None else self.break_even_s)

    @property
    def level(self) -> float:
        """The quantile in force."""
        return level(self.start_level, self.shift)

    @property
    def running(self) -> int:
        known = self.view.running if self.view.running is not None else self.view.target
        return known or 0

    @property
    def supply(self) -> int:
        """Replicas that run or are starting."""
        return self.running + len(self.view.starting)

    @property
    def present(self) -> int:
        """The level in force."""
        return self.supply if self.view.target is None else self.view.target

    def carries(self, replicas: int) -> str:
        """Text: what this many replicas carry."""
        if not self.replicas_per_rps:  # no request yet, so its length is unknown
            return "what a replica carries is not known"
        return f"{_count(replicas)} carr{'ies' if replicas == 1 else 'y'} {replicas / self.replicas_per_rps:.1f}"

    def need(self, rate_rps: float, headroom_fraction: float) -> int | None:
        """Replicas for a rate: load in replicas and a margin that grows with its root (square-root staffing)."""
        if self.replicas_per_rps is None:
            return None
        load = rate_rps * self.replicas_per_rps
        return math.ceil(load + headroom_fraction * math.sqrt(load) - 1e-9)


def forecast_term(s: Situation) -> Term | None:
    """What the forecast's quantile wants until a replica asked for now serves."""
    if s.forecast is None:
        return None
    expected = s.forecast.quantile(s.horizon_s, s.level)
    wants = 0 if expected < s.wake_rps else s.need(expected, 0.0)
    if wants is None:
        return None
    words = f"{expected:.1f} req/s expected within {s.horizon_s:.0f} s ({s.level:.0%} level); {s.carries(s.present)}"
    return Term("forecast", wants, words)


def hint_term(s: Situation) -> Term | None:
    """What hints announce for the time until a replica asked for now serves; also without a forecast."""
    if not s.view.announcements:
        return None
    hint = announced(s.view.announcements, s.now_s, s.horizon_s, s.level)
    if hint is None:
        return None
    wants = 0 if hint.rps < s.wake_rps else s.need(hint.rps, s.headroom_fraction)
    if wants is None:
        return Term("hint", 1, f"{hint.words}; what a replica carries is not known: one to begin with")
    return Term("hint", wants, f"{hint.words}; {s.carries(s.present)}")


def expected_rps(s: Situation, until_s: float) -> float | None:
    """Quantile of demand until then: from the forecast, else from hints; None without either."""
    if s.forecast is not None:
        return s.forecast.quantile(until_s, s.level)
    hint = announced(s.view.announcements, s.now_s, until_s, s.level)
    return None if hint is None else hint.rps


def load_term(s: Situation) -> Term | None:
    """Today's rate with headroom; with more headroom if no forecast can be used."""
    rate = s.view.rate_rps
    if rate is None:
        return None
    headroom, growth, why = s.headroom_fraction, 0.0, ""
    if s.forecast is None:
        growth, why = s.reactive_headroom_fraction, f" and {s.reactive_headroom_fraction:.0%} more ({s.no_forecast})"
    wants = s.need(rate * (1.0 + growth), headroom)
    if wants is None:
        return _occupancy_term(s, growth)
    return Term("load", wants, f"{rate:.1f} req/s now{why}; {s.carries(s.present)}")


def _occupancy_term(s: Situation, growth: float) -> Term | None:
    """Without a capacity: requests in progress against the slots of the fleet."""
    slots = usable_slots(s.view)
    if slots is None or s.view.ongoing is None:
        return None
    wants = math.ceil(s.view.ongoing * (1.0 + growth) / slots - 1e-9)
    return Term(
        "load", wants, f"{s.view.ongoing:.0f} requests in progress, {slots:.0f} fit a replica; capacity unknown"
    )


def in_flight_term(s: Situation) -> Term | None:
    """While arrivals are unknown: replicas that hold the requests in flight, each as full as at capacity."""
    if s.view.rate_rps is not None or not s.view.ongoing:
        return None
    holds = s.view.capacity_batch or usable_slots(s.view)
    if not holds:
        return None
    wants = math.ceil(s.view.ongoing / holds - 1e-9)
    return Term("in flight", wants, f"{s.view.ongoing:.0f} requests in flight, {holds:.0f} fit a replica; rate unknown")


def backlog_term(s: Situation) -> Term | None:
    """Replicas that drain the waiting requests within `drain_s` of their start, including those that arrive until then.

    The window ends `drain_s` after the last start under way and a new one (median lead time) are complete. The work in
    it is excess + rate * window. A running replica serves for all of it; one under way from its expected end on, and so
    does a new one. So starts under way are never requested twice, however long they take.
    """
    waiting, per_rps = s.view.waiting, s.replicas_per_rps
    if waiting is None or waiting <= 0:
        return None
    if s.supply == 0:
        return Term("wake", 1, f"{waiting:.0f} waiting and no replica")
    excess = waiting - max(1, s.running)
    if excess <= 0 or per_rps is None:
        return None
    each_rps, own_s = 1.0 / per_rps, s.lead.quantile(0.5)
    waits_s = [max(start.expected_ready_at_s - s.now_s, 0.0) for start in s.view.starting]
    window_s = max([own_s, *waits_s]) + s.drain_s
    rate = s.running * each_rps if s.view.rate_rps is None else s.view.rate_rps
    served = each_rps * (s.running * window_s + sum(window_s - wait_s for wait_s in waits_s))
    missing = excess + rate * window_s - served
    extra = max(0, math.ceil(missing / (each_rps * (window_s - own_s)) - 1e-9))
    under_way = f", {len(waits_s)} starts under way" if waits_s else ""
    why = f"{excess:.0f} too many wait{under_way}; {_count(s.supply + extra)} drain them within {window_s:.0f} s"
    return Term("backlog", s.supply + extra, why)


def saturation_term(s: Situation, memory: DeploymentMemory) -> Term | None:
    """A full KV cache or a growing queue wants one more replica (or a tenth more), whatever the models say.

    It must last for a share of a lead time first: a shorter one is served before a replica asked for now could, and
    each replica costs its start and the idle time of its node. One step at a time: the next only after half a lead
    time. A step holds until its replica can have started and drained. Updates the memory.
    """
    waiting, kv = s.view.waiting, s.view.kv_usage_fraction
    before, memory.waiting = memory.waiting, waiting
    queued = waiting is not None and waiting > 2.0 * s.running
    growing = queued and before is not None and waiting is not None and waiting > 1.1 * before + 1.0
    full = kv is not None and kv >= KV_SATURATED and (waiting is None or waiting > 0)
    if full or queued:
        memory.troubled_since_s = s.now_s if memory.troubled_since_s is None else min(memory.troubled_since_s, s.now_s)
    elif waiting is not None:  # without a gauge the trouble is not known to be over
        memory.troubled_since_s = None
    lasts_s = 0.0 if memory.troubled_since_s is None else s.now_s - memory.troubled_since_s
    last = memory.reflex
    if s.running > 0 and (growing or full) and _may_ask_again(s, lasts_s, last):
        more = s.supply + max(1, s.supply // 10)
        memory.reflex = Reflex(s.now_s, more, s.now_s + s.lead.quantile(0.9) + s.drain_s)
        what = f"KV cache {kv:.0%} full" if full else f"{before:.0f} -> {waiting:.0f} waiting"
        what += f", trouble for {lasts_s:.0f} s"
        return Term("saturation", more, f"{what}: {more - s.supply} more than run or start")
    if last is None or s.now_s >= last.until_s:
        memory.reflex = None
        return None
    return Term("saturation", last.level, f"asked for {s.now_s - last.at_s:.0f} s ago by a full fleet")


def _may_ask_again(s: Situation, lasts_s: float, last: Reflex | None) -> bool:
    """Whether the trouble lasts, and what was asked for before could help by now."""
    lead_s = s.lead.quantile(0.5)
    settled = last is None or s.now_s - last.at_s >= max(0.5 * lead_s, s.period_s)
    return settled and lasts_s >= _LASTING_SHARE * lead_s


def serving_term(s: Situation) -> Term | None:
    """At least one replica while requests are or may be served."""
    busy = (s.view.ongoing or 0.0) + (s.view.waiting or 0.0)
    if busy > 0:
        return _serving_term(busy)
    if s.view.waiting is None or s.view.ongoing is None:
        # Missing metrics never wake an idle deployment and never scale a running one to zero.
        return Term("serving", min(1, s.present), "not known whether requests are in flight")
    return None


@lru_cache(maxsize=1024)
def _serving_term(busy: float) -> Term:
    return Term("serving", 1, f"{busy:.0f} requests in flight")


def nobody_is_there(view: DeploymentView) -> bool:
    """No recent request and none in flight, both known and not merely missing."""
    return view.rate_rps == 0.0 and view.ongoing == 0.0 and view.waiting == 0.0


def keep_term(s: Situation, wanted: int) -> Term | None:
    """Replicas above `wanted` that would be wanted back before giving them up had paid off (ski rental)."""
    if s.present <= wanted:
        return None
    expected = expected_rps(s, s.keep_s)
    if expected is None:
        return None
    back = 0 if expected < s.wake_rps else s.need(expected, 0.0)
    if back is None or min(back, s.present) <= wanted:
        return None
    kept = min(back, s.present)
    why = f"{expected:.1f} req/s may come within {s.keep_s:.0f} s: giving up {kept - wanted} would not pay"
    return Term("keep", kept, why)


def usable_slots(view: DeploymentView) -> float | None:
    """Requests that one replica holds at capacity without a profile; None if slots are unlimited."""
    slots = view.max_ongoing_requests
    return None if slots is None or slots >= UNBOUNDED_SLOTS else USABLE_SLOTS * slots


def _count(replicas: int) -> str:
    return f"{replicas} replica{'' if replicas == 1 else 's'}"
