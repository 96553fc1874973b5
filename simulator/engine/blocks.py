"""KV blocks of one engine: how many are free and, where it matters, in which order they will be taken.

vLLM takes blocks from the front of a free list. Blocks that hold a full, hashed run of tokens return to its tail, the
last ones of a request first; partly filled ones to its front. A preempted request therefore finds again as many of its
*first* blocks as nobody took meanwhile. Only blocks of preempted, waiting requests can be found again (shared prefixes
are an input), so the list is kept as segments (blocks, owner) and only while such a request exists; segment 0 is always
the front's anonymous part.
"""

from __future__ import annotations

from simulator.engine import layout as at
from simulator.engine.jit import inner
from simulator.engine.layout import Ints


@inner
def blocks_for(z: Ints, tokens: int) -> int:
    """Blocks that hold this number of tokens."""
    return int((tokens + z[at.BLOCK] - 1) // z[at.BLOCK])


@inner
def take(z: Ints, row: int, blocks: int) -> None:
    """Take blocks from the front of the free list; the caller has checked that there are enough."""
    z[row + at.FREE] -= blocks
    if z[row + at.SEGMENTS] == 0:
        return
    counts, owners = row + z[at.SEGMENT_BLOCKS], row + z[at.SEGMENT_OWNER]
    i, used_up = 0, False
    while blocks > 0:
        taken = min(blocks, z[counts + i])
        z[counts + i] -= taken
        blocks -= taken
        owner = z[owners + i]
        if owner != at.NONE:
            z[owner + at.SURVIVING] -= taken
        used_up = used_up or (i > 0 and z[counts + i] == 0)
        i += 1
    if used_up:
        tidy(z, row)


@inner
def give(z: Ints, row: int, held: int, hashed: int) -> None:
    """A request that ended returns its blocks: `hashed` of them to the tail, the rest to the front."""
    z[row + at.FREE] += held
    last = z[row + at.SEGMENTS] - 1
    if last < 0:
        return
    counts, owners = row + z[at.SEGMENT_BLOCKS], row + z[at.SEGMENT_OWNER]
    z[counts] += held - hashed
    if hashed == 0:
        return
    if z[owners + last] == at.NONE:
        z[counts + last] += hashed
    else:
        append(z, row, hashed, at.NONE)


@inner
def give_preempted(z: Ints, row: int, slot: int, held: int, hashed: int) -> None:
    """The same for a preempted request, which may find its hashed blocks again."""
    if hashed == 0:
        give(z, row, held, 0)
        return
    counts, owners = row + z[at.SEGMENT_BLOCKS], row + z[at.SEGMENT_OWNER]
    if z[row + at.SEGMENTS] == 0:
        z[counts], z[owners] = z[row + at.FREE], at.NONE
        z[row + at.SEGMENTS] = 1
    z[row + at.FREE] += held
    z[counts] += held - hashed
    append(z, row, hashed, slot)
    z[slot + at.SURVIVING] = hashed


@inner
def append(z: Ints, row: int, blocks: int, owner: int) -> None:
    """One more segment at the tail."""
    last = z[row + at.SEGMENTS]
    z[row + z[at.SEGMENT_BLOCKS] + last] = blocks
    z[row + z[at.SEGMENT_OWNER] + last] = owner
    z[row + at.SEGMENTS] = last + 1


@inner
def reclaim(z: Ints, row: int, slot: int, blocks: int) -> None:
    """Remove this many of the request's surviving blocks from the list; its other blocks lose their owner."""
    z[row + at.FREE] -= blocks
    if z[slot + at.SURVIVING] == 0:
        return
    owners = row + z[at.SEGMENT_OWNER]
    for i in range(z[row + at.SEGMENTS]):
        if z[owners + i] == slot:
            z[owners + i] = at.NONE
            z[row + z[at.SEGMENT_BLOCKS] + i] -= blocks
    z[slot + at.SURVIVING] = 0
    tidy(z, row)


@inner
def tidy(z: Ints, row: int) -> None:
    """Drop empty segments, join anonymous neighbours; without owners keep no list at all."""
    counts, owners = row + z[at.SEGMENT_BLOCKS], row + z[at.SEGMENT_OWNER]
    kept, owned = 1, 0
    for i in range(1, z[row + at.SEGMENTS]):
        blocks, owner = z[counts + i], z[owners + i]
        if blocks == 0:
            continue
        if owner == at.NONE and z[owners + kept - 1] == at.NONE:
            z[counts + kept - 1] += blocks
            continue
        owned += owner != at.NONE
        z[counts + kept], z[owners + kept] = blocks, owner
        kept += 1
    z[row + at.SEGMENTS] = kept if owned > 0 else 0


@inner
def boundary_blocks(z: Ints, row: int, clock: int, steps: int) -> int:
    """New blocks that the batch needs over `steps` decode steps, the first of them at `clock`."""
    size, need = z[at.BLOCK], row + at.BOUNDARY
    blocks = steps // size * z[row + at.BATCH]
    phase = clock % size
    for _ in range(steps % size):
        blocks += z[need + phase]
        phase += 1
        if phase == size:
            phase = 0
    return int(blocks)


@inner
def steps_within(z: Ints, row: int, clock: int, steps: int) -> int:
    """How many of `steps` decode steps, the first at `clock`, the free blocks suffice for."""
    size, batch, free = z[at.BLOCK], z[row + at.BATCH], z[row + at.FREE]
    if (steps + size - 1) // size * batch <= free:
        return steps
    rounds = free // batch
    done, free, phase, need = rounds * size, free - rounds * batch, clock % size, row + at.BOUNDARY
    while done < steps and z[need + phase] <= free:
        free -= z[need + phase]
        done += 1
        phase += 1
        if phase == size:
            phase = 0
    return int(min(done, steps))
