"""Teaching forecasters the past of their deployments, and writing down what they would have said on the way.

Policies that learn from how their rules would have done may rehearse on it instead of beginning with nothing. Many
learn side by side: a step of all costs little more than that of one (batch.py), and each learns and says the same
as alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies.base import BacktestTrace, ForecastSpec
from policies.base.forecast import Past
from policies.forecasting.base import Floats, Forecaster
from policies.forecasting.batch import BatchedEnsemble

KEEP_S = 2 * 86400.0
"""The newest part of the past that is written down."""
HORIZONS_S = (60.0, 120.0, 300.0, 600.0, 1200.0, 2400.0)
_STEP_S = 60.0


def backtest_forecasters(
    pasts: Sequence[tuple[Forecaster, Past]], spec: ForecastSpec, write: bool = True
) -> list[BacktestTrace | None]:
    """Show each forecaster ends of bins (seconds, ascending) and their mean rates (req/s, NaN = missing).

    What came of each: None where there is less than a step of it, or nobody wants it (`write`; what is learned is the
    same). Bins that are missing in the part that is written down count as empty in the diary.
    """
    lessons = [_Backtest(forecaster, spec, *past) for forecaster, past in pasts]
    together = BatchedEnsemble()
    together.learn([(one.forecaster, [one.bins(0, one.first)]) for one in lessons])
    if not write:
        together.learn([(one.forecaster, [one.bins(one.first, len(one.times))]) for one in lessons])
        return [None] * len(lessons)
    for left in range(max((one.steps for one in lessons), default=0), 0, -1):
        now = [one for one in lessons if one.steps >= left]
        together.learn([(one.forecaster, [one.step(one.steps - left)]) for one in now])
        together.ask([(one.forecaster, one.horizons_s) for one in now], spec.levels)
        for one in now:
            one.write(one.steps - left)
    return [one.diary() for one in lessons]


class _Backtest:
    """A forecaster, its past, and the diary that is being written of the newest `steps` of it."""

    def __init__(
        self, forecaster: Forecaster, spec: ForecastSpec, times_s: Sequence[float] | Floats,
        rates_rps: Sequence[float] | Floats,
    ) -> None:  # fmt: skip
        self.forecaster, self._spec = forecaster, spec
        self.times = np.asarray(times_s, dtype=np.float64)
        self._rates = np.asarray(rates_rps, dtype=np.float64)
        self._per_step = max(1, round(_STEP_S / spec.bin_s))
        self._step_s = self._per_step * spec.bin_s
        self.steps = self._whole_steps()
        self._begin_s = float(self.times[-1]) - self.steps * self._step_s if self.steps else 0.0
        self.first = int(np.searchsorted(self.times, self._begin_s + 1e-6)) if self.steps else len(self.times)
        """Which bin is the first that is written down."""
        self.horizons_s = tuple(h for h in HORIZONS_S if h >= spec.bin_s) or (spec.bin_s,)
        self._rows = np.zeros((self.steps, len(self.horizons_s), len(spec.levels)))

    def _whole_steps(self) -> int:
        if not len(self.times):
            return 0
        known_s = min(KEEP_S, float(self.times[-1] - self.times[0]) + self._spec.bin_s)
        return int(known_s / self._spec.bin_s + 1e-6) // self._per_step

    def bins(self, first: int, last: int) -> Past:
        return self.times[first:last], self._rates[first:last]

    def step(self, number: int) -> Past:
        """The bins of a step that is written down."""
        ends_s = self._begin_s + self._step_s * np.array([number, number + 1])
        first, last = np.searchsorted(self.times, ends_s + 1e-6).tolist()
        return self.bins(first, last)

    def write(self, step: int) -> None:
        """What the forecaster says when this step is over."""
        said = self.forecaster.quantiles(self.horizons_s, self._spec.levels)
        if said:
            self._rows[step] = said

    def diary(self) -> BacktestTrace | None:
        """All that was written."""
        if not self.steps:
            return None
        spec = self._spec
        kept = np.zeros(self.steps * self._per_step, dtype=np.float32)
        at = np.round((self.times - self._begin_s) / spec.bin_s).astype(np.int64) - 1
        known = (at >= 0) & (self._rates == self._rates)
        kept[at[known]] = self._rates[known]
        unit_rps = max(float(self._rows.max()), 1e-9) / 6e4
        forecasts = bytearray((self._rows / unit_rps).astype(np.float16).tobytes())
        rates, last_s = bytearray(kept.tobytes()), float(self.times[-1])
        return BacktestTrace(
            spec.bin_s, self._per_step, last_s, self.horizons_s, spec.levels, unit_rps, rates, forecasts
        )
