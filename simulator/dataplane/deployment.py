"""A deployment's data plane as the control plane wants it: Serve's replica ids, figures by process, ended requests.

A thin layer over `DataPlane`: it simulates nothing, translates ids, and remembers totals at the ends of the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate

import numpy as np

from autoscaler.core.types import Histogram
from policies.capacity import EngineProfile
from simulator.dataplane.plane import CompletedRequests, DataPlane
from simulator.dataplane.records import SHOWN
from simulator.engine.layout import ITL_EDGES_S, TTFT_EDGES_S, Ints
from simulator.kernel.outcomes import OK, Ended
from simulator.telemetry.figures import HandleFigures, ReplicaFigures
from simulator.workload.workload import Requests

_TTFT_EDGES_S = (*TTFT_EDGES_S, float("inf"))
_ITL_EDGES_S = (*ITL_EDGES_S, float("inf"))


@dataclass(frozen=True, slots=True)
class Totals:
    """What all engines of a deployment did in the result's window."""

    busy_s: float
    preemptions: int
    recomputed_tokens: int

    def minus(self, other: Totals) -> Totals:
        return Totals(
            self.busy_s - other.busy_s,
            self.preemptions - other.preemptions,
            self.recomputed_tokens - other.recomputed_tokens,
        )


class Plane:
    """Engines and router of one deployment, by Serve's replica ids. `since_s`: where the result's window begins."""

    def __init__(
        self,
        profile: EngineProfile,
        *,
        max_ongoing_requests: int,
        request_timeout_s: float,
        seed: int,
        name: str,
        since_s: float,
    ) -> None:
        own_seed = int.from_bytes(blake2b(f"router/{name}/{seed}".encode(), digest_size=4).digest(), "little")
        self._plane = DataPlane(
            profile, max_ongoing_requests=max_ongoing_requests, request_timeout_s=request_timeout_s, seed=own_seed
        )
        self._numbers: dict[str, int] = {}
        self._now_s = 0.0
        self._shown: Ints | None = None
        """A line for each live replica, at `_now_s`; None: not asked for since then."""
        self._lines: dict[int, int] = {}
        """Which line is whose, by number."""
        self._before = Totals(0.0, 0, 0)
        self._since_s = since_s
        self._frozen: Totals | None = None

    # ------------------------------------------------------------ what happens

    def feed(self, requests: Requests) -> None:
        self._plane.feed(
            requests.arrival_s, requests.prompt_tokens, requests.output_tokens, requests.cached_prompt_tokens
        )

    def advance(self, until_s: float) -> None:
        if until_s <= self._now_s:
            return
        if self._now_s < self._since_s <= until_s:
            self._go(self._since_s)
            self._before = self._all_totals()
        self._go(until_s)

    def _go(self, until_s: float) -> None:
        self._plane.advance(until_s)
        self._now_s = until_s
        self._shown = None

    def add_replica(self, replica_id: str, now_s: float) -> None:
        self._numbers[replica_id] = len(self._numbers)
        self._plane.add_replica(self._numbers[replica_id], now_s)
        self._shown = None

    def drain_replica(self, replica_id: str, now_s: float) -> None:
        self._plane.drain_replica(self._numbers[replica_id], now_s)
        self._shown = None

    def kill_replica(self, replica_id: str, now_s: float) -> None:
        self._plane.kill_replica(self._numbers[replica_id], now_s)
        self._shown = None

    def freeze(self) -> None:
        """The window ends now; what engines do afterwards counts in no total."""
        self._frozen = self._all_totals()

    # ------------------------------------------------------------ what came out

    def take_ended(self) -> Ended:
        """Requests that ended since the last call."""
        done = self._plane.completed()
        return _ended(done, done.arrival_s + done.e2e_s)

    def take_unfinished(self) -> Ended:
        """Requests that are still inside."""
        inside = self._plane.unfinished()
        return _ended(inside, np.full(len(inside), self._now_s))

    def totals(self) -> Totals:
        return (self._frozen or self._all_totals()).minus(self._before)

    def _all_totals(self) -> Totals:
        c = self._plane.counters()
        return Totals(float(c.busy_s.sum()), int(c.preemptions_total.sum()), int(c.recomputed_tokens_total.sum()))

    # ------------------------------------------------------------ figures

    def ongoing(self, replica_id: str) -> int:
        return self._plane.ongoing(self._numbers[replica_id])

    def handle_figures(self) -> HandleFigures:
        plane = self._plane
        return HandleFigures(float(plane.queued), float(plane.ongoing_everywhere), float(plane.arrivals))

    def replica_figures(self, replica_id: str) -> ReplicaLoad:
        """A replica that has run; one that is gone shows its last counters and empty gauges."""
        number, shown = self._numbers[replica_id], self._seen()
        line = self._lines.get(number)
        return ReplicaLoad(self._plane.shown_last(number) if line is None else shown[line].copy())

    def waiting_in_engines(self) -> int:
        return int(self._seen()[:, SHOWN.waiting].sum())

    def highest_kv_usage_fraction(self) -> float | None:
        shown = self._seen()
        return float(shown.view(np.float64)[:, SHOWN.kv_usage].max()) if len(shown) else None

    def _seen(self) -> Ints:
        if self._shown is None:
            self._shown = self._plane.shown()
            self._lines = {number: i for i, number in enumerate(self._shown[:, 0].tolist())}
        return self._shown


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """One replica's figures at a moment, from the engine's numbers; computed when they are read."""

    line: Ints

    def running_and_tokens(self) -> tuple[float, float]:
        line = self.line
        return float(line[SHOWN.running]), float(line[SHOWN.prompt] + line[SHOWN.output])

    def figures(self) -> ReplicaFigures:
        whole: list[float] = self.line.astype(np.float64).tolist()
        real: list[float] = self.line.view(np.float64).tolist()
        of_requests = bool(self.line[SHOWN.mean_itl_counts].any())
        return ReplicaFigures(
            whole[SHOWN.ongoing],
            whole[SHOWN.running],
            whole[SHOWN.waiting],
            real[SHOWN.kv_usage],
            whole[SHOWN.prompt],
            whole[SHOWN.output],
            whole[SHOWN.cached],
            whole[SHOWN.finished],
            whole[SHOWN.preemptions],
            _histogram(_TTFT_EDGES_S, whole[SHOWN.ttft_counts]),
            _histogram(_ITL_EDGES_S, whole[SHOWN.mean_itl_counts if of_requests else SHOWN.itl_counts]),
            real[SHOWN.ttft_sum],
            real[SHOWN.mean_itl_sum if of_requests else SHOWN.itl_sum],
            of_requests,
        )


def _histogram(edges_s: tuple[float, ...], counts: list[float]) -> Histogram:
    return Histogram(edges_s, tuple(accumulate(counts)))


def _ended(done: CompletedRequests, end_s: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Ended:
    # A token that left the engine just before the timeout or the failure did not reach the client any more.
    cut_off = (done.status != OK) & (done.ttft_s > end_s - done.arrival_s)
    ttft_s = np.where(cut_off, np.nan, done.ttft_s)
    return Ended(
        arrival_s=done.arrival_s,
        prompt_tokens=done.prompt_tokens,
        output_tokens=done.output_tokens,
        ttft_s=ttft_s,
        end_s=end_s,
        queue_s=done.queue_s,
        status=done.status.astype(np.int64),
    )
