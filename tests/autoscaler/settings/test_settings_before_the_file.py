"""Entries that annotations make stand before those of the file, come and go with their tick, and are in the journal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from autoscaler.cli.replay import replay
from autoscaler.core import journal
from autoscaler.core.build import new_controller
from autoscaler.core.types import ControllerConfig, DeploymentSettings, Plan, Signals
from policies.base import Slo
from policies.capacity.load import load_profile
from tests.autoscaler.build import inventory, metrics, signals

START_S = 1_790_000_000.0
FILE = ControllerConfig(
    deployments=(DeploymentSettings("chat/llm", min_replicas=1, max_replicas=8),),
    policy_name="static",
    policy_options={"replicas": 6},
    sha256="abc",
)
ANNOTATED = DeploymentSettings(
    "*/*/chat/llm", load_profile("llama-3.1-8b/h100/tp1"), max_replicas=4, slo=Slo(1.0, None, 0.95)
)


def given(now_s: float, *settings: DeploymentSettings) -> Signals:
    return replace(signals(inventory(now_s, running=2), metrics(now_s, waiting=1.0)), settings=settings)


def target(plan: Plan) -> int | None:
    return plan.deployments[0].target


def test_an_entry_of_the_tick_goes_before_the_files_and_goes_with_it() -> None:
    controller = new_controller(FILE)
    assert target(controller.step(given(START_S), START_S)) == 6
    assert target(new_controller(FILE).step(given(START_S, ANNOTATED), START_S)) == 4
    controller.take_settings((ANNOTATED,))
    assert controller.config.deployments == (ANNOTATED, *FILE.deployments)
    controller.take_settings(())
    assert controller.config == FILE


def test_they_are_in_the_journal_and_a_replay_agrees(tmp_path: Path) -> None:
    controller = new_controller(FILE)
    lines = [journal.encode(journal.checkpoint_record(controller.state, FILE))]
    for i, settings in enumerate([(), (ANNOTATED,), (ANNOTATED,), ()]):
        seen = given(START_S + 5 * i, *settings)
        line = journal.encode(journal.tick_record(seen, controller.step(seen, START_S + 5 * i)))
        assert journal.decode_signals(json.loads(line)) == seen
        assert (b'"settings"' in line) == bool(settings)
        lines.append(line)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(lines))

    report = replay(path)
    assert (report.ticks, report.differing) == (4, 0)
