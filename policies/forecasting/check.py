"""A forecaster's own record: how often demand stayed under the level it had promised. Plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

_MEMORY = 0.95
"""What an outcome keeps of its weight at each later one: about the last twenty count."""


@dataclass(slots=True)
class CoverageCheck:
    """One promise at a time ("no bin of the next `left` above `bound`"), kept or broken when its window is over."""

    level: float = 0.9
    bound: float = 0.0
    left: float = 0.0
    highest: float = 0.0
    kept: float = 0.0
    outcomes: float = 0.0

    @property
    def waiting(self) -> bool:
        return self.left > 0

    def expect(self, bound: float, bins: int, level: float) -> None:
        """A new promise; the one before must be over. Another level starts a new record."""
        if level != self.level:
            self.level, self.kept, self.outcomes = level, 0.0, 0.0
        self.bound, self.left, self.highest = bound, float(bins), 0.0

    def observe(self, value: float) -> None:
        """A bin's value arrived."""
        if self.left <= 0:
            return
        if value > self.highest:
            self.highest = value
        self.left -= 1.0
        if self.left == 0:
            self.kept = _MEMORY * self.kept + float(self.highest <= self.bound)
            self.outcomes = _MEMORY * self.outcomes + 1.0

    @property
    def off(self) -> bool:
        """Promises were broken more often than chance explains (2.5 standard errors)."""
        if self.outcomes < 4.0:
            return False
        slack = 2.5 * math.sqrt(self.level * (1.0 - self.level) / self.outcomes)
        return self.kept / self.outcomes < self.level - slack

    @property
    def share(self) -> float | None:
        """Share of promises kept lately; None before any was judged."""
        return self.kept / self.outcomes if self.outcomes else None

    def words(self) -> str:
        share = self.kept / self.outcomes if self.outcomes else math.nan
        return f"only {share:.0%} of recent windows stayed under the forecast's {self.level:.0%} level"

    def numbers(self) -> dict[str, float]:
        return {f"check_{key}": value for key, value in asdict(self).items()}

    @classmethod
    def of(cls, numbers: Mapping[str, float]) -> CoverageCheck:
        return cls(**{f.name: numbers[f"check_{f.name}"] for f in fields(cls)})
