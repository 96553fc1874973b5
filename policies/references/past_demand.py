"""What a deployment's past wanted: the demand that `schedule` and `static_mean` are derived from, in replicas.

The simulator makes a `PastDemand` from a scenario's `history`. Not a forecaster: it looks back at once and never again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from policies.base import Policy


@dataclass(frozen=True, slots=True)
class PastDemand:
    """Bins of one deployment before now: their ends (seconds, ascending, on the clock that `now_s` will count), mean
    rates (req/s), and what one replica carries within the SLO at that traffic's mix.
    """

    ends_s: tuple[float, ...]
    rates_rps: tuple[float, ...]
    bin_s: float
    capacity_rps: float

    def replicas(self) -> list[int]:
        """The fewest replicas that carry each bin's rate."""
        return [math.ceil(rate / self.capacity_rps - 1e-9) for rate in self.rates_rps]


class FromHistory(Protocol):
    """A policy that can be derived from the past, where its options leave the numbers open."""

    @property
    def needs_history(self) -> bool:
        """It cannot propose before `with_history` was called."""
        ...

    def with_history(self, past: Mapping[str, PastDemand]) -> Policy:
        """The policy with its numbers, from the past by deployment key (as `str(key)` gives it)."""
        ...


def percentile(values: list[int], level: float) -> int:
    """The smallest value that at least `level` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(level * len(ordered) - 1e-9) - 1)]
