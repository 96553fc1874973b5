"""A fan chart of a backtest as one SVG file: what came, in front of the quantiles that were forecast for it.

One panel for each horizon, over the last two days of origins. Self-contained: no script, no style sheet, no library.
"""

from __future__ import annotations

import time
from html import escape
from pathlib import PurePath

import numpy as np

from autoscaler.common.svg import nice_ticks
from simulator.experiments.backtest import DAY_S, Floats, Series, Track

_WIDTH, _PANEL, _LEFT, _RIGHT, _TOP, _GAP = 1000, 220, 64, 16, 64, 44
_SHOWN_S = 2 * DAY_S
_DATES_FROM_S = 365 * DAY_S
"""Times from here on are taken for seconds since 1970 (UTC), earlier ones for seconds since the series began."""
_INK, _MUTED, _GRID, _ACCENT, _ACTUAL = "#12161d", "#667080", "#e4e8ee", "#1a5fb4", "#b3261e"
_BANDS = ((3, 0.16), (2, 0.22), (1, 0.30))
"""Level index and opacity, the widest first; each reaches from the median up."""


def fan_chart(track: Track, series: Series) -> str:
    """The SVG's text."""
    course = track.course
    times_s = (series.first + 1 + course.origins) * series.bin_s
    shown = times_s >= times_s[-1] - _SHOWN_S
    panels = len(course.horizons_s)
    height = _TOP + panels * (_PANEL + _GAP)
    hours = times_s[shown] / 3600.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="ui-sans-serif,system-ui,'
        f'sans-serif" font-size="12" fill="{_INK}"><rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{_LEFT}" y="24" font-size="16" font-weight="600">{escape(track.forecaster)} on '
        f"{escape(PurePath(series.name).name)}</text>",
        f'<text x="{_LEFT}" y="44" fill="{_MUTED}">largest rate ahead (req/s): '
        f'<tspan fill="{_ACTUAL}">what came</tspan>, <tspan fill="{_ACCENT}">median and levels up to 0.9, 0.95, 0.99'
        "</tspan></text>",
    ]
    for j, horizon_s in enumerate(course.horizons_s):
        top = _TOP + j * (_PANEL + _GAP)
        covered = float((track.actual[:, j] <= track.quantiles[:, j, 2]).mean())
        words = f"next {horizon_s:g} s, coverage of 0.95: {covered:.3f}"
        parts += _panel(hours, track.actual[shown, j], track.quantiles[shown, j], top, words)
    return "".join(parts) + "</svg>\n"


def _panel(hours: Floats, actual: Floats, quantiles: Floats, top: float, words: str) -> list[str]:
    high = float(np.quantile(np.concatenate((actual, quantiles[:, 2])), 0.998)) * 1.1 or 1.0
    ticks = nice_ticks(0.0, high)
    high = max(ticks[-1], high)
    first, last = float(hours[0]), float(hours[-1])
    x = _LEFT + (hours - first) / max(last - first, 1e-9) * (_WIDTH - _LEFT - _RIGHT)

    def y(values: Floats) -> Floats:
        return np.asarray(top + _PANEL * (1 - np.minimum(values / high, 1.0)))

    parts = [f'<text x="{_LEFT}" y="{top - 6:g}" font-weight="600">{escape(words)}</text>']
    for tick in ticks:
        at = float(y(np.array([tick]))[0])
        parts.append(f'<path d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end" fill="{_MUTED}">{tick:g}</text>')
    dated = last * 3600.0 >= _DATES_FROM_S
    median = y(quantiles[:, 0])
    for level, opacity in _BANDS:
        upper = y(quantiles[:, level])
        outline = _points(x, upper) + "L" + _points(x[::-1], median[::-1])
        parts.append(f'<path d="M{outline}Z" fill="{_ACCENT}" fill-opacity="{opacity}"/>')
    parts.append(f'<path d="M{_points(x, median)}" fill="none" stroke="{_ACCENT}" stroke-width="1.2"/>')
    parts.append(f'<path d="M{_points(x, y(actual))}" fill="none" stroke="{_ACTUAL}" stroke-width="1"/>')
    for hour in np.arange(np.ceil(first / 6) * 6, last + 1e-9, 6):
        at = _LEFT + (hour - first) / max(last - first, 1e-9) * (_WIDTH - _LEFT - _RIGHT)
        label = time.strftime("%m-%d %H:%M", time.gmtime(hour * 3600)) if dated else _of_the_series(hour)
        parts.append(
            f'<text x="{at:.1f}" y="{top + _PANEL + 16:g}" text-anchor="middle" fill="{_MUTED}">{label}</text>'
        )
    return parts


def _of_the_series(hour: float) -> str:
    return f"day {int(hour // 24)}, {int(hour % 24):02d} h"


def _points(x: Floats, y: Floats) -> str:
    return "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
