"""`seasonal` (the default): recent level and seasonal profile, with the errors they made as quantiles.

A few simple point forecasts of the largest bin in a window (points.py) are replayed over the past season as they would
have been made then; their scaled errors give conformal quantiles, and the quantiles are averaged with weights that
follow the pinball loss: where the season says nothing, the profile loses its weight by itself. No trend model, no
clock features, no planned hints.

Every answer is a pure function of the observations: errors are replayed as of a bin that depends on how many bins were
seen, so that a restored forecaster goes on exactly like the one that was saved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from policies.base import ForecastSpec
from policies.forecasting.base import Floats, ForecasterState, length_words, pack, unpack
from policies.forecasting.check import CoverageCheck
from policies.forecasting.history import SeasonalHistory
from policies.forecasting.points import (
    POINTS,
    Features,
    Windows,
    error_scale,
    past_features,
    points,
    present_features,
)
from policies.forecasting.replay import ENOUGH_WINDOWS, Fit, Limits, Past, replay


class RollingForecaster:
    """See the module. `allowed` = indices into POINTS that may be used."""

    allowed: tuple[int, ...] = tuple(range(len(POINTS)))
    name = "seasonal"

    def __init__(self, spec: ForecastSpec) -> None:
        self._bin_s, self._season_s = spec.bin_s, spec.season_s
        season = max(2, round(spec.season_s / spec.bin_s))
        self._windows = Windows.of(spec.bin_s, spec.season_s)
        self._span = max(season, 1440)
        self._refresh = max(4, season // 96)
        self._memory = self._span + max(season // 2, 720)
        smooth = round(min(70.0, spec.season_s / 50) / spec.bin_s) // 2
        self._history = SeasonalHistory(season, self._memory + self._refresh, smooth)
        self._limits = Limits(self.allowed, season, self._span, self._history.reach)
        self._index: int | None = None
        self._known_index = -1
        self._asked = 1
        self._levels: tuple[float, ...] = (0.5, 0.9)
        self._check = CoverageCheck()
        self._fits: dict[tuple[tuple[int, ...], tuple[float, ...]], tuple[int, Fit]] = {}
        self._past: Past | None = None

    # ------------------------------------------------------------ feeding

    @property
    def last_time_s(self) -> float | None:
        if self._index is None or self._silent() >= self._memory:
            return None
        return self._index * self._bin_s

    def observe(self, time_s: float, value: float | None) -> None:
        """See Forecaster.observe."""
        index = round(time_s / self._bin_s)
        if self._index is not None and index <= self._index:
            return
        if self._index is not None and index > self._index + 1:
            self._history.skip(index - self._index - 1)
        self._history.extend(np.array([math.nan if value is None else max(0.0, value)]))
        self._index = index
        if value is not None:
            self._known_index = index
            self._check.observe(value)
        if not self._check.waiting and self._history.known >= 2:
            self._promise()

    def observe_many(self, times_s: Sequence[float] | Floats, values: Sequence[float] | Floats) -> None:
        """See Forecaster.observe_many; much faster than one by one, without checking own coverage on the way."""
        index = np.rint(np.asarray(times_s, dtype=np.float64) / self._bin_s).astype(np.int64)
        series = np.maximum(np.asarray(values, dtype=np.float64), 0.0)
        fresh = np.ones(len(index), dtype=bool) if self._index is None else index > self._index
        fresh[1:] &= np.diff(index) > 0
        index, series = index[fresh], series[fresh]
        if not len(index):
            return
        before = index[0] - 1 if self._index is None else self._index
        gaps = np.diff(index, prepend=before) - 1
        for run in np.split(np.arange(len(index)), np.flatnonzero(gaps[1:]) + 1):
            self._history.skip(int(gaps[run[0]]))
            self._history.extend(series[run])
        self._index = int(index[-1])
        known = index[np.isfinite(series)]
        if len(known):
            self._known_index = int(known[-1])

    def _promise(self) -> None:
        """Hold itself to the window and the level (0.9, or the next above) that it was last asked for."""
        row = self._answer((self._asked,), self._levels)
        if row is not None:
            j = next((j for j, level in enumerate(self._levels) if level >= 0.9), len(self._levels) - 1)
            self._check.expect(float(row[0, j]), self._asked, self._levels[j])

    # ------------------------------------------------------------ what it can say of itself

    @property
    def calibrated(self) -> bool:
        return self._enough() and not self._check.off and not self._blind()

    @property
    def why(self) -> str:
        if self._history.known < 2:
            return "no history yet"
        if not self._enough():
            return f"only {self._seen()} of history"
        if self._blind():
            return f"no value in the last {self._windows.level * self._bin_s:g} s"
        if self._check.off:
            return self._check.words()
        if self._history.count < self._history.season + self._asked:
            return f"recent values only: {self._seen()} of history is less than a season"
        return f"season and recent level, from {self._seen()} of history"

    @property
    def coverage(self) -> tuple[tuple[float, float], ...]:
        """(level, share of recent windows that stayed under it), as far as it was judged."""
        share = self._check.share
        return () if share is None else ((self._check.level, share),)

    def _enough(self) -> bool:
        known, season = self._history.known, self._history.season
        return known >= 2 * ENOUGH_WINDOWS * self._asked or known >= season + self._asked

    def _silent(self) -> int:
        """Bins since the last one with a value; all of memory when there never was one."""
        if self._index is None or not self._history.known:
            return self._memory
        return self._index - self._known_index

    def _blind(self) -> bool:
        return self._silent() >= self._windows.level

    def _seen(self) -> str:
        return length_words(self._history.known * self._bin_s)

    # ------------------------------------------------------------ answering

    def quantiles(self, horizons_s: Sequence[float], levels: Sequence[float]) -> tuple[tuple[float, ...], ...]:
        """See Forecaster.quantiles."""
        widths = tuple(max(1, math.ceil(h / self._bin_s - 1e-9)) for h in horizons_s)
        if not widths or not levels:
            return ()
        self._asked, self._levels = widths[len(widths) // 2], tuple(levels)
        rows = self._answer(widths, self._levels)
        return () if rows is None else tuple(tuple(row) for row in rows.tolist())

    def _answer(self, widths: tuple[int, ...], levels: tuple[float, ...]) -> Floats | None:
        """Quantiles, shape (widths, levels); None when nothing is known."""
        now = self._now()
        if now is None:
            return None
        fit = self._fit(tuple(_on_grid(width) for width in widths), levels)
        made = points(now, self._highest_ahead(widths))
        there = np.isfinite(made)
        if not there.all():
            made = np.where(there, made, 0.0)
        weights = fit.weights * there.T
        weights /= np.add.reduce(weights, axis=1)[:, None]
        scale = error_scale(made, fit.mean)
        values = np.maximum(0.0, made.T[:, :, None] + scale.T[:, :, None] * fit.errors)
        rows = np.add.reduce(weights[:, :, None] * values, axis=1)
        np.maximum.accumulate(rows, axis=1, out=rows)
        return np.maximum.accumulate(rows, axis=0, out=rows)

    def _highest_ahead(self, widths: tuple[int, ...]) -> Floats:
        """The profile's maximum over the next `width` bins of each width; NaN where it knows none."""
        known = min(max(widths), self._history.reach)
        profile = np.fmax.accumulate(self._history.profile(0, ahead=known))
        return profile[[min(width, known) - 1 for width in widths]]

    def _now(self) -> Features | None:
        """Features of this moment; None when nothing is known of the remembered past."""
        if self._index is None:
            return None
        now = present_features(
            self._history.values(self._memory), self._history.profile(self._windows.level), self._windows
        )
        return now if np.isfinite(now.last[0]) else None

    # ------------------------------------------------------------ replaying the past

    def _fit(self, widths: tuple[int, ...], levels: tuple[float, ...]) -> Fit:
        """The replay for these window widths, as of the last refresh."""
        assert self._index is not None
        back = self._index % min(self._refresh, max(1, self._history.count // 64))
        asof = self._index - back
        kept = self._fits.get((widths, levels))
        if kept is not None and kept[0] == asof:
            return kept[1]
        singles = [self._fit((width,), levels) for width in widths] if len(widths) > 1 else []
        if singles:
            weights = np.concatenate([s.weights for s in singles])
            fit = Fit(weights, np.concatenate([s.errors for s in singles]), singles[0].mean)
        else:
            fit = replay(self._replayed(back), widths[0], levels, self._limits)
        if len(self._fits) >= 64:
            self._fits.clear()
        self._fits[(widths, levels)] = (asof, fit)
        return fit

    def _replayed(self, back: int) -> Past:
        """The remembered past, as of `back` bins ago."""
        assert self._index is not None
        if self._past is None or self._past.index != self._index - back:
            x = self._history.values(self._memory, back).copy()
            profile = self._history.profile(self._memory, 0, back).copy()
            self._past = Past(self._index - back, x, profile, past_features(x, profile, self._windows))
        return self._past

    # ------------------------------------------------------------ memory

    def needs_refit(self) -> bool:
        """Nothing is estimated slowly."""
        return False

    def refit(self) -> None:
        """Nothing is due."""

    def state(self) -> ForecasterState:
        """See Forecaster.state."""
        values, profile = self._history.dump()
        numbers = {"bin_s": self._bin_s, "season_s": self._season_s, "asked": float(self._asked)}
        numbers |= {"count": float(self._history.count), "known": float(self._history.known)} | self._check.numbers()
        if self._index is not None:
            numbers |= {"index": float(self._index), "known_index": float(self._known_index)}
        levels = np.array(self._levels)
        arrays = {"values": pack(values), "profile": pack(profile), "levels": pack(levels)}
        return ForecasterState(self.name, numbers, arrays)

    def restore(self, state: ForecasterState) -> None:
        """See Forecaster.restore."""
        numbers = state.numbers
        state.must_be_of(self.name, self._bin_s, self._season_s)
        values, profile = unpack(state.arrays["values"]), unpack(state.arrays["profile"])
        self._history.load(values, profile, int(numbers["count"]), int(numbers["known"]))
        self._asked, self._levels = int(numbers["asked"]), tuple(unpack(state.arrays["levels"]).tolist())
        self._index = int(numbers["index"]) if "index" in numbers else None
        self._known_index = int(numbers.get("known_index", -1))
        self._check = CoverageCheck.of(numbers)
        self._fits, self._past = {}, None


class SeasonalForecaster(RollingForecaster):
    """Recent levels and the seasonal profile, weighed by how well they did."""


@lru_cache(maxsize=4096)
def _on_grid(width: int) -> int:
    """Round up to a coarse grid (10 % apart), so that a moving lead time does not start a new replay each tick."""
    grid = 1
    while grid < width:
        grid = max(grid + 1, int(grid * 1.1))
    return grid
