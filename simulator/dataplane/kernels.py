"""The entries through which Python drives the compiled data plane."""

from __future__ import annotations

from collections.abc import Callable

from simulator.dataplane.router import arrive, cancel_request, kill_requests, send_queued, serve_queue
from simulator.engine import layout as at
from simulator.engine.jit import entry, sources_digest
from simulator.engine.layout import Ints, Reals
from simulator.engine.requests import emitted, records_full
from simulator.engine.show import show
from simulator.engine.stepping import run


class Kernels:
    """The entries, compiled when first called (some seconds; afterwards their machine code is read from the cache)."""

    def __init__(self, digest: int) -> None:
        self.advance = _advance(digest)
        self.kill = _kill(digest)
        self.telemetry = _telemetry(digest)
        self.tokens = _tokens(digest)
        self.cancel = _cancel(digest)


def _advance(digest: int) -> Callable[[Ints, Reals, Reals, Ints, float], int]:
    @entry
    def advance(z: Ints, x: Reals, times: Reals, inputs: Ints, until_s: float) -> int:
        """Process every arrival, routing and engine step up to `until_s`; one of layout's answers."""
        if digest == 0:
            return at.BROKEN
        send_queued(z, x, x[at.NOW])
        while True:
            if records_full(z):
                return at.NEED_RECORD_ROOM
            i = z[at.NEXT_INPUT]
            arrives = i < z[at.INPUTS] and times[i] <= until_s
            if z[at.QUEUED] > 0:
                serve_queue(z, x, times[i] if arrives else until_s)
            if z[at.FAULT] != 0:
                return at.BROKEN
            if not arrives:
                break
            x[at.NOW] = times[i]
            if z[at.FREE_SLOT] == at.NONE:
                return at.NEED_SLOTS
            arrive(z, x, inputs, i, times[i])
            z[at.NEXT_INPUT] = i + 1
        for i in range(z[at.ROWS]):
            row = z[at.ROW0] + i * z[at.ROW_WORDS]
            if z[row + at.LIVE] != at.UNUSED:
                run(z, x, row, until_s)
        x[at.NOW] = until_s
        return at.DONE_UNTIL if z[at.FAULT] == 0 else at.BROKEN

    return advance


def _kill(digest: int) -> Callable[[Ints, Reals, int, float], None]:
    @entry
    def kill(z: Ints, x: Reals, row: int, now_s: float) -> None:
        """Fail everything inside a replica that has run up to now; the caller clears its row."""
        if digest != 0:
            kill_requests(z, x, row, now_s)

    return kill


def _cancel(digest: int) -> Callable[[Ints, Reals, int, float], None]:
    @entry
    def cancel(z: Ints, x: Reals, slot: int, now_s: float) -> None:
        """End a request that is inside, everything having run up to now."""
        if digest != 0:
            cancel_request(z, x, slot, now_s)

    return cancel


def _telemetry(digest: int) -> Callable[[Ints, Reals, float, Ints], int]:
    @entry
    def telemetry(z: Ints, x: Reals, now_s: float, shown: Ints) -> int:
        """One line per live replica; how many."""
        count = 0
        for i in range(z[at.ROWS]):
            row = z[at.ROW0] + i * z[at.ROW_WORDS]
            if z[row + at.LIVE] != at.UNUSED and digest != 0:
                show(z, x, row, now_s, shown[count])
                count += 1
        return count

    return telemetry


def _tokens(digest: int) -> Callable[[Ints, Reals, float, Ints], None]:
    @entry
    def tokens(z: Ints, x: Reals, now_s: float, found: Ints) -> None:
        """Tokens emitted by now, slot by slot."""
        for i in range(z[at.SLOTS]):
            slot = z[at.SLOT0] + i * at.SLOT_WORDS
            if z[slot + at.STATE] != at.FREED and digest != 0:
                found[i] = emitted(z, x, slot, now_s)

    return tokens


_kernels: list[Kernels] = []


def kernels() -> Kernels:
    """The entries, made once."""
    if not _kernels:
        _kernels.append(Kernels(sources_digest()))
    return _kernels[0]
