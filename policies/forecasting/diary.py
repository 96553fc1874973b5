"""Teaching a forecaster a deployment's past, and writing down what it would have said on the way.

Policies that learn from how their rules would have done may rehearse on it instead of beginning with nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies.base import Diary, ForecastSpec
from policies.forecasting.base import Floats, Forecaster
from policies.forecasting.together import Together

KEEP_S = 2 * 86400.0
"""The newest part of the past that is written down."""
HORIZONS_S = (60.0, 120.0, 300.0, 600.0, 1200.0, 2400.0)
_STEP_S = 60.0


def teach_together(pasts: Sequence[tuple[Forecaster, Floats, Floats]], spec: ForecastSpec) -> None:
    """`teach` without a diary, for many at once: the same is learned in a third of the time."""
    parts = []
    for forecaster, times, rates in pasts:
        first = _kept(times, spec)[1]
        parts.append((forecaster, [(times[:first], rates[:first]), (times[first:], rates[first:])]))
    Together().learn(parts)


def _kept(times: Floats, spec: ForecastSpec) -> tuple[int, int]:
    """How many whole steps of a past are written down, and which of its bins is the first of them."""
    per_step = max(1, round(_STEP_S / spec.bin_s))
    bins = int(min(KEEP_S, times[-1] - times[0] + spec.bin_s) / spec.bin_s + 1e-6) if len(times) else 0
    steps = bins // per_step
    if steps == 0:
        return 0, len(times)
    begin_s = float(times[-1]) - steps * per_step * spec.bin_s
    return steps, int(np.searchsorted(times, begin_s + 1e-6))


def teach(
    forecaster: Forecaster,
    spec: ForecastSpec,
    times_s: Sequence[float] | Floats,
    rates_rps: Sequence[float] | Floats,
    write: bool = True,
) -> Diary | None:
    """Show the forecaster ends of bins (ascending) and their mean rates (NaN = missing).

    None where there is less than a step of it, or nobody wants it (`write`; what is learned is the same). Bins that are
    missing in the kept part count as empty in the diary.
    """
    times = np.asarray(times_s, dtype=np.float64)
    rates = np.asarray(rates_rps, dtype=np.float64)
    per_step = max(1, round(_STEP_S / spec.bin_s))
    steps, first = _kept(times, spec)
    if steps == 0:
        forecaster.observe_many(times, rates)
        return None
    last_s = float(times[-1])
    begin_s = last_s - steps * per_step * spec.bin_s
    forecaster.observe_many(times[:first], rates[:first])
    if not write:
        forecaster.observe_many(times[first:], rates[first:])
        return None
    horizons_s = tuple(h for h in HORIZONS_S if h >= spec.bin_s) or (spec.bin_s,)
    rows = np.zeros((steps, len(horizons_s), len(spec.levels)))
    for step in range(steps):
        end_s = begin_s + (step + 1) * per_step * spec.bin_s
        last = int(np.searchsorted(times, end_s + 1e-6))
        forecaster.observe_many(times[first:last], rates[first:last])
        first = last
        said = forecaster.quantiles(horizons_s, spec.levels)
        if said:
            rows[step] = said
    kept = np.zeros(steps * per_step, dtype=np.float32)
    at = np.round((times - begin_s) / spec.bin_s).astype(np.int64) - 1
    known = (at >= 0) & (rates == rates)
    kept[at[known]] = rates[known]
    unit_rps = max(float(rows.max()), 1e-9) / 6e4
    forecasts = bytearray((rows / unit_rps).astype(np.float16).tobytes())
    return Diary(spec.bin_s, per_step, last_s, horizons_s, spec.levels, unit_rps, bytearray(kept.tobytes()), forecasts)
