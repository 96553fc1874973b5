"""vLLM's `schedule()`: what one engine runs next (facts: vLLM 0.32, V1 scheduler, first come first served).

Running requests first, in order of admission: sequences that decode get one token each, an unfinished prompt what is
left of the token budget; where blocks run out the last admitted is preempted. Then, unless something was preempted,
waiting requests in order while budget, sequence slots and blocks allow; the first that does not fit blocks the others.
At most one prompt is unfinished, and it is the last admitted, because only an exhausted budget cuts a prompt.

The row's running list is [sequences that decode | prompts of this plan]; a sequence whose last token is under way
(asynchronous scheduling) stays in it, with its slot and blocks, but is in none of the sums.
"""

from __future__ import annotations

import math

from simulator.engine import layout as at
from simulator.engine.blocks import blocks_for, give_preempted, reclaim, steps_within, take
from simulator.engine.jit import inner
from simulator.engine.law import device_s
from simulator.engine.layout import Ints, Reals
from simulator.engine.requests import push_front, unlink


@inner
def schedule(z: Ints, x: Reals, row: int, now_s: float) -> None:
    """Fill the row's next plan (NEXT_STEPS = 0: nothing to run) with the knowledge of `now_s`."""
    preempted = False
    need = z[row + at.BOUNDARY + z[row + at.CLOCK] % z[at.BLOCK]]
    if need > z[row + at.FREE]:
        preempted = take_for_decodes(z, x, row)
    elif need > 0:
        take(z, row, need)
    budget = z[at.BUDGET] - z[row + at.BATCH]
    prefill, prefill_qk = 0, 0.0
    if z[row + at.RUNNING] > z[row + at.DECODING]:
        slot = z[row + z[at.RUN_SLOT] + z[row + at.DECODING]]
        done = z[slot + at.COMPUTED]
        chunk = min(z[slot + at.KNOWN] - done, budget)
        blocks = blocks_for(z, done + chunk) - blocks_for(z, done)
        if blocks > z[row + at.FREE]:
            preempt_last(z, x, row)
            preempted = True
        else:
            take(z, row, blocks)
            give_chunk(z, row, slot, chunk)
            budget -= chunk
            prefill, prefill_qk = chunk, chunk * (done + 0.5 * chunk)
    if not preempted:
        while z[row + at.WAITING] > 0 and budget > 0 and z[row + at.RUNNING] < z[at.MAX_SEQS]:
            slot = z[row + at.WAIT_HEAD]
            chunk = admit(z, x, row, slot, budget, now_s)
            if chunk == 0:
                break
            budget -= chunk
            prefill += chunk
            prefill_qk += chunk * (z[slot + at.COMPUTED] + 0.5 * chunk)
    plan(z, x, row, prefill, prefill_qk, preempted)


@inner
def take_for_decodes(z: Ints, x: Reals, row: int) -> bool:
    """Give each decoding sequence that crosses a block boundary its block, preempting from the end; whether it did."""
    run, ends = row + z[at.RUN_SLOT], row + z[at.RUN_END]
    preempted = False
    i = 0
    while i < z[row + at.DECODING]:
        slot = z[run + i]
        held = z[slot + at.KNOWN] + z[row + at.CLOCK] - z[slot + at.JOINED]
        if z[ends + i] > z[row + at.CLOCK] and held % z[at.BLOCK] == 0:
            while z[row + at.FREE] < 1:
                preempted = True
                if preempt_last(z, x, row) == slot:
                    return True
            take(z, row, 1)
        i += 1
    return preempted


@inner
def preempt_last(z: Ints, x: Reals, row: int) -> int:
    """The last admitted request loses its blocks and goes to the front of the waiting queue; returns its slot."""
    i = z[row + at.RUNNING] - 1
    slot = z[row + z[at.RUN_SLOT] + i]
    z[row + at.RUNNING] = i
    if i >= z[row + at.DECODING]:
        computed = hashed = z[slot + at.COMPUTED]
    else:
        z[row + at.DECODING] -= 1
        computed = z[slot + at.KNOWN] + z[row + at.CLOCK] - z[slot + at.JOINED]
        hashed = hashed_tokens(z, slot, computed)
        z[slot + at.DONE] += z[row + at.CLOCK] - z[slot + at.JOINED]
        if z[slot + at.JOINED] < z[row + at.CLOCK]:
            x[slot + at.LAST_TOKEN] = x[row + at.END_AT]
        if z[row + z[at.RUN_END] + i] > z[row + at.CLOCK]:
            leave_batch(z, row, computed)
            z[row + at.FIRST_END] = first_end(z, row)
    give_preempted(z, row, slot, blocks_for(z, computed), hashed // z[at.BLOCK])
    z[slot + at.HIGH_WATER] = max(z[slot + at.HIGH_WATER], computed)
    z[slot + at.COMPUTED] = 0
    z[slot + at.JOINED] = at.NONE
    z[slot + at.PREEMPTIONS] += 1
    z[row + at.N_PREEMPTED] += 1
    z[slot + at.STATE] = at.IN_WAITING
    push_front(z, row + at.WAIT_HEAD, row + at.WAIT_TAIL, slot)
    z[row + at.WAITING] += 1
    return int(slot)


@inner
def hashed_tokens(z: Ints, slot: int, computed: int) -> int:
    """Tokens of a decoding sequence whose full blocks the prefix cache knows: not one that is still under way."""
    return max(computed - 1, z[slot + at.KNOWN]) if z[at.ASYNC] else computed


@inner
def leave_batch(z: Ints, row: int, computed: int) -> None:
    """Remove a sequence with this many computed tokens from the sums of decoding sequences."""
    z[row + at.BATCH] -= 1
    z[row + at.CONTEXT] -= computed
    z[row + at.BOUNDARY + (z[row + at.CLOCK] - computed) % z[at.BLOCK]] -= 1


@inner
def first_end(z: Ints, row: int) -> int:
    """The clock at which the first decoding sequence ends."""
    ends, clock = row + z[at.RUN_END], z[row + at.CLOCK]
    first = at.NEVER
    for i in range(z[row + at.DECODING]):
        end = z[ends + i]
        if clock < end < first:
            first = end
    return first


@inner
def give_chunk(z: Ints, row: int, slot: int, chunk: int) -> None:
    """Schedule this many tokens of the request in the plan; counts those that are computed a second time."""
    done = z[slot + at.COMPUTED]
    z[slot + at.CHUNK] = chunk
    again = min(z[slot + at.HIGH_WATER], done + chunk) - done
    if again > 0:
        z[row + at.N_RECOMPUTED] += again


@inner
def admit(z: Ints, x: Reals, row: int, slot: int, budget: int, now_s: float) -> int:
    """Admit the first waiting request if it fits; the tokens it gets in this step, 0 where it stays."""
    size = z[at.BLOCK]
    known = z[slot + at.PROMPT] + z[slot + at.DONE]
    hit = min(max(z[slot + at.SURVIVING], z[slot + at.CACHED]), (known - 1) // size)
    chunk = known - hit * size
    if chunk > budget:
        if not z[at.CHUNKED]:
            return 0
        chunk = budget
    blocks = blocks_for(z, hit * size + chunk)
    if (blocks_for(z, known) if z[at.RESERVE] else blocks) > z[row + at.FREE]:
        return 0
    unlink(z, row + at.WAIT_HEAD, row + at.WAIT_TAIL, slot)
    z[row + at.WAITING] -= 1
    found = min(z[slot + at.SURVIVING], hit)
    reclaim(z, row, slot, found)
    take(z, row, blocks - found)
    z[slot + at.STATE] = at.IN_RUNNING
    z[row + z[at.RUN_SLOT] + z[row + at.RUNNING]] = slot
    z[row + at.RUNNING] += 1
    z[slot + at.KNOWN] = known
    z[slot + at.COMPUTED] = hit * size
    if math.isnan(x[slot + at.SCHEDULED]):
        x[slot + at.SCHEDULED] = now_s
        z[row + at.N_CACHED] += hit * size
    give_chunk(z, row, slot, chunk)
    return int(chunk)


@inner
def plan(z: Ints, x: Reals, row: int, prefill: int, prefill_qk: float, preempted: bool) -> None:
    """How long the scheduled step takes and, where nothing can change the batch, how many follow like it."""
    batch = z[row + at.BATCH]
    z[row + at.NEXT_BATCH] = batch
    x[row + at.NEXT_SLOPE] = 0.0
    if batch == 0 and prefill == 0:
        z[row + at.NEXT_STEPS] = 0
        return
    seconds = device_s(z, x, batch, z[row + at.CONTEXT] + batch, prefill, prefill_qk)
    z[row + at.NEXT_STEPS] = 1
    hidden = z[at.ASYNC] != 0 and seconds < x[at.HOST]
    if z[at.ASYNC] == 0:
        seconds += x[at.HOST]
    x[row + at.NEXT_BASE] = x[at.HOST] if hidden else seconds
    if prefill > 0 or preempted:
        return
    if z[row + at.ENDERS] > 0 and z[row + at.WAITING] > 0:
        return  # their slots and blocks come back after this step
    steps = z[row + at.FIRST_END] - z[row + at.CLOCK]
    slope = x[at.LAW_C] * batch
    if hidden and slope > 0.0:  # the device's growing step reaches the host's
        steps = min(steps, 1 + int((x[at.HOST] - seconds) / slope))
    if not hidden:
        x[row + at.NEXT_SLOPE] = slope
    if steps > 1:
        steps = 1 + steps_within(z, row, z[row + at.CLOCK] + 1, steps - 1)
    z[row + at.NEXT_STEPS] = steps
