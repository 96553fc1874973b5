"""From a trace to requests: the arrivals of one deployment, in chunks, the same whatever the policy does.

Memory is flat: a chunk covers a bounded number of rows or bins, and every random number comes from generators of the
deployment's own seed, drawn in the order of the trace and never in the order of the simulation's events.

rate_scale k: a rate is multiplied; a request becomes k requests (the fraction by a draw), of which the extra ones are
shifted by a uniform +-30 s and shifted back into the trace where that falls outside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec

import numpy as np
from numpy.typing import NDArray

from policies.base.durations import Duration
from simulator.workload.traces import Floats, Ints, RateTrace, RequestTrace

SHIFT_S = 30.0
_CHUNK = 65536
"""Expected requests of a chunk."""
_MAX_BINS = 4096
_DEFAULT_SPREAD = 4.0
"""p99 over median of lengths where a rates file gives only means."""
_MAX_TOKENS = 2**30


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long prompts (or outputs) are: log-normal in tokens, as `{median, p99}` of a scenario."""

    prompt: Duration
    output: Duration


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests sorted by arrival (seconds since the scenario's start); all arrays of one length."""

    arrival_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    cached_prompt_tokens: Ints

    def __len__(self) -> int:
        return len(self.arrival_s)

    def select(self, which: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Requests:
        return Requests(
            self.arrival_s[which],
            self.prompt_tokens[which],
            self.output_tokens[which],
            self.cached_prompt_tokens[which],
        )

    @staticmethod
    def concatenate(parts: list[Requests]) -> Requests:
        if not parts:
            return _EMPTY
        return Requests(
            np.concatenate([p.arrival_s for p in parts]),
            np.concatenate([p.prompt_tokens for p in parts]),
            np.concatenate([p.output_tokens for p in parts]),
            np.concatenate([p.cached_prompt_tokens for p in parts]),
        )


_EMPTY = Requests(np.empty(0), np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int32))


class ArrivalStream:
    """Hands out arrivals in order of time: `take(until_s)` gives those before `until_s` that were not given yet."""

    def __init__(self, chunks: Iterator[tuple[float, Requests]]) -> None:
        """`chunks` yields (complete_until_s, requests): nothing after may arrive before `complete_until_s`."""
        self._chunks = chunks
        self._held = _EMPTY
        self._taken = 0
        self._complete_until_s = -np.inf

    def take(self, until_s: float) -> Requests:
        """Arrivals in [what was taken before, until_s), sorted; equal times keep the trace's order."""
        fresh = []
        while self._complete_until_s < until_s:
            self._complete_until_s, requests = next(self._chunks, (np.inf, _EMPTY))
            fresh.append(requests)
        if fresh:
            held = Requests.concatenate([self._held.select(slice(self._taken, None)), *fresh])
            self._held = held.select(np.argsort(held.arrival_s, kind="stable"))
            self._taken = 0
        cut = int(np.searchsorted(self._held.arrival_s, until_s, side="left"))
        taken = self._held.select(slice(self._taken, cut))
        self._taken = max(cut, self._taken)
        return taken


P = ParamSpec("P")


def _streamed(chunks: Callable[P, Iterator[tuple[float, Requests]]]) -> Callable[P, ArrivalStream]:
    """What yields chunks as `ArrivalStream` takes them, as such a stream."""

    @wraps(chunks)
    def stream(*args: P.args, **options: P.kwargs) -> ArrivalStream:
        return ArrivalStream(chunks(*args, **options))

    return stream


@_streamed
def request_arrivals(
    trace: RequestTrace,
    *,
    start_s: float,
    rate_scale: float,
    repeat: bool,
    duration_s: float,
    seed: np.random.SeedSequence,
) -> Iterator[tuple[float, Requests]]:
    """Arrivals of a requests trace from `start_s` on (which becomes time 0) until `duration_s`.

    `repeat`: from its end the trace goes on at its beginning, one mean gap later.
    """
    rng = np.random.default_rng(seed)
    first = int(np.searchsorted(trace.time_s, start_s, side="left"))
    offset_s = -start_s
    span_s = trace.end_s - float(trace.time_s[0])
    gap_s = span_s / (len(trace.time_s) - 1) if span_s > 0 else 1.0
    step = max(int(_CHUNK / max(rate_scale, 1.0)), 1)
    while True:
        last_s = trace.end_s + offset_s
        for low in range(first, len(trace.time_s), step):
            rows = slice(low, min(low + step, len(trace.time_s)))
            if trace.time_s[low] + offset_s - SHIFT_S >= duration_s:
                return
            chunk = _scaled_rows(
                trace, rows, offset_s, rate_scale, min(last_s, duration_s) if not repeat else duration_s, rng
            )
            more = rows.stop < len(trace.time_s)
            following_s = float(trace.time_s[rows.stop]) + offset_s if more else last_s + gap_s
            yield (following_s - (SHIFT_S if rate_scale > 1 else 0.0), _before(chunk, duration_s))
        if not repeat:
            return
        offset_s = last_s + gap_s - float(trace.time_s[0])
        first = 0


def _scaled_rows(
    trace: RequestTrace, rows: slice, offset_s: float, rate_scale: float, end_s: float, rng: np.random.Generator
) -> Requests:
    time_s = trace.time_s[rows] + offset_s
    whole = int(rate_scale)
    copies = np.full(len(time_s), whole)
    if rate_scale != whole:
        copies = copies + (rng.random(len(time_s)) < rate_scale - whole)
    index = np.repeat(np.arange(len(time_s)), copies)
    arrival_s = time_s[index]
    if copies.max(initial=0) > 1:
        extra = np.ones(len(index), dtype=bool)
        extra[np.concatenate(([0], np.cumsum(copies)[:-1]))[copies > 0]] = False
        moved = arrival_s[extra] + rng.uniform(-SHIFT_S, SHIFT_S, int(extra.sum()))
        # Shifted out at an end, a request is reflected back: the trace keeps its length and no request is lost.
        moved = np.abs(moved)
        arrival_s[extra] = np.where(moved > end_s, np.maximum(2 * end_s - moved, 0.0), moved)
    cached = trace.cached_prompt_tokens
    return Requests(
        arrival_s,
        np.maximum(trace.prompt_tokens[rows][index], 1),
        np.maximum(trace.output_tokens[rows][index], 1),
        np.zeros(len(index), np.int32) if cached is None else cached[rows][index],
    )


@_streamed
def rate_arrivals(
    trace: RateTrace,
    lengths: Lengths | None,
    *,
    start_s: float,
    rate_scale: float,
    repeat: bool,
    duration_s: float,
    seed: np.random.SeedSequence,
) -> Iterator[tuple[float, Requests]]:
    """Arrivals of a rates trace: a Poisson process, constant within a bin, with log-normal lengths.

    `lengths` may be None only where the trace has both columns of mean lengths (the scenario checks it).
    """
    arrivals, prompts, outputs = (np.random.default_rng(s) for s in seed.spawn(3))
    bins = len(trace.rps)
    mean_per_bin = float(trace.rps.mean()) * rate_scale * trace.bin_s
    step = int(np.clip(_CHUNK / max(mean_per_bin, 1e-9), 1, _MAX_BINS))
    position = max(int((start_s - trace.start_s) // trace.bin_s), 0)
    while True:
        begin_s = trace.start_s + position * trace.bin_s - start_s
        if begin_s >= duration_s or (position >= bins and not repeat):
            return
        count = step if repeat else min(step, bins - position)
        index = (position + np.arange(count)) % bins
        starts = begin_s + trace.bin_s * np.arange(count)
        numbers = arrivals.poisson(trace.rps[index] * (rate_scale * trace.bin_s))
        at = np.repeat(np.arange(count), numbers)
        arrival_s = starts[at] + trace.bin_s * arrivals.random(len(at))
        which = index[at]
        chunk = Requests(
            arrival_s,
            _draw(trace.prompt_tokens, trace.prompt_factor, which, lengths.prompt if lengths else None, prompts),
            _draw(trace.output_tokens, trace.output_factor, which, lengths.output if lengths else None, outputs),
            np.zeros(len(at), np.int32),
        )
        keep = (arrival_s >= 0) & (arrival_s < duration_s)
        yield (begin_s + count * trace.bin_s, chunk.select(keep))
        position += count


def _draw(
    means: Floats | None,
    factors: Floats | None,
    which: NDArray[np.intp],
    length: Duration | None,
    rng: np.random.Generator,
) -> Ints:
    """Token counts, at least 1: about the bins' means where there are any, else about the length's median."""
    spread = Duration.from_median_p99(1.0, _DEFAULT_SPREAD).sigma if length is None else length.sigma
    factor: Floats = np.exp(spread * rng.standard_normal(len(which)))
    if means is not None:
        tokens: Floats = means[which] * (np.exp(-(spread**2) / 2) * factor)
    else:
        assert length is not None  # the scenario refuses lengths that are given nowhere
        tokens = length.median_s * factor
    if factors is not None:
        tokens = tokens * factors[which]
    counts: Ints = np.clip(np.rint(tokens), 1, _MAX_TOKENS).astype(np.int32)
    return counts


def with_means(trace: RateTrace, prompt: Duration | None, output: Duration | None) -> RateTrace:
    """A made-up trace whose mix shifts, as a file can hold it: with the mean lengths of each bin."""
    columns = [
        None if factor is None or length is None else factor * length.mean_s
        for factor, length in ((trace.prompt_factor, prompt), (trace.output_factor, output))
    ]
    return RateTrace(trace.source, trace.start_s, trace.bin_s, trace.rps, columns[0], columns[1])


def _before(requests: Requests, end_s: float) -> Requests:
    return requests.select(requests.arrival_s < end_s)
