"""A command of leadtime whose clock the parent steps.

`python -m tests.faults.process FD PULSE NOW_S MONOTONIC_S COMMAND...`: FD is a socket, PULSE memory of the parent
(`patience`). At the end of each tick the process writes a line with the monotonic time it waits for; the parent answers
with a line of the wall clock's and the monotonic clock's time. All else is the product as it is.
"""

from __future__ import annotations

import asyncio
import socket
import sys

from autoscaler.cli.main import main
from autoscaler.common.log_limits import LogLimiter
from autoscaler.runtime.loop import Runtime
from autoscaler.settings.model import Config
from autoscaler.wiring import controller as wiring
from tests.faults.patience import Pulse, run_patiently


class SteppedClock:
    """Stands still within a tick."""

    def __init__(self, fd: int, now_s: float, monotonic_s: float) -> None:
        self._fd = fd
        self._now_s = now_s
        self._monotonic_s = monotonic_s
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def now_s(self) -> float:
        return self._now_s

    def monotonic_s(self) -> float:
        return self._monotonic_s

    async def wait(self, stop: asyncio.Event, until_monotonic_s: float) -> None:
        if self._streams is None:
            self._streams = await asyncio.open_connection(sock=socket.socket(fileno=self._fd))
        reader, writer = self._streams
        writer.write(f"{until_monotonic_s!r}\n".encode())
        answer = asyncio.create_task(reader.readline())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait((answer, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not answer.done():
            answer.cancel()
            return
        words = answer.result().split()
        if not words:  # the parent is gone
            stop.set()
            return
        self._now_s, self._monotonic_s = float(words[0]), float(words[1])


def run(fd: int, pulse: Pulse, now_s: float, monotonic_s: float, words: list[str]) -> int:
    clock = SteppedClock(fd, now_s, monotonic_s)
    run_patiently(pulse)
    build = wiring.build
    LogLimiter.__init__.__defaults__ = (clock.monotonic_s,)  # type: ignore[attr-defined]  # its minutes are these

    def stepped(config: Config) -> Runtime:
        return build(config, clock=clock)

    wiring.build = stepped  # type: ignore[assignment]
    return main(words)


if __name__ == "__main__":
    fd, pulse, now_s, monotonic_s = sys.argv[1:5]
    sys.exit(run(int(fd), Pulse(int(pulse)), float(now_s), float(monotonic_s), sys.argv[5:]))
