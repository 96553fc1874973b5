"""The kernel: order by time, priority and sequence; time never goes back."""

from __future__ import annotations

import pytest

from simulator.kernel.events import EventQueue, Priority


def test_events_run_by_time_then_priority_then_sequence() -> None:
    queue, seen = EventQueue(), []
    for name, at_s, priority in (
        ("decide", 1.0, Priority.DECIDE),
        ("late", 2.0, Priority.WORLD),
        ("first", 1.0, Priority.WORLD),
        ("second", 1.0, Priority.WORLD),
        ("measure", 1.0, Priority.MEASURE),
    ):
        queue.at(at_s, lambda name=name: seen.append((name, queue.now_s)), priority)
    queue.run_until(1.5)
    assert [name for name, _ in seen] == ["first", "second", "measure", "decide"]
    assert queue.now_s == 1.5
    queue.run_until(3.0)
    assert seen[-1] == ("late", 2.0)


def test_a_cancelled_event_never_happens_and_others_do() -> None:
    queue, seen = EventQueue(), []
    event = queue.after(1.0, lambda: seen.append("cancelled"))
    queue.after(1.0, lambda: seen.append("kept"))
    event.cancel()
    queue.run_until(2.0)
    assert seen == ["kept"]


def test_an_event_may_schedule_another_at_the_same_instant() -> None:
    queue, seen = EventQueue(), []
    queue.at(1.0, lambda: queue.after(0.0, lambda: seen.append(queue.now_s)))
    queue.run_until(1.0)
    assert seen == [1.0]


@pytest.mark.parametrize("time_s", [0.5, float("nan"), float("inf")])
def test_nothing_can_be_scheduled_in_the_past_or_never(time_s: float) -> None:
    queue = EventQueue(1.0)
    with pytest.raises(ValueError, match="cannot schedule"):
        queue.at(time_s, lambda: None)
