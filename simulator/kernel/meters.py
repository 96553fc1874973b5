"""Integrals over time: node-seconds, GPU-seconds. Exact to rounding, and cut at the start of the result's window."""

from __future__ import annotations


class Meter:
    """A level that changes in steps, and its integral from `since_s` on."""

    __slots__ = ("_changed_s", "_since_s", "_total", "level")

    def __init__(self, since_s: float) -> None:
        self.level = 0.0
        self._since_s = since_s
        self._changed_s = since_s
        self._total = 0.0

    def set(self, level: float, now_s: float) -> None:
        self._total = self.total(now_s)
        self._changed_s = max(now_s, self._since_s)
        self.level = level

    def add(self, change: float, now_s: float) -> None:
        self.set(self.level + change, now_s)

    def total(self, now_s: float) -> float:
        """Level times seconds from `since_s` to `now_s`."""
        return self._total + self.level * max(now_s - self._changed_s, 0.0)
