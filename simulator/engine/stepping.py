"""One vLLM engine: steps follow one another, equal ones in one jump.

A *plan* is one step, or several that differ only by the context growing. Synchronous: at a plan's end its tokens come
out, then the next is scheduled and starts. Asynchronous: the next plan is scheduled when the last step of the one under
way *starts*, so a request that arrives, and a slot that becomes free, is seen one step later. An arrival or a timeout
cuts a jump at the first boundary where vLLM would notice it; nothing else does, so results do not depend on how often a
caller asks. Ties: at one instant steps end first, then timeouts and arrivals, then engines schedule.
"""

from __future__ import annotations

import math

from simulator.engine import layout as at
from simulator.engine.account import free_after, show_gauges
from simulator.engine.jit import inner
from simulator.engine.law import boundary_s, first_boundary
from simulator.engine.layout import Ints, Reals
from simulator.engine.outcome import abort_timed_out, commit, leave_replica, retire
from simulator.engine.requests import emitted, leave_waiting, push_age, push_back, record, release
from simulator.engine.schedule import schedule

_END, _DEADLINE, _SCHEDULE = range(3)


@inner
def abandon(z: Ints, x: Reals, row: int, slot: int, now_s: float, status: int) -> None:
    """The client of a request at this replica leaves: the request ends now, the engine processes it at
    its next step.
    """
    record(z, x, slot, status, now_s, emitted(z, x, slot, now_s))
    leave_replica(z, x, row, slot, now_s)
    if z[slot + at.STATE] == at.IN_RUNNING:
        z[slot + at.TIMED_OUT] = 1
        z[row + at.ABORTS] += 1
    else:
        leave_waiting(z, row, slot)
        z[slot + at.STATE] = at.ABORTED
        if z[slot + at.LISTED] == 0:
            release(z, slot)
    cut(z, x, row, now_s)


@inner
def cut(z: Ints, x: Reals, row: int, now_s: float) -> None:
    """Let the jump under way end where vLLM first schedules at or after now."""
    phase, steps = z[row + at.PHASE], z[row + at.STEPS]
    if phase == at.COMMITTED:
        z[row + at.NEXT_STEPS] = min(z[row + at.NEXT_STEPS], 1)
    elif phase == at.STEPPING and steps > 1:
        n = first_boundary(x[row + at.START], x[row + at.BASE], x[row + at.SLOPE], steps, now_s)
        z[row + at.STEPS] = min(steps, n + 1) if z[at.ASYNC] else max(n, 1)
        set_times(z, x, row)


@inner
def set_times(z: Ints, x: Reals, row: int) -> None:
    """When the plan under way ends, and when the one behind it is scheduled."""
    start, base, slope, steps = x[row + at.START], x[row + at.BASE], x[row + at.SLOPE], z[row + at.STEPS]
    x[row + at.END_AT] = boundary_s(start, base, slope, steps)
    if z[at.ASYNC]:
        x[row + at.SCHEDULE_AT] = boundary_s(start, base, slope, steps - 1)


@inner
def start_next(z: Ints, x: Reals, row: int, now_s: float) -> None:
    """The scheduled plan is the one under way."""
    z[row + at.STEPS], z[row + at.PLAN_BATCH] = z[row + at.NEXT_STEPS], z[row + at.NEXT_BATCH]
    x[row + at.START], x[row + at.BASE], x[row + at.SLOPE] = now_s, x[row + at.NEXT_BASE], x[row + at.NEXT_SLOPE]
    z[row + at.PHASE] = at.STEPPING
    set_times(z, x, row)


@inner
def end_plan(z: Ints, x: Reals, row: int) -> None:
    """What happens at END_AT."""
    now_s = x[row + at.END_AT]
    if not z[at.ASYNC]:
        commit(z, x, row)
    retire(z, x, row)
    if z[at.ASYNC] and z[row + at.NEXT_STEPS] > 0:
        start_next(z, x, row, now_s)
    else:
        z[row + at.PHASE] = at.BETWEEN
        x[row + at.SCHEDULE_AT] = now_s


@inner
def schedule_plan(z: Ints, x: Reals, row: int) -> None:
    """What happens at SCHEDULE_AT."""
    now_s = x[row + at.SCHEDULE_AT]
    if z[row + at.PHASE] == at.STEPPING:
        done = z[row + at.STEPS] - 1
        if done > 0:
            show_gauges(z, x, row, done, free_after(z, row, done))
        commit(z, x, row)
    if z[row + at.ABORTS] > 0:
        abort_timed_out(z, row)
    schedule(z, x, row, now_s)
    if z[row + at.PHASE] == at.STEPPING:
        z[row + at.PHASE] = at.COMMITTED
    elif z[row + at.NEXT_STEPS] > 0:
        start_next(z, x, row, now_s)
    elif z[row + at.WAITING] > 0:
        z[at.FAULT] = 1  # nothing runs, yet the first waiting request does not fit: must not happen
    else:  # the last running requests were aborted: an empty step exports what is left
        z[row + at.SHOWN_RUNNING], z[row + at.SHOWN_WAITING], z[row + at.SHOWN_FREE] = 0, 0, z[row + at.FREE]


@inner
def find_event(z: Ints, x: Reals, row: int) -> int:
    """Set EVENT_AT to this replica's next event; which kind it is. Of one instant: ends, deadlines, scheduling."""
    phase = z[row + at.PHASE]
    if phase == at.COMMITTED or (phase == at.STEPPING and not z[at.ASYNC]):
        kind, event_s = _END, x[row + at.END_AT]
    elif phase == at.STEPPING or z[row + at.WAITING] + z[row + at.RUNNING] > 0:
        kind, event_s = _SCHEDULE, x[row + at.SCHEDULE_AT]
    else:
        kind, event_s = _SCHEDULE, math.inf
    oldest = z[row + at.AGE_HEAD]
    if oldest != at.NONE:
        deadline_s = x[oldest + at.ARRIVAL] + x[at.TIMEOUT]
        if deadline_s < event_s or (deadline_s == event_s and kind == _SCHEDULE):
            kind, event_s = _DEADLINE, deadline_s
    x[row + at.EVENT_AT] = event_s
    return kind


@inner
def step(z: Ints, x: Reals, row: int, until_s: float) -> bool:
    """One event of this replica up to `until_s` (scheduling: before it); whether there was one."""
    kind = find_event(z, x, row)
    event_s = x[row + at.EVENT_AT]
    if event_s > until_s or (kind == _SCHEDULE and event_s == until_s):
        return False
    if kind == _SCHEDULE:
        schedule_plan(z, x, row)
    elif kind == _END:
        end_plan(z, x, row)
    else:
        abandon(z, x, row, z[row + at.AGE_HEAD], event_s, at.TIMEOUT_STATUS)
    return bool(z[at.FAULT] == 0)


@inner
def run(z: Ints, x: Reals, row: int, until_s: float) -> None:
    """Everything that this replica does up to `until_s`."""
    while x[row + at.EVENT_AT] <= until_s and step(z, x, row, until_s):
        pass


@inner
def enqueue(z: Ints, x: Reals, row: int, slot: int, now_s: float) -> None:
    """The router sends a request to this replica, which has run up to now."""
    z[slot + at.ROW], z[slot + at.STATE] = row, at.IN_WAITING
    x[slot + at.SENT] = now_s
    z[row + at.N_SENT] += 1
    z[row + at.ONGOING] += 1
    if z[row + at.ONGOING] == z[at.MAX_ONGOING]:
        z[at.CROWDED] += 1
    if x[at.TIMEOUT] < math.inf:
        push_age(z, row, slot)
    idle = z[row + at.WAITING] == 0 and z[row + at.RUNNING] == 0
    room = z[row + at.RUNNING] - z[row + at.ENDERS] < z[at.MAX_SEQS]
    if z[row + at.PHASE] == at.BETWEEN:
        if idle:
            x[row + at.SCHEDULE_AT] = now_s
    elif z[row + at.WAITING] == 0 and room:
        cut(z, x, row, now_s)
    push_back(z, row + at.WAIT_HEAD, row + at.WAIT_TAIL, slot)
    z[row + at.WAITING] += 1
    x[row + at.EVENT_AT] = min(x[row + at.EVENT_AT], now_s)
