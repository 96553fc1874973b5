"""What the log of ticks remembers of what it said."""

from __future__ import annotations

from autoscaler.core.types import Applied, DeploymentPlan, Plan
from autoscaler.runtime.messages import TickLog
from policies.base import DeploymentKey


def test_what_was_said_of_names_that_come_and_go_is_forgotten() -> None:
    said = TickLog()
    for tick in range(60):
        keys = [DeploymentKey("hostile", "svc", f"{tick}-{i}", "llm") for i in range(100)]
        deployments = tuple(DeploymentPlan(key, 2, 1, 2) for key in keys)
        outcomes = ("ok", "rejected", "unchanged")
        applied = {str(key): Applied("ray_serve", str(key), outcomes[i % 3], 2) for i, key in enumerate(keys)}
        said.decisions(Plan(tick, 5.0 * tick, True, False, deployments), applied)
    assert len(said.last) <= 1000 + 2 * 100
    assert f"level {keys[0]}" in said.last
