"""One vLLM engine: steps follow one another, equal ones in one jump.

A *plan* is one step, or several that differ only by the context growing. Synchronous: at a plan's end its tokens come
out, then the next is scheduled and starts. Asynchronous: the next plan is scheduled when the last step of the one under
way *starts*, so a request that arrives, and a slot that becomes free, is seen one step later. An arrival or a timeout
cuts a jump at the first boundary where vLLM would notice it; nothing else does, so results do not depend on how often a
caller asks. Ties: at one instant steps end first, then timeouts and arrivals, then engines schedule.
"""

from __future__ import annotations

import math

from simulator import engine_layout as at
from simulator.engine_account import account_plan, free_after, observe_gap, observe_ttft, show_gauges
from simulator.engine_blocks import blocks_for, boundary_blocks, give, take
from simulator.engine_jit import inner
from simulator.engine_law import boundary_s, first_boundary
from simulator.engine_layout import Ints, Reals
from simulator.engine_requests import emitted, leave_waiting, push_age, push_back, record, release, unlink_age
from simulator.engine_schedule import first_end, hashed_tokens, leave_batch, schedule

_END, _DEADLINE, _SCHEDULE = range(3)


@inner
def commit(z: Ints, x: Reals, row: int) -> None:
    """The plan under way can no longer be cut: move the scheduler's view of every request behind it."""
    steps, batch = z[row + at.STEPS], z[row + at.BATCH]
    if steps > 1:
        take(z, row, boundary_blocks(z, row, z[row + at.CLOCK] + 1, steps - 1))
    z[row + at.CLOCK] += steps
    z[row + at.CONTEXT] += steps * batch
    if batch > 0 and z[row + at.CLOCK] == z[row + at.FIRST_END]:
        end_decodes(z, row)
    while z[row + at.DECODING] < z[row + at.RUNNING]:
        i = z[row + at.DECODING]
        slot = z[row + z[at.RUN_SLOT] + i]
        z[slot + at.COMPUTED] += z[slot + at.CHUNK]
        if z[slot + at.COMPUTED] < z[slot + at.KNOWN]:
            break  # a chunk of a longer prompt: the last admitted
        join_batch(z, row, slot, i)


@inner
def end_decodes(z: Ints, row: int) -> None:
    """List the sequences whose last token comes out of the plan, and find the next to end."""
    run, ends, clock = row + z[at.RUN_SLOT], row + z[at.RUN_END], z[row + at.CLOCK]
    for i in range(z[row + at.DECODING]):
        if z[ends + i] == clock:
            slot = z[run + i]
            leave_batch(z, row, z[slot + at.PROMPT] + z[slot + at.OUTPUT] - 1)
            list_ender(z, row, slot)
    z[row + at.FIRST_END] = first_end(z, row)


@inner
def list_ender(z: Ints, row: int, slot: int) -> None:
    """It ends with the plan under way."""
    z[row + z[at.ENDER_SLOT] + z[row + at.ENDERS]] = slot
    z[row + at.ENDERS] += 1
    z[slot + at.LISTED] += 1


@inner
def join_batch(z: Ints, row: int, slot: int, i: int) -> None:
    """A prompt is computed: its first token comes out of this plan, the others by decoding."""
    clock, known = z[row + at.CLOCK], z[slot + at.KNOWN]
    z[row + at.DECODING] += 1
    z[slot + at.JOINED] = clock
    z[slot + at.DONE] += 1
    z[row + z[at.FIRST_SLOT] + z[row + at.FIRSTS]] = slot
    z[row + at.FIRSTS] += 1
    z[slot + at.LISTED] += 1
    end = clock + z[slot + at.OUTPUT] - z[slot + at.DONE]
    z[row + z[at.RUN_END] + i] = end
    if end == clock:
        list_ender(z, row, slot)
        return
    z[row + at.BATCH] += 1
    z[row + at.CONTEXT] += known
    z[row + at.BOUNDARY + (clock - known) % z[at.BLOCK]] += 1
    z[row + at.FIRST_END] = min(z[row + at.FIRST_END], end)


@inner
def retire(z: Ints, x: Reals, row: int) -> None:
    """The plan under way is over: its tokens come out, sequences that end leave."""
    now_s = x[row + at.END_AT]
    account_plan(z, x, row)
    for i in range(z[row + at.FIRSTS]):
        slot = z[row + z[at.FIRST_SLOT] + i]
        z[slot + at.LISTED] -= 1
        if z[slot + at.STATE] != at.ABORTED:
            first_token(z, x, row, slot, now_s)
        elif z[slot + at.LISTED] == 0:
            release(z, slot)
    z[row + at.FIRSTS] = 0
    if z[row + at.ENDERS] > 0:
        for i in range(z[row + at.ENDERS]):
            slot = z[row + z[at.ENDER_SLOT] + i]
            if z[slot + at.STATE] != at.ABORTED:
                finish(z, x, row, slot, now_s)
            release(z, slot)
        z[row + at.ENDERS] = 0
        drop_ended(z, row)
    show_gauges(z, x, row, z[row + at.STEPS], z[row + at.FREE])


@inner
def first_token(z: Ints, x: Reals, row: int, slot: int, now_s: float) -> None:
    """A token that came out of computing the prompt, or computing it again after a preemption."""
    z[row + at.N_OUTPUT] += 1
    if math.isnan(x[slot + at.FIRST_TOKEN]):
        x[slot + at.FIRST_TOKEN] = now_s
        z[row + at.N_PROMPT] += z[slot + at.PROMPT]
        observe_ttft(z, x, row, now_s - x[slot + at.SENT] + x[at.API])
    else:
        observe_gap(z, x, row, now_s - x[slot + at.LAST_TOKEN])
    x[slot + at.LAST_TOKEN] = now_s


@inner
def finish(z: Ints, x: Reals, row: int, slot: int, now_s: float) -> None:
    """A request's last token came out: free its blocks (a preempted one has none), record it unless it timed out."""
    computed = z[slot + at.PROMPT] + z[slot + at.OUTPUT] - 1
    if z[slot + at.STATE] == at.IN_RUNNING:
        give(z, row, blocks_for(z, computed), computed // z[at.BLOCK])
    else:
        leave_waiting(z, row, slot)
    if z[slot + at.TIMED_OUT]:
        z[row + at.ABORTS] -= 1
        return
    record(z, x, slot, at.OK, now_s, z[slot + at.OUTPUT])
    z[row + at.N_FINISHED] += 1
    leave_replica(z, x, row, slot, now_s)


@inner
def drop_ended(z: Ints, row: int) -> None:
    """Close the gaps that ended sequences leave in the running list."""
    run, ends, clock = row + z[at.RUN_SLOT], row + z[at.RUN_END], z[row + at.CLOCK]
    decoding, kept = z[row + at.DECODING], 0
    for i in range(z[row + at.RUNNING]):
        if i >= decoding or z[ends + i] > clock:
            z[run + kept], z[ends + kept] = z[run + i], z[ends + i]
            kept += 1
    gone = z[row + at.RUNNING] - kept
    z[row + at.RUNNING] = kept
    z[row + at.DECODING] -= gone


@inner
def leave_replica(z: Ints, x: Reals, row: int, slot: int, now_s: float) -> None:
    """The router counts it no longer."""
    if z[row + at.ONGOING] == z[at.MAX_ONGOING]:
        z[at.CROWDED] -= 1
    z[row + at.ONGOING] -= 1
    if z[row + at.ONGOING] == 0:
        x[row + at.EMPTY_AT] = now_s
    if x[at.TIMEOUT] < math.inf:
        unlink_age(z, row, slot)


@inner
def abort_timed_out(z: Ints, row: int) -> None:
    """Drop running requests whose client has gone, as vLLM does before it schedules."""
    run, ends = row + z[at.RUN_SLOT], row + z[at.RUN_END]
    kept, decoding = 0, z[row + at.DECODING]
    for i in range(z[row + at.RUNNING]):
        slot = z[run + i]
        if not z[slot + at.TIMED_OUT]:
            z[run + kept], z[ends + kept] = slot, z[ends + i]
            kept += 1
            continue
        computed = hashed = z[slot + at.COMPUTED]
        if i < decoding:
            z[row + at.DECODING] -= 1
            computed = z[slot + at.KNOWN] + z[row + at.CLOCK] - z[slot + at.JOINED]
            hashed = hashed_tokens(z, slot, computed)
            if z[ends + i] > z[row + at.CLOCK]:
                leave_batch(z, row, computed)
        give(z, row, blocks_for(z, computed), hashed // z[at.BLOCK])
        z[slot + at.STATE] = at.ABORTED
        if z[slot + at.LISTED] == 0:
            release(z, slot)
    z[row + at.RUNNING] = kept
    z[row + at.ABORTS] = 0
    z[row + at.FIRST_END] = first_end(z, row)


@inner
def time_out(z: Ints, x: Reals, row: int, slot: int, now_s: float) -> None:
    """The client of a request at this replica gives up: it ends now, the engine hears of it at its next step."""
    record(z, x, slot, at.TIMEOUT_STATUS, now_s, emitted(z, x, slot, now_s))
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
        time_out(z, x, row, z[row + at.AGE_HEAD], event_s)
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
