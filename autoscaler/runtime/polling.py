"""Asks all sources at once and waits for none longer than the tick allows.

A read that is still under way when the tick goes on is left to finish; its result is taken at a later tick, and it is
not started twice. Until then the source's last reading counts, and ages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from autoscaler.common.redaction import blank
from autoscaler.core.ports import Reading, Source
from autoscaler.core.types import SourceStatus
from autoscaler.runtime.assembly import Held


class Polling:
    """`wait_s`: how long one round waits; `slow_s`: a read that takes longer makes its source count as down;
    `give_up_s`: a read that takes longer is abandoned and started anew."""

    def __init__(
        self,
        sources: Sequence[Source],
        wait_s: float,
        slow_s: float,
        give_up_s: float,
        monotonic_s: Callable[[], float],
    ) -> None:
        self._polls = [_Poll(source, slow_s, give_up_s, monotonic_s) for source in sources]
        self._wait_s = wait_s

    async def round(self, now_s: float) -> tuple[Held, ...]:
        """Start every source that is idle, wait, and give what each one holds now, in the sources' order."""
        tasks = [poll.start(now_s) for poll in self._polls]
        if tasks:
            await asyncio.wait(tasks, timeout=self._wait_s)
        return tuple(poll.held() for poll in self._polls)

    async def close(self) -> None:
        """Abandon what is under way."""
        tasks = [task for poll in self._polls if (task := poll.abandon()) is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=self._wait_s)


class _Poll:
    """One source: its read under way, and what came of the last ones."""

    def __init__(self, source: Source, slow_s: float, give_up_s: float, monotonic_s: Callable[[], float]) -> None:
        self._source = source
        self._slow_s = slow_s
        self._give_up_s = give_up_s
        self._monotonic_s = monotonic_s
        self._task: asyncio.Task[Reading] | None = None
        self._asked_at_s = 0.0
        self._last: Reading | None = None
        self._last_good: Reading | None = None

    def start(self, now_s: float) -> asyncio.Task[Reading]:
        """The read under way; a new one when there is none or it was abandoned."""
        self._take()
        if self._task is not None and self._monotonic_s() - self._asked_at_s > self._give_up_s:
            self.abandon()
        if self._task is None:
            self._asked_at_s = self._monotonic_s()
            self._task = asyncio.create_task(self._read(now_s), name=f"source {self._source.name}")
        return self._task

    def abandon(self) -> asyncio.Task[Reading] | None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        return task

    def held(self) -> Held:
        self._take()
        return Held(self._status(), self._last_good)

    def _take(self) -> None:
        """Take the result of a read that has finished."""
        if self._task is None or not self._task.done():
            return
        task, self._task = self._task, None
        if task.cancelled():
            self._last = Reading(self._source.name, up=False, as_of_s=None, why="the read was cut off")
            return
        self._last = task.result()
        if self._last.up:
            self._last_good = self._last

    async def _read(self, now_s: float) -> Reading:
        """A source promises not to raise; one that does has a bug, which must not stop the others."""
        try:
            return await self._source.read(now_s)
        except Exception as error:
            why = f"bug in source {self._source.name}: {type(error).__name__}: {error}"
            return Reading(self._source.name, up=False, as_of_s=None, why=" ".join(why.split()))

    def _status(self) -> SourceStatus:
        as_of_s = self._last_good.as_of_s if self._last_good else None
        waited_s = self._monotonic_s() - self._asked_at_s
        if self._task is not None and (self._last is None or waited_s > self._slow_s):
            return SourceStatus(self._source.name, False, as_of_s, f"no answer yet, asked {waited_s:.1f} s ago")
        assert self._last is not None
        return SourceStatus(self._source.name, self._last.up, as_of_s, blank(self._last.why))
