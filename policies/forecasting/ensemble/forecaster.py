"""`mixture`: quantiles of the largest bin ahead, learned online; see the package and docs/forecasting.md.

A step of a minute (a bin where bins are wider) closes: outcomes that became known teach the spread, the regression and
the blend; then the members forecast again. Between steps only the members are asked anew, when somebody asks. That work
is done in a bank (bank.py), alone or together with other mixtures. Every number that matters is in the state; nothing
is drawn at random.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

import numpy as np

from policies.base import ForecastSpec
from policies.forecasting.base import Floats, ForecasterState, known_rate, length_words
from policies.forecasting.check import CoverageCheck
from policies.forecasting.ensemble.bank import NEVER, Bank
from policies.forecasting.ensemble.grid import HORIZONS_S, LEVELS, UPPER, Grid
from policies.forecasting.ensemble.members import SEASONAL, HourShape, Own
from policies.forecasting.ensemble.memory import SeriesMemory
from policies.forecasting.ensemble.recursions import Recursions
from policies.forecasting.ensemble.refits import RefitPlan
from policies.forecasting.ensemble.serialization import Kept, pack_exact, unpack_exact

_EPOCH = date(1970, 1, 1).toordinal()
_LEARNED_SEASONS = 3
"""Of history given at once, how many seasons are learned from; what is older only enters the profile."""
_CHECK_HORIZON_S = 300.0
_ENOUGH = 60
"""Outcomes known before anybody may rely on it."""
_BLIND_S = 300.0
"""Without a value for so long it sees nothing."""
_MOST_SAID = 16
"""Answers that are kept until the next bin."""
_SHORTEST_SEASON_S = 9000.0
"""Its horizons, windows and half-lives are made for seasons from here on."""


class MixtureForecaster(Kept):
    """See the module; `Forecaster` says what the methods promise."""

    name = "mixture"
    numbers = ("index",)

    def __init__(self, spec: ForecastSpec, horizons_s: tuple[float, ...] = HORIZONS_S) -> None:
        self.bin_s, self.season_s = spec.bin_s, spec.season_s
        self._speed = max(1.0, _SHORTEST_SEASON_S / spec.season_s)
        self.grid = grid = Grid.of(spec.bin_s * self._speed, spec.season_s * self._speed, horizons_s)
        """In seconds of its own: where the season is shorter than hours (a demonstration), all goes faster."""
        self.kind = (grid.bin_s, grid.season_s, tuple(grid.widths.tolist()))
        """Mixtures of one kind can share a bank."""
        holidays = frozenset(date.fromisoformat(day).toordinal() - _EPOCH for day in spec.holidays)
        self.memory = SeriesMemory(grid, holidays)
        self.recursions = Recursions(grid)
        self.shape = HourShape(grid)
        self.own = Own(self.memory, self.recursions, self.shape)
        self.bank, self.slot = Bank(grid), 0
        """Where everything else that it learned is kept; shared with others once it is admitted to their bank."""
        self.refits = RefitPlan(grid.step_s)
        self.check = CoverageCheck()
        self.index = NEVER
        """Number of the newest bin, counted from the epoch (a simulation's past lies before it); NEVER: none yet."""
        self.asleep = False
        """Only remember; do not learn and do not forecast."""
        self._rows: Floats | None = None
        self._said: list[tuple[tuple[float, ...], tuple[float, ...], tuple[tuple[float, ...], ...]]] = []
        """Answers given since the last bin: horizons (its own seconds), levels, quantiles."""
        self.rises: dict[int, float] = {}
        """Of the season beyond the longest horizon, since the last step closed."""
        self._why: str | None = None
        self._calibrated: bool | None = None
        """Both since the last bin; None: nobody asked."""
        self._standing: tuple[int, float] | None = None
        """Since the last step."""
        self.last_time_s: float | None = None
        self._check_row = int(np.argmin(np.abs(grid.widths * grid.bin_s - _CHECK_HORIZON_S)))

    # ------------------------------------------------------------ feeding

    def observe(self, time_s: float, value: float | None) -> None:
        """See Forecaster.observe."""
        index = round(time_s / self.bin_s)
        if index <= self.index:
            return
        rate_rps = known_rate(value)
        for at, known in self._up_to(index, rate_rps):
            self._add(at, known)
        self.index = index
        if rate_rps is not None:
            self.promise()

    def follows(self, time_s: float) -> bool:
        """A bin that ends then is the next one: nothing is missing between."""
        return self.memory.known > 0 and round(time_s / self.bin_s) == self.index + 1

    @property
    def may_promise(self) -> bool:
        """The last promise is over."""
        return not self.check.waiting and self.memory.known >= 2

    def promise(self) -> None:
        """After a bin with a value: a new promise to be judged by, when the last one is over."""
        if self.may_promise:
            bound = float(self.current()[self._check_row, UPPER.start])
            self.check.expect(bound, int(self.grid.widths[self._check_row]), float(LEVELS[UPPER.start]))

    def observe_many(self, times_s: Sequence[float] | Floats, values: Sequence[float] | Floats) -> None:
        """See Forecaster.observe_many: the newest three seasons are learned from, older ones only shape the profile."""
        for index, value in self.walk(times_s, values):
            self._add(index, value)

    def walk(
        self, times_s: Sequence[float] | Floats, values: Sequence[float] | Floats
    ) -> Iterator[tuple[int, float | None]]:
        """The bins of `observe_many`, missing ones too; each has to be taken in before the next is asked for."""
        times = np.asarray(times_s, dtype=np.float64)
        rates = np.asarray(values, dtype=np.float64)
        if not len(times):
            return
        learn_from = times[-1] - _LEARNED_SEASONS * max(self.season_s, 3600.0)
        old = int(np.searchsorted(times, learn_from)) if not self.memory.known else 0
        for i in range(len(times)):
            self.asleep = i < old
            index = round(float(times[i]) / self.bin_s)
            if index <= self.index:
                continue
            yield from self._up_to(index, known_rate(float(rates[i])))
            self.index = index
        self.asleep = False

    def _up_to(self, index: int, rate_rps: float | None) -> Iterator[tuple[int, float | None]]:
        """The bins to take in up to this one, missing ones too; of a series that never had a value: none."""
        if self.memory.known:
            for missing in self._skipped(index):
                yield missing, None
        if rate_rps is not None or self.memory.known:
            yield index, rate_rps

    def _skipped(self, index: int) -> range:
        """Bins that nobody told of; more of them than memory holds are not walked through."""
        first = self.index + 1
        most = 2 * self.memory.span * self.grid.bins_per_step
        if index - first > most:
            self.memory.forget(first // self.grid.bins_per_step)
            first = index - self.memory.span * self.grid.bins_per_step
        return range(first, index)

    def _add(self, index: int, value: float | None) -> None:
        self.ingest(index, value)
        if index % self.grid.bins_per_step == 0:
            self.bank.close([self], index // self.grid.bins_per_step)

    def ingest(self, index: int, value: float | None) -> None:
        """The next bin, which may be the last of a step: closing that is the bank's."""
        self._rows = None
        self._said.clear()
        self._why = self._calibrated = None
        self.index = index
        self.memory.add(value)
        self.last_time_s = self._newest()
        if value is not None:
            self.check.observe(value)
            if self.memory.known == 1:
                self.bank.begin(self.slot, self.memory.unit)

    def _newest(self) -> float | None:
        """What `last_time_s` is to be."""
        memory = self.memory
        if not memory.known or memory.since_known >= memory.span * self.grid.bins_per_step:
            return None
        return self.index * self.bin_s

    def advance(self, step: int, value: float) -> None:
        """A step is over, with this mean (NaN where all is missing): recursions, new parameters in their time."""
        memory, recursions = self.memory, self.recursions
        self.rises.clear()
        self._standing = None
        if self.refits.spread < 0 and value == value:
            self.refits.spread_by(np.array([value, step]))
        recursions.feed(step, value, memory.odd > 0)
        if not recursions.has_season and memory.steps >= self.grid.season_steps:
            recursions.begin_season(memory.past(self.grid.season_steps), step)
        if not self.asleep:
            adopted = self.refits.tick(memory, recursions.constants)
            if adopted is not None:
                recursions.adopt(adopted)

    # ------------------------------------------------------------ refits

    def needs_refit(self) -> bool:
        """A refit is due that nobody computed yet: `refit` may run in a thread now, and spares the tick the work."""
        return self.refits.needs

    def refit(self) -> None:
        """Compute the refit that is due (tens of milliseconds); it takes effect at its own step."""
        self.refits.compute()

    # ------------------------------------------------------------ forecasting

    def current(self) -> Floats:
        """Quantiles now (horizons of the grid, LEVELS)."""
        if self._rows is None:
            self.bank.forecast([self])
        assert self._rows is not None
        return self._rows

    @property
    def forecasts(self) -> bool:
        """It has said what it expects since the last bin."""
        return self._rows is not None

    def take_rows(self, rows: Floats) -> None:
        """What the bank forecasts for it."""
        self._rows = rows

    # ------------------------------------------------------------ what it can say of itself

    @property
    def calibrated(self) -> bool:
        if self._calibrated is None:
            self._calibrated = self._enough and not self._blind and not self.check.off
        return self._calibrated

    @property
    def why(self) -> str:
        if self._why is None:
            self._why = self._in_words()
        return self._why

    def _in_words(self) -> str:
        """What the forecast stands on, or why it may not be relied on."""
        if self.memory.known < 2:
            return "no history yet"
        seen = length_words(self.memory.known * self.bin_s)
        if not self.calibrated:
            if not self._enough:
                return f"only {seen} of history"
            return f"no value in the last {_BLIND_S:g} s" if self._blind else self.check.words()
        if not self.memory.seasonal:
            return f"recent values only: {seen} of history is less than a season"
        _, trust = self.standing()
        return f"{seen} of history; {trust:.0%} of the weight on the season alone, the rest on all members"

    @property
    def _enough(self) -> bool:
        known, _ = self.standing()
        return known >= _ENOUGH

    @property
    def _blind(self) -> bool:
        return self.memory.since_known * self.grid.bin_s >= max(_BLIND_S, 2 * self.grid.bin_s)

    def standing(self) -> tuple[int, float]:
        """Outcomes known of the horizon by which it is judged, and the weight there on the season alone."""
        if self._standing is None:
            blend, row = self.bank.blend, self.row(self._check_row)
            weights = blend.weights[0, row].tolist()
            self._standing = int(blend.filled[row]), sum([weights[member] for member in SEASONAL])
        return self._standing

    def row(self, horizon: int) -> int:
        """Of the bank's rows; -1 is the longest horizon."""
        return self.slot * self.grid.size + horizon % self.grid.size

    # ------------------------------------------------------------ answering

    def quantiles(self, horizons_s: Sequence[float], levels: Sequence[float]) -> tuple[tuple[float, ...], ...]:
        """See Forecaster.quantiles; interpolated between learned horizons and levels."""
        if self.last_time_s is None or not len(horizons_s) or not len(levels):
            return ()
        own, levels = self.own_seconds(horizons_s), tuple(levels)
        said = self._has_said(own, levels)
        if said is None:
            self.bank.answer([(self, tuple(horizons_s))], levels)
            said = self._said[-1][2]
        return said

    def own_seconds(self, horizons_s: Sequence[float]) -> tuple[float, ...]:
        """Horizons in the seconds of its grid."""
        return tuple(horizons_s) if self._speed == 1.0 else tuple(h * self._speed for h in horizons_s)

    def keep_answer(self, horizons_s: tuple[float, ...], levels: tuple[float, ...], table: list[list[float]]) -> None:
        """What it says, until the next bin, of these horizons (its own seconds) and levels."""
        if len(self._said) == _MOST_SAID:
            self._said.clear()
        self._said.append((horizons_s, levels, tuple(map(tuple, table))))

    def has_to_work_out(self, horizons_s: tuple[float, ...], levels: tuple[float, ...]) -> bool:
        """Asked for these horizons and levels it has an answer, which it has not given since its last bin."""
        return self.last_time_s is not None and self._has_said(self.own_seconds(horizons_s), levels) is None

    def _has_said(
        self, horizons_s: tuple[float, ...], levels: tuple[float, ...]
    ) -> tuple[tuple[float, ...], ...] | None:
        """Its answer, where it was asked the same since its last bin (to compare is quicker than to hash)."""
        for horizons, those, answer in self._said:
            if horizons == horizons_s and those == levels:
                return answer
        return None

    # ------------------------------------------------------------ memory

    _PARTS = ("memory", "recursions", "shape", "refits")

    def state(self) -> ForecasterState:
        """See Forecaster.state."""
        state = ForecasterState(self.name)
        state.numbers |= {"bin_s": self.bin_s, "season_s": self.season_s, "horizons": float(self.grid.size)}
        state.numbers |= self.check.numbers()
        self.dump(state, "mixture")
        if self._rows is not None:
            state.arrays["rows"] = pack_exact(self._rows)  # as it was said: what is learned at a step changes it
        self.bank.dump(state, self.slot)
        for part in self._PARTS:
            getattr(self, part).dump(state, part)
        return state

    def restore(self, state: ForecasterState) -> None:
        """See Forecaster.restore."""
        numbers = state.numbers
        state.must_be_of(self.name, self.bin_s, self.season_s, self.grid.size)
        self.load(state, "mixture")
        self.bank.load(state, self.slot)
        for part in self._PARTS:
            getattr(self, part).load(state, part)
        self.recursions.forget()
        self.check = CoverageCheck.of(numbers)
        self._rows = unpack_exact(state.arrays["rows"]) if "rows" in state.arrays else None
        self._said.clear()
        self.rises.clear()
        self._standing = None
        self.last_time_s = self._newest()
        self._why = self._calibrated = None
