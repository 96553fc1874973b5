"""Writes small journals for the tests of explain and replay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoscaler.core import journal
from autoscaler.core.build import new_controller
from autoscaler.core.types import Applied, ControllerConfig, DeploymentSettings, PauseState
from tests.autoscaler.build import inventory, metrics, signals

START_S = 1_790_000_000.0
"""2026-09-21T14:13:20Z"""
CONFIG = ControllerConfig(
    deployments=(DeploymentSettings("chat/llm", min_replicas=1, max_replicas=8),),
    policy_name="static",
    policy_options={"replicas": 3},
    sha256="abc",
)


def records(running: Sequence[int], paused: Sequence[int] = (), config: ControllerConfig = CONFIG) -> list[bytes]:
    """The lines of a journal: a checkpoint, then one tick every 5 s with that many replicas running."""
    controller = new_controller(config)
    lines = [journal.encode(journal.checkpoint_record(controller.state, config))]
    for i, count in enumerate(running):
        now_s = START_S + 5 * i
        given = signals(
            inventory(now_s, running=count),
            metrics(now_s, arrivals=10.0 * i, waiting=2.0, ongoing=3.0),
            pause=PauseState(everything=i in paused),
        )
        plan = controller.step(given, now_s)
        applied = (Applied("recording", "chat/llm", "withheld", 3, "dry run"),)
        lines.append(journal.encode(journal.tick_record(given, plan, applied, {"step_s": 0.001 * i})))
    return lines


def write_journal(path: Path, running: Sequence[int], paused: Sequence[int] = ()) -> Path:
    path.write_bytes(b"".join(records(running, paused)))
    return path
