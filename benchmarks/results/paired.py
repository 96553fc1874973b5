"""Two that met the same traffic and the same luck: their bills seed by seed, with an interval over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats


@dataclass(frozen=True, slots=True)
class Ratio:
    """Geometric mean of the ratios, and its 95 % interval by Student's t of their logarithms; None of one seed."""

    mean: float
    interval: tuple[float, float] | None
    seeds: int

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
        """Of bills in the order of seeds. Errors: ValueError where one has more of them."""
        logs = [math.log(a / b) for a, b in zip(ours, theirs, strict=True)]
        mean, half = math.fsum(logs) / len(logs), half_interval(logs)
        interval = None if half is None else (math.exp(mean - half), math.exp(mean + half))
        return cls(math.exp(mean), interval, len(logs))

    @property
    def words(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.interval is None else " ({:.2f}-{:.2f})".format(*self.interval))


def half_interval(values: Sequence[float]) -> float | None:
    """Half of the width of the 95 % interval of their mean, by Student's t; None of one value."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    variance = math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return float(stats.t.ppf(0.975, len(values) - 1)) * math.sqrt(variance / len(values))
