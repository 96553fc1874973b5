"""When a standby counts its controller as silent, and when it must keep its hands off all the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from autoscaler.runtime.standby import BACK_OFF_S, ControllerWatch, HeardPauses
from autoscaler.runtime.store import StateStore
from leadtime_serve_policy import PublishedPlan, Sighting
from policies.base import DeploymentKey, DeploymentView

KEY = DeploymentKey.parse("chat/llm")
PERIOD_S = 5.0
AFTER_S = 60.0


@dataclass
class Reader:
    """What was read last, set by the test."""

    seen: Sighting | None = None
    why: str = "connection refused"


@dataclass
class Watched:
    reader: Reader = field(default_factory=Reader)
    now_s: float = 1000.0
    memory: HeardPauses | None = None

    def __post_init__(self) -> None:
        self.watch = ControllerWatch(self.reader, AFTER_S, lambda: self.now_s, self.memory)  # type: ignore[arg-type]

    def plan(self, target: int = 3, acts: bool = True, paused: bool = False) -> None:
        """The controller publishes a plan now."""
        name = str(KEY)
        held = frozenset({name} if paused else ())
        targets = {} if paused else {name: target}
        plan = PublishedPlan(self.now_s, PERIOD_S, targets, held, acts, held)
        self.reader.seen = Sighting(plan, self.now_s, 0.0, self.now_s)

    def released(self, target: int | None = 3) -> str | None:
        return self.watch.released(DeploymentView(KEY, target=target, max_replicas=8), 0.0)


def test_a_controller_that_publishes_is_not_stood_in_for() -> None:
    world = Watched()
    for _ in range(100):
        world.plan()
        assert world.released() is None
        world.now_s += PERIOD_S


def test_a_silent_controller_is_stood_in_for_after_the_time_and_no_earlier() -> None:
    world = Watched()
    world.plan()
    assert world.released() is None
    world.now_s += 3 * PERIOD_S + AFTER_S - PERIOD_S
    assert world.released() is not None
    assert "connection refused" in (world.released() or "")


def test_a_plan_that_was_never_read_counts_from_the_standby_s_own_start() -> None:
    world = Watched()
    world.now_s += AFTER_S - 1
    assert world.released() is None
    world.now_s += 2
    assert world.released() is not None


def test_a_controller_that_does_not_act_is_silent() -> None:
    world = Watched()
    world.plan(acts=False)
    world.now_s += AFTER_S + 1
    world.plan(acts=False)
    assert world.released() is not None


def test_a_returned_controller_is_left_to_its_work_at_once() -> None:
    world = Watched()
    world.now_s += AFTER_S + 1
    assert world.released(3) is not None
    world.plan()
    assert world.released(3) is None


def test_standing_in_is_logged_when_it_begins_and_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    world = Watched()
    assert world.released() is None
    world.now_s += AFTER_S + 1
    for _ in range(3):
        world.released()
    world.plan()
    for _ in range(3):
        world.released()
    assert caplog.messages == [
        "chat/llm: stands in: no plan of a controller that acts for 61 s (connection refused)",
        "chat/llm: stands in no longer",
    ]


def test_what_was_paused_when_the_controller_fell_silent_stays_paused() -> None:
    world = Watched()
    world.plan(paused=True)
    assert world.released() is None
    world.now_s += 10 * AFTER_S
    assert world.released() is None


def test_a_controller_whose_levels_are_not_reached_cannot_write() -> None:
    world = Watched()
    for _ in range(int(AFTER_S / PERIOD_S) + 1):
        world.plan(target=6)
        words = world.released(target=3)
        world.now_s += PERIOD_S
    assert words is not None
    assert "cannot write" in words
    world.plan(target=6)
    assert world.released(target=6) is None


def test_somebody_who_lowers_a_level_is_left_to_it_for_a_while() -> None:
    world = Watched()
    world.now_s += AFTER_S + 1
    assert world.released(target=6) is not None
    assert world.released(target=4) is None
    world.now_s += BACK_OFF_S - 1
    assert world.released(target=4) is None
    world.now_s += 2
    assert world.released(target=4) is not None


# ---------------------------------------------------------------- a standby that is restarted meanwhile


def test_what_was_paused_stays_paused_in_a_standby_that_is_restarted_while_the_controller_is_gone(
    tmp_path: Path,
) -> None:
    store = StateStore(tmp_path / "standby.sqlite")
    world = Watched(memory=store)
    world.plan(paused=True)
    assert world.released() is None
    store.close()

    again = Watched(memory=StateStore(tmp_path / "standby.sqlite"))
    again.now_s += 10 * AFTER_S
    assert again.released() is None


def test_what_was_resumed_is_stood_in_for_by_a_standby_that_is_restarted(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "standby.sqlite")
    world = Watched(memory=store)
    for paused in (True, False):
        world.plan(paused=paused)
        assert world.released() is None
    store.close()

    again = Watched(memory=StateStore(tmp_path / "standby.sqlite"))
    again.now_s += AFTER_S + 1
    assert again.released() is not None


def test_a_memory_that_cannot_be_read_counts_as_paused_until_the_controller_says_otherwise(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "standby.sqlite")
    store._save("heard paused", b"{nonsense")
    world = Watched(memory=store)
    world.now_s += 10 * AFTER_S
    assert world.released() is None
    world.plan()
    assert world.released() is None
    world.now_s += 10 * AFTER_S
    assert world.released() is not None


def test_a_memory_that_cannot_be_written_is_told_once_and_what_was_heard_holds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = StateStore(tmp_path / "standby.sqlite")
    store.close()
    store = StateStore(tmp_path / "standby.sqlite")
    world = Watched(memory=store)
    store.close()
    for _ in range(3):
        world.plan(paused=True)
        assert world.released() is None
    world.now_s += 10 * AFTER_S
    assert world.released() is None
    assert [words.partition(":")[0] for words in caplog.messages] == [
        "what is paused cannot be remembered over a restart"
    ]


def test_what_it_stands_in_for_can_be_asked() -> None:
    world = Watched()
    world.now_s += AFTER_S + 1
    world.released()
    assert world.watch.stands_in_for == {KEY}
    world.plan()
    world.released()
    assert not world.watch.stands_in_for
