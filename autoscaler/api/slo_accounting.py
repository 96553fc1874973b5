"""Sums since the start of how it went: requests held against the SLO, cold starts hidden or exposed.

A start is exposed when a request of its deployment missed its TTFT while it was pending, or would have been had it been
asked for one median lead time earlier. Live, a miss is known only when the late first token comes, which for a request
that waited for this very replica is after it runs: a start is judged a while after its end, and misses of that while
count as its own. Requests that never got a token are not seen. The simulator judges by the requests themselves.

Of a start that fell into a gap between two looks nothing is said.

Reads plans in order and decides nothing; lost at a restart, as counters may be. Pure.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Literal

from autoscaler.core.types import EndedStart, Observation, Plan
from policies.base import DeploymentKey

StartOutcome = Literal["hidden", "exposed", "cancelled"]
START_OUTCOMES: tuple[StartOutcome, ...] = ("hidden", "exposed", "cancelled")

AFTERWARDS_S = 30.0
"""Misses told so long after a start's end belong to it: the queue drains, and metrics come late."""
_NO_METRICS_S = 300.0
"""Without metrics so long after its end a start is judged by what is known."""
_MISSES_KEPT = 10_000


@dataclass(slots=True)
class _Deployment:
    """What verdicts are made of."""

    seen_until_s: float | None = None
    """How far metrics have told of misses."""
    missed: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_MISSES_KEPT))
    """Intervals in which some request missed its TTFT."""
    pending: list[tuple[float, EndedStart]] = field(default_factory=list)
    """Starts that ended well and are not judged yet, each with the time from which a miss exposes it."""


@dataclass(slots=True)
class SloAccounting:
    """Counters by deployment. What is gone from the plan keeps its sums until it is forgotten."""

    requests: dict[DeploymentKey, float] = field(default_factory=dict)
    missed: dict[DeploymentKey, float] = field(default_factory=dict)
    starts: Counter[tuple[DeploymentKey, StartOutcome]] = field(default_factory=Counter)
    _deployments: dict[DeploymentKey, _Deployment] = field(default_factory=dict)

    def ingest(self, plan: Plan) -> None:
        """The next tick's plan."""
        for seen in plan.observations:
            self._ingest_requests(seen)
        for start in plan.ended:
            if not start.watched:
                continue
            if not start.runs:
                self.starts[start.key, "cancelled"] += 1
                continue
            times = plan.lead_times.get(start.key)
            lead_s = times.path(start.path).median_s if times is not None else 0.0
            self._of(start.key).pending.append((start.asked_at_s - lead_s, start))
        for key, known in self._deployments.items():
            self._judge(key, known, plan.now_s)

    def forget(self, key: DeploymentKey) -> None:
        """Its sums are gone, as after a restart."""
        self.requests.pop(key, None)
        self.missed.pop(key, None)
        self._deployments.pop(key, None)
        for outcome in START_OUTCOMES:
            del self.starts[key, outcome]

    def _of(self, key: DeploymentKey) -> _Deployment:
        return self._deployments.setdefault(key, _Deployment())

    def _ingest_requests(self, seen: Observation) -> None:
        """Metrics seen twice count once."""
        self.requests.setdefault(seen.key, 0.0)
        self.missed.setdefault(seen.key, 0.0)
        known, as_of_s, judged = self._of(seen.key), seen.metrics_as_of_s, seen.judged
        before_s = known.seen_until_s
        if as_of_s is None or (before_s is not None and as_of_s <= before_s):
            return
        known.seen_until_s = as_of_s
        if judged is None:
            return
        self.requests[seen.key] += judged.requests
        self.missed[seen.key] += judged.missed
        if judged.missed_ttft >= 0.5:  # less than half a request is the histogram's rounding
            known.missed.append((as_of_s if before_s is None else before_s, as_of_s))

    def _judge(self, key: DeploymentKey, known: _Deployment, now_s: float) -> None:
        waiting = []
        for since_s, start in known.pending:
            until_s = start.ended_at_s + AFTERWARDS_S
            if any(begin_s < until_s and end_s > since_s for begin_s, end_s in known.missed):
                self.starts[key, "exposed"] += 1
            elif (known.seen_until_s or 0.0) >= until_s or now_s >= start.ended_at_s + _NO_METRICS_S:
                self.starts[key, "hidden"] += 1
            else:
                waiting.append((since_s, start))
        known.pending = waiting
        while known.missed and known.missed[0][1] < now_s - 86400.0:
            known.missed.popleft()
