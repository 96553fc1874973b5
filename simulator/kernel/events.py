"""The simulator's kernel: a clock and a heap of events, ordered by (time_s, priority, sequence).

For nothing else: no process abstraction, no wall clock, no randomness. Two events at the same time run in the order of
their priority, and within it in the order in which they were scheduled: so a run is deterministic by construction.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from enum import IntEnum


class Priority(IntEnum):
    """Order of events at one instant: the world moves, it is measured, the controller decides, it is recorded."""

    WORLD = 0
    MEASURE = 1
    DECIDE = 2
    RECORD = 3


class Event:
    """A scheduled call; `cancel()` makes it never happen."""

    __slots__ = ("action", "cancelled", "time_s")

    def __init__(self, time_s: float, action: Callable[[], None]) -> None:
        self.time_s = time_s
        self.action = action
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class EventQueue:
    """The clock (`now_s`, which never goes back) and what is still to happen."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s
        self._heap: list[tuple[float, int, int, Event]] = []
        self._sequence = 0

    def at(self, time_s: float, action: Callable[[], None], priority: Priority = Priority.WORLD) -> Event:
        """Schedules `action` at `time_s` (seconds). Errors: ValueError for a time in the past or not finite."""
        if not (math.isfinite(time_s) and time_s >= self.now_s):
            raise ValueError(f"cannot schedule at {time_s!r} s: it is {self.now_s!r} s")
        event = Event(time_s, action)
        heapq.heappush(self._heap, (time_s, priority, self._sequence, event))
        self._sequence += 1
        return event

    def after(self, delay_s: float, action: Callable[[], None], priority: Priority = Priority.WORLD) -> Event:
        """Schedules `action` in `delay_s` seconds (>= 0)."""
        return self.at(self.now_s + delay_s, action, priority)

    def run_until(self, end_s: float) -> None:
        """Runs everything due at or before `end_s`, then stands at `end_s`."""
        while self._heap and self._heap[0][0] <= end_s:
            time_s, _, _, event = heapq.heappop(self._heap)
            if not event.cancelled:
                self.now_s = time_s
                event.action()
        self.now_s = max(self.now_s, end_s)
