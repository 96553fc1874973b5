"""Rolling-origin backtest of forecasters on a series of rates: how good, how well calibrated, how dear.

A forecaster sees one bin after the other. At every origin its quantiles of the largest bin in (t, t + h] are compared
with what came: pinball loss over the series' mean rate, and coverage. Origins lie on a grid co-prime to 5 and 10
minutes, since a grid that beats with cron jobs flatters or punishes by up to half. Not for policies (league.py).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoscaler.common.errors import InputError, TraceError
from policies.base import ForecastSpec
from policies.forecasting import Forecaster, create, forecaster_names
from policies.options import exact
from simulator.workload.traces import RateTrace

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVELS = (0.5, 0.9, 0.95, 0.99)
SCORED = (1, 2, 3)
"""The levels whose mean is `pinball_mean`."""
HORIZONS_S = (120.0, 300.0, 600.0)
SEASONAL = ("seasonal_naive", "holt_winters")
DAY_S = 86400.0
_HOUR_S = 3600.0
_BIN_S = 60.0
_WARM_UP_S = 3 * DAY_S
_LONG_S = 4 * DAY_S
"""From this length on the first three days are for warming up."""
_SHORT_WARM_UP_S = 6 * _HOUR_S
_STRIDE_S, _LONG_STRIDE_S, _VERY_LONG_S = 420.0, 780.0, 25 * DAY_S
_FEWEST_ORIGINS = 20
_TOLD_EVERY = 64
"""Bins from one word on progress to the next: tenths of a second with the slowest forecaster."""


@dataclass(frozen=True, slots=True)
class Series:
    """Mean rates per bin; `first` = number of the first bin, counted from the time 0 of the file."""

    name: str
    bin_s: float
    first: int
    rates: Floats

    @property
    def length_s(self) -> float:
        return self.bin_s * len(self.rates)

    @property
    def mean_rps(self) -> float:
        return float(self.rates.mean())


@dataclass(frozen=True, slots=True)
class Course:
    """Where forecasts are made: `origins` are indices of the last bin seen, `widths` bins of each horizon."""

    horizons_s: tuple[float, ...]
    widths: tuple[int, ...]
    origins: Ints
    warm_up_s: float
    stride_s: float


@dataclass(frozen=True, slots=True)
class Track:
    """One forecaster over one series: quantiles (origins, horizons, LEVELS) and what came (origins, horizons)."""

    forecaster: str
    course: Course
    quantiles: Floats
    actual: Floats
    update_ms: float
    fit_ms: float | None
    fits: int


@dataclass(frozen=True, slots=True)
class Score:
    """One forecaster at one horizon, as `forecast --json` shows it."""

    forecaster: str
    horizon_s: float
    pinball: tuple[float, ...]
    coverage: tuple[float, ...]
    update_ms: float
    fit_ms: float | None

    @property
    def pinball_mean(self) -> float:
        return sum(self.pinball[k] for k in SCORED) / len(SCORED)

    def document(self) -> dict[str, Any]:
        """Plain data with the contract's keys."""
        levels = [f"{level:g}" for level in LEVELS]
        return {
            "forecaster": self.forecaster,
            "horizon_s": self.horizon_s,
            "pinball": dict(zip(levels, self.pinball, strict=True)),
            "pinball_mean": self.pinball_mean,
            "coverage": dict(zip(levels, self.coverage, strict=True)),
            "update_ms": self.update_ms,
            "fit_ms": self.fit_ms,
        }


# ---------------------------------------------------------------- the series and where to forecast


def series_of(trace: RateTrace, bin_s: float | None = None) -> Series:
    """The trace in bins of `bin_s` (None: a minute, or the file's where they are wider); a rest at the end is cut.

    Errors: InputError when `bin_s` is not a multiple of the file's bins, TraceError when nothing ever came.
    """
    wanted = bin_s if bin_s is not None else trace.bin_s * max(1, round(_BIN_S / trace.bin_s))
    times = wanted / trace.bin_s
    if not math.isfinite(wanted) or wanted <= 0 or round(times) < 1 or abs(times - round(times)) > 1e-6 * times:
        raise InputError(f"--bin-s {exact(wanted)}: allowed: a multiple of the file's bins of {exact(trace.bin_s)} s")
    width = round(times)
    rates = trace.rps[: len(trace.rps) // width * width].reshape(-1, width).mean(axis=1)
    if not len(rates) or not rates.mean() > 0:
        raise TraceError(f"{trace.source}: no traffic in it: a loss relative to the mean rate has no meaning")
    return Series(trace.source, wanted, round(trace.start_s / wanted), rates)


def course_of(series: Series, horizons_s: Sequence[float] | None = None, sparse: int = 1) -> Course:
    """Origins and horizons for a series; `sparse` = use only every n-th origin (quick looks).

    Errors: InputError for a horizon shorter than a bin, TraceError for a series too short to be judged.
    """
    bin_s = series.bin_s
    chosen = tuple(horizons_s) if horizons_s else tuple(h for h in HORIZONS_S if h >= bin_s) or (bin_s, 2 * bin_s)
    for horizon_s in chosen:
        if not (math.isfinite(horizon_s) and horizon_s >= bin_s * (1 - 1e-9)):
            raise InputError(f"--horizon-s {exact(horizon_s)}: allowed: at least the bin's width, {exact(bin_s)} s")
    chosen = tuple(sorted(set(chosen)))
    widths = tuple(max(1, math.ceil(h / bin_s - 1e-9)) for h in chosen)
    length_s = series.length_s
    warm_up_s = _WARM_UP_S if length_s >= _LONG_S else max(_SHORT_WARM_UP_S, length_s / 4)
    stride = stride_of(bin_s, _LONG_STRIDE_S if length_s > _VERY_LONG_S else _STRIDE_S)
    origins = np.arange(round(warm_up_s / bin_s), len(series.rates) - max(widths), stride * max(1, sparse))
    if len(origins) < _FEWEST_ORIGINS:
        needed_s = warm_up_s + (_FEWEST_ORIGINS * stride + max(widths)) * bin_s
        raise TraceError(
            f"{series.name}: {length_s / _HOUR_S:.3g} h are too short to judge forecasts of {max(chosen):g} s; "
            f"allowed: {needed_s / _HOUR_S:.3g} h or more"
        )
    return Course(chosen, widths, origins, warm_up_s, stride * bin_s)


def stride_of(bin_s: float, about_s: float) -> int:
    """Bins between two origins: the first number at or above `about_s` that shares no factor with 5 or 10 minutes."""
    stride = max(1, math.ceil(about_s / bin_s - 1e-9))
    rhythms = [max(1, round(s / bin_s)) for s in (300.0, 600.0)]
    if min(rhythms) == 1:
        return 1
    while any(math.gcd(stride, rhythm) != 1 for rhythm in rhythms):
        stride += 1
    return stride


def names_for(series: Series) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All forecasters, and those of them that are left out: the seasonal ones on series under two days."""
    out = SEASONAL if series.length_s < 2 * DAY_S else ()
    return tuple(n for n in forecaster_names() if n not in out), out


# ---------------------------------------------------------------- running and judging


def run(
    series: Series,
    course: Course,
    name: str,
    progress: Callable[[float], None] | None = None,
    make: Callable[[ForecastSpec], Forecaster] = create,
) -> Track:
    """Show the series to a new forecaster, bin by bin, and ask it at the origins.

    `update_ms` is the mean time to take in a bin plus the mean time to answer; refits count apart. Errors: PolicyError
    for an unknown name.
    """
    forecaster = make(ForecastSpec(name, series.bin_s, DAY_S, LEVELS))
    quantiles = np.empty((len(course.origins), len(course.widths), len(LEVELS)))
    horizons = tuple(w * series.bin_s for w in course.widths)
    taken_s, asked_s, fitted_s, fits, k = 0.0, 0.0, 0.0, 0, 0
    origins = course.origins.tolist()
    for i, rate in enumerate(series.rates.tolist()):
        if forecaster.needs_refit():
            began = time.perf_counter()
            forecaster.refit()
            fitted_s += time.perf_counter() - began
            fits += 1
        began = time.perf_counter()
        forecaster.observe((series.first + i + 1) * series.bin_s, rate)
        taken_s += time.perf_counter() - began
        if k < len(origins) and i == origins[k]:
            began = time.perf_counter()
            quantiles[k] = forecaster.quantiles(horizons, LEVELS)
            asked_s += time.perf_counter() - began
            k += 1
        if progress is not None and i % _TOLD_EVERY == 0:
            progress(i / len(series.rates))
    update_ms = 1000 * (taken_s / len(series.rates) + asked_s / max(1, k))
    fit_ms = 1000 * fitted_s / fits if fits else None
    return Track(name, course, quantiles, outcomes(series, course), update_ms, fit_ms, fits)


def outcomes(series: Series, course: Course) -> Floats:
    """What came: the largest bin of each window (origins, horizons)."""
    windows = np.lib.stride_tricks.sliding_window_view(series.rates, max(course.widths))
    running = np.maximum.accumulate(windows[course.origins + 1], axis=1)
    return np.asarray(running[:, np.array(course.widths) - 1])


def scores(track: Track, series: Series) -> Iterator[Score]:
    """One row for each horizon."""
    miss = track.actual[:, :, None] - track.quantiles
    levels = np.array(LEVELS)
    loss = np.maximum(levels * miss, (levels - 1.0) * miss).mean(axis=0) / series.mean_rps
    covered = (miss <= 0).mean(axis=0)
    for j, horizon_s in enumerate(track.course.horizons_s):
        yield Score(
            track.forecaster,
            horizon_s,
            tuple(loss[j].tolist()),
            tuple(covered[j].tolist()),
            track.update_ms,
            track.fit_ms,
        )


def document(series: Series, results: Sequence[Score]) -> dict[str, Any]:
    """What `forecast --json` prints."""
    return {
        "version": 1,
        "series": series.name,
        "bin_s": series.bin_s,
        "default_forecaster": ForecastSpec().forecaster,
        "results": [score.document() for score in results],
    }
