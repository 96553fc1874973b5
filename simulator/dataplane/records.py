"""What comes out of the data plane: ended requests, gauges and counters, as arrays with names."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.engine import layout as at
from simulator.engine.layout import ITL_EDGES_S, TTFT_EDGES_S, Ints, Memory, Reals


class Status(enum.IntEnum):
    """How a request ended."""

    OK = at.OK
    FAILED = at.FAILED
    TIMED_OUT = at.TIMEOUT_STATUS
    UNFINISHED = 3


@dataclass(frozen=True, slots=True)
class CompletedRequests:
    """Requests, one entry each in every array; NaN is "never happened". Seconds count from arrival at the handle."""

    id: Ints
    arrival_s: Reals
    prompt_tokens: Ints
    output_tokens: Ints
    """Tokens that came out."""
    handle_s: Reals
    """Until the router sent it to a replica."""
    queue_s: Reals
    """Until an engine first scheduled it: the wait at the handle and in the engine."""
    ttft_s: Reals
    """Until the first token reached the client (`api_s` included)."""
    e2e_s: Reals
    """Until the last token reached the client (`api_s` included), the failure or the timeout."""
    mean_itl_s: Reals
    """(e2e - ttft) / (n - 1) of requests that ended OK with n > 1 tokens."""
    status: NDArray[np.int8]
    """Values of `Status`."""
    replica: Ints
    """-1: never sent to one."""
    preemptions: Ints

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, slots=True)
class Gauges:
    """At one instant, one entry per live replica; engine gauges are those of its last finished step."""

    replica: Ints
    draining: NDArray[np.bool_]
    running: Ints
    waiting: Ints
    kv_usage_fraction: Reals
    ongoing: Ints
    """Sent and not finished, as the router counts."""
    queued: int
    """At the handle."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Since each replica's start, one entry per replica, live ones first (`live` of them), then those that are gone."""

    arrivals_total: int
    live: int
    replica: Ints
    sent_total: Ints
    prompt_tokens_total: Ints
    cached_prompt_tokens_total: Ints
    output_tokens_total: Ints
    finished_total: Ints
    preemptions_total: Ints
    recomputed_tokens_total: Ints
    steps_total: Ints
    busy_s: Reals
    """Time with at least one running request."""
    ttft_counts: Ints
    """(replicas, buckets), not cumulative, on `TTFT_EDGES_S` and above; from the replica's receipt of the request."""
    ttft_sum_s: Reals
    itl_counts: Ints
    """(replicas, buckets), not cumulative, on `ITL_EDGES_S` and above: every gap between two tokens."""
    itl_sum_s: Reals
    mean_itl_counts: Ints
    """As `itl_counts`, of each ended request's own mean gap."""
    mean_itl_sum_s: Reals

    @property
    def ttft_edges_s(self) -> tuple[float, ...]:
        return TTFT_EDGES_S

    @property
    def itl_edges_s(self) -> tuple[float, ...]:
        return ITL_EDGES_S


@dataclass(frozen=True, slots=True)
class ShownColumns:
    """Where things lie in a line of `engine.show`; sums of seconds are floats, the rest whole numbers."""

    running: int
    waiting: int
    kv_usage: int
    ongoing: int
    prompt: int
    cached: int
    output: int
    finished: int
    preemptions: int
    ttft_sum: int
    itl_sum: int
    mean_itl_sum: int
    ttft_counts: slice
    """Of the buckets, not cumulative; likewise the two below."""
    itl_counts: slice
    mean_itl_counts: slice


def _column(field: int) -> int:
    """Where a counter of a row lies in a line of `engine.show`."""
    return 6 + field - at.N_PROMPT


_FIRST_BUCKET = 7 + at.N_SENT - at.N_PROMPT
_MIDDLE_BUCKET = _FIRST_BUCKET + at.ITL_COUNTS - at.TTFT_COUNTS
_MEAN_BUCKET = _FIRST_BUCKET + at.MEAN_COUNTS - at.TTFT_COUNTS

SHOWN = ShownColumns(
    running=2,
    waiting=3,
    kv_usage=4,
    ongoing=5,
    prompt=_column(at.N_PROMPT),
    cached=_column(at.N_CACHED),
    output=_column(at.N_OUTPUT),
    finished=_column(at.N_FINISHED),
    preemptions=_column(at.N_PREEMPTED),
    ttft_sum=_column(at.TTFT_SUM),
    itl_sum=_column(at.ITL_SUM),
    mean_itl_sum=_column(at.MEAN_SUM),
    ttft_counts=slice(_FIRST_BUCKET, _MIDDLE_BUCKET),
    itl_counts=slice(_MIDDLE_BUCKET, _MEAN_BUCKET),
    mean_itl_counts=slice(_MEAN_BUCKET, None),
)


def completed_requests(lines: Ints, api_s: float) -> CompletedRequests:
    """From records, one a line."""
    real = lines.view(np.float64)
    arrival_s, first_s, end_s = real[:, at.R_ARRIVAL], real[:, at.R_FIRST], real[:, at.R_END]
    output, status = lines[:, at.R_OUTPUT], lines[:, at.R_STATUS].astype(np.int8)
    ok = status == Status.OK
    return CompletedRequests(
        id=lines[:, at.R_ID].copy(),
        arrival_s=arrival_s.copy(),
        prompt_tokens=lines[:, at.R_PROMPT].copy(),
        output_tokens=output.copy(),
        handle_s=real[:, at.R_SENT] - arrival_s,
        queue_s=real[:, at.R_SCHEDULED] - arrival_s,
        ttft_s=first_s - arrival_s + api_s,
        e2e_s=end_s - arrival_s + np.where(ok, api_s, 0.0),
        mean_itl_s=np.where(ok & (output > 1), (end_s - first_s) / np.maximum(output - 1, 1), np.nan),
        status=status,
        replica=lines[:, at.R_REPLICA].copy(),
        preemptions=lines[:, at.R_PREEMPTIONS].copy(),
    )


def unfinished_requests(memory: Memory, used: NDArray[np.bool_], tokens: Ints, api_s: float) -> CompletedRequests:
    """From the slots marked as used and the tokens each has emitted."""
    slots = memory.slots
    order = np.flatnonzero(used)[np.argsort(slots[used, at.SEQUENCE])]
    inside = slots[order]
    real = inside.view(np.float64)
    arrival_s = real[:, at.ARRIVAL]
    rows = memory.z[np.maximum(inside[:, at.ROW], 0) + at.REPLICA]
    nan = np.full(len(inside), np.nan)
    return CompletedRequests(
        id=inside[:, at.ID].copy(),
        arrival_s=arrival_s.copy(),
        prompt_tokens=inside[:, at.PROMPT].copy(),
        output_tokens=tokens[order],
        handle_s=real[:, at.SENT] - arrival_s,
        queue_s=real[:, at.SCHEDULED] - arrival_s,
        ttft_s=real[:, at.FIRST_TOKEN] - arrival_s + api_s,
        e2e_s=nan,
        mean_itl_s=nan,
        status=np.full(len(inside), Status.UNFINISHED, np.int8),
        replica=np.where(inside[:, at.ROW] < 0, at.NONE, rows),
        preemptions=inside[:, at.PREEMPTIONS].copy(),
    )


def gauges(shown: Ints, queued: int) -> Gauges:
    """From lines of `engine.show`."""
    return Gauges(
        replica=shown[:, 0].copy(),
        draining=shown[:, 1] == at.DRAINING,
        running=shown[:, 2].copy(),
        waiting=shown[:, 3].copy(),
        kv_usage_fraction=shown.view(np.float64)[:, 4].copy(),
        ongoing=shown[:, 5].copy(),
        queued=queued,
    )


def counters(shown: Ints, gone: Ints, arrivals: int) -> Counters:
    """From lines of `engine.show`, those of replicas that are gone behind."""
    lines = np.concatenate((shown, gone))
    real = lines.view(np.float64)
    return Counters(
        arrivals_total=arrivals,
        live=len(shown),
        replica=lines[:, 0],
        sent_total=lines[:, _column(at.N_SENT)],
        prompt_tokens_total=lines[:, _column(at.N_PROMPT)],
        cached_prompt_tokens_total=lines[:, _column(at.N_CACHED)],
        output_tokens_total=lines[:, _column(at.N_OUTPUT)],
        finished_total=lines[:, _column(at.N_FINISHED)],
        preemptions_total=lines[:, _column(at.N_PREEMPTED)],
        recomputed_tokens_total=lines[:, _column(at.N_RECOMPUTED)],
        steps_total=lines[:, _column(at.N_STEPS)],
        busy_s=real[:, _column(at.BUSY)],
        ttft_counts=lines[:, _FIRST_BUCKET:_MIDDLE_BUCKET],
        ttft_sum_s=real[:, _column(at.TTFT_SUM)],
        itl_counts=lines[:, _MIDDLE_BUCKET:_MEAN_BUCKET],
        itl_sum_s=real[:, _column(at.ITL_SUM)],
        mean_itl_counts=lines[:, _MEAN_BUCKET:],
        mean_itl_sum_s=real[:, _column(at.MEAN_SUM)],
    )
