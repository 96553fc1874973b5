"""Planned demand that somebody announced, as policies see it, and how it raises quantiles of a forecast.

An announcement says that demand will reach a level within a window, and how sure that is. With confidence c the demand
is the larger of what is expected anyway and the level, else what is expected anyway; quantiles of that mixture are
never below those without the announcement. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Announcement:
    """Demand reaches `rps` (req/s) somewhere in [start_at_s, end_at_s), with probability `confidence_fraction`."""

    start_at_s: float
    end_at_s: float
    rps: float
    confidence_fraction: float = 1.0
    words: str = ""
    """What was announced and by whom, for people."""

    def within(self, now_s: float, horizon_s: float) -> bool:
        """Whether its window overlaps (now, now + horizon]."""
        return self.start_at_s <= now_s + horizon_s and self.end_at_s > now_s


def announced(
    announcements: Sequence[Announcement], now_s: float, horizon_s: float, level: float
) -> Announcement | None:
    """The announcement whose level is the quantile of what is announced for (now, now + horizon]; None: nothing is.

    With nothing else expected, demand stays under a level when no announcement of that level or more comes true.
    """
    unlikely = 1.0
    tops = [a for a in announcements if a.within(now_s, horizon_s)]
    for one in sorted(tops, key=lambda a: (-a.rps, a.start_at_s, a.words)):
        unlikely *= 1.0 - one.confidence_fraction
        if unlikely < level - 1e-12:
            return one
    return None


def raised_quantile(
    levels: Sequence[float], row: Sequence[float], tops: Sequence[tuple[float, float]], level: float
) -> float:
    """The quantile at `level` of a demand with quantiles `row` (req/s) at `levels`, that may also reach `tops`.

    `tops`: (req/s, confidence). The quantile of F(x) * product of (1 - confidence) over the tops above x; F is linear
    between its known levels, and nothing but the tops is known above the highest of them. `levels` and `row` ascend.
    """
    ascending = sorted(tops)
    below = [1.0]
    for _, confidence in reversed(ascending):
        below.append(below[-1] * (1.0 - confidence))
    floor = 0.0
    for (top, _), share in zip((*ascending, (math.inf, 0.0)), reversed(below), strict=True):
        value = max(floor, _quantile(levels, row, level / share if share > 0 else math.inf))
        if value < top:
            return value
        floor = top
    return floor


def _quantile(levels: Sequence[float], row: Sequence[float], level: float) -> float:
    """Interpolated linearly; below the lowest known level its value, above the highest without bound."""
    if level <= levels[0]:
        return row[0]
    for i in range(1, len(levels)):
        if level <= levels[i] + 1e-12:
            share = min(1.0, (level - levels[i - 1]) / (levels[i] - levels[i - 1]))
            return row[i - 1] + share * (row[i] - row[i - 1])
    return math.inf
