"""Sums since the start of how it went: requests held against the SLO, cold starts hidden or exposed.

Reads plans in order and decides nothing; lost at a restart, as counters may be. Pure.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from autoscaler.model import Observation, Plan
from policies.base import DeploymentKey

StartOutcome = Literal["hidden", "exposed", "cancelled"]
START_OUTCOMES: tuple[StartOutcome, ...] = ("hidden", "exposed", "cancelled")


@dataclass(slots=True)
class _Pending:
    """Starts of one deployment that are under way, by when they were asked for."""

    starts: Counter[float] = field(default_factory=Counter)
    exposed: set[float] = field(default_factory=set)
    """Those during which a request missed its TTFT."""
    running: int | None = None


@dataclass(slots=True)
class Score:
    """Counters by deployment. What is gone from the plan keeps its sums."""

    requests: dict[DeploymentKey, float] = field(default_factory=dict)
    missed: dict[DeploymentKey, float] = field(default_factory=dict)
    starts: Counter[tuple[DeploymentKey, StartOutcome]] = field(default_factory=Counter)
    _judged_at_s: dict[DeploymentKey, float] = field(default_factory=dict)
    _pending: dict[DeploymentKey, _Pending] = field(default_factory=dict)

    def take_in(self, plan: Plan) -> None:
        """The next tick's plan."""
        for seen in plan.observations:
            missed_ttft = self._take_in_requests(seen)
            if seen.running is not None:
                self._take_in_starts(seen, missed_ttft)

    def _take_in_requests(self, seen: Observation) -> bool:
        """Whether a request missed its TTFT since the metrics before; metrics seen twice count once."""
        self.requests.setdefault(seen.key, 0.0)
        self.missed.setdefault(seen.key, 0.0)
        as_of_s, judged = seen.metrics_as_of_s, seen.judged
        if judged is None or as_of_s is None or as_of_s <= self._judged_at_s.get(seen.key, float("-inf")):
            return False
        self._judged_at_s[seen.key] = as_of_s
        self.requests[seen.key] += judged.requests
        self.missed[seen.key] += judged.missed
        return judged.missed_ttft >= 0.5  # less than half a request is the histogram's rounding

    def _take_in_starts(self, seen: Observation, missed_ttft: bool) -> None:
        """A start that is gone has ended if there are more replicas running, else it was cancelled."""
        pending = self._pending.setdefault(seen.key, _Pending())
        now = Counter(start.asked_at_s for start in seen.starting)
        if missed_ttft:
            pending.exposed |= set(pending.starts) | set(now)
        gained = 0 if pending.running is None or seen.running is None else max(0, seen.running - pending.running)
        for asked_at_s in sorted((pending.starts - now).elements()):
            outcome: StartOutcome = "cancelled"
            if gained > 0:
                gained -= 1
                outcome = "exposed" if asked_at_s in pending.exposed else "hidden"
            self.starts[seen.key, outcome] += 1
        pending.starts, pending.running = now, seen.running
        pending.exposed &= set(now)
