"""The arguments of `predictive` for a number of replicas, one function each: figures in, a Term with words out.

Every argument wants no fewer replicas when there is more demand. None = the argument does not apply or cannot be made.
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
"""KV occupancy from which vLLM soon preempts."""
USABLE_SLOTS = 0.7
"""Share of max_ongoing_requests that a replica is taken to hold at capacity when nothing better is known."""
_LASTING_SHARE = 0.4
"""Of a lead time (median): for how long a fleet is in trouble before more is asked for than the models say."""


@record(frozen=True, slots=True)
class Situation:
    """One deployment at one moment, with what the arguments have in common.

    `replicas_per_rps`: replicas that one request per second takes up; None = not known. `forecast`: only when it can be
    relied on, `no_forecast` says why not. `horizon_s`: until a replica asked for now surely serves. `break_even_s`:
    idle time that a start costs, None = the median lead time. `start_level`, `shift`: what the quantile follows from.
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
        """Until a replica given up now and wanted back would have paid off."""
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
        """Replicas that run or are on their way."""
        return self.running + len(self.view.starting)

    @property
    def present(self) -> int:
        """The level in force."""
        return self.supply if self.view.target is None else self.view.target

    def carries(self, replicas: int) -> str:
        """In words: what so many replicas carry."""
        if not self.replicas_per_rps:  # nobody asked yet, so what requests are like is not known
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
    """What was announced for the time until a replica asked for now serves; also where there is no forecast."""
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
    """The quantile of demand until then: by the forecast, else what was announced; None when there is neither."""
    if s.forecast is not None:
        return s.forecast.quantile(until_s, s.level)
    hint = announced(s.view.announcements, s.now_s, until_s, s.level)
    return None if hint is None else hint.rps


def load_term(s: Situation) -> Term | None:
    """What today's rate wants, with headroom; more of it where no forecast can be relied on."""
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
    """Without a capacity: requests in progress against the slots that the fleet has."""
    slots = usable_slots(s.view)
    if slots is None or s.view.ongoing is None:
        return None
    wants = math.ceil(s.view.ongoing * (1.0 + growth) / slots - 1e-9)
    return Term(
        "load", wants, f"{s.view.ongoing:.0f} requests in progress, {slots:.0f} fit a replica; capacity unknown"
    )


def in_flight_term(s: Situation) -> Term | None:
    """While arrivals are unknown: replicas that hold what is in flight, each as full as at capacity."""
    if s.view.rate_rps is not None or not s.view.ongoing:
        return None
    holds = s.view.capacity_batch or usable_slots(s.view)
    if not holds:
        return None
    wants = math.ceil(s.view.ongoing / holds - 1e-9)
    return Term("in flight", wants, f"{s.view.ongoing:.0f} requests in flight, {holds:.0f} fit a replica; rate unknown")


def backlog_term(s: Situation) -> Term | None:
    """Replicas that drain what waits within `drain_s` of their arrival, with all that comes by then counted.

    The window ends drain_s after the last of those under way and a new one (median lead time) has come; the work in it
    is excess + rate * window; a running replica serves all of it, one under way from its expected end on, so a new one.
    Starts under way are therefore never asked for twice, however long they take.
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
    """A full KV cache or a queue that grows wants one more (a tenth more), whatever the models say.

    Trouble must last for a share of a lead time first: a crowd that is gone by then is served before a replica asked
    for now could, and each costs its start and what its node idles after it. One step at a time: the next only when
    half a lead time has passed. A step stands until its replica can have come and drained. Updates the memory.
    """
    waiting, kv = s.view.waiting, s.view.kv_usage_fraction
    before, memory.waiting = memory.waiting, waiting
    queued = waiting is not None and waiting > 2.0 * s.running
    growing = queued and before is not None and waiting is not None and waiting > 1.1 * before + 1.0
    full = kv is not None and kv >= KV_SATURATED and (waiting is None or waiting > 0)
    if full or queued:
        memory.troubled_since_s = s.now_s if memory.troubled_since_s is None else min(memory.troubled_since_s, s.now_s)
    elif waiting is not None:  # what nobody sees is no end of it
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
    """Trouble lasts, and what was asked for before could help by now."""
    lead_s = s.lead.quantile(0.5)
    settled = last is None or s.now_s - last.at_s >= max(0.5 * lead_s, s.period_s)
    return settled and lasts_s >= _LASTING_SHARE * lead_s


def serving_term(s: Situation) -> Term | None:
    """Somebody is being served or may be: never to zero under them."""
    busy = (s.view.ongoing or 0.0) + (s.view.waiting or 0.0)
    if busy > 0:
        return _serving_term(busy)
    if s.view.waiting is None or s.view.ongoing is None:
        # Who sleeps is not woken by what is not known; who runs is not put to sleep by it.
        return Term("serving", min(1, s.present), "not known whether requests are in flight")
    return None


@lru_cache(maxsize=1024)
def _serving_term(busy: float) -> Term:
    return Term("serving", 1, f"{busy:.0f} requests in flight")


def nobody_is_there(view: DeploymentView) -> bool:
    """No request lately, none in flight: known, not merely unseen."""
    return view.rate_rps == 0.0 and view.ongoing == 0.0 and view.waiting == 0.0


def keep_term(s: Situation, wanted: int) -> Term | None:
    """Replicas above `wanted` that would be wanted back before giving them up had paid (ski rental)."""
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
    """Requests that one replica holds at capacity, for want of a profile; None when slots are not limited."""
    slots = view.max_ongoing_requests
    return None if slots is None or slots >= UNBOUNDED_SLOTS else USABLE_SLOTS * slots


def _count(replicas: int) -> str:
    return f"{replicas} replica{'' if replicas == 1 else 's'}"
