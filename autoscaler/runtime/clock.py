"""Time as the runtime needs it: the machine's clocks, and a wall clock that never goes backwards."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import Protocol

_SLOWEST = 0.9
"""How fast time goes on at least. Standing still would blind every rate for as long as the clock was set back."""


class Clock(Protocol):
    """Time as the runtime needs it; tests bring their own."""

    def now_s(self) -> float: ...

    def monotonic_s(self) -> float: ...

    async def wait(self, stop: asyncio.Event, until_monotonic_s: float) -> None:
        """Return at that time, or earlier when `stop` is set."""
        ...


class SystemClock:
    """The machine's own."""

    def now_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def wait(self, stop: asyncio.Event, until_monotonic_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), max(0.0, until_monotonic_s - time.monotonic()))


class SteadyTime:
    """The wall clock's time. Where that was set back, ours goes on more slowly until the two meet again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.last_s = -math.inf
        self._last_monotonic_s = 0.0

    def read(self) -> tuple[float, bool]:
        """Seconds since the epoch, and whether the clock was set back and is not yet caught up with."""
        wall_s, monotonic_s = self._clock.now_s(), self._clock.monotonic_s()
        slowest_s = self.last_s + _SLOWEST * (monotonic_s - self._last_monotonic_s)
        self.last_s, self._last_monotonic_s = max(wall_s, slowest_s), monotonic_s
        return self.last_s, wall_s < slowest_s - 1.0
