"""Ray Serve's router for one deployment, and the entries through which Python drives the kernels.

Power of two choices: of two replicas drawn at random among those that are routable and have fewer than
max_ongoing_requests sent and not finished, the one with fewer gets the request; where there is none, requests wait at
the handle, first come first served, with no limit of their own. The draw is a hash of (seed, number of the request), so
that the same request meets the same luck whatever a policy does. A replica is advanced only when its state matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from simulator import engine_layout as at
from simulator.engine import enqueue, find_event, run, step
from simulator.engine_account import count_gaps, free_after, show_gauges
from simulator.engine_jit import entry, inner, sources_digest
from simulator.engine_law import boundary_s
from simulator.engine_layout import Ints, Reals
from simulator.engine_requests import (
    emitted,
    new_slot,
    plan_steps_done,
    push_back,
    record,
    records_full,
    release,
    unlink,
)


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
def show(z: Ints, x: Reals, row: int, now_s: float, shown: Ints) -> None:
    """One replica's gauges and counters at now into SHOWN_WORDS words; see `Telemetry` for their order."""
    real = shown.view(np.float64)
    done = plan_steps_done(z, x, row, now_s)
    if done > 0 and z[row + at.PHASE] == at.STEPPING:
        show_gauges(z, x, row, done, free_after(z, row, done))
    shown[0], shown[1] = z[row + at.REPLICA], z[row + at.LIVE]
    shown[2], shown[3] = z[row + at.SHOWN_RUNNING], z[row + at.SHOWN_WAITING]
    real[4] = 1.0 - z[row + at.SHOWN_FREE] / z[at.BLOCKS]
    shown[5] = z[row + at.ONGOING]
    for i in range(at.N_PROMPT, at.N_SENT + 1):
        shown[6 + i - at.N_PROMPT] = z[row + i]
    histograms = 7 + at.N_SENT - at.N_PROMPT
    for i in range(at.TTFT_COUNTS, at.BOUNDARY):
        shown[histograms + i - at.TTFT_COUNTS] = z[row + i]
    if z[row + at.PHASE] == at.BETWEEN:
        return
    end_s = boundary_s(x[row + at.START], x[row + at.BASE], x[row + at.SLOPE], done)
    batch = z[row + at.PLAN_BATCH]
    shown[6 + at.N_OUTPUT - at.N_PROMPT] += done * batch
    shown[6 + at.N_STEPS - at.N_PROMPT] += done
    real[6 + at.BUSY - at.N_PROMPT] += now_s - x[row + at.START]
    real[6 + at.ITL_SUM - at.N_PROMPT] += (end_s - x[row + at.START]) * batch
    counts = shown[histograms + at.ITL_COUNTS - at.TTFT_COUNTS :]
    count_shown_gaps(z, x, row, counts, done)


@inner
def count_shown_gaps(z: Ints, x: Reals, row: int, counts: Ints, done: int) -> None:
    """Add the gaps of the plan's finished steps: counted in the row, copied as a difference, taken back."""
    before = z[row + at.ITL_COUNTS : row + at.BOUNDARY].copy()
    count_gaps(z, x, row, row + at.ITL_COUNTS, done)
    for i in range(len(before)):
        counts[i] += z[row + at.ITL_COUNTS + i] - before[i]
        z[row + at.ITL_COUNTS + i] = before[i]


SHOWN_WORDS = 7 + at.N_SENT - at.N_PROMPT + at.BOUNDARY - at.TTFT_COUNTS


class Kernels:
    """The entries, compiled when first called (some seconds; afterwards their machine code is read from the cache)."""

    def __init__(self, digest: int) -> None:
        self.advance = _advance(digest)
        self.kill = _kill(digest)
        self.telemetry = _telemetry(digest)
        self.tokens = _tokens(digest)


def _advance(digest: int) -> Callable[[Ints, Reals, Reals, Ints, float], int]:
    @entry
    def advance(z: Ints, x: Reals, times: Reals, inputs: Ints, until_s: float) -> int:
        """Process every arrival, routing and engine step up to `until_s`; one of engine_layout's answers."""
        if digest == 0:
            return at.BROKEN
        send_queued(z, x, x[at.NOW])
        while True:
            if records_full(z):
                return at.NEED_RECORD_ROOM
            i = z[at.NEXT_INPUT]
            arrives = i < z[at.INPUTS] and times[i] <= until_s
            if z[at.QUEUED] > 0:
                serve_queue(z, x, times[i] if arrives else until_s)
            if z[at.FAULT] != 0:
                return at.BROKEN
            if not arrives:
                break
            x[at.NOW] = times[i]
            if z[at.FREE_SLOT] == at.NONE:
                return at.NEED_SLOTS
            arrive(z, x, inputs, i, times[i])
            z[at.NEXT_INPUT] = i + 1
        for i in range(z[at.ROWS]):
            row = z[at.ROW0] + i * z[at.ROW_WORDS]
            if z[row + at.LIVE] != at.UNUSED:
                run(z, x, row, until_s)
        x[at.NOW] = until_s
        return at.DONE_UNTIL if z[at.FAULT] == 0 else at.BROKEN

    return advance


def _kill(digest: int) -> Callable[[Ints, Reals, int, float], None]:
    @entry
    def kill(z: Ints, x: Reals, row: int, now_s: float) -> None:
        """Fail everything inside a replica that has run up to now; the caller clears its row."""
        if digest != 0:
            kill_requests(z, x, row, now_s)

    return kill


def _telemetry(digest: int) -> Callable[[Ints, Reals, float, Ints], int]:
    @entry
    def telemetry(z: Ints, x: Reals, now_s: float, shown: Ints) -> int:
        """One line per live replica; how many."""
        count = 0
        for i in range(z[at.ROWS]):
            row = z[at.ROW0] + i * z[at.ROW_WORDS]
            if z[row + at.LIVE] != at.UNUSED and digest != 0:
                show(z, x, row, now_s, shown[count])
                count += 1
        return count

    return telemetry


def _tokens(digest: int) -> Callable[[Ints, Reals, float, Ints], None]:
    @entry
    def tokens(z: Ints, x: Reals, now_s: float, found: Ints) -> None:
        """Tokens emitted by now, slot by slot."""
        for i in range(z[at.SLOTS]):
            slot = z[at.SLOT0] + i * at.SLOT_WORDS
            if z[slot + at.STATE] != at.FREED and digest != 0:
                found[i] = emitted(z, x, slot, now_s)

    return tokens


_kernels: list[Kernels] = []


def kernels() -> Kernels:
    """The entries, made once."""
    if not _kernels:
        _kernels.append(Kernels(sources_digest()))
    return _kernels[0]
