"""The shell around the controller: it keeps its grid and goes on, whatever fails out there or in here."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from autoscaler.api.server import Server
from autoscaler.common.errors import ConfigError
from autoscaler.core import journal
from autoscaler.core.build import new_controller
from autoscaler.core.checkpoint import from_rows, row_names, to_rows
from autoscaler.core.state import ControllerState, DemandMemory, DeploymentMemory
from autoscaler.core.types import PauseState, Plan, Signals
from autoscaler.runtime.clock import SystemClock
from autoscaler.runtime.journal_file import JournalWriter, read_journal
from autoscaler.runtime.loop import Runtime
from autoscaler.runtime.restore import restored_controller
from autoscaler.runtime.store import StateStore
from tests.fakes.shell import (
    LLM,
    START_S,
    Fleet,
    FleetActuator,
    FleetSource,
    JumpingClock,
    settings,
)
from tests.wanting import WantingPolicy


@dataclass
class Shell:
    """A runtime over fakes; ticks happen as fast as the clock jumps."""

    folder: Path
    fleet: Fleet = field(default_factory=Fleet)
    policy: WantingPolicy = field(default_factory=lambda: WantingPolicy({LLM: 1}))
    clock: JumpingClock = field(default_factory=JumpingClock)

    def __post_init__(self) -> None:
        self.inventory = FleetSource(self.fleet, "inventory")
        self.metrics = FleetSource(self.fleet, "metrics")
        self.actuator = FleetActuator(self.fleet)
        self.store = StateStore(self.folder / "state.sqlite")
        self.journal = JournalWriter(self.folder / "journal")
        self.config = settings(tick_s=0.05)  # the waits for hanging sources and actuators are shares of it
        self.controller = new_controller(self.config, None, self.policy)
        self.runtime = Runtime(
            self.config, self.controller, [self.inventory, self.metrics], [self.actuator],
            self.store, self.journal, clock=self.clock,
        )  # fmt: skip

    async def ticks(self, count: int) -> None:
        for _ in range(count):
            await self.runtime.tick()
            self.clock.time_s += self.config.tick_s

    async def run(self, ticks: int) -> None:
        """`run` from start to end, stopped after so many ticks."""
        self.clock.when_waiting = lambda: self.runtime.stop() if len(self.clock.waits) >= ticks else None
        await self.runtime.run()

    def recorded(self) -> list[dict[str, object]]:
        return [record.data for record in read_journal(self.folder / "journal")]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


# ---------------------------------------------------------------- a tick


async def test_a_tick_reads_decides_applies_records_and_publishes(shell: Shell) -> None:
    shell.policy.wants[LLM] = 3
    await shell.ticks(1)
    assert shell.fleet.targets[LLM] == 3
    telemetry = shell.runtime.telemetry
    assert telemetry.plan is not None
    assert telemetry.signals is not None
    assert telemetry.outcomes["fake", "ok"] == 1
    assert telemetry.last_decision(LLM) is not None
    first, second = shell.recorded()
    assert (first["kind"], second["kind"], second["tick"]) == ("checkpoint", "tick", 1)
    assert second["applied"] == {"chat/llm": {"actuator": "fake", "outcome": "ok", "value": 3, "why": ""}}


async def test_what_the_journal_recorded_gives_the_same_decisions_again(shell: Shell) -> None:
    for wants in (3, 5, 2):
        shell.policy.wants[LLM] = wants
        await shell.ticks(1)
    checkpoint, *ticks = shell.recorded()
    again = new_controller(shell.config, journal.decode_state(checkpoint), shell.policy)
    for tick in ticks:
        shell.policy.wants[LLM] = tick["proposals"]["chat/llm"]  # type: ignore[index]
        plan = again.step(journal.decode_signals(tick), tick["now_s"])  # type: ignore[arg-type]
        found = journal.tick_record(journal.decode_signals(tick), plan)
        assert journal.comparable(found) == journal.comparable(tick)


async def test_a_source_that_fails_is_unknown_and_the_tick_goes_on(shell: Shell) -> None:
    shell.policy.wants[LLM] = 3
    shell.inventory.broken = "answered 503"
    await shell.ticks(2)
    assert shell.fleet.targets[LLM] == 1
    assert shell.runtime.telemetry.signals is not None
    assert shell.runtime.telemetry.signals.sources[0].why == "answered 503"
    shell.inventory.broken = ""
    await shell.ticks(1)
    assert shell.fleet.targets[LLM] == 3


async def test_a_source_that_hangs_does_not_delay_the_tick(shell: Shell) -> None:
    shell.policy.wants[LLM] = 3
    shell.metrics.hang = True
    await shell.ticks(2)
    assert shell.runtime.telemetry.plan is not None
    assert shell.runtime.telemetry.plan.tick == 2
    await shell.runtime._close()


@pytest.mark.parametrize("raises", [ValueError("two\nlines"), RuntimeError("x")])
async def test_a_step_that_raises_changes_nothing_is_logged_once_and_the_loop_goes_on(
    shell: Shell, raises: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    await shell.ticks(1)
    shell.actuator.plans.clear()
    shell.policy.raises = raises
    await shell.ticks(3)
    assert shell.actuator.plans == []
    assert shell.runtime.telemetry.failed_steps == 3
    assert sum("the decision failed" in record.message for record in caplog.records) == 1
    shell.policy.raises, shell.policy.wants[LLM] = None, 2
    await shell.ticks(1)
    assert shell.fleet.targets[LLM] == 2
    kinds = [record["kind"] for record in shell.recorded()]
    assert kinds == [
        "checkpoint",
        "tick",
        "checkpoint",
        "tick",
    ]  # after a failure replay starts anew


async def test_a_state_that_a_failed_step_left_behind_is_not_saved(shell: Shell) -> None:
    await shell.ticks(1)
    shell.policy.raises = ValueError("x")
    await shell.run(1)
    saved = StateStore(shell.folder / "state.sqlite").load_controller()
    assert saved is not None
    assert from_rows(saved).tick == 1


async def test_killed_after_the_first_tick_nothing_is_lost_of_a_state_saved_in_other_rows(
    shell: Shell,
) -> None:
    """As after an upgrade, where the policy's memory was one row, or another policy's rows lie there."""
    state, keys = shell.controller.state, [f"away/{i}" for i in range(5)]
    state.policy_state = {"deployments": {key: {"seen": 1} for key in keys}}
    state.deployments.update({key: DeploymentMemory(DemandMemory(calm_rps=3.0)) for key in keys})
    shell.store.save_controller({f"policy/{key}": b'{"other": 2}' for key in keys}, {f"policy/{key}" for key in keys})
    await shell.ticks(1)
    shell.store.close()
    saved = from_rows(StateStore(shell.store.path).load_controller() or {})
    assert saved.policy_state == state.policy_state
    assert [saved.deployments[key].demand.calm_rps for key in keys] == [3.0] * 5


async def test_an_actuator_that_raises_or_hangs_is_an_outcome(shell: Shell) -> None:
    shell.policy.wants[LLM] = 3
    shell.actuator.raises = KeyError("bug")
    shell.runtime._actuators = (shell.actuator, hanging := FleetActuator(shell.fleet, "hanging", hang=True))
    shell.runtime._apply_within_s = 0.01
    await shell.ticks(1)
    telemetry = shell.runtime.telemetry
    assert (telemetry.outcomes["fake", "actuatorerror"], telemetry.outcomes["hanging", "unavailable"]) == (1, 1)
    assert hanging.plans
    assert telemetry.plan is not None


async def test_the_wall_clock_set_back_does_not_take_the_controller_back(shell: Shell) -> None:
    await shell.ticks(1)
    shell.clock.wall_offset_s -= 3600
    await shell.ticks(1)
    assert shell.runtime.telemetry.plan is not None
    assert shell.runtime.telemetry.plan.now_s >= START_S


async def test_after_the_wall_clock_was_set_back_time_goes_on_until_the_two_meet(shell: Shell) -> None:
    await shell.ticks(1)
    shell.clock.wall_offset_s -= 0.1
    seen = []
    for _ in range(30):
        await shell.ticks(1)
        assert shell.runtime.telemetry.plan is not None
        seen.append(shell.runtime.telemetry.plan.now_s)
    steps = np.diff(seen)
    assert steps[:15] == pytest.approx(0.9 * shell.config.tick_s, abs=1e-4)
    assert steps[-5:] == pytest.approx(shell.config.tick_s, abs=1e-4)
    assert seen[-1] == pytest.approx(shell.clock.now_s() - shell.config.tick_s)


async def test_a_paused_deployment_is_left_alone_and_resumes(shell: Shell) -> None:
    shell.policy.wants[LLM] = 3
    shell.runtime.pause.set(LLM, True)
    await shell.ticks(2)
    assert shell.fleet.targets[LLM] == 1
    shell.runtime.pause.set(LLM, False)
    await shell.ticks(1)
    assert shell.fleet.targets[LLM] == 3


async def test_who_does_not_lead_plans_all_the_same_and_says_so(shell: Shell) -> None:
    shell.runtime._leader = lambda: False
    await shell.ticks(1)
    assert shell.actuator.plans[0].leader is False


async def test_a_lasting_trouble_is_logged_once_and_its_end_too(shell: Shell, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    shell.inventory.broken = "answered 503"
    await shell.ticks(3)
    shell.inventory.broken = ""
    await shell.ticks(2)
    about = [record.message for record in caplog.records if "source inventory" in record.message]
    assert about == ["source inventory is down: answered 503", "source inventory: well again"]


async def test_a_journal_that_cannot_be_written_stops_nobody(shell: Shell, caplog: pytest.LogCaptureFixture) -> None:
    (shell.folder / "journal").write_text("a file where a folder should be")
    shell.policy.wants[LLM] = 3
    await shell.ticks(3)
    assert shell.fleet.targets[LLM] == 3
    assert sum("without a journal" in record.message for record in caplog.records) == 1


async def test_a_memory_too_long_for_the_journal_is_left_out_of_it_and_said_once(
    shell: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    shell.runtime._journal = JournalWriter(shell.folder / "journal", max_bytes=5000)
    shell.policy.wants[LLM] = 3
    await shell.ticks(12)
    kinds = [record["kind"] for record in shell.recorded()]
    assert kinds.count("checkpoint") >= 1
    assert "tick" in kinds
    assert all(record.get("state", "") is None for record in shell.recorded() if record["kind"] == "checkpoint")
    assert sum("explained, not replayed" in record.message for record in caplog.records) == 1


async def test_a_checkpoint_is_encoded_beside_the_event_loop(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = journal.checkpoint_record

    def recorded(*given: object) -> object:
        seen.append(threading.current_thread() is threading.main_thread())
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(journal, "checkpoint_record", recorded)
    await shell.ticks(2)
    assert seen == [False]


async def test_a_state_file_that_cannot_be_written_stops_nobody(shell: Shell, caplog: pytest.LogCaptureFixture) -> None:
    shell.store.close()
    shell.clock.time_s += 100
    await shell.ticks(1)
    shell.clock.time_s += 100
    await shell.ticks(1)
    assert shell.runtime.telemetry.plan is not None
    assert sum("cannot be written" in record.message for record in caplog.records) == 1


# ---------------------------------------------------------------- the loop


async def test_ticks_are_on_a_fixed_grid(shell: Shell) -> None:
    await shell.run(4)
    assert shell.clock.waits == pytest.approx([0.05, 0.10, 0.15, 0.20])
    assert shell.runtime.telemetry.missed_ticks == 0


async def test_ticks_that_were_missed_are_skipped_and_counted(shell: Shell) -> None:
    def spend(now_s: float) -> object:
        shell.clock.time_s += 0.12 if len(shell.clock.waits) == 1 else 0.0  # the second tick takes more than two
        return original(now_s)

    original, shell.metrics._data = shell.metrics._data, spend  # type: ignore[method-assign]
    await shell.run(4)
    assert shell.clock.waits == pytest.approx([0.05, 0.20, 0.25, 0.30])
    assert shell.runtime.telemetry.missed_ticks == 2


async def test_who_begins_to_lead_while_reading_writes_only_after_reading_again(shell: Shell) -> None:
    answers = iter([False, True, True, True])
    shell.runtime._leader = lambda: next(answers)
    await shell.ticks(2)
    assert [plan.leader for plan in shell.actuator.plans] == [False, True]


async def test_background_work_runs_beside_the_ticks_and_its_bug_stops_nobody(
    shell: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    ended = []

    async def lasting() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled at the end")

    async def broken() -> None:
        raise ValueError("bug")

    shell.runtime._background = (lasting, broken)
    await shell.run(3)
    assert ended == ["cancelled at the end"]
    assert "background work ended: ValueError: bug" in caplog.text
    assert shell.controller.state.tick == 3


async def test_writing_out_the_state_and_refits_leave_the_loops_thread(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, refitted = [], threading.Event()

    def watched(state: ControllerState, part: int, parts: int) -> dict[str, bytes]:
        written.append(threading.get_ident())
        return to_rows(state, part, parts)

    class Due:
        def needs_refit(self) -> bool:
            return not refitted.is_set()

        def refit(self) -> None:
            assert threading.get_ident() != loop
            refitted.set()

        def state(self) -> dict[str, str]:
            return {}

    loop = threading.get_ident()
    monkeypatch.setattr("autoscaler.runtime.loop.to_rows", watched)
    shell.controller.state.forecasters["away/llm"] = Due()
    await shell.ticks(2)
    assert await asyncio.to_thread(refitted.wait, 30.0)
    assert len(written) == 2
    assert loop not in written


async def test_the_end_saves_the_state_and_closes_everything(shell: Shell) -> None:
    await shell.run(2)
    assert (shell.inventory.closed, shell.metrics.closed, shell.actuator.closed) == (True, True, True)
    saved = StateStore(shell.folder / "state.sqlite")
    controller = restored_controller(shell.config, saved, shell.policy)
    assert controller.state.tick == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_gracefully(shell: Shell, number: signal.Signals) -> None:
    shell.clock.when_waiting = lambda: os.kill(os.getpid(), number) if len(shell.clock.waits) == 2 else None
    await asyncio.wait_for(shell.runtime.run_until_signalled(), 60)
    assert shell.actuator.closed
    assert StateStore(shell.folder / "state.sqlite").load_controller() is not None


async def test_a_port_that_is_taken_is_one_clear_error_and_closes_everything(shell: Shell) -> None:
    other = Server(shell.runtime.telemetry, shell.runtime.pause, port=0)
    await other.start()
    shell.runtime._server = Server(shell.runtime.telemetry, shell.runtime.pause, port=other.port)
    with pytest.raises(ConfigError, match=str(other.port)):
        await shell.runtime.run()
    assert shell.actuator.closed
    await other.stop()


# ---------------------------------------------------------------- starting again


@pytest.mark.parametrize(
    "saved",
    [
        {"head": b"garbage"},
        {"head": b'{"version": 999}'},
        {"near/default/local/chat/llm": b"{}"},
        {**to_rows(ControllerState()), "near/a/b/c/d": b'{"supply": 7}'},
        {**to_rows(ControllerState()), "policy/a/b/c/d": b"{}", "policy": b"null"},
    ],
)
def test_a_saved_state_that_cannot_be_used_is_kept_beside_with_a_warning(
    tmp_path: Path, saved: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    store = StateStore(tmp_path / "s.sqlite")
    store.save_controller(saved, saved)
    controller = restored_controller(settings(), store, WantingPolicy({LLM: 1}))
    assert controller.state.tick == 0
    assert "begins anew" in caplog.text
    store.save_controller(to_rows(controller.state), row_names(controller.state))
    assert StateStore(tmp_path / "s.sqlite.unreadable-1").load_controller() == saved


async def test_a_pause_survives_a_restart(shell: Shell) -> None:
    shell.runtime.pause.set(LLM, True)
    await shell.run(1)
    again = Shell(shell.folder)
    assert again.runtime.pause.state == PauseState(False, frozenset({LLM}))
    again.policy.wants[LLM] = 3
    await again.ticks(1)
    assert again.fleet.targets[LLM] == 1


async def test_the_system_clock_waits_no_longer_than_until_the_stop() -> None:
    stop = asyncio.Event()
    stop.set()
    clock = SystemClock()
    await asyncio.wait_for(clock.wait(stop, clock.monotonic_s() + 3600), 60)


# ---------------------------------------------------------------- the switch


async def test_who_pauses_while_a_tick_is_under_way_is_not_surprised_by_its_writes(shell: Shell) -> None:
    await shell.ticks(1)
    written = len(shell.actuator.plans)
    shell.policy.wants[LLM] = 5
    decide = shell.runtime._decide

    def paused_meanwhile(signals: Signals, now_s: float) -> Plan | None:
        plan = decide(signals, now_s)
        shell.runtime.pause.set(None, True)
        return plan

    shell.runtime._decide = paused_meanwhile  # type: ignore[method-assign]
    await shell.ticks(1)
    assert len(shell.actuator.plans) == written
