"""Forecasts of demand: what a policy may ask for and sees, what was said in the past, and the ports of forecasting.

An announcement is planned demand: it says that demand will reach a level within a window, with some confidence, and
raises the quantiles of a forecast accordingly (`announced`).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from policies.base.errors import PolicyError
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


Floats = NDArray[np.float64]

MOST_RPS = 1e12
"""Larger values are mistakes, beyond any traffic: they teach nothing, like missing ones."""

Bin = tuple[float, float | None]
"""End of a bin (seconds) and its mean rate (req/s), None when it was not seen."""
Past = tuple[Sequence[float] | Floats, Sequence[float] | Floats]
"""Ends of bins (seconds, ascending) and their mean rates (req/s), NaN where missing."""


@dataclass(slots=True)
class ForecasterState:
    """A forecaster's memory as plain data: `arrays` hold packed float64 (see `pack`), the rest are numbers."""

    forecaster: str
    numbers: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, str] = field(default_factory=dict)

    def must_be_of(self, forecaster: str, bin_s: float, season_s: float, horizons: int | None = None) -> None:
        """Errors: PolicyError where this is the memory of another forecaster, or of other bins, seasons or horizons."""
        saved = (self.forecaster, self.numbers.get("bin_s", math.nan), self.numbers.get("season_s", math.nan))
        mine = (forecaster, bin_s, season_s)
        if saved != mine or (horizons is not None and self.numbers.get("horizons") != horizons):
            raise PolicyError(
                f"forecaster state of {saved[0]!r} (bin {saved[1]:g} s, season {saved[2]:g} s) does not fit "
                f"{mine[0]!r} (bin {mine[1]:g} s, season {mine[2]:g} s)"
            )


class Forecaster(Protocol):
    """Quantiles of demand (req/s) from its own past: fed once a bin, asked when somebody has to decide.

    Reads no clock: "now" is the end of the last bin observed. Same observations, same answers.
    """

    name: str

    @property
    def calibrated(self) -> bool:
        """False while history is too short or its own upper quantiles were exceeded too often: do not rely on them."""
        ...

    @property
    def why(self) -> str:
        """What it stands on, in words."""
        ...

    @property
    def last_time_s(self) -> float | None:
        """End of the last bin observed; None when no remembered bin has a value: then there is nothing to forecast."""
        ...

    def observe(self, time_s: float, value: float | None) -> None:
        """Mean rate of the bin that ended at `time_s` (a multiple of the bin width); None or skipped = missing,
        and so is what is no number or beyond MOST_RPS.

        A bin that is not newer than the last one is ignored.
        """
        ...

    def observe_many(self, times_s: Sequence[float] | Floats, values: Sequence[float] | Floats) -> None:
        """Many bins at once, ascending; NaN = missing."""
        ...

    def quantiles(self, horizons_s: Sequence[float], levels: Sequence[float]) -> tuple[tuple[float, ...], ...]:
        """For each horizon (ascending) and level (ascending): quantile of the largest bin mean in (now, now + h].

        Empty when no remembered bin has a value. Never below 0; not descending in level nor in horizon.
        """
        ...

    def state(self) -> ForecasterState: ...

    def restore(self, state: ForecasterState) -> None:
        """Take over a memory. Errors: PolicyError when it belongs to another forecaster, bin width or season."""
        ...

    def needs_refit(self) -> bool:
        """Slow estimations are due: `refit` may run in a thread now, and spares a later step the work."""
        ...

    def refit(self) -> None:
        """What is due; it takes effect at a step of its own, computed here or not."""
        ...


class Forecasting(Protocol):
    """Makes forecasters, and shows and asks many at once; what each says and remembers is the same as on its own."""

    def create(self, spec: ForecastSpec) -> Forecaster:
        """One without a memory. Errors: PolicyError for an unknown name or impossible widths."""
        ...

    def observe(self, shown: Sequence[tuple[Forecaster, Sequence[Bin]]]) -> None:
        """Each forecaster sees the bins that closed for it, oldest first."""
        ...

    def ask(self, asked: Sequence[tuple[Forecaster, tuple[float, ...]]], levels: tuple[float, ...]) -> None:
        """Make ready what `quantiles` of each will answer for these horizons (seconds, ascending) and levels."""
        ...

    def backtest(
        self, pasts: Sequence[tuple[Forecaster, Past]], spec: ForecastSpec, write: bool = True
    ) -> list[BacktestTrace | None]:
        """Each forecaster learns its past. With `write`: what each would have said on the way; else None."""
        ...
