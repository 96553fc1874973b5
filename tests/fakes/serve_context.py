"""What Serve's controller hands to a policy, as far as the policy looks at it, and a policy that reads a set plan."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from leadtime_serve_policy import LeadtimePolicy, PublishedPlan, parse_plan, sighting

PERIOD_S = 5.0


@dataclass
class Config:
    target_ongoing: float = 2.0

    def get_target_ongoing_requests(self) -> float:
        return self.target_ongoing


@dataclass
class Context:
    """Serve's AutoscalingContext: `requests` are queued or running."""

    current_num_replicas: int = 2
    target_num_replicas: int = 2
    requests: Any = 0.0
    app_name: str = "chat"
    deployment_name: str = "llm"
    config: Any = field(default_factory=Config)

    @property
    def total_num_requests(self) -> Any:
        if isinstance(self.requests, Exception):
            raise self.requests
        return self.requests


def plan_text(issued_at_s: float = 1000.0, **changes: Any) -> bytes:
    document = {
        "version": 1, "tick": 7, "issued_at_s": issued_at_s, "period_s": PERIOD_S, "acts": True,
        "targets": {"chat/llm": 3}, "withheld": {}, "held": [],
    }  # fmt: skip
    return json.dumps(document | changes).encode()


def plan(issued_at_s: float = 1000.0, **changes: Any) -> PublishedPlan:
    return parse_plan(plan_text(issued_at_s, **changes))


class Followed:
    """A policy with a clock of its own, whose reader sees what the test says; its thread is never started."""

    def __init__(self, **kwargs: Any) -> None:
        self.policy = LeadtimePolicy(**{"plan": "http://leadtime.test:8080", **kwargs})
        self.now_s = 0.0
        self.policy._clock_s = lambda: self.now_s
        self.policy._started = True
        self.context = Context()

    def see(self, issued_at_s: float, **changes: Any) -> None:
        """The controller's word at this moment; its wall clock is 1000 s ahead of the policy's clock."""
        reader = self.policy._reader
        reader.seen = sighting(reader.seen, plan(issued_at_s, **changes), self.now_s, 1000.0 + self.now_s)
        reader.why = ""

    def answer(self) -> int:
        """One call, whose answer becomes the level in force."""
        level, state = self.policy(self.context)
        assert state == {}
        self.context.target_num_replicas = level
        return level
