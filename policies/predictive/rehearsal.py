"""What history told before the first look: rules rehearse on the diary of what the forecaster would have said.

Deployments whose diaries are of one kind rehearse side by side, each from where it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from policies.base import Diary
from policies.predictive.looks import Look, feel, stop_s
from policies.shadow.ahead import Ahead
from policies.shadow.noise import Felt
from policies.shadow.rules import Floats, Ints
from policies.shadow.sizing import Closed, Sizing

_REHEARSED_AT_ONCE = 10_000
"""Bins of all deployments per look, about a second for one and less for many; each has its share of them."""
_IN_ONE_GO = 1_000
"""Bins of all of them that are worked on in one go: more take memory and are no quicker."""


def rehearse(sizing: Sizing, looks: Sequence[Look], rehearsing: int) -> None:
    """The next bins of each diary. `rehearsing`: how many deployments have one, that is share in a look's time."""
    bins = math.ceil(_REHEARSED_AT_ONCE / max(rehearsing, 1))
    kinds: dict[object, list[_Reader]] = {}
    for look in looks:
        d = look.book.diary
        if d is not None:
            kinds.setdefault((d.bin_s, d.bins_per_step, d.horizons_s, d.levels), []).append(_Reader(look, d, bins))
    for readers in kinds.values():
        while left := [reader for reader in readers if reader.place < reader.until]:
            _read_on(sizing, left)
        for reader in readers:
            reader.stop()


class _Reader:
    """One deployment in its diary, with what is known now of capacity and lead times; `place`: the next bin."""

    def __init__(self, look: Look, diary: Diary, bins: int) -> None:
        book = look.book
        self.look, self.diary, self.place = look, diary, book.rehearsed
        self.per_rps = book.replicas_per_rps = book.replicas_per_rps or look.situation.replicas_per_rps or 0.0
        self.frame, self.share = look.frame(diary.bin_s), look.share(diary.bin_s)
        self.rates = np.frombuffer(diary.rates_rps, dtype=np.float32)
        shape = (-1, len(diary.horizons_s), len(diary.levels))
        self.steps = np.frombuffer(diary.forecasts, dtype=np.float16).reshape(shape)
        self.until = min(book.rehearsed + bins, len(self.rates))
        while self.place < self.until and self.place + 1 < diary.bins_per_step:  # nothing was said yet
            self.demand(1)
            self.place += 1

    def demand(self, count: int) -> list[float]:
        """Of the next bins, as it is felt, in replicas."""
        rates = self.rates[self.place : self.place + count].tolist()
        return [feel(self.look.book, rate_rps * self.per_rps, self.share) for rate_rps in rates]

    def ends_s(self, count: int) -> Floats:
        """Of the next bins."""
        places = np.arange(self.place, self.place + count)
        return np.asarray(self.diary.last_end_s - (len(self.rates) - 1 - places) * self.diary.bin_s)

    def made(self, count: int) -> Ints:
        """Which forecast was the last one when each of the next bins had closed."""
        return np.arange(self.place + 1, self.place + count + 1) // self.diary.bins_per_step - 1

    def rows(self, first: int, last: int) -> Floats:
        """Those forecasts (both ends are among them), in replicas: (forecasts, horizons, levels)."""
        rows = self.steps[first : last + 1].astype(np.float64) * self.diary.unit_rps
        return np.where(rows < self.look.situation.wake_rps, 0.0, rows) * self.per_rps

    def stop(self) -> None:
        """Remember how far it got; a diary that was read is put away."""
        book = self.look.book
        book.rehearsed = self.until
        if self.until == len(self.rates):
            book.diary, book.rehearsed, book.replicas_per_rps = None, 0, None


def _read_on(sizing: Sizing, readers: Sequence[_Reader]) -> None:
    """The next few bins of all of them, as many of each."""
    count = min(max(1, _IN_ONE_GO // len(readers)), min(reader.until - reader.place for reader in readers))
    made = np.stack([reader.made(count) for reader in readers])
    rows = [reader.rows(*ends) for reader, ends in zip(readers, made[:, [0, -1]].tolist(), strict=True)]
    lengths = np.array([len(one) for one in rows])
    ahead = _ahead(readers, np.repeat(np.arange(len(readers)), lengths), np.concatenate(rows))
    at = (np.cumsum(lengths) - lengths - made[:, 0])[:, None] + made
    closed = Closed(
        np.stack([reader.ends_s(count) for reader in readers]),
        np.array([reader.demand(count) for reader in readers]),
        Ahead(ahead.lead[at], ahead.early[at], ahead.keep[at]),
    )
    sizing.close([reader.look.book.sizing for reader in readers], [reader.frame for reader in readers], closed)
    for reader in readers:
        reader.place += count


def _ahead(readers: Sequence[_Reader], whose: Ints, rows: Floats) -> Ahead:
    """From forecasts of theirs; `whose`: the reader of each."""
    diary = readers[0].diary
    figures = [(r.look.start.reach_s(diary.bin_s), stop_s(r.look.book), r.per_rps, r.share) for r in readers]
    reach_s, stops_s, per_rps, share = np.array(figures).T[:, whose]
    felt = Felt(per_rps, share, diary.bin_s, np.array(diary.levels))
    return Ahead.of(rows, diary.horizons_s, reach_s, stops_s, felt)
