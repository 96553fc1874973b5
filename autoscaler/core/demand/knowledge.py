"""What is known of each quantity of a deployment: fresh, idle as an independent witness says too, or unknown and why.

A counter that does not move is no proof that nothing happens. Nothing arrives where Serve counts no request in flight
and engines serve nothing; where requests end that nobody counted, where more are in flight than before, or where many
are and none ends, the counters stand still for another reason. What was there before and is not any more is unknown.
See docs/decisions/0036-knowing-and-not-knowing.md.

vLLM writes its gauges after a step, and Ray's page forgets what is not written again within some 20 s: an idle engine
has none, and a page that says nothing of an engine is no page that says nothing runs. So absent stays unknown, but for
one case: Serve itself says that the replica has no request (`engine_gauges`; decision 0008).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from autoscaler.core.state import DemandMemory
from autoscaler.core.types import (
    ALL_FRESH,
    FRESH,
    IDLE,
    DeploymentMetrics,
    DeploymentSignals,
    Knowledge,
    QuantityStatus,
)
from policies.base import ReplicaMetrics
from policies.base.record import record

_STILL_S = 30.0
"""Handles and engines report some 15 s apart: arrivals that stand still for no longer say nothing."""
_REPORTS_APART_S = 15.0
"""Handles and engines tell of the same request no further apart."""
_BYPASSED = "engines serve requests that no handle counted: they come another way (docs/ray-paths.md)"
_NOTHING_ENDS_S = 60.0
"""With requests in flight and replicas that run, something is served within this time."""
_YOUNG_S = 60.0
"""Pages that are read for the first time need not have everything yet."""
_LEAKED_S = 300.0
"""In flight at a handle, while every replica and engine has had nothing for so long: nobody waits for that."""
_FEW, _SPURT = 50.0, 8.0
"""What can come at once: so many, or so many times as much as lately; a counter that jumps further did not count."""
_NO_CHANCE = 20.0
"""Requests that a series should have counted: none at all by chance is e^-20."""
_SLACK, _SLACK_FRACTION = 5.0, 0.2
"""So many more requests than can have been in flight end by chance of the moments of readings."""
_RISES, _RISES_FRACTION = 2.0, 0.1
"""So many more in flight than before are no chance."""
_MOST_UNSEEN = 0.8
"""When more of the arrivals than that cannot be seen, the rest tells nothing of them."""
_SHARES_KEEP = 0.9
_SPOKE_S = 900.0
"""A series of arrivals that has been silent for longer is not missed."""
_LOST_S = 60.0
"""Gauges and counters of engines that serve come and go for less."""
_MOSTLY, _WELL = 0.5, 0.05
"""Of requests that fail: from the one on a service fails, below the other it does not any more."""
_FAILED_HALF_LIFE_S = 60.0
_RECOVERED_S = 300.0
"""So long after it recovered users may not be back."""
_GIVEN_UP_S = 1800.0
"""Where nobody asks any more after most requests failed, recovery is not seen: it is believed after this time."""
_UNWELL = ("UNHEALTHY", "DEPLOY_FAILED")
_IDLE = Knowledge(IDLE, IDLE, IDLE, IDLE, IDLE)


@record(frozen=True, slots=True)
class Reports:
    """Replicas that run (None: not told), and those of them whose own metrics were there before and are not now."""

    running: int | None = None
    missing: Sequence[str] = ()


NO_REPORTS = Reports()


@record(frozen=True, slots=True)
class Served:
    """What engines did in one interval: requests that had their first token or ended, tokens, requests that ended."""

    requests: float
    tokens: float
    ended: float


# ---------------------------------------------------------------- arrivals, at every new page


def count_shares(memory: DemandMemory, metrics: DeploymentMetrics) -> float:
    """What each series of arrivals counts in a second lately, where there are several. Before they are taken in.

    The answer: requests that come to light only now, of the time in which their series stood still.
    """
    current, shares, series = metrics.arrivals_total, memory.shares, memory.arrivals.series
    now_s, growths, total_rps = metrics.as_of_s, {}, 0.0
    fallen, anew = memory.arrivals.fallen, memory.arrivals.anew
    for name, value in current.items():
        before = series.get(name)
        growth_rps = 0.0
        back = name in fallen or (name in anew and value >= anew[name][0])
        if before is not None and before[0] < value < math.inf and before[1] < now_s and not back:
            growth_rps = (value - before[0]) / (now_s - before[1])
        growths[name] = growth_rps
        total_rps += growth_rps
    late, still = 0.0, memory.still
    for name, growth_rps in growths.items():
        share = shares.get(name, 0.0)
        if growth_rps == 0.0 and share > 0.0 and total_rps > 0.0:
            if _stands_still(memory, name, share, total_rps, now_s):
                continue
            share = 0.0  # it is not used any more
        elif name in still:
            _, since_s = still.pop(name)
            late += growth_rps * (now_s - series[name][1]) * _past(since_s, series[name][1], now_s)
            growth_rps = share  # what it counts in a second is not what it counted at once
        shares[name] = _SHARES_KEEP * share + growth_rps
    for name in [name for name in shares if name not in current and name not in series]:
        del shares[name]
        still.pop(name, None)
    return late


def _stands_still(memory: DemandMemory, name: str, share: float, total_rps: float, now_s: float) -> bool:
    """A series that adds nothing while others of its deployment grow keeps its share for `_SPOKE_S`, no longer."""
    others = sum(memory.shares.values()) - share
    seen_at_s = memory.arrivals.series[name][1]
    kept = memory.still.setdefault(name, [0.0, seen_at_s])
    if others > 0.0:
        kept[0] += total_rps * share / others * (now_s - seen_at_s)
    if now_s - kept[1] <= _SPOKE_S:
        return True
    del memory.still[name]
    return False


def _past(since_s: float, before_s: float, now_s: float) -> float:
    """Of what a series added that stood still from `since_s` on, the share that is older than the last look."""
    return (before_s - since_s) / (now_s - since_s) if now_s > since_s else 0.0


def unseen_share(memory: DemandMemory, metrics: DeploymentMetrics, reports: Reports, now_s: float) -> float:
    """The share of arrivals that is counted by series which are not there, went back, or hold no number."""
    arrivals = memory.arrivals
    if arrivals.odd_at_s is None and not metrics.silent_pages and not reports.missing:
        return 0.0
    seen = unseen = 0.0
    for name, (_, seen_at_s) in arrivals.series.items():
        share = memory.shares.get(name, 0.0) if memory.shares else 1.0
        if seen_at_s >= now_s and name not in arrivals.fallen:
            seen += share
        elif seen_at_s > now_s - _SPOKE_S:
            unseen += share
    return unseen / (seen + unseen) if unseen > 0.0 else 0.0


def judge_arrivals(
    memory: DemandMemory,
    metrics: DeploymentMetrics,
    reports: Reports,
    counted: float,
    served: Served,
    now_s: float,
) -> None:
    """Whether arrivals are known after a page that added `counted`."""
    in_flight = (metrics.ongoing or 0.0) + (metrics.queued_at_handles or 0.0)
    if served.requests > 0.0 or served.tokens > 0.0 or in_flight != memory.in_flight or not reports.running:
        memory.served_at_s = now_s
    memory.in_flight = in_flight
    if memory.begun_at_s is None or memory.moved_at_s is None or memory.served_at_s is None:
        memory.begun_at_s = memory.moved_at_s = memory.served_at_s = now_s
    if memory.unseen_fraction > 0.0 and counted <= 0.0 and _is_witnessed(memory, metrics, reports, now_s):
        memory.unseen_fraction = 0.0  # whom a handle that is not seen lets in is served by replicas that are
    if memory.unseen_fraction > _MOST_UNSEEN:
        memory.unknown, memory.frozen, memory.idle = _unseen_words(memory, metrics), False, False
        return
    if counted > 0.0:
        believed = min(counted, _FEW + _SPURT * _lately_rps(memory) * max(0.0, now_s - memory.moved_at_s))
        memory.moved_at_s, memory.in_flight_then = now_s, in_flight + believed
        memory.ended, memory.least_in_flight, memory.finished_since = 0.0, None, 0.0
        memory.handles_at_s, memory.let_in, memory.bypassed = now_s, memory.in_flight_then, False
        memory.unknown, memory.frozen, memory.idle = "", False, False
        return
    memory.ended += served.requests
    memory.finished_since += served.ended
    _note_bypass(memory, metrics, in_flight, now_s)
    still_s = now_s - memory.moved_at_s
    there = bool(metrics.arrivals_total)
    if there and still_s <= _STILL_S and not memory.frozen and not memory.bypassed:
        memory.unknown, memory.idle = "", False
        return
    in_engines = any(r.ongoing or r.running or r.waiting for r in metrics.replicas)
    busy = in_flight > 0.0 or in_engines
    if busy and not in_engines and now_s - memory.served_at_s > _LEAKED_S and _replicas_idle(metrics, reports):
        busy = False  # a request that a handle has lost count of
    if not busy and _nobody_is_served(metrics, reports) and now_s - memory.served_at_s > _STILL_S:
        memory.moved_at_s, memory.in_flight_then, memory.ended, memory.least_in_flight = now_s, 0.0, 0.0, 0.0
        memory.finished_since, memory.let_in, memory.bypassed = 0.0, 0.0, False
        memory.unknown, memory.frozen, memory.idle = "", False, True
        return
    memory.idle = False
    if memory.bypassed:
        memory.unknown, memory.frozen = _BYPASSED, there
        return
    if not there:
        memory.frozen = False
        memory.unknown = _absent_words(memory, now_s)
        return
    memory.unknown = _contradiction(memory, reports, in_flight, still_s, now_s)
    memory.frozen = bool(memory.unknown)
    least = memory.least_in_flight
    memory.least_in_flight = in_flight if least is None else min(least, in_flight)
    if not memory.unknown and not busy and not _nobody_is_served(metrics, reports):
        memory.unknown = f"arrivals stand still for {still_s:.0f} s, and no gauge says that nothing is in flight"


def judge_ended(
    memory: DemandMemory, metrics: DeploymentMetrics, reports: Reports, counted: float, served: Served, now_s: float
) -> None:
    """The same where arrivals are counted by what ends and what is in flight (witness.py), not by handles."""
    in_flight = (metrics.ongoing or 0.0) + (metrics.queued_at_handles or 0.0)
    if served.requests > 0.0 or served.tokens > 0.0 or in_flight != memory.in_flight or not reports.running:
        memory.served_at_s = now_s
    memory.in_flight, memory.frozen, memory.unknown = in_flight, False, ""
    served_at_s = now_s if memory.served_at_s is None else memory.served_at_s
    quiet = in_flight == 0.0 and metrics.ongoing is not None and now_s - served_at_s > _STILL_S
    memory.idle = counted <= 0.0 and quiet
    if counted > 0.0 or memory.idle:
        memory.moved_at_s = now_s
    if metrics.silent_pages:
        memory.unknown = f"its arrivals are counted by its {memory.witness.source}: {metrics.silent_pages} silent pages"
    elif metrics.ongoing is None and reports.running:
        memory.unknown = "what counts its requests in flight is on no page any more"


def _note_bypass(memory: DemandMemory, metrics: DeploymentMetrics, in_flight: float, now_s: float) -> None:
    """Whether requests are served that no handle let in: handles have had nothing for longer than reports are apart,
    and what engines ended since, with what is in flight now, is more than handles can have let in.

    Behind HAProxy handles of the fallback proxy are there, and stand at 0 (docs/ray-paths.md).
    """
    beside, begun_at_s = metrics.ongoing_beside_handles, now_s if memory.begun_at_s is None else memory.begun_at_s
    silent_s = now_s - (begun_at_s if memory.handles_at_s is None else memory.handles_at_s)
    if in_flight - beside > 0.0:
        memory.handles_at_s = now_s
    elif silent_s > _REPORTS_APART_S:
        if beside + memory.finished_since > memory.let_in:
            memory.bypassed = True
        return
    if memory.handles_at_s is not None:
        memory.let_in = max(memory.let_in, in_flight + memory.finished_since)


def _is_witnessed(memory: DemandMemory, metrics: DeploymentMetrics, reports: Reports, now_s: float) -> bool:
    """Idle by the replicas alone: no running replica has a request, and none has served one for a while.

    Whatever a handle counts, or does not: its requests are at replicas, or on their way to one that is free.
    """
    served_at_s = now_s if memory.served_at_s is None else memory.served_at_s
    return now_s - served_at_s > _STILL_S and not reports.missing and _replicas_idle(metrics, reports)


def _lately_rps(memory: DemandMemory) -> float:
    """Arrivals over the rate window; infinite before any were seen."""
    sums = memory.interval_sums
    return sums[1] / sums[0] if sums and sums[0] > 0.0 else math.inf


def _nobody_is_served(metrics: DeploymentMetrics, reports: Reports) -> bool:
    """Handles, replicas and engines say so as far as they say anything, or every replica that runs."""
    if metrics.ongoing == 0.0 and metrics.arrivals_total:
        return True
    return _replicas_idle(metrics, reports)


def serves_nobody(metrics: DeploymentMetrics, reports: Reports) -> bool:
    """No replica runs, or every one that does says that it has no request. Not told of: False."""
    return reports.running == 0 or _replicas_idle(metrics, reports)


def _replicas_idle(metrics: DeploymentMetrics, reports: Reports) -> bool:
    """Every replica that runs says that it has no request."""
    if not reports.running:
        return False
    idle = 0
    for one in metrics.replicas:
        if one.ongoing == 0.0:
            idle += 1
    return idle >= reports.running


def _absent_words(memory: DemandMemory, now_s: float) -> str:
    if memory.arrivals.series:
        return "what counts its arrivals is on no page any more"
    if memory.begun_at_s is not None and now_s - memory.begun_at_s <= _YOUNG_S:
        return ""
    return "no page counts its arrivals, and nothing says that it is idle"


def _unseen_words(memory: DemandMemory, metrics: DeploymentMetrics) -> str:
    share = f"{memory.unseen_fraction:.0%} of the arrivals cannot be read"
    if metrics.silent_pages:
        return f"{share}: {metrics.silent_pages} silent pages"
    return f"{share}: their counters went back, hold no number, or are gone"


def _contradiction(memory: DemandMemory, reports: Reports, in_flight: float, still_s: float, now_s: float) -> str:
    """What says that arrivals do not stand still although their counters do; empty: nothing."""
    if memory.ended > memory.in_flight_then * (1.0 + _SLACK_FRACTION) + _SLACK:
        return f"{memory.ended:.0f} requests were served that nobody counted: arrivals stand still for {still_s:.0f} s"
    least = memory.least_in_flight
    if least is not None and in_flight > least * (1.0 + _RISES_FRACTION) + _RISES:
        return f"{in_flight:.0f} requests in flight, more than before, while arrivals stand still for {still_s:.0f} s"
    silent_s = now_s - (now_s if memory.served_at_s is None else memory.served_at_s)
    if in_flight > 0.0 and reports.running and min(silent_s, still_s) > _NOTHING_ENDS_S:
        return f"{in_flight:.0f} requests in flight and nothing moves for {silent_s:.0f} s"
    return ""


# ---------------------------------------------------------------- failing


def judge_failures(memory: DemandMemory, came: float, failed: float, seconds: float, now_s: float) -> None:
    """Whether most requests fail; `came`, `failed`: of the newest interval."""
    before = memory.failing or [0.0, 0.0]
    keep = 0.5 ** (seconds / _FAILED_HALF_LIFE_S)
    all_came, all_failed = keep * before[0] + came, keep * before[1] + failed
    if all_failed >= 1.0 and all_failed > _MOSTLY * all_came:
        memory.failed_at_s, memory.recovered_at_s = now_s, None
    elif memory.recovered_at_s is None and all_came >= 1.0 and all_failed < _WELL * all_came:
        memory.recovered_at_s = now_s
    if all_failed < 0.01 and memory.failed_at_s is None:
        memory.failing = []
    else:
        memory.failing = [all_came, all_failed]


def failing(memory: DemandMemory, signals: DeploymentSignals, now_s: float) -> str:
    """Why users may stay away; empty: it is well, and has been for a while."""
    inventory = signals.inventory
    if inventory is not None:
        unwell = ""
        if inventory.status in _UNWELL:
            unwell = f"Serve says that it is {inventory.status}"
        elif inventory.app_status not in ("RUNNING", ""):
            unwell = f"its application is {inventory.app_status}"
        if unwell:
            memory.unwell_at_s = now_s
            return unwell
    if memory.unwell_at_s is not None:
        if now_s - memory.unwell_at_s < _RECOVERED_S:
            return f"Serve said {now_s - memory.unwell_at_s:.0f} s ago that it was not well"
        memory.unwell_at_s = None
    if memory.failed_at_s is not None:
        recovered = memory.recovered_at_s
        since_s = now_s - (memory.failed_at_s if recovered is None else recovered)
        if since_s < (_GIVEN_UP_S if recovered is None else _RECOVERED_S):
            return f"most requests failed {now_s - memory.failed_at_s:.0f} s ago"
        memory.failed_at_s = memory.recovered_at_s = None
    return ""


# ---------------------------------------------------------------- everything, at every tick


def note_known(memory: DemandMemory, metrics: DeploymentMetrics, now_s: float) -> None:
    """When each quantity was last there. At every new page."""
    known = memory.known_at_s
    if metrics.ongoing is not None:
        known["in_flight"] = now_s
    if metrics.queued_at_handles is not None:
        known["waiting"] = now_s
    if metrics.prompt_tokens_total:
        known["tokens"] = now_s


def knowledge(
    memory: DemandMemory, metrics: DeploymentMetrics, reports: Reports, replicas: str, kv_usage_fraction: float | None
) -> Knowledge:
    """Of every quantity; `replicas`: why their states are not known."""
    known = memory.known_at_s
    busy = (metrics.ongoing or 0.0) > 0.0
    if kv_usage_fraction is not None:
        known["kv_usage"] = metrics.as_of_s
    odd, disagrees = _went_back(memory), memory.witness.disagrees
    lost = len(known) < 4 or metrics.ongoing is None or metrics.queued_at_handles is None
    lost = lost or not metrics.prompt_tokens_total or kv_usage_fraction is None
    lost = lost or bool(disagrees)
    if not (memory.unknown or memory.still or replicas or odd or lost or memory.unseen_fraction or reports.missing):
        return _IDLE if memory.idle else ALL_FRESH
    running = bool(reports.running)
    by_default = IDLE if memory.idle else FRESH
    idle = memory.idle and _is_witnessed(memory, metrics, reports, metrics.as_of_s)
    arrivals = by_default
    if memory.unknown:
        arrivals = _unknown(memory.unknown)
    elif memory.unseen_fraction > 0.0:
        arrivals = _unknown(
            f"{memory.unseen_fraction:.0%} of the arrivals are estimated: their counters cannot be read"
        )
    elif disagrees:
        arrivals = _unknown(disagrees)
    elif _some_stand_still(memory):
        arrivals = _unknown("a counter of its arrivals stands still while the others move")
    elif _source_is_odd(memory) and not idle:
        arrivals = _unknown("counters of its arrivals went back or held no number lately")
    in_flight = waiting = tokens = kv = by_default
    if reports.missing:
        some = ", ".join(reports.missing[:3])
        count = len(reports.missing)
        in_flight = waiting = _unknown(f"{count} of {reports.running} running replicas stopped reporting: {some}")
    if metrics.ongoing is None and running and "in_flight" in known and not memory.idle:
        in_flight = _unknown("what counts its requests in flight is on no page any more")
    if metrics.queued_at_handles is None and running and "waiting" in known and not memory.idle:
        waiting = _unknown("what counts its waiting requests is on no page any more")
    if odd and not idle:
        tokens = _unknown("counters of its engines went back or held no number lately")
    elif busy and not metrics.prompt_tokens_total and _lost(known, "tokens", metrics.as_of_s):
        tokens = _unknown("its engines serve, and what counts their tokens is on no page any more")
    if busy and kv_usage_fraction is None and _lost(known, "kv_usage", metrics.as_of_s):
        kv = _unknown("its engines serve, and their gauges are on no page any more")
    return Knowledge(arrivals, in_flight, waiting, kv, tokens, _unknown(replicas) if replicas else FRESH)


def _some_stand_still(memory: DemandMemory) -> bool:
    """By chance alone that many requests would not have passed a handle by."""
    return any(missed > _NO_CHANCE for missed, _ in memory.still.values())


def _went_back(memory: DemandMemory) -> bool:
    return not (
        memory.prompt_tokens.odd_at_s is None
        and memory.output_tokens.odd_at_s is None
        and memory.finished.odd_at_s is None
        and memory.cached_tokens.odd_at_s is None
        and memory.ttft.odd_at_s is None
        and memory.itl.odd_at_s is None
        and memory.ttft_sum.odd_at_s is None
        and memory.itl_sum.odd_at_s is None
        and memory.errors.odd_at_s is None
        and memory.rejected.odd_at_s is None
        and not _source_is_odd(memory)
    )


def _source_is_odd(memory: DemandMemory) -> bool:
    """Of the counter of arrivals that is in force."""
    witness = memory.witness
    counter = {"front": witness.front, "replicas": witness.replicas, "engines": memory.finished}
    return counter.get(witness.source, memory.arrivals).odd_at_s is not None


def _lost(known: dict[str, float], what: str, as_of_s: float) -> bool:
    return what in known and as_of_s - known[what] > _LOST_S


def _unknown(why: str) -> QuantityStatus:
    return QuantityStatus("unknown", why)


def engine_gauges(metrics: DeploymentMetrics) -> tuple[ReplicaMetrics, ...]:
    """The replicas' gauges; where Serve counts no request on a replica, absent engine gauges are 0.

    Only where engines of the deployment count tokens: what has no engine metrics at all is no idle engine.
    """
    if not metrics.prompt_tokens_total:
        return metrics.replicas
    for one in metrics.replicas:
        if _vanished(one):
            break
    else:
        return metrics.replicas
    return tuple(_idle(one) if _vanished(one) and one.ongoing == 0.0 else one for one in metrics.replicas)


def _vanished(one: ReplicaMetrics) -> bool:
    return one.running is None and one.waiting is None and one.kv_usage_fraction is None


def _idle(one: ReplicaMetrics) -> ReplicaMetrics:
    return ReplicaMetrics(one.replica_id, one.ongoing, 0.0, 0.0, 0.0)
