"""Requests inside the data plane: their slots, the queues they stand in, and the record each leaves when it ends."""

from __future__ import annotations

import math

from simulator.engine import layout as at
from simulator.engine.blocks import reclaim
from simulator.engine.jit import inner
from simulator.engine.law import steps_done
from simulator.engine.layout import Ints, Reals


@inner
def new_slot(z: Ints, x: Reals) -> int:
    """A clean slot; the caller has checked that one is free."""
    slot = z[at.FREE_SLOT]
    z[at.FREE_SLOT] = z[slot + at.NEXT]
    for i in range(at.SLOT_WORDS):
        z[slot + i] = 0
    z[slot + at.ROW] = z[slot + at.JOINED] = at.NONE
    for i in range(at.SENT, at.LAST_TOKEN + 1):
        x[slot + i] = math.nan
    z[at.ACTIVE] += 1
    return int(slot)


@inner
def release(z: Ints, slot: int) -> None:
    """The request has left every list; its slot may be used again."""
    z[slot + at.STATE] = at.FREED
    z[slot + at.ROW] = at.NONE
    z[slot + at.NEXT] = z[at.FREE_SLOT]
    z[at.FREE_SLOT] = slot
    z[at.ACTIVE] -= 1


@inner
def push_back(z: Ints, head: int, tail: int, slot: int) -> None:
    """To the end of the queue whose ends are kept at z[head] and z[tail]."""
    last = z[tail]
    z[slot + at.NEXT], z[slot + at.PREV] = at.NONE, last
    if last == at.NONE:
        z[head] = slot
    else:
        z[last + at.NEXT] = slot
    z[tail] = slot


@inner
def push_front(z: Ints, head: int, tail: int, slot: int) -> None:
    """To the front of the queue."""
    first = z[head]
    z[slot + at.NEXT], z[slot + at.PREV] = first, at.NONE
    if first == at.NONE:
        z[tail] = slot
    else:
        z[first + at.PREV] = slot
    z[head] = slot


@inner
def unlink(z: Ints, head: int, tail: int, slot: int) -> None:
    """Out of the queue, from wherever it stands."""
    after, before = z[slot + at.NEXT], z[slot + at.PREV]
    if before == at.NONE:
        z[head] = after
    else:
        z[before + at.NEXT] = after
    if after == at.NONE:
        z[tail] = before
    else:
        z[after + at.PREV] = before


@inner
def push_age(z: Ints, row: int, slot: int) -> None:
    """Into the replica's list by arrival, which is also the order of deadlines."""
    last = z[row + at.AGE_TAIL]
    z[slot + at.AGE_NEXT], z[slot + at.AGE_PREV] = at.NONE, last
    if last == at.NONE:
        z[row + at.AGE_HEAD] = slot
    else:
        z[last + at.AGE_NEXT] = slot
    z[row + at.AGE_TAIL] = slot


@inner
def unlink_age(z: Ints, row: int, slot: int) -> None:
    """Out of that list."""
    after, before = z[slot + at.AGE_NEXT], z[slot + at.AGE_PREV]
    if before == at.NONE:
        z[row + at.AGE_HEAD] = after
    else:
        z[before + at.AGE_NEXT] = after
    if after == at.NONE:
        z[row + at.AGE_TAIL] = before
    else:
        z[after + at.AGE_PREV] = before


@inner
def leave_waiting(z: Ints, row: int, slot: int) -> None:
    """Remove the request from the engine's waiting queue; its cached blocks lose their owner."""
    unlink(z, row + at.WAIT_HEAD, row + at.WAIT_TAIL, slot)
    z[row + at.WAITING] -= 1
    reclaim(z, row, slot, 0)


@inner
def record(z: Ints, x: Reals, slot: int, status: int, end_s: float, output: int) -> None:
    """What is known of a request at its end; there is room, see `records_full`."""
    r = z[at.RECORD0] + z[at.RECORDS] * at.RECORD_WORDS
    z[at.RECORDS] += 1
    row = z[slot + at.ROW]
    z[r + at.R_ID], z[r + at.R_PROMPT] = z[slot + at.ID], z[slot + at.PROMPT]
    z[r + at.R_OUTPUT], z[r + at.R_STATUS] = output, status
    z[r + at.R_REPLICA] = at.NONE if row == at.NONE else z[row + at.REPLICA]
    z[r + at.R_PREEMPTIONS] = z[slot + at.PREEMPTIONS]
    z[r + at.R_CACHED] = z[slot + at.CACHED] * z[at.BLOCK]
    x[r + at.R_ARRIVAL], x[r + at.R_SENT] = x[slot + at.ARRIVAL], x[slot + at.SENT]
    x[r + at.R_SCHEDULED], x[r + at.R_FIRST] = x[slot + at.SCHEDULED], x[slot + at.FIRST_TOKEN]
    x[r + at.R_END] = end_s


@inner
def records_full(z: Ints) -> bool:
    """Whether everything inside could not end before records are collected."""
    return bool(z[at.RECORDS] + z[at.ACTIVE] + 2 > z[at.RECORD_ROOM])


@inner
def plan_steps_done(z: Ints, x: Reals, row: int, now_s: float) -> int:
    """How many steps of the plan under way are over."""
    if z[row + at.PHASE] == at.BETWEEN:
        return 0
    return steps_done(x[row + at.START], x[row + at.BASE], x[row + at.SLOPE], z[row + at.STEPS], now_s)


@inner
def emitted(z: Ints, x: Reals, slot: int, now_s: float) -> int:
    """Tokens of a request that the engine has given out by now, itself advanced to now."""
    row = z[slot + at.ROW]
    tokens = z[slot + at.DONE]
    if row == at.NONE or z[slot + at.STATE] != at.IN_RUNNING or z[slot + at.JOINED] == at.NONE:
        under_way = z[slot + at.LISTED] > 0 or x[slot + at.LAST_TOKEN] > now_s
        return int(tokens - 1 if tokens > 0 and under_way else tokens)
    tokens += z[row + at.CLOCK] - z[slot + at.JOINED]
    if z[row + at.PHASE] == at.BETWEEN:
        return int(tokens)
    done = plan_steps_done(z, x, row, now_s)
    return int(tokens + (done if z[row + at.PHASE] == at.STEPPING else done - z[row + at.STEPS]))
