"""Metric pages as they come in: of each piece only the wanted lines are kept, and all pages of a round have one budget.

Pure. A page of megabytes is never held as a whole, whatever its length. What the lines mean: exposition.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from autoscaler.clients.reading_limits import ReadingLimits
from autoscaler.common.errors import SourceError

LINE_BYTES = 40
"""A line counts as so many at least: lines are what costs time."""
_LONGEST_LINE_BYTES = 8192
_LONGEST_TAIL_BYTES = 1 << 16


@dataclass(slots=True)
class Weight:
    """What is kept of a page."""

    lines: int = 0
    size: int = 0


@dataclass(slots=True)
class Budget:
    """What the pages of one Ray cluster may take. `held`: what is kept of them, and what comes on top of it now."""

    limits: ReadingLimits
    left_bytes: int = 0
    held: Weight = field(default_factory=Weight)

    def begin(self) -> None:
        """A new round."""
        self.left_bytes = self.limits.round_bytes

    def spend(self, size: int) -> None:
        """Errors: SourceError when nothing is left; then nothing is looked at any more either."""
        self.left_bytes -= max(0, size)
        if self.left_bytes < 0:
            limit = self.limits.round_bytes / (1 << 20)
            raise SourceError(f"all pages together are longer than {limit:.3g} MiB (reading.round_bytes)")

    def drop(self, weight: Weight) -> None:
        """A page is not kept any more."""
        self.held.lines -= weight.lines
        self.held.size -= weight.size


class WantedLines:
    """The lines of one page whose metric is wanted. `before` is the weight of the page that this one replaces."""

    def __init__(self, names: frozenset[bytes], budget: Budget, before: Weight) -> None:
        self._names, self._budget, self._before = names, budget, before
        self._tail = b""
        self._more = Weight()
        self.lines: list[bytes] = []
        self.weight = Weight()

    def feed(self, piece: bytes) -> None:
        """Errors: SourceError when the pages are more than may be read."""
        self._budget.spend(len(piece))
        data = self._tail + piece
        end = data.rfind(b"\n") + 1
        self._tail = data[end:]
        if len(self._tail) > _LONGEST_TAIL_BYTES:
            raise SourceError("a line has no end")
        lines = data[:end].splitlines()
        self._budget.spend(LINE_BYTES * len(lines) - len(piece))
        self._take(lines)

    def end(self) -> bytes:
        """The wanted lines as a page of their own, which replaces the one before. Errors: SourceError when the page was
        cut off: the last number may be a part of one, and series are missing that are there."""
        if self._tail.strip():
            raise SourceError("it is cut off: its last line has no end")
        self.undo()
        held = self._budget.held
        held.lines += self.weight.lines - self._before.lines
        held.size += self.weight.size - self._before.size
        return b"\n".join(self.lines)

    def undo(self) -> None:
        """The page before stays."""
        self._budget.drop(self._more)
        self._more = Weight()

    def _take(self, lines: list[bytes]) -> None:
        names = self._names
        kept = [line for line in lines if line.partition(b"{")[0].partition(b" ")[0] in names]
        if kept:
            self._keep(kept)

    def _keep(self, kept: list[bytes]) -> None:
        if max(map(len, kept)) > _LONGEST_LINE_BYTES:
            raise SourceError(f"a line is longer than {_LONGEST_LINE_BYTES} bytes")
        self.lines += kept
        self.weight.lines += len(kept)
        self.weight.size += sum(map(len, kept))
        more = Weight(max(0, self.weight.lines - self._before.lines), max(0, self.weight.size - self._before.size))
        held, limits = self._budget.held, self._budget.limits
        held.lines += more.lines - self._more.lines
        held.size += more.size - self._more.size
        self._more = more
        if held.lines > limits.series:
            raise SourceError(f"all pages together have more than {limits.series} known series (reading.series)")
        if held.size > limits.series_bytes:
            mib = limits.series_bytes / (1 << 20)
            raise SourceError(f"the known series of all pages are longer than {mib:.3g} MiB (reading.series_bytes)")
