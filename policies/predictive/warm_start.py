"""Rules simulated on history before the first decision, from the trace of what the forecaster would have said.

Traces of one kind are replayed side by side, each from its own position.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from policies.base import BacktestTrace
from policies.predictive.context import SizingContext, smoother, stop_s
from policies.predictive.rules.family import Floats, Ints
from policies.predictive.rules.horizons import Horizons
from policies.predictive.rules.sizing import Closed, Sizing
from policies.predictive.rules.smoothing import OccupancySmoother

_REHEARSED_AT_ONCE = 10_000
"""Bins per tick for all deployments together, about a second for one and less for many; each gets its share."""
_IN_ONE_GO = 3_000
"""Bins of all deployments that are processed in one call: more take memory and are no faster."""


def warm_start(sizing: Sizing, contexts: Sequence[SizingContext], rehearsing: int) -> None:
    """Replay the next bins of each trace. `rehearsing`: number of deployments that share a tick's time."""
    bins = math.ceil(_REHEARSED_AT_ONCE / max(rehearsing, 1))
    kinds: dict[object, list[_Reader]] = {}
    for context in contexts:
        d = context.book.diary
        if d is not None:
            kinds.setdefault((d.bin_s, d.bins_per_step, d.horizons_s, d.levels), []).append(_Reader(context, d, bins))
    for readers in kinds.values():
        while left := [reader for reader in readers if reader.place < reader.until]:
            _read_on(sizing, left)
        for reader in readers:
            reader.stop()


class _Reader:
    """Position of one deployment in its trace, with today's capacity and lead times; `place`: the next bin."""

    def __init__(self, context: SizingContext, diary: BacktestTrace, bins: int) -> None:
        book = context.book
        self.context, self.diary, self.place = context, diary, book.rehearsed
        self.per_rps = book.replicas_per_rps = book.replicas_per_rps or context.situation.replicas_per_rps or 0.0
        self.frame, self.share = context.frame(diary.bin_s), context.share(diary.bin_s)
        self.reach_s, self.stop_s = context.start.reach_s(diary.bin_s), stop_s(book)
        self.rates = np.frombuffer(diary.rates_rps, dtype=np.float32)
        shape = (-1, len(diary.horizons_s), len(diary.levels))
        self.steps = np.frombuffer(diary.forecasts, dtype=np.float16).reshape(shape)
        self.until = min(book.rehearsed + bins, len(self.rates))
        begin, self.place = self.place, max(self.place, min(self.until, diary.bins_per_step - 1))
        if begin < self.place:  # no forecast yet
            smoother(book, (self.rates[begin : self.place].astype(np.float64) * self.per_rps).tolist(), self.share)

    def stop(self) -> None:
        """Save the position; a finished trace is dropped."""
        book = self.context.book
        book.rehearsed = self.until
        if self.until == len(self.rates):
            book.diary, book.rehearsed, book.replicas_per_rps = None, 0, None


def _read_on(sizing: Sizing, readers: Sequence[_Reader]) -> None:
    """Replay the next few bins of all traces, as many of each."""
    count = min(max(1, _IN_ONE_GO // len(readers)), min(reader.until - reader.place for reader in readers))
    diary = readers[0].diary
    places = np.array([reader.place for reader in readers])[:, None] + np.arange(count)
    closed = Closed(
        _ends_s(readers, places), _demand(readers, count), _ahead(readers, (places + 1) // diary.bins_per_step - 1)
    )
    sizing.close([reader.context.book.sizing for reader in readers], [reader.frame for reader in readers], closed)
    for reader in readers:
        reader.place += count


def _ends_s(readers: Sequence[_Reader], places: Ints) -> Floats:
    """Forecasts and demand of these bins (readers, bins) of the traces."""
    last, last_end_s = np.array([(len(reader.rates) - 1, reader.diary.last_end_s) for reader in readers]).T[:, :, None]
    return np.asarray(last_end_s - (last - places) * readers[0].diary.bin_s)


def _demand(readers: Sequence[_Reader], count: int) -> Floats:
    """Effective demand of the next bins, in replicas: (readers, bins)."""
    rates_rps = np.array([reader.rates[reader.place : reader.place + count] for reader in readers], dtype=np.float64)
    demand = (rates_rps * np.array([[reader.per_rps] for reader in readers])).tolist()
    return np.array([smoother(r.context.book, row, r.share) for r, row in zip(readers, demand, strict=True)])


def _ahead(readers: Sequence[_Reader], made: Ints) -> Horizons:
    """Expected demand after bins; `made` (readers, bins): index of the trace's latest forecast then."""
    diary, first, last = readers[0].diary, made[:, 0], made[:, -1]
    lengths = last - first + 1
    whose = np.repeat(np.arange(len(readers)), lengths)
    spans = zip(readers, first.tolist(), last.tolist(), strict=True)
    said = np.concatenate([reader.steps[begin : end + 1] for reader, begin, end in spans])
    figures = [
        (r.diary.unit_rps, r.context.situation.wake_rps, r.per_rps, r.share, r.reach_s, r.stop_s) for r in readers
    ]
    unit_rps, wake_rps, per_rps, share, reach_s, stops_s = np.array(figures).T[:, whose]
    rates_rps = said.astype(np.float64) * unit_rps[:, None, None]
    rows = np.where(rates_rps < wake_rps[:, None, None], 0.0, rates_rps) * per_rps[:, None, None]
    effective = OccupancySmoother(per_rps, share, diary.bin_s, np.array(diary.levels))
    ahead = Horizons.of(rows, diary.horizons_s, reach_s, stops_s, effective)
    at = (np.cumsum(lengths) - lengths - first)[:, None] + made
    return Horizons(ahead.lead[at], ahead.early[at], ahead.keep[at])
