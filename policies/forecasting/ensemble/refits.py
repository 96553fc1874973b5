"""When parameters are estimated anew: after six hours, after a day, then daily; each series at a minute of its own.

A refit is *due* at one step and *applied* a fixed number of steps later. In between a runtime may compute it in a
thread; if nobody did, it is computed when it is applied. Either way the same parameters take effect at the same step,
so that a replay agrees.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np

from policies.forecasting.base import Floats
from policies.forecasting.ensemble.fits import Parameters, fit
from policies.forecasting.ensemble.grid import DAY_S, HOUR_S
from policies.forecasting.ensemble.memory import SeriesMemory
from policies.forecasting.ensemble.serialization import Kept

_FIRST_S = 6 * HOUR_S
_SPREAD_S = 1800.0
_GRACE_STEPS = 10


class RefitPlan(Kept):
    """`tick` once a step; `needs` and `compute` for whoever wants to spare the tick the work."""

    arrays = ("before",)
    numbers = ("due", "apply", "spread")

    def __init__(self, step_s: float, only: str | None = None) -> None:
        """`only`: the one member whose parameters are wanted, as in `fits.fit`."""
        self._only = only
        self._day = max(1, round(DAY_S / step_s))
        self._first = max(1, round(_FIRST_S / step_s))
        self._spread_steps = max(1, round(_SPREAD_S / step_s))
        self.due = self._first
        """At how many steps the next one is due."""
        self.apply = -1
        """At how many steps the one under way is applied; -1: none is."""
        self.spread = -1
        self.before: Floats = Parameters().packed()
        """Parameters in force when the refit became due."""
        self._job: Callable[[Parameters], Parameters] | None = None
        self._done: Parameters | None = None

    @property
    def needs(self) -> bool:
        return self._job is not None and self._done is None

    def compute(self) -> None:
        """The slow part; touches nothing but its own snapshot."""
        job = self._job
        if job is not None and self._done is None:
            self._done = job(Parameters(*self.before.tolist()))

    def tick(self, memory: SeriesMemory, now: Sequence[float]) -> Parameters | None:
        """Parameters to adopt at this step, if any; `now`: those in force."""
        steps = memory.steps
        if self.apply >= 0 and self._job is None:
            self._job = _fit(memory, steps - (self.apply - _GRACE_STEPS), self._only)  # after a restart
        found = None
        if steps == self.apply:
            self.compute()
            found, self._job, self._done, self.apply = self._done, None, None, -1
        if steps >= self.due and self.apply < 0:
            self._job, self._done = _fit(memory, 0, self._only), None
            self.before = np.array(now)
            self.apply = steps + _GRACE_STEPS
            self.due = self._day * (steps // self._day + 1) + max(0, self.spread)
        return found

    def spread_by(self, values: Floats) -> None:
        """Choose this series' own minute by its first values: deployments do not refit all at once."""
        self.spread = zlib.crc32(np.ascontiguousarray(values).tobytes()) % self._spread_steps
        self.due += self.spread


def _fit(memory: SeriesMemory, back: int, only: str | None) -> Callable[[Parameters], Parameters]:
    """The fit on what was known `back` steps ago, on a copy of its own."""
    grid = memory.grid
    wanted = max(3 * grid.season_steps, round(DAY_S / grid.step_s)) + back
    past = memory.past(min(wanted, memory.span - grid.farthest - 64))
    past = past[: len(past) - back]
    return lambda before: fit(past, grid.season_steps, grid.step_s, before, only)
