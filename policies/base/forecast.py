"""Forecasts of demand as policies see them, what a policy may ask for, and what was said in the past."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache

from policies.base.record import record


@dataclass(frozen=True, slots=True)
class ForecastSpec:
    """The forecast a policy wants to see: by which forecaster, over which season, in bins of which width."""

    forecaster: str = "mixture"
    bin_s: float = 10.0
    season_s: float = 86400.0
    levels: tuple[float, ...] = (0.5, 0.75, 0.9, 0.95, 0.99)
    holidays: tuple[str, ...] = ()
    """Days (UTC, `YYYY-MM-DD`) that are like a weekend, whatever their weekday; forecasters may make use of them."""


@record(frozen=True, slots=True)
class Forecast:
    """Quantiles of the largest arrival rate in (made_at_s, made_at_s + horizon].

    `values_rps[i][j]` belongs to `horizons_s[i]` (ascending) and `levels[j]` (ascending, 0..1).
    `calibrated` is False while history is too short or coverage is off: then nobody should trust the upper levels.
    """

    forecaster: str
    made_at_s: float
    horizons_s: tuple[float, ...]
    levels: tuple[float, ...]
    values_rps: tuple[tuple[float, ...], ...]
    calibrated: bool
    why: str = ""
    edges_s: tuple[float, ...] = ()
    """Those of the horizons that are there only because an announcement begins at them; they move from tick to tick."""

    def quantile(self, horizon_s: float, level: float) -> float:
        """Interpolated linearly in horizon and level; clamped to the ends of both."""
        before, after, share = self._around(horizon_s)
        place = _between(self.levels, level)
        low = _at(before, place)
        return low + share * (_at(after, place) - low) if share else low

    def quantiles(self, horizon_s: float, levels: tuple[float, ...]) -> list[float]:
        """`quantile` at several levels."""
        before, after, share = self._around(horizon_s)
        places = _places(self.levels, levels)
        lows = [_at(before, place) for place in places]
        if not share:
            return lows
        return [low + share * (_at(after, place) - low) for low, place in zip(lows, places, strict=True)]

    def _around(self, horizon_s: float) -> tuple[tuple[float, ...], tuple[float, ...], float]:
        """The rows of the horizons before and after, and how far this one is on the way; beyond the ends: 0."""
        horizons_s, rows = self.horizons_s, self.values_rps
        i = bisect_left(horizons_s, horizon_s)
        if i == 0 or i == len(rows):
            end = rows[min(i, len(rows) - 1)]
            return end, end, 0.0
        share = (horizon_s - horizons_s[i - 1]) / (horizons_s[i] - horizons_s[i - 1])
        return rows[i - 1], rows[i], share


def _at(row: tuple[float, ...], place: tuple[int, float]) -> float:
    j, up = place
    return row[j] + up * (row[j + 1] - row[j]) if up else row[j]


@lru_cache(maxsize=64)
def _places(levels: tuple[float, ...], asked: tuple[float, ...]) -> tuple[tuple[int, float], ...]:
    return tuple(_between(levels, level) for level in asked)


def _between(levels: tuple[float, ...], level: float) -> tuple[int, float]:
    """After which of the levels a level lies, and how far on the way to the next one; beyond the ends: 0."""
    j = bisect_left(levels, level)
    if j == 0 or j == len(levels):
        return max(j - 1, 0), 0.0
    return j - 1, (level - levels[j - 1]) / (levels[j] - levels[j - 1])


@dataclass(slots=True)
class BacktestTrace:
    """What a forecaster would have said in the past, step by step: plain data, for policies that rehearse on it.

    `rates_rps`: float32 by bin; `forecasts`: float16 (steps, horizons, levels) in units of `unit_rps`, one each
    `bins_per_step` bins, made when the step's last bin had closed.
    """

    bin_s: float
    bins_per_step: int
    last_end_s: float
    horizons_s: tuple[float, ...]
    levels: tuple[float, ...]
    unit_rps: float
    rates_rps: bytearray
    forecasts: bytearray
