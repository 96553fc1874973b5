"""What became of a deployment's requests, kept in bounded memory: counts, latencies, SLO, misses by second.

Requests that arrived before the result's window (warmup_s) are left out here, once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from policies.base import Slo
from simulator.kernel.samples import Samples
from simulator.workload.traces import Floats

OK, FAILED, TIMED_OUT, UNFINISHED = range(4)
STATUS_NAMES = ("ok", "failed", "timed_out", "unfinished")
_HOUR_S = 3600.0
_HOUR_REQUESTS = 500
"""An hour with fewer requests is not judged: its share would be noise."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Requests that ended (or were cut off): arrays of one length, seconds on the scenario's clock.

    `ttft_s` is NaN where no token came; `end_s` is when it ended (UNFINISHED: when the simulation did).
    """

    arrival_s: Floats
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    ttft_s: Floats
    end_s: Floats
    queue_s: Floats
    status: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.arrival_s)

    def select(self, which: NDArray[np.bool_]) -> Ended:
        return self if which.all() else Ended(*(getattr(self, name)[which] for name in self.__slots__))

    def part(self, which: slice) -> Ended:
        return Ended(*(getattr(self, name)[which].copy() for name in self.__slots__))

    @classmethod
    def joined(cls, parts: Sequence[Ended]) -> Ended:
        """One after the other; at least one."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))

    @property
    def e2e_s(self) -> Floats:
        return self.end_s - self.arrival_s

    @property
    def mean_itl_s(self) -> Floats:
        """Mean time between tokens; NaN with fewer than two tokens."""
        with np.errstate(divide="ignore", invalid="ignore"):
            itl_s: Floats = np.where(
                self.output_tokens > 1, (self.e2e_s - self.ttft_s) / (self.output_tokens - 1), np.nan
            )
        return itl_s

    def within(self, slo: Slo) -> NDArray[np.bool_]:
        """Completed, with TTFT and mean ITL within what was promised."""
        good: NDArray[np.bool_] = self.status == OK
        if slo.ttft_s is not None:
            good = good & (self.ttft_s <= slo.ttft_s)
        if slo.itl_s is not None:
            good = good & ~(self.mean_itl_s > slo.itl_s)
        return good


class Batches:
    """Gathers ended requests into batches of one size, whatever pieces they come in: counting few at a time is slow.

    Sums of floats depend on where one batch ends, and so neither on ticks nor on who else looks at the requests.
    """

    def __init__(self, take: Callable[[Ended], None], size: int = 4096) -> None:
        self._take = take
        self._size = size
        self._parts: list[Ended] = []
        self._held = 0

    def add(self, ended: Ended) -> None:
        """In the order in which they ended."""
        if not len(ended):
            return
        self._parts.append(ended)
        self._held += len(ended)
        if self._held < self._size:
            return
        everything = Ended.joined(self._parts)
        whole = self._held - self._held % self._size
        for start in range(0, whole, self._size):
            self._take(everything.part(slice(start, start + self._size)))
        self._held -= whole
        self._parts = [everything.part(slice(whole, None))] if self._held else []

    def close(self) -> None:
        """Hand over what is left."""
        if self._parts:
            self._take(Ended.joined(self._parts))
        self._parts, self._held = [], 0


@dataclass(slots=True)
class Outcomes:
    """One deployment's requests that arrived in [since_s, until_s)."""

    slo: Slo
    since_s: float
    until_s: float
    counts: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    within_slo: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    ttft_s: Samples = field(default_factory=Samples)
    itl_s: Samples = field(default_factory=Samples)
    e2e_s: Samples = field(default_factory=Samples)
    queue_s: Samples = field(default_factory=Samples)
    misses: NDArray[np.int64] = field(init=False)
    """TTFT misses by the second in which the promise was broken."""
    waits_s: Floats = field(init=False)
    """What those requests waited in all, by the same second."""
    by_hour: NDArray[np.int64] = field(init=False)
    """Requests and those within the SLO, by clock hour of arrival."""

    def __post_init__(self) -> None:
        seconds = int(np.ceil(self.until_s)) + 1
        self.misses = np.zeros(seconds, np.int64)
        self.waits_s = np.zeros(seconds)
        self.by_hour = np.zeros((int(self.until_s // _HOUR_S) + 1, 2), np.int64)

    @property
    def requests(self) -> int:
        return sum(self.counts)

    def add(self, ended: Ended) -> None:
        if not len(ended):
            return
        ended = ended.select(ended.arrival_s >= self.since_s)
        good = ended.within(self.slo)
        self.within_slo += int(good.sum())
        for status in range(4):
            self.counts[status] += int((ended.status == status).sum())
        hours = np.minimum(ended.arrival_s // _HOUR_S, len(self.by_hour) - 1).astype(np.int64)
        count = len(self.by_hour)
        self.by_hour[:, 0] += np.bincount(hours, minlength=count)
        self.by_hour[:, 1] += np.bincount(hours[good], minlength=count)
        self._add_completed(ended.select(ended.status == OK))
        self._add_misses(ended)

    def _add_completed(self, done: Ended) -> None:
        self.prompt_tokens += int(done.prompt_tokens.sum())
        self.output_tokens += int(done.output_tokens.sum())
        self.ttft_s.add(done.ttft_s)
        itl_s = done.mean_itl_s
        self.itl_s.add(itl_s[~np.isnan(itl_s)])
        self.e2e_s.add(done.e2e_s)
        self.queue_s.add(done.queue_s)

    def _add_misses(self, ended: Ended) -> None:
        """A TTFT miss counts in the second in which the promise was broken: arrival + limit, or an earlier failure."""
        if self.slo.ttft_s is None:
            return
        waited_s = np.where(np.isnan(ended.ttft_s), ended.e2e_s, ended.ttft_s)
        late = (waited_s > self.slo.ttft_s) | (np.isnan(ended.ttft_s) & (ended.status != UNFINISHED))
        broken_s = ended.arrival_s[late] + np.minimum(waited_s[late], self.slo.ttft_s)
        second = np.clip(broken_s, 0, len(self.misses) - 1).astype(np.int64)
        np.add.at(self.misses, second, 1)
        np.add.at(self.waits_s, second, waited_s[late])

    @property
    def attainment_fraction(self) -> float | None:
        return self.within_slo / self.requests if self.requests else None

    @property
    def worst_hour_fraction(self) -> float | None:
        """Over clock hours with enough requests; None when there is none."""
        enough = self.by_hour[self.by_hour[:, 0] >= _HOUR_REQUESTS]
        return float((enough[:, 1] / enough[:, 0]).min()) if len(enough) else None


@dataclass(frozen=True, slots=True)
class ColdStarts:
    """Replica starts by their effect on users; the misses and waiting that belong to exposed ones."""

    hidden: int
    exposed: int
    cancelled: int
    missed_requests: int
    waited_s: float
    events: tuple[tuple[float, str], ...] = ()
    """When each start ended, and what it was: hidden, exposed or cancelled."""


@dataclass(frozen=True, slots=True)
class StartWindow:
    """A start from one lead-time p50 before it was asked for until it was RUNNING, withdrawn or cut off."""

    from_s: float
    to_s: float
    cancelled: bool


def cold_starts(windows: list[StartWindow], outcomes: Outcomes) -> ColdStarts:
    """Exposed: a TTFT promise of the deployment was broken within the window (to the second)."""
    last = len(outcomes.misses) - 1
    sums = np.concatenate(([0], np.cumsum(outcomes.misses)))
    noticed = np.zeros(len(outcomes.misses), dtype=bool)
    events: list[tuple[float, str]] = []
    for window in windows:
        low, high = (int(np.clip(np.floor(t), 0, last)) for t in (window.from_s, window.to_s))
        if sums[high + 1] > sums[low]:
            kind = "exposed"
            noticed[low : high + 1] = True
        else:
            kind = "cancelled" if window.cancelled else "hidden"
        events.append((window.to_s, kind))
    kinds = [kind for _, kind in events]
    return ColdStarts(
        hidden=kinds.count("hidden"),
        exposed=kinds.count("exposed"),
        cancelled=kinds.count("cancelled"),
        missed_requests=int(outcomes.misses[noticed].sum()),
        waited_s=float(outcomes.waits_s[noticed].sum()),
        events=tuple(events),
    )
