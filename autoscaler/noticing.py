"""What is wrong with one deployment at one tick, as candidates for conditions. Pure; decides nothing.

How long something must last before it is told is here; what it means and what to do: conditions.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from autoscaler import conditions, guard
from autoscaler.conditions import Candidate
from autoscaler.model import DeploymentPlan
from autoscaler.outlook import Outlook

_LEAD_TIMES = 3.0
"""Holding on unknown data is told after this many lead times (a new node's median)."""
_NOT_DONE_S = 120.0
_LOOP_WINDOW_S = 1800.0
"""A start that failed longer ago is no part of a crash loop."""
_SILENT_S = 60.0
_FAILING_S = 60.0
_BY_GUARD = {
    guard.DECISION_FAILED: conditions.DECISION_FAILED,
    guard.INVARIANT: conditions.INVARIANT,
    guard.ABOVE_MAXIMUM: conditions.ABOVE_MAXIMUM,
}


def noticed(d: Outlook, plan: DeploymentPlan, acting: bool, tick_s: float, now_s: float) -> Iterator[Candidate]:
    """`acting`: levels are written, so that one that Serve does not take is odd."""
    observation, memory, inventory = d.observation, d.memory, d.signals.inventory
    if inventory is None and d.signals.unreadable:
        yield Candidate(conditions.UNREADABLE, d.key, d.signals.unreadable)
    for record in plan.guards:
        name = _BY_GUARD.get(record.name)
        if name is not None:
            yield Candidate(name, d.key, record.why)
    if d.settings is None:
        return
    if guard.contested(memory.supply, now_s):
        why = "another writer turns its level back again and again; only higher levels are posted"
        yield Candidate(conditions.SECOND_WRITER, d.key, why)
    if not observation.fresh and not d.failed and d.current != 0:
        after_s = _LEAD_TIMES * d.times.new_node.median_s
        yield Candidate(conditions.HOLDING_ON_UNKNOWN, d.key, observation.why_stale, after_s)
    if observation.failing:
        yield Candidate(conditions.FAILING, d.key, observation.failing, _FAILING_S)
    if d.signals.metrics is not None and d.signals.metrics.silent_pages:
        pages = d.signals.metrics.silent_pages
        why = f"{pages} metrics page{'s' if pages > 1 else ''} that held its series cannot be read"
        yield Candidate(conditions.NODE_SILENT, d.key, why, _SILENT_S)
    if memory.demand.arrivals.odd_at_s is not None:
        yield Candidate(conditions.COUNTER_WENT_BACK, d.key, "a counter of its arrivals went back or held no number")
    seen_s = observation.inventory_as_of_s or 0.0
    failed_starts = [at_s for at_s in memory.supply.failed_starts if at_s > seen_s - _LOOP_WINDOW_S]
    if len(failed_starts) >= conditions.STARTS_THAT_MAKE_A_LOOP:
        said = inventory.message if inventory is not None else ""
        why = f"{len(failed_starts)} replicas ended before they ran{': ' + said[:300] if said else ''}"
        yield Candidate(conditions.CRASH_LOOP, d.key, why)
    shown, target = plan.observed_target, plan.target
    if acting and plan.blocked is None and plan.act == "external" and target is not None and shown != target:
        why = f"Serve's target stays {shown} although {target} is asked for"
        yield Candidate(conditions.NOT_DONE, d.key, why, max(_NOT_DONE_S, 3 * tick_s), f"{shown}")
