"""Where everything lies in the data plane's memory: one block of 8-byte words, seen as integers `z` and as reals `x`.

Kernels get just these two views, which keeps their calls cheap. The block holds a header (limits, step law, router),
one row per replica (a vLLM engine), one slot per request that has arrived and not ended, and the records of requests
that ended and were not yet collected. Rows and slots are referred to by their offset; -1 is "none". This module knows
the offsets and how to build and enlarge the block; it simulates nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.base import PolicyError
from policies.capacity.profile import EngineProfile
from policies.capacity.validation import held_tokens

Ints = NDArray[np.int64]
Reals = NDArray[np.float64]

# fmt: off
TTFT_EDGES_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)
"""Upper edges of vllm:time_to_first_token_seconds (0.32)."""
ITL_EDGES_S = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)
"""Upper edges of vllm:inter_token_latency_seconds (0.32)."""
# fmt: on

# --- header: limits and switches -----------------------------------------------------------------------------------
BLOCK, BLOCKS, MAX_SEQS, BUDGET, LONGEST, ASYNC, RESERVE, CHUNKED, MAX_ONGOING, MAX_QUEUED = range(10)
# step law (reals)
LAW_A, LAW_B, LAW_C, LAW_D, LAW_E, LAW_H, HOST, API, TIMEOUT, NOW = range(10, 20)
KNOTS, KNOT0, TTFT0, ITL0 = range(20, 24)
# regions
ROW0, ROWS, ROW_WORDS, SLOT0, SLOTS, RECORD0, RECORDS, RECORD_ROOM, ROUTE0, ROUTES, PICK0 = range(24, 35)
# router: handle queue, free slots, counters
FREE_SLOT, ACTIVE, QUEUE_HEAD, QUEUE_TAIL, QUEUED, SEED, NEXT_INPUT, INPUTS, ARRIVALS, CROWDED, FAULT = range(35, 46)
HEADER = 64

# --- row: one replica -----------------------------------------------------------------------------------------------
LIVE, REPLICA, ONGOING, RUNNING, DECODING, BATCH, CLOCK, CONTEXT, FREE, FIRST_END = range(10)
WAIT_HEAD, WAIT_TAIL, WAITING, AGE_HEAD, AGE_TAIL, PHASE, ABORTS, SEGMENTS = range(10, 18)
# the plan under way, then the one scheduled behind it (asynchronous scheduling)
STEPS, PLAN_BATCH, NEXT_STEPS, NEXT_BATCH, FIRSTS, ENDERS = range(18, 24)
START, BASE, SLOPE, NEXT_BASE, NEXT_SLOPE, SCHEDULE_AT, END_AT, EVENT_AT = range(24, 32)
# what the engine showed after its last finished step
SHOWN_RUNNING, SHOWN_WAITING, SHOWN_FREE, EMPTY_AT = range(32, 36)
# counters
N_PROMPT, N_CACHED, N_OUTPUT, N_FINISHED, N_PREEMPTED, N_RECOMPUTED, N_STEPS, BUSY, TTFT_SUM, ITL_SUM = range(36, 46)
MEAN_SUM, N_SENT = 46, 47
TTFT_COUNTS = 48
ITL_COUNTS = TTFT_COUNTS + len(TTFT_EDGES_S) + 1
MEAN_COUNTS = ITL_COUNTS + len(ITL_EDGES_S) + 1  # of requests by their mean time between tokens, on the same edges
BOUNDARY = MEAN_COUNTS + len(ITL_EDGES_S) + 1  # decodes by the step at which they need a new block
# after it, each as long as the header says: running slots, their last steps, first tokens, enders, segments
RUN_SLOT, RUN_END, FIRST_SLOT, ENDER_SLOT, SEGMENT_BLOCKS, SEGMENT_OWNER = range(46, 52)  # header: offset in a row

# --- slot: one request ----------------------------------------------------------------------------------------------
ID, PROMPT, OUTPUT, CACHED, STATE, ROW, NEXT, PREV, AGE_NEXT, AGE_PREV = range(10)
KNOWN, COMPUTED, CHUNK, DONE, JOINED, SURVIVING, HIGH_WATER, PREEMPTIONS, TIMED_OUT, LISTED, SEQUENCE = range(10, 21)
ARRIVAL, SENT, SCHEDULED, FIRST_TOKEN, LAST_TOKEN = range(21, 26)
SLOT_WORDS = 26

# --- record: one request that ended ---------------------------------------------------------------------------------
(
    R_ID,
    R_PROMPT,
    R_OUTPUT,
    R_STATUS,
    R_REPLICA,
    R_PREEMPTIONS,
    R_CACHED,
    R_ARRIVAL,
    R_SENT,
    R_SCHEDULED,
    R_FIRST,
    R_END,
) = range(12)
RECORD_WORDS = 12

NONE = -1
NEVER = 1 << 60
# a request's state
FREED, QUEUED_AT_HANDLE, IN_WAITING, IN_RUNNING, ABORTED = range(5)
# how it ended
OK, FAILED, TIMEOUT_STATUS = range(3)
# a row's use, and its phase
UNUSED, ROUTABLE, DRAINING = range(3)
BETWEEN, STEPPING, COMMITTED = range(3)
# what a kernel answers
DONE_UNTIL, NEED_SLOTS, NEED_RECORD_ROOM, BROKEN = range(4)

_ROW_LINKS = (WAIT_HEAD, WAIT_TAIL, AGE_HEAD, AGE_TAIL)
_SLOT_LINKS = (NEXT, PREV, AGE_NEXT, AGE_PREV)
_HEADER_LINKS = (FREE_SLOT, QUEUE_HEAD, QUEUE_TAIL)


def longest_request(profile: EngineProfile) -> int:
    """Most tokens of prompt and output together: vLLM starts only when one such request fits in its KV cache."""
    return min(profile.limits.max_model_len, held_tokens(profile.limits))


def check_profile(profile: EngineProfile) -> None:
    """What vLLM refuses at its start is refused here. Errors: PolicyError naming the key and its value."""
    limits, name = profile.limits, profile.name
    if limits.max_num_batched_tokens < limits.max_num_seqs:
        raise PolicyError(
            f"engine profile {name!r}: limits.max_num_batched_tokens: {limits.max_num_batched_tokens}; "
            f"vLLM needs at least max_num_seqs ({limits.max_num_seqs})"
        )
    if limits.kv_tokens < limits.block_size:
        raise PolicyError(f"engine profile {name!r}: limits.kv_tokens: {limits.kv_tokens}; allowed: at least one block")
    if not profile.scheduling.chunked_prefill and limits.max_num_batched_tokens < longest_request(profile):
        raise PolicyError(
            f"engine profile {name!r}: limits.max_num_batched_tokens: {limits.max_num_batched_tokens}; without chunked "
            f"prefill vLLM needs at least the longest request ({longest_request(profile)} tokens)"
        )


class Memory:
    """The block, its two views and its two regions that grow. Not thread-safe; kernels hold no reference to it."""

    def __init__(self, profile: EngineProfile, rows: int = 4, slots: int = 256, records: int = 8192) -> None:
        check_profile(profile)
        limits, law = profile.limits, profile.step
        seqs, knots = limits.max_num_seqs, law.knots
        self.z: Ints = np.zeros(HEADER, np.int64)
        self.x: Reals = self.z.view(np.float64)
        offset = BOUNDARY + limits.block_size
        segments = 2 * seqs + 4
        for field, words in ((RUN_SLOT, seqs), (RUN_END, seqs), (FIRST_SLOT, seqs), (ENDER_SLOT, seqs)):
            self.z[field], offset = offset, offset + words
        for field in (SEGMENT_BLOCKS, SEGMENT_OWNER):
            self.z[field], offset = offset, offset + segments
        self.z[ROW_WORDS] = -(-offset // 8) * 8
        self.z[BLOCK], self.z[BLOCKS] = limits.block_size, limits.kv_tokens // limits.block_size
        self.z[MAX_SEQS], self.z[BUDGET] = seqs, limits.max_num_batched_tokens
        self.z[LONGEST] = longest_request(profile)
        scheduling = profile.scheduling
        self.z[ASYNC], self.z[RESERVE] = scheduling.asynchronous, scheduling.reserve_full_prompt
        self.z[CHUNKED] = scheduling.chunked_prefill
        law_s = (law.a_s, law.b_s, law.c_s, law.d_s, law.e_s, law.h_s)
        self.x[LAW_A : LAW_H + 1] = law_s
        self.x[HOST], self.x[API] = profile.host_s, profile.api_s
        self.z[KNOTS] = len(knots)
        self._tables = np.array([v for knot in knots for v in knot] + [*TTFT_EDGES_S, *ITL_EDGES_S], np.float64)
        self.z[[FREE_SLOT, QUEUE_HEAD, QUEUE_TAIL]] = NONE
        self._build(rows, slots, records)
        self._free_slots(0)

    @property
    def rows(self) -> Ints:
        """Every replica's row, one a line (a view)."""
        z = self.z
        words = int(z[ROW_WORDS])
        return z[z[ROW0] : z[ROW0] + z[ROWS] * words].reshape(-1, words)

    @property
    def slots(self) -> Ints:
        """Every request's slot, one a line (a view)."""
        z = self.z
        return z[z[SLOT0] : z[SLOT0] + z[SLOTS] * SLOT_WORDS].reshape(-1, SLOT_WORDS)

    def take_records(self) -> Ints:
        """The records not yet collected (a copy, one a line); the region is empty afterwards."""
        z = self.z
        taken = z[z[RECORD0] : z[RECORD0] + z[RECORDS] * RECORD_WORDS].reshape(-1, RECORD_WORDS).copy()
        z[RECORDS] = 0
        return taken

    def more_rows(self) -> None:
        """Twice the replicas; offsets of rows stay, offsets of slots move (and are mended)."""
        self._build(2 * int(self.z[ROWS]), int(self.z[SLOTS]), int(self.z[RECORD_ROOM]))

    def more_slots(self) -> None:
        """Twice the requests; the room for records grows along."""
        slots = int(self.z[SLOTS])
        self._build(int(self.z[ROWS]), 2 * slots, int(self.z[RECORD_ROOM]))
        self._free_slots(slots)

    def more_record_room(self) -> None:
        """Room for one more record per slot, which is as many as can end at once."""
        self._build(int(self.z[ROWS]), int(self.z[SLOTS]), max(2 * int(self.z[SLOTS]), int(self.z[RECORD_ROOM])))

    def _build(self, rows: int, slots: int, records: int) -> None:
        old, words = self.z, int(self.z[ROW_WORDS])
        records = max(records, 2 * slots)
        had = (int(old[ROWS]), int(old[SLOTS]), int(old[RECORDS]))
        route0 = HEADER + len(self._tables)
        row0 = -(-(route0 + 2 * rows) // 8) * 8
        slot0 = row0 + rows * words
        record0 = slot0 + slots * SLOT_WORDS
        z = np.zeros(record0 + records * RECORD_WORDS, np.int64)
        z[:HEADER] = old[:HEADER]
        z[HEADER:route0] = self._tables.view(np.int64)
        z[[KNOT0, TTFT0, ITL0]] = HEADER, HEADER + 2 * z[KNOTS], HEADER + 2 * z[KNOTS] + len(TTFT_EDGES_S)
        z[[ROUTE0, PICK0, ROW0, SLOT0, RECORD0]] = route0, route0 + rows, row0, slot0, record0
        z[[ROWS, SLOTS, RECORD_ROOM]] = rows, slots, records
        for region, size, count in (
            (ROW0, words, had[0]),
            (SLOT0, SLOT_WORDS, had[1]),
            (RECORD0, RECORD_WORDS, had[2]),
        ):
            z[z[region] : z[region] + count * size] = old[old[region] : old[region] + count * size]
        z[route0 : route0 + z[ROUTES]] = old[old[ROUTE0] : old[ROUTE0] + z[ROUTES]] + (row0 - old[ROW0])
        self.z, self.x = z, z.view(np.float64)
        self._relocate(had, row0 - int(old[ROW0]), slot0 - int(old[SLOT0]))

    def _relocate(self, had: tuple[int, int, int], rows_by: int, slots_by: int) -> None:
        """Every stored offset of a row or slot moves with its region."""
        z, rows, slots = self.z, self.rows[: had[0]], self.slots[: had[1]]

        def shift(values: Any, by: int) -> Any:
            return np.where(values >= 0, values + by, values)

        for field in _HEADER_LINKS:
            z[field] = shift(z[field], slots_by)
        for field in _ROW_LINKS:
            rows[:, field] = shift(rows[:, field], slots_by)
        seqs = int(z[MAX_SEQS])
        for field, length in ((RUN_SLOT, seqs), (FIRST_SLOT, seqs), (ENDER_SLOT, seqs), (SEGMENT_OWNER, 2 * seqs + 4)):
            part = slice(int(z[field]), int(z[field]) + length)
            rows[:, part] = shift(rows[:, part], slots_by)
        for field in _SLOT_LINKS:
            slots[:, field] = shift(slots[:, field], slots_by)
        slots[:, ROW] = shift(slots[:, ROW], rows_by)

    def _free_slots(self, first: int) -> None:
        """Chain the slots from `first` on before the free ones."""
        slots = self.slots
        offsets = int(self.z[SLOT0]) + SLOT_WORDS * np.arange(first, len(slots))
        slots[first:, NEXT] = np.append(offsets[1:], self.z[FREE_SLOT])
        slots[first:, ROW] = NONE
        self.z[FREE_SLOT] = offsets[0]
