"""Verification of forecasts: how often demand stayed under each quantile in windows as long as the lead time.

Each window's forecast is recorded once, at its beginning, and evaluated when its last bin has closed. The result is for
people and alerts; the forecaster itself decides whether a forecast may be used. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from autoscaler.core.state import CoverageMemory, Promise
from policies.base import Forecast

LEVELS = (0.5, 0.9, 0.95, 0.99)
_KEEP = 0.998
"""Factor by which a window's weight falls with each later one: about the last five hundred count."""
_PROMISES_PER_WINDOW = 8
"""Number of open windows at the same time; they overlap."""
_SEEN_SHARE = 0.8
"""A window of which less than this share was observed is not evaluated."""


def evaluate(memory: CoverageMemory, closed: Sequence[tuple[float, float | None]], bin_s: float) -> None:
    """Compare open records with the bins that closed: their ends and rates (None: not observed)."""
    for end_s, rate_rps in closed:
        open_still = []
        for promise in memory.promises:
            until_s = promise.until_s
            if rate_rps is not None and end_s <= until_s + 1e-6:
                promise.seen_s += bin_s
                if rate_rps > promise.highest_rps:
                    promise.highest_rps = rate_rps
            if end_s < until_s - 1e-6:
                open_still.append(promise)
            else:
                _close(memory, promise)
        memory.promises = open_still


def _close(memory: CoverageMemory, promise: Promise) -> None:
    if promise.seen_s < _SEEN_SHARE * promise.window_s:
        return
    highest_rps, before = promise.highest_rps, memory.kept or [0.0] * len(LEVELS)
    memory.kept = [
        _KEEP * kept + (highest_rps <= bound) for kept, bound in zip(before, promise.bounds_rps, strict=True)
    ]
    memory.windows = _KEEP * memory.windows + 1.0
    memory.shares = _shares(memory)


def too_soon(memory: CoverageMemory, last_bin_s: float, bin_s: float) -> bool:
    """Whether `record` would add nothing, whatever the window: a cheap check before the forecast is computed."""
    last_s = memory.promised_at_s
    return last_s is not None and last_bin_s < last_s + bin_s - 1e-6


def record(memory: CoverageMemory, forecast: Forecast, last_bin_s: float, bin_s: float, horizon_s: float) -> None:
    """Record the forecast of the window that begins now, unless one was recorded a moment ago.

    `last_bin_s`: end of the last bin that the forecaster has seen; `horizon_s` is rounded up to whole bins.
    """
    if not forecast.values_rps:
        return
    window_s = max(1, math.ceil(horizon_s / bin_s - 1e-9)) * bin_s
    last_s = memory.promised_at_s
    if last_s is not None and last_bin_s < last_s + max(bin_s, window_s / _PROMISES_PER_WINDOW) - 1e-6:
        return
    memory.promised_at_s = last_bin_s
    memory.promises.append(Promise(last_bin_s + window_s, window_s, forecast.quantiles(window_s, LEVELS)))


def shares(memory: CoverageMemory) -> tuple[tuple[float, float], ...]:
    """(level, share of recent windows under it); empty before any window was evaluated."""
    return memory.shares or _shares(memory)


def _shares(memory: CoverageMemory) -> tuple[tuple[float, float], ...]:
    windows = memory.windows
    if windows <= 0:
        return ()
    return tuple([(level, kept / windows) for level, kept in zip(LEVELS, memory.kept, strict=True)])
