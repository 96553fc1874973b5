"""Ray Serve's router for one deployment: who gets a request, and who waits.

Power of two choices: of two replicas drawn at random among those that are routable and have fewer than
max_ongoing_requests sent and not finished, the one with fewer gets the request; where there is none, requests wait at
the handle, first come first served, with no limit of their own. The draw is a hash of (seed, number of the request), so
that the same request meets the same luck whatever a policy does. A replica is advanced only when its state matters.
"""

from __future__ import annotations

import math

from simulator.engine import layout as at
from simulator.engine.jit import inner
from simulator.engine.layout import Ints, Reals
from simulator.engine.requests import (
    emitted,
    new_slot,
    push_back,
    record,
    release,
    unlink,
)
from simulator.engine.stepping import abandon, enqueue, find_event, run, step


@inner
def scramble(value: int) -> int:
    """A well-mixed 32-bit number from another (both factors are below 2^31, so no product leaves 63 bits)."""
    value = (value ^ value >> 16) * 0x21F0AAAD & 0xFFFFFFFF
    value = (value ^ value >> 15) * 0x735A2D97 & 0xFFFFFFFF
    return value ^ value >> 15


@inner
def choose(z: Ints, x: Reals, sequence: int, now_s: float) -> int:
    """The replica for a request, advanced to now; -1 where none may take it."""
    routes, first = z[at.ROUTES], z[at.ROUTE0]
    if routes > 0 and z[at.CROWDED] > 0:
        routes, first = uncrowded(z, x, now_s), z[at.PICK0]
    if routes == 0:
        return at.NONE
    if routes == 1:
        run(z, x, z[first], now_s)
        return int(z[first])
    draw = scramble((z[at.SEED] + sequence) & 0xFFFFFFFF)
    one = draw * routes >> 32
    other = scramble(draw ^ z[at.SEED]) * (routes - 1) >> 32
    other += other >= one
    a, b = z[first + one], z[first + other]
    run(z, x, a, now_s)
    run(z, x, b, now_s)
    return int(b if z[b + at.ONGOING] < z[a + at.ONGOING] else a)


@inner
def uncrowded(z: Ints, x: Reals, now_s: float) -> int:
    """List the replicas below max_ongoing_requests at PICK0; how many."""
    count = 0
    for i in range(z[at.ROUTES]):
        row = z[z[at.ROUTE0] + i]
        if z[row + at.ONGOING] >= z[at.MAX_ONGOING]:
            run(z, x, row, now_s)
        if z[row + at.ONGOING] < z[at.MAX_ONGOING]:
            z[z[at.PICK0] + count] = row
            count += 1
    return count


@inner
def send(z: Ints, x: Reals, row: int, slot: int, now_s: float) -> None:
    """Hand a request to a replica; vLLM's front end refuses at once what could never run."""
    if z[slot + at.PROMPT] >= z[at.LONGEST]:
        z[slot + at.ROW] = row
        x[slot + at.SENT] = now_s
        record(z, x, slot, at.FAILED, now_s, 0)
        release(z, slot)
    else:
        enqueue(z, x, row, slot, now_s)


@inner
def send_queued(z: Ints, x: Reals, now_s: float) -> None:
    """Send from the front of the handle's queue while a replica may take it."""
    while z[at.QUEUED] > 0:
        slot = z[at.QUEUE_HEAD]
        row = choose(z, x, z[slot + at.SEQUENCE], now_s)
        if row == at.NONE:
            return
        leave_handle(z, slot)
        send(z, x, row, slot, now_s)


@inner
def leave_handle(z: Ints, slot: int) -> None:
    """Out of the handle's queue."""
    unlink(z, at.QUEUE_HEAD, at.QUEUE_TAIL, slot)
    z[at.QUEUED] -= 1


@inner
def serve_queue(z: Ints, x: Reals, until_s: float) -> None:
    """With requests at the handle: let replicas run in the order of their events, sending as soon as one has room."""
    while z[at.QUEUED] > 0 and z[at.FAULT] == 0:
        head = z[at.QUEUE_HEAD]
        deadline_s = x[head + at.ARRIVAL] + x[at.TIMEOUT]
        row, event_s = at.NONE, math.inf
        for i in range(z[at.ROUTES]):
            candidate = z[z[at.ROUTE0] + i]
            if x[candidate + at.EVENT_AT] < event_s:
                row, event_s = candidate, x[candidate + at.EVENT_AT]
        if min(deadline_s, event_s) > until_s:
            return
        if deadline_s < event_s:
            record(z, x, head, at.TIMEOUT_STATUS, deadline_s, 0)
            leave_handle(z, head)
            release(z, head)
            continue
        find_event(z, x, row)
        if x[row + at.EVENT_AT] > event_s:
            continue  # what was known was only a lower bound
        if not step(z, x, row, until_s):
            return  # only scheduling at `until_s` itself is left
        if z[row + at.ONGOING] < z[at.MAX_ONGOING]:
            send_queued(z, x, event_s)


@inner
def arrive(z: Ints, x: Reals, inputs: Ints, i: int, now_s: float) -> None:
    """A request reaches the handle."""
    slot = new_slot(z, x)
    z[slot + at.ID], z[slot + at.PROMPT] = inputs[i, 3], inputs[i, 0]
    z[slot + at.OUTPUT] = max(1, min(inputs[i, 1], z[at.LONGEST] - inputs[i, 0]))
    z[slot + at.CACHED] = min(inputs[i, 2], inputs[i, 0]) // z[at.BLOCK]
    z[slot + at.SEQUENCE] = z[at.ARRIVALS]
    z[at.ARRIVALS] += 1
    x[slot + at.ARRIVAL] = now_s
    row = choose(z, x, z[slot + at.SEQUENCE], now_s) if z[at.QUEUED] == 0 else at.NONE
    if row != at.NONE:
        send(z, x, row, slot, now_s)
    elif 0 <= z[at.MAX_QUEUED] <= z[at.QUEUED]:
        record(z, x, slot, at.FAILED, now_s, 0)
        release(z, slot)
    else:
        z[slot + at.STATE] = at.QUEUED_AT_HANDLE
        push_back(z, at.QUEUE_HEAD, at.QUEUE_TAIL, slot)
        z[at.QUEUED] += 1


@inner
def kill_requests(z: Ints, x: Reals, row: int, now_s: float) -> None:
    """Everything inside a replica fails now."""
    for i in range(z[row + at.RUNNING]):
        slot = z[row + z[at.RUN_SLOT] + i]
        if not z[slot + at.TIMED_OUT]:
            record(z, x, slot, at.FAILED, now_s, emitted(z, x, slot, now_s))
        release(z, slot)
    slot = z[row + at.WAIT_HEAD]
    while slot != at.NONE:
        after = z[slot + at.NEXT]
        record(z, x, slot, at.FAILED, now_s, emitted(z, x, slot, now_s))
        release(z, slot)
        slot = after
    for field, count in ((at.FIRST_SLOT, z[row + at.FIRSTS]), (at.ENDER_SLOT, z[row + at.ENDERS])):
        for i in range(count):
            slot = z[row + z[field] + i]
            if z[slot + at.STATE] == at.ABORTED:
                release(z, slot)
    if z[row + at.ONGOING] >= z[at.MAX_ONGOING]:
        z[at.CROWDED] -= 1


@inner
def cancel_request(z: Ints, x: Reals, slot: int, now_s: float) -> None:
    """The client of a request that is inside hangs up."""
    if z[slot + at.STATE] == at.QUEUED_AT_HANDLE:
        record(z, x, slot, at.FAILED, now_s, 0)
        leave_handle(z, slot)
        release(z, slot)
        return
    row = z[slot + at.ROW]
    abandon(z, x, row, slot, now_s, at.FAILED)
    x[row + at.EVENT_AT] = min(x[row + at.EVENT_AT], now_s)
