"""Time for a process and the servers that it talks to, on a machine that may let neither of them run.

Timeouts of the process are seconds of its event loop's clock. Here that clock goes on only while both run: a row says
the same however busy the machine is. What a process is given before it counts as hung is measured alike.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import selectors
import struct
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

BEAT_S = 0.01
LONGEST_STEP_S = 0.05
"""The clock goes on by no more between two looks at it, and a loop that has nothing to do looks at it as often."""
_LONGEST_S, _LONGEST_REAL_S = 40.0, 900.0
_LAYOUT = struct.Struct("<Qd")


class Pulse:
    """Memory that a process and its parent share: beats of the parent's event loop, and the clock of the process."""

    def __init__(self, fd: int | None = None) -> None:
        self.fd = os.memfd_create("pulse") if fd is None else fd
        if fd is None:
            os.ftruncate(self.fd, _LAYOUT.size)
        self._memory = mmap.mmap(self.fd, _LAYOUT.size)

    @property
    def beats(self) -> int:
        return int(_LAYOUT.unpack_from(self._memory)[0])

    @property
    def clock_s(self) -> float:
        return float(_LAYOUT.unpack_from(self._memory)[1])

    @clock_s.setter
    def clock_s(self, value: float) -> None:
        struct.pack_into("<d", self._memory, 8, value)

    def beat(self) -> None:
        struct.pack_into("<Q", self._memory, 0, self.beats + 1)

    async def beating(self) -> None:
        """For as long as the servers answer."""
        while True:
            self.beat()
            await asyncio.sleep(BEAT_S)

    def close(self) -> None:
        self._memory.close()
        os.close(self.fd)


class PatientClock:
    """Seconds in which this process ran, and the parent's servers did.

    `real_s`: the machine's monotonic clock.
    """

    def __init__(self, pulse: Pulse, real_s: Callable[[], float] = time.monotonic) -> None:
        self._pulse, self._real_s = pulse, real_s
        self._now_s, self._looked_s, self._beats = 0.0, real_s(), pulse.beats

    def now_s(self) -> float:
        beats = self._pulse.beats
        if beats != self._beats:
            real_s = self._real_s()
            self._now_s += min(real_s - self._looked_s, LONGEST_STEP_S)
            self._looked_s, self._beats = real_s, beats
            self._pulse.clock_s = self._now_s
        return self._now_s


class _OftenAwake(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(LONGEST_STEP_S if timeout is None else min(timeout, LONGEST_STEP_S))


class PatientLoop(asyncio.SelectorEventLoop):
    """An event loop with that clock."""

    def __init__(self, pulse: Pulse) -> None:
        self._patient = PatientClock(pulse)
        super().__init__(_OftenAwake())

    def time(self) -> float:
        return self._patient.now_s()


def run_patiently(pulse: Pulse) -> None:
    """Make `asyncio.run` of this process use such a loop."""

    def run(main: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=lambda: PatientLoop(pulse)) as runner:
            return runner.run(main)

    asyncio.run = run  # type: ignore[assignment]


def spent_s(pulse: Pulse, pid: int) -> float:
    """What a process has had so far: seconds in which it waited for answers that were free to come, or computed."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:  # it is no more
        return pulse.clock_s
    return pulse.clock_s + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def hangs(spent: float, real_s: float) -> bool:
    """Whether a process that had so many seconds (`spent_s`) in so many of the machine's counts as hung.

    One that had none for very long stands still where it does not even wait.
    """
    return spent > _LONGEST_S or real_s > _LONGEST_REAL_S
