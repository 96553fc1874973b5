"""A journal line holds everything that a decision needs, and gives it back unchanged."""

from __future__ import annotations

import json

import pytest

from autoscaler.common.errors import JournalError
from autoscaler.core import journal
from autoscaler.core.build import new_controller
from autoscaler.core.state import ControllerState
from autoscaler.core.types import (
    Applied,
    DeploymentMetrics,
    Hint,
    Histogram,
    NodeSignal,
    PauseState,
    PoolSignals,
    SourceStatus,
)
from policies.base import ReplicaMetrics
from tests.autoscaler.build import KEY, Says, config, inventory, metrics, signals


def rich_metrics(now_s: float) -> DeploymentMetrics:
    return metrics(
        now_s,
        arrivals=12.0,
        ttft={"r0": Histogram((0.1, 1.0, float("inf")), (1.0, 2.0, 3.0))},
        replicas=(ReplicaMetrics("r0", 1.0, 2.0, 3.0, 0.25),),
    )


def rich_signals(now_s: float) -> object:
    return signals(
        inventory(now_s, running=1, starting=1),
        rich_metrics(now_s),
        pools=(PoolSignals("h100", now_s, (NodeSignal("n0", "ready", 1.0, 2.0, 8, 1, 1),)),),
        sources=(SourceStatus("ray_dashboard", True, now_s),),
        pause=PauseState(False, frozenset({KEY})),
        hints=(Hint("launch", KEY, 10.0, 20.0, rps=5.0),),
    )


def test_inputs_come_back_exactly_as_they_went_in() -> None:
    given = rich_signals(5.0)
    plan = new_controller(config(), policy=Says(2)).step(given, 5.0)  # type: ignore[arg-type]
    line = journal.encode(journal.tick_record(given, plan, (), {"step_s": 0.001}))  # type: ignore[arg-type]
    assert journal.decode_signals(json.loads(line)) == given


def test_a_line_is_one_line_with_sorted_keys() -> None:
    given = rich_signals(5.0)
    plan = new_controller(config(), policy=Says(2)).step(given, 5.0)  # type: ignore[arg-type]
    line = journal.encode(journal.tick_record(given, plan))  # type: ignore[arg-type]
    assert line.count(b"\n") == 1
    record = json.loads(line)
    assert list(record) == sorted(record)
    assert record["plan"]["deployments"] == {"chat/llm": None}
    assert record["guards"][0]["name"] == "paused"


def test_comparisons_ignore_wall_and_applied() -> None:
    given = rich_signals(5.0)
    plan = new_controller(config(), policy=Says(2)).step(given, 5.0)  # type: ignore[arg-type]
    one = journal.tick_record(given, plan, (), {"step_s": 0.5})  # type: ignore[arg-type]
    two = journal.tick_record(given, plan, (Applied("ray_serve", "chat/llm", "ok", 2),), {"step_s": 0.1})  # type: ignore[arg-type]
    assert journal.encode(one) != journal.encode(two)
    assert journal.comparable(one) == journal.comparable(two)


def test_a_checkpoint_gives_the_state_back() -> None:
    controller = new_controller(config(), policy=Says(2))
    controller.step(signals(inventory(0.0), metrics(0.0)), 0.0)
    record = json.loads(journal.encode(journal.checkpoint_record(controller.state, controller.config)))
    assert journal.decode_state(record).to_bytes() == controller.state.to_bytes()


def test_a_memory_too_long_for_the_journal_is_left_out_and_a_replay_says_so() -> None:
    controller = new_controller(config(), policy=Says(2))
    controller.step(signals(inventory(0.0), metrics(0.0)), 0.0)
    whole = len(controller.state.to_bytes())
    assert controller.state.to_bytes_within(whole) == (controller.state.to_bytes(), whole)
    assert controller.state.to_bytes_within(whole - 1) == (None, whole)
    record = json.loads(journal.encode(journal.checkpoint_record(controller.state, controller.config, 100)))
    assert record["state"] is None
    assert journal.decode_settings(record) == controller.config
    with pytest.raises(JournalError, match=r"left out of this file .*journal\.max_bytes.* explained, not replayed"):
        journal.decode_state(record)


def test_how_long_a_memory_is_shows_after_a_few_forecasters() -> None:
    asked: list[str] = []

    class Remembers:
        def __init__(self, name: str) -> None:
            self.name = name

        def state(self) -> str:
            asked.append(self.name)
            return "x" * 998  # and two quotation marks

    state = ControllerState(forecasters={f"default/local/a/{i:02}": Remembers(f"{i:02}") for i in range(100)})
    assert state.to_bytes_within(2500) == (None, 100_000)
    assert asked == ["00", "01", "02"]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"kind": "tick"}, "begins with a checkpoint"),
        ({"kind": "checkpoint", "version": 99}, "version 99"),
        ({"kind": "checkpoint", "version": 1, "state": "!!!"}, "cannot be decoded"),
        ({"kind": "checkpoint", "version": 1}, "cannot be decoded"),
    ],
)
def test_a_bad_checkpoint_is_named(record: dict[str, object], says: str) -> None:
    with pytest.raises(JournalError, match=says):
        journal.decode_state(record)


def test_a_broken_tick_is_named() -> None:
    with pytest.raises(JournalError, match="tick 7"):
        journal.decode_signals({"kind": "tick", "tick": 7, "signals": {"chat/llm": {}}})
