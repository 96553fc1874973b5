"""A deployment's data plane as the control plane wants it: Serve's replica ids, figures by process, ended requests.

A thin layer over `DataPlane`: it simulates nothing, translates ids, and remembers totals at the ends of the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from autoscaler.model import Histogram
from policies.engines import EngineProfile
from simulator.dataplane import CompletedRequests, Counters, DataPlane, Gauges
from simulator.outcomes import OK, Ended
from simulator.telemetry import HandleFigures, ReplicaFigures
from simulator.workload import Requests


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


@dataclass(frozen=True, slots=True)
class _Look:
    """Gauges and counters at one moment, with each replica's place in them."""

    at_s: float
    gauges: Gauges
    counters: Counters
    gauge_of: dict[int, int]
    counter_of: dict[int, int]


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
        self._look: _Look | None = None
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
        self._look = None

    def add_replica(self, replica_id: str, now_s: float) -> None:
        self._numbers[replica_id] = len(self._numbers)
        self._plane.add_replica(self._numbers[replica_id], now_s)
        self._look = None

    def drain_replica(self, replica_id: str, now_s: float) -> None:
        self._plane.drain_replica(self._numbers[replica_id], now_s)
        self._look = None

    def kill_replica(self, replica_id: str, now_s: float) -> None:
        self._plane.kill_replica(self._numbers[replica_id], now_s)
        self._look = None

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
        look = self._seen()
        return HandleFigures(
            float(look.gauges.queued), float(look.gauges.ongoing.sum()), float(look.counters.arrivals_total)
        )

    def replica_figures(self, replica_id: str) -> ReplicaFigures:
        """A replica that has run; one that is gone shows its last counters and empty gauges."""
        look, number = self._seen(), self._numbers[replica_id]
        i, j = look.counter_of[number], look.gauge_of.get(number)
        c, g = look.counters, look.gauges
        return ReplicaFigures(
            ongoing=0.0 if j is None else float(g.ongoing[j]),
            running=0.0 if j is None else float(g.running[j]),
            waiting=0.0 if j is None else float(g.waiting[j]),
            kv_usage_fraction=0.0 if j is None else float(g.kv_usage_fraction[j]),
            prompt_tokens=float(c.prompt_tokens_total[i]),
            output_tokens=float(c.output_tokens_total[i]),
            cached_tokens=float(c.cached_prompt_tokens_total[i]),
            finished=float(c.finished_total[i]),
            preemptions=float(c.preemptions_total[i]),
            ttft=_histogram(c.ttft_edges_s, c.ttft_counts[i]),
            itl=_histogram(c.itl_edges_s, c.itl_counts[i]),
            ttft_sum_s=float(c.ttft_sum_s[i]),
            itl_sum_s=float(c.itl_sum_s[i]),
        )

    def waiting_in_engines(self) -> int:
        return int(self._seen().gauges.waiting.sum())

    def highest_kv_usage_fraction(self) -> float | None:
        usage = self._seen().gauges.kv_usage_fraction
        return float(usage.max()) if len(usage) else None

    def _seen(self) -> _Look:
        if self._look is None or self._look.at_s != self._now_s:
            gauges, counters = self._plane.gauges(self._now_s), self._plane.counters()
            gauge_of = {int(r): i for i, r in enumerate(gauges.replica.tolist())}
            counter_of = {int(r): i for i, r in enumerate(counters.replica.tolist())}
            self._look = _Look(self._now_s, gauges, counters, gauge_of, counter_of)
        return self._look


def _histogram(edges_s: tuple[float, ...], counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Histogram:
    return Histogram((*edges_s, float("inf")), tuple(np.cumsum(counts).astype(np.float64).tolist()))


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
