"""The journal on its way out of the pod: each record as one JSON line on stdout, for whoever collects logs there.

Written by a thread of its own: a reader that stands still holds up no tick. What finds no room is left out and counted.
Not for the files: journal_file.py.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import BinaryIO

_LINES = 256
"""That wait: a few minutes of ticks."""
_END_S = 2.0


class JournalStream:
    """`put` lines from one thread; `close` at the end. `problem` is "" or one line."""

    def __init__(self, out: BinaryIO, lines: int = _LINES) -> None:
        self.problem = ""
        self.left_out = 0
        """Lines that found no room."""
        self._out = out
        self._queue: queue.Queue[bytes | None] = queue.Queue(lines)
        self._thread = threading.Thread(target=self._write, name="journal stream", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Add one line, with its line break; never waits and never raises."""
        try:
            self._queue.put_nowait(line)
        except queue.Full:
            self.left_out += 1
            self.problem = "journal.stdout: its reader stands still: lines are left out until it goes on"
        else:
            if self._thread.is_alive() and self._queue.qsize() <= 1:
                self.problem = ""

    def close(self) -> None:
        """What waits is written, if that can be done soon."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(_END_S)

    def _write(self) -> None:
        while (line := self._queue.get()) is not None:
            try:
                self._out.write(line)
                self._out.flush()
            except (OSError, ValueError) as error:  # a reader that is gone; a stream that was closed
                self.problem = f"journal.stdout: {error}: nothing is written there any more"
                return
