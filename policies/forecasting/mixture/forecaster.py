"""`mixture`: quantiles of the largest bin ahead, learned online; see the package and docs/forecasting.md.

A step of a minute (a bin where bins are wider) closes: outcomes that became known teach the spread, the regression and
the blend; then the members forecast again. Between steps only the members are asked anew, when somebody asks. Every
number that matters is in the state; nothing is drawn at random but what `paths` is given a seed for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import date

import numpy as np
from numpy.typing import NDArray

from policies.base import ForecastSpec, PolicyError
from policies.forecasting.base import Floats, ForecasterState
from policies.forecasting.check import CoverageCheck
from policies.forecasting.mixture import fits
from policies.forecasting.mixture.answers import Answers
from policies.forecasting.mixture.blend import WINDOW, Blend
from policies.forecasting.mixture.columns import BY_HOUR, BY_LEVEL, COLUMNS, KNOW_SEASON, MEMBER_OF, RECORD
from policies.forecasting.mixture.grid import DAY_S, HORIZONS_S, LEVELS, UPPER, Grid, Ints
from policies.forecasting.mixture.kept import Kept, pack_exact, unpack_exact
from policies.forecasting.mixture.members import (
    MEMBERS,
    RISE_FROM,
    RISE_TO,
    SEASONAL,
    STACK,
    HourShape,
    Members,
)
from policies.forecasting.mixture.memory import SeriesMemory
from policies.forecasting.mixture.paths import Dates, sample_paths
from policies.forecasting.mixture.recursions import Recursions
from policies.forecasting.mixture.refits import RefitPlan
from policies.forecasting.mixture.spread import INPUTS, Spread, level_size

_NONE = -(2**62)
_EPOCH = date(1970, 1, 1).toordinal()
_ENOUGH = 60
_BLIND_S = 300.0
_KNOWN_SHARE = 0.8
_CUT_SIZES = 20.0
_RISE = 0.8
"""The profile rises when it goes up by more than this share of the error to expect."""
_LEARNED_SEASONS = 3
"""Of history given at once, how many seasons are learned from; what is older only enters the profile."""
_CHECK_HORIZON_S = 300.0
_SHORTEST_SEASON_S = 9000.0
"""Its horizons, windows and half-lives are made for seasons from here on."""


class MixtureForecaster(Kept):
    """See the module; `Forecaster` says what the methods promise."""

    name = "mixture"
    arrays = ("waiting", "made")
    numbers = ("index",)

    def __init__(self, spec: ForecastSpec, horizons_s: tuple[float, ...] = HORIZONS_S) -> None:
        self.bin_s, self.season_s = spec.bin_s, spec.season_s
        self._speed = max(1.0, _SHORTEST_SEASON_S / spec.season_s)
        self.grid = grid = Grid.of(spec.bin_s * self._speed, spec.season_s * self._speed, horizons_s)
        """In seconds of its own: where the season is shorter than hours (a demonstration), all goes faster."""
        holidays = frozenset(date.fromisoformat(day).toordinal() - _EPOCH for day in spec.holidays)
        self.memory = SeriesMemory(grid, holidays)
        self.recursions = Recursions(grid)
        self.shape = HourShape(grid)
        self.members = Members(grid)
        self.spread = Spread(grid, len(MEMBERS))
        self.blend = Blend(grid, len(COLUMNS))
        self.refits = RefitPlan(grid.step_s)
        self.check = CoverageCheck()
        self.index = _NONE
        """Number of the newest bin, counted from the epoch (a simulation's past lies before it); _NONE: none yet."""
        self._slots = grid.farthest + 1
        self.waiting = np.zeros((self._slots, grid.size, RECORD.width), dtype=np.float32)
        """Forecasts whose outcome is not known yet: a ring by step."""
        self.made = np.full(self._slots, _NONE, dtype=np.int64)
        """Which step each of them was made at; _NONE where it was blind."""
        self._horizons = np.arange(grid.size)
        self._rows: Floats | None = None
        self._answers = Answers(grid)
        self._said: dict[tuple[tuple[float, ...], tuple[float, ...]], tuple[tuple[float, ...], ...]] = {}
        """Answers given since the last bin."""
        self._rises: dict[int, float] = {}
        """Of the season beyond the longest horizon, since the last step closed."""
        self._check_row = int(np.argmin(np.abs(grid.widths * grid.bin_s - _CHECK_HORIZON_S)))

    # ------------------------------------------------------------ feeding

    @property
    def last_time_s(self) -> float | None:
        if not self.memory.known or self.memory.since_known >= self.memory.span * self.grid.bins_per_step:
            return None
        return self.index * self.bin_s

    def observe(self, time_s: float, value: float | None) -> None:
        """See Forecaster.observe."""
        index = round(time_s / self.bin_s)
        if index <= self.index:
            return
        if self.memory.known:
            for missing in self._skipped(index):
                self._add(missing, None)
        known = value is not None and value == value
        if known or self.memory.known:
            self._add(index, max(0.0, float(value)) if known and value is not None else None)
        self.index = index
        if known and not self.check.waiting and self.memory.known >= 2:
            bound = float(self.current()[self._check_row, UPPER.start])
            self.check.expect(bound, int(self.grid.widths[self._check_row]), float(LEVELS[UPPER.start]))

    def observe_many(self, times_s: Sequence[float] | Floats, values: Sequence[float] | Floats) -> None:
        """See Forecaster.observe_many: the newest three seasons are learned from, older ones only shape the profile."""
        times = np.asarray(times_s, dtype=np.float64)
        rates = np.asarray(values, dtype=np.float64)
        if not len(times):
            return
        learn_from = times[-1] - _LEARNED_SEASONS * max(self.season_s, 3600.0)
        old = int(np.searchsorted(times, learn_from)) if not self.memory.known else 0
        for i in range(len(times)):
            self._asleep = i < old
            value = float(rates[i])
            index = round(float(times[i]) / self.bin_s)
            if index <= self.index:
                continue
            if self.memory.known:
                for missing in self._skipped(index):
                    self._add(missing, None)
            if value == value:
                self._add(index, max(0.0, value))
            elif self.memory.known:
                self._add(index, None)
            self.index = index
        self._asleep = False

    _asleep = False
    """Only remember; do not learn and do not forecast."""

    def _skipped(self, index: int) -> range:
        """Bins that nobody told of; more of them than memory holds are not walked through."""
        first = self.index + 1
        most = 2 * self.memory.span * self.grid.bins_per_step
        if index - first > most:
            self.memory.forget(first // self.grid.bins_per_step)
            first = index - self.memory.span * self.grid.bins_per_step
        return range(first, index)

    def _add(self, index: int, value: float | None) -> None:
        self._rows = None
        self._said.clear()
        self.index = index
        self.memory.add(value)
        if value is not None:
            self.check.observe(value)
            if not self.spread.begun:
                self.spread.begin(self.memory.unit)
        if index % self.grid.bins_per_step == 0:
            self._close(index // self.grid.bins_per_step)

    def _close(self, step: int) -> None:
        self._rises.clear()
        value = self.memory.close_step(step)
        if self.refits.spread < 0 and value == value:
            self.refits.spread_by(np.array([value, step]))
        if not self._asleep:
            self._learn(step)
        self._advance(step, value)
        slot = step % self._slots
        self.made[slot] = _NONE
        if self.memory.since_known * 20 < self.grid.widths[0] and not self._asleep:
            self._rows = self._forecast(self.waiting[slot])
            self.made[slot] = step

    def _advance(self, step: int, value: float) -> None:
        """Recursions, the hour's shape, and new parameters when their time has come."""
        memory, recursions = self.memory, self.recursions
        recursions.feed(step, value, memory.odd > 0)
        if not recursions.has_season and memory.steps >= self.grid.season_steps:
            recursions.begin_season(memory.past(self.grid.season_steps), step)
        self.shape.learn(memory)
        if not self._asleep:
            adopted = self.refits.tick(memory.steps, self._fit_job, recursions.constants)
            if adopted is not None:
                recursions.adopt(adopted)

    # ------------------------------------------------------------ refits

    def needs_refit(self) -> bool:
        """A refit is due that nobody computed yet: `refit` may run in a thread now, and spares the tick the work."""
        return self.refits.needs

    def refit(self) -> None:
        """Compute the refit that is due (tens of milliseconds); it takes effect at its own step."""
        self.refits.compute()

    def _fit_job(self, back: int) -> Callable[[fits.Parameters], fits.Parameters]:
        """The fit on what was known `back` steps ago, on a copy of its own."""
        wanted = max(3 * self.grid.season_steps, round(DAY_S / self.grid.step_s)) + back
        past = self.memory.past(min(wanted, self.memory.span - self.grid.farthest - 64))
        past = past[: len(past) - back]
        steps, step_s = self.grid.season_steps, self.grid.step_s
        return lambda before: fits.fit(past, steps, step_s, before)

    # ------------------------------------------------------------ forecasting and learning

    def current(self) -> Floats:
        """Quantiles now (horizons of the grid, LEVELS)."""
        if self._rows is None:
            self._rows = self._forecast()
        return self._rows

    def _forecast(self, into: NDArray[np.float32] | None = None) -> Floats:
        """Ask the members, scale, blend; `into` takes all that learning will need (horizons, width)."""
        memory = self.memory
        mean = memory.unit
        points, stack_inputs, x = self.members.points(memory, self.recursions, self.shape)
        learned, hour, base, inputs = self.spread.sizes(memory.step, points, mean)
        by_column = points.take(MEMBER_OF, axis=1)
        level = level_size(by_column[:, len(MEMBERS) : len(MEMBERS) + len(BY_LEVEL)], mean)
        scales = np.concatenate((learned, level, hour.take(BY_HOUR, axis=1)), axis=1)
        rising = (mean * (stack_inputs[:, RISE_TO] - stack_inputs[:, RISE_FROM]) > _RISE * learned[:, STACK]).astype(
            np.int64
        )
        each, mixed, context, width = self.blend.mix(memory.step, by_column, scales, rising, mean)
        if into is not None:
            at, horizons = RECORD.at, len(points)
            into[:, at["points"]] = points
            into[:, at["scales"]] = scales
            into[:, at["base"]] = base
            into[:, at["stack"]] = stack_inputs
            into[:, at["spread"]] = inputs.reshape(horizons, -1)
            into[:, at["upper"]] = each[:, :, UPPER].reshape(horizons, -1)
            into[:, at["mixed"]] = mixed
            rest = into[:, at["rest"]]
            rest[:, :5] = (x, mean, memory.missing, context.hour, context.five)
            rest[:, 5] = context.width
            rest[:, 6] = rising
            self.blend.settle(width)
        return mixed

    def _learn(self, step: int) -> None:
        """Take in the outcomes that this step completes."""
        grid, at = self.grid, RECORD.at
        origins = step - grid.reach
        slots = origins % self._slots
        ready = self.made[slots] == origins
        if not ready.any():
            return
        record = self.waiting[slots, self._horizons].astype(np.float64)
        lost = self.memory.missing - record[:, -5]
        ready &= lost <= (1 - _KNOWN_SHARE) * grid.widths
        if self.memory.since_known and lost.any():
            ready &= self.memory.since_known * 20 < grid.widths
        rows: Ints | slice = slice(None)
        if not ready.all():
            rows = np.flatnonzero(ready)
            if not len(rows):
                return
            record, origins = record[rows], origins[rows]
        actual = self._largest()[rows]
        points, scales = record[:, at["points"]], record[:, at["scales"]]
        errors = actual[:, None] - points
        x, mean = record[:, -7], record[:, -6]
        self.spread.learn(rows, origins, errors, record[:, at["base"]], record[:, at["spread"]].reshape(-1, INPUTS))
        most = _CUT_SIZES * scales[:, STACK] / mean
        self.members.learn(rows, record[:, at["stack"]], (actual - x) / mean, most)
        upper = record[:, at["upper"]].reshape(len(record), len(COLUMNS), -1)
        contexts = record[:, [-1, -4, -3, -2]].astype(np.int64)
        scaled = errors.take(MEMBER_OF, axis=1) / np.maximum(scales, 1e-30)
        self.blend.learn(rows, origins, actual, scaled, upper, record[:, at["mixed"]], contexts)

    def _largest(self) -> Floats:
        """For each horizon the largest bin of its window, which began `reach` steps ago."""
        grid, memory = self.grid, self.memory
        if grid.bins_per_step == 1:
            newest_first = memory.last(int(grid.widths[-1]))[::-1]
            highest = np.maximum.accumulate(newest_first)
            return np.asarray(highest[np.minimum(grid.widths, len(highest)) - 1])
        windows = (
            (memory.last(reach * grid.bins_per_step), width)
            for reach, width in zip(grid.reach.tolist(), grid.widths.tolist(), strict=True)
        )
        return np.array([window[:width].max() for window, width in windows])

    # ------------------------------------------------------------ what it can say of itself

    @property
    def calibrated(self) -> bool:
        return self._enough() and not self._blind() and not self.check.off

    @property
    def why(self) -> str:
        if self.memory.known < 2:
            return "no history yet"
        if not self._enough():
            return f"only {self._seen()} of history"
        if self._blind():
            return f"no value in the last {_BLIND_S:g} s"
        if self.check.off:
            return self.check.words()
        if not self.memory.seasonal:
            return f"recent values only: {self._seen()} of history is less than a season"
        trust = float(self.blend.weights[0, self._check_row, list(SEASONAL)].sum())
        return f"{self._seen()} of history; {trust:.0%} of the weight on the season alone, the rest on all members"

    def _enough(self) -> bool:
        return int(self.blend.filled[self._check_row]) >= _ENOUGH

    def _blind(self) -> bool:
        return self.memory.since_known * self.grid.bin_s >= max(_BLIND_S, 2 * self.grid.bin_s)

    def _seen(self) -> str:
        seconds = self.memory.known * self.bin_s
        for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
            if seconds >= 2 * size:
                return f"{seconds / size:.3g} {unit}"
        return f"{seconds:.0f} s"

    # ------------------------------------------------------------ answering

    def quantiles(self, horizons_s: Sequence[float], levels: Sequence[float]) -> tuple[tuple[float, ...], ...]:
        """See Forecaster.quantiles; interpolated between learned horizons and levels."""
        if self.last_time_s is None or not len(horizons_s) or not len(levels):
            return ()
        asked = tuple(h * self._speed for h in horizons_s), tuple(levels)
        said = self._said.get(asked)
        if said is None:
            table = self._answers.table(self.current(), *asked, self._rise_beyond)
            said = self._said[asked] = tuple(tuple(row) for row in table.tolist())
        return said

    def _rise_beyond(self, horizon_s: float) -> float:
        """How much higher the profile goes by this horizon than by the longest learned one, as far as it is trusted."""
        steps = min(math.ceil(horizon_s / self.grid.step_s), self.grid.season_steps)
        if steps not in self._rises:
            self._rises[steps] = self._rise_within(steps)
        return self._rises[steps]

    def _rise_within(self, steps: int) -> float:
        memory, grid = self.memory, self.grid
        if not memory.seasonal:
            return 1.0
        past = memory.at(memory.step + 1 + np.arange(steps) - grid.season_steps)
        if not (past == past).any():
            return 1.0
        near, far = np.nanmax(np.append(memory.ahead(), -np.inf)), float(np.nanmax(past))
        if not near > 0.05 * memory.mean:
            return 1.0
        trust = float(self.blend.weights[1, -1, KNOW_SEASON].sum())
        return 1.0 + trust * (min(max(far / float(near), 1.0), 5.0) - 1.0)

    def dates(self) -> Dates:
        """The past moments whose errors are remembered for every learned horizon (see paths.py)."""
        return Dates.common(self.blend.dates, self.blend.errors[:, STACK], np.minimum(self.blend.filled, WINDOW))

    def paths(self, horizon_s: float, n: int, seed: int, dates: NDArray[np.int64] | None = None) -> Floats:
        """See Forecaster.paths. `dates`: past steps to take the errors of (see joint.py); None = drawn by the seed."""
        steps = max(1, math.ceil(horizon_s / self.bin_s - 1e-9))
        if self.last_time_s is None:
            return np.zeros((0, steps))
        return sample_paths(self, steps, n, seed, dates)

    # ------------------------------------------------------------ memory

    _PARTS = ("memory", "recursions", "shape", "spread", "blend", "refits")

    def state(self) -> ForecasterState:
        """See Forecaster.state."""
        state = ForecasterState(self.name)
        state.numbers |= {"bin_s": self.bin_s, "season_s": self.season_s, "horizons": float(self.grid.size)}
        state.numbers |= self.check.numbers()
        self.dump(state, "mixture")
        if self._rows is not None:
            state.arrays["rows"] = pack_exact(self._rows)  # as it was said: what is learned at a step changes it
        self.members.stack.dump(state, "stack")
        self.spread.regressions.dump(state, "sizes")
        for part in self._PARTS:
            getattr(self, part).dump(state, part)
        return state

    def restore(self, state: ForecasterState) -> None:
        """See Forecaster.restore."""
        numbers = state.numbers
        saved = (state.forecaster, numbers.get("bin_s", math.nan), numbers.get("season_s", math.nan))
        mine = (self.name, self.bin_s, self.season_s)
        if saved != mine or numbers["horizons"] != self.grid.size:
            raise PolicyError(
                f"forecaster state of {saved[0]!r} (bin {saved[1]:g} s, season {saved[2]:g} s) does not fit "
                f"{mine[0]!r} (bin {mine[1]:g} s, season {mine[2]:g} s)"
            )
        self.load(state, "mixture")
        self.members.stack.load(state, "stack")
        self.spread.regressions.load(state, "sizes")
        for part in self._PARTS:
            getattr(self, part).load(state, part)
        self.recursions.forget()
        self.members.forget()
        self.spread.forget()
        self.check = CoverageCheck.of(numbers)
        self._rows = unpack_exact(state.arrays["rows"]) if "rows" in state.arrays else None
        self._said.clear()
        self._rises.clear()
