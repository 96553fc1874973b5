"""What a run took: the figures that every benchmark of the simulator's speed prints."""

from __future__ import annotations

import resource
from dataclasses import dataclass

RATES = ("requests/wall s", "requests/CPU s", "sim s/wall s")
"""Heads of the columns that `Timed.rates` fills."""


@dataclass(frozen=True)
class Timed:
    """Requests and seconds of simulated time, and the seconds that simulating them took."""

    requests: int
    wall_s: float
    cpu_s: float
    simulated_s: float

    @property
    def requests_per_wall_s(self) -> float:
        return self.requests / self.wall_s

    def rates(self) -> str:
        """Three columns of sixteen characters."""
        rates = (self.requests_per_wall_s, self.requests / self.cpu_s, self.simulated_s / self.wall_s)
        return "".join(f"{rate:>16,.0f}" for rate in rates)


def peak_mb() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
