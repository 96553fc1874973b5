"""What a plan does to the requests in it: `update_from_output()` of vLLM, for one step or many equal ones.

`commit` moves the scheduler's view behind the plan when it can no longer be cut; `retire` lets its tokens out when it
is over. Synchronous scheduling does both at once, asynchronous commits when the plan's last step starts.
"""

from __future__ import annotations

import math

from simulator.engine import layout as at
from simulator.engine.account import account_plan, observe_gap, observe_mean, observe_ttft, show_gauges
from simulator.engine.blocks import blocks_for, boundary_blocks, give, take
from simulator.engine.jit import inner
from simulator.engine.layout import Ints, Reals
from simulator.engine.requests import leave_waiting, record, release, unlink_age
from simulator.engine.schedule import first_end, hashed_tokens, leave_batch


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
    if z[slot + at.OUTPUT] > 1:
        observe_mean(z, x, row, (now_s - x[slot + at.FIRST_TOKEN]) / (z[slot + at.OUTPUT] - 1))
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
