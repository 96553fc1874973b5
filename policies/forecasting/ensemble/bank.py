"""The memory of many mixtures side by side, and what they learn and forecast from it, together.

A mixture works on arrays so small that calling numpy costs more than the arithmetic; those that close a step or are
asked at the same moment are therefore worked on in one go. A mixture alone has a bank of one slot: the formulas are the
same, and so are the numbers. What a series remembers by itself (bins, recursions, refits) is the forecaster's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import ClassVar, Protocol
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from policies.forecasting.base import Floats, ForecasterState, known_rate
from policies.forecasting.ensemble.blend import Blend
from policies.forecasting.ensemble.grid import UPPER, Grid, Ints
from policies.forecasting.ensemble.interpolation import Answers
from policies.forecasting.ensemble.layout import BY_HOUR, BY_LEVEL, COLUMNS, KNOW_SEASON, MEMBER_OF, RECORD
from policies.forecasting.ensemble.members import MEMBERS, RISE_FROM, RISE_TO, STACK, Members, Own, Steady, learn_shapes
from policies.forecasting.ensemble.memory import SeriesMemory, largest
from policies.forecasting.ensemble.profile import close_steps, rises_within
from policies.forecasting.ensemble.ramp_correction import RampCorrection
from policies.forecasting.ensemble.serialization import Rows, Shared, numbers_of, rows_of
from policies.forecasting.ensemble.spread import INPUTS, Spread, level_size

NEVER = -(2**62)
_KNOWN_SHARE = 0.8
_CUT_SIZES = 20.0
_RISE = 0.8
"""The profile rises when it goes up by more than this share of the error to expect."""
_SPARE = 8
"""Slots grow by an eighth, and at least by one."""


class Series(Protocol):
    """What a bank works with of each forecaster in it (forecaster.py says what the methods promise)."""

    bank: Bank
    slot: int
    grid: Grid
    index: int
    asleep: bool
    memory: SeriesMemory
    own: Own
    rises: dict[int, float]

    @property
    def may_promise(self) -> bool: ...

    @property
    def forecasts(self) -> bool: ...

    def follows(self, time_s: float) -> bool: ...

    def observe(self, time_s: float, value: float | None) -> None: ...

    def ingest(self, index: int, value: float | None) -> None: ...

    def promise(self) -> None: ...

    def advance(self, step: int, value: float) -> None: ...

    def current(self) -> Floats: ...

    def take_rows(self, rows: Floats) -> None: ...

    def row(self, horizon: int) -> int: ...

    def own_seconds(self, horizons_s: Sequence[float]) -> tuple[float, ...]: ...

    def keep_answer(
        self, horizons_s: tuple[float, ...], levels: tuple[float, ...], table: list[list[float]]
    ) -> None: ...


class Waiting(Shared):
    """Forecasts whose outcome is not known yet: for each slot a ring by step."""

    axes: ClassVar = {"waiting": 0, "made": 0}

    def __init__(self, grid: Grid, slots: int) -> None:
        self.slots = slots
        self.ring = grid.farthest + 1
        self.waiting = np.zeros((slots * self.ring, grid.size, RECORD.width), dtype=np.float32)
        self.made = np.full(slots * self.ring, NEVER, dtype=np.int64)
        """Which step each of them was made at; NEVER where it was blind."""


class Bank:
    """`slots` mixtures of one grid. Series that are given together ascend by slot and are at the same step."""

    def __init__(self, grid: Grid, slots: int = 1) -> None:
        self.grid = grid
        self.slots = slots
        self.members = Members(grid, slots)
        self.spread = Spread(grid, len(MEMBERS), slots)
        self.blend = Blend(grid, len(COLUMNS), slots)
        self.waiting = Waiting(grid, slots)
        self.steep = RampCorrection(grid, slots)
        self._answers = Answers(grid)
        self._owners: WeakValueDictionary[int, Series] = WeakValueDictionary()
        self._steady: dict[tuple[int, ...], tuple[Steady, tuple[Floats, Floats]]] = {}

    # ------------------------------------------------------------ who is in it

    def _parts(self) -> Iterator[tuple[str, Shared]]:
        yield "mixture", self.waiting
        yield "stack", self.members.stack
        yield "sizes", self.spread.regressions
        yield "spread", self.spread
        yield "blend", self.blend
        yield "steep", self.steep

    def admit(self, newcomers: Sequence[Series]) -> None:
        """They move in, with all that they have learned; slots of those that are gone are taken first."""
        free = [slot for slot in range(self.slots) if slot not in self._owners]
        if len(free) < len(newcomers):
            needed = self.slots - len(free) + len(newcomers)
            free += range(self.slots, needed)
            self._grow(needed + needed // _SPARE)
        for slot, one in zip(free, newcomers, strict=False):
            for (_, mine), (_, theirs) in zip(self._parts(), one.bank._parts(), strict=True):
                mine.copy_slot(theirs, one.slot, slot)
            one.bank, one.slot = self, slot
            self._owners[slot] = one
        self.forget()

    def _grow(self, slots: int) -> None:
        larger = Bank(self.grid, slots)
        for (_, new), (_, old) in zip(larger._parts(), self._parts(), strict=True):
            for slot in range(self.slots):
                new.copy_slot(old, slot, slot)
        self.slots, self.waiting = slots, larger.waiting
        self.members, self.spread, self.blend = larger.members, larger.spread, larger.blend
        self.steep = larger.steep

    def dump(self, into: ForecasterState, slot: int) -> None:
        """What a slot holds, into a forecaster's state."""
        for name, part in self._parts():
            part.dump_slot(into, name, slot)

    def load(self, state: ForecasterState, slot: int) -> None:
        """The inverse of `dump`."""
        for name, part in self._parts():
            part.load_slot(state, name, slot)
        self.forget()

    def forget(self) -> None:
        """What was derived is derived anew: a step closed, or a memory was taken in."""
        self._steady.clear()

    # ------------------------------------------------------------ all at once

    def observe(self, shown: Sequence[tuple[Series, tuple[float, float | None]]]) -> None:
        """A bin for each of these series, ascending by slot: its end and mean rate, None when it was not seen."""
        usual: dict[int, list[Series]] = {}
        for one, (end_s, rate_rps) in shown:
            if one.follows(end_s):
                one.ingest(one.index + 1, known_rate(rate_rps))
                usual.setdefault(one.index, []).append(one)
            else:
                one.observe(end_s, rate_rps)
        for index, series in usual.items():
            if index % self.grid.bins_per_step == 0:
                self.close(series, index // self.grid.bins_per_step)
        told = [one for series in usual.values() for one in series if not one.memory.since_known]
        due = [one for one in told if one.may_promise]
        self.refresh(due)
        for one in due:
            one.promise()

    def learn(self, walks: Sequence[tuple[Series, Iterator[tuple[int, float | None]]]]) -> None:
        """Whole pasts, bin by bin (`Series.walk`), side by side; series ascend by slot."""
        ahead = [(one, walk, found) for one, walk in walks if (found := next(walk, None)) is not None]
        while ahead:
            index = min(found[0] for _, _, found in ahead)
            now = [one for one, _, (at, _) in ahead if at == index]
            for one, _, (at, value) in ahead:
                if at == index:
                    one.ingest(index, value)
            if index % self.grid.bins_per_step == 0:
                self.close(now, index // self.grid.bins_per_step)
            moved = [(one, walk, next(walk, None) if found[0] == index else found) for one, walk, found in ahead]
            ahead = [(one, walk, found) for one, walk, found in moved if found is not None]

    def refresh(self, series: Iterable[Series]) -> None:
        """Those of the series that have said nothing since their last bin forecast now."""
        by_step: dict[int, list[Series]] = {}
        for one in series:
            if not one.forecasts:
                by_step.setdefault(one.memory.step, []).append(one)
        for some in by_step.values():
            self.forecast(sorted(some, key=lambda one: one.slot))

    def answer(self, asked: Sequence[tuple[Series, tuple[float, ...]]], levels: tuple[float, ...]) -> None:
        """Each of these series gets ready what it will say of these horizons and levels."""
        alike: dict[tuple[float, ...], list[Series]] = {}
        for one, horizons_s in asked:
            alike.setdefault(one.own_seconds(horizons_s), []).append(one)
        self.refresh(one for series in alike.values() for one in series)
        for horizons_s, series in alike.items():
            rows = np.array([one.current() for one in series])
            tables = self._answers.tables(rows, horizons_s, levels, partial(_rises_beyond, series))
            for one, table in zip(series, tables.tolist(), strict=True):
                one.keep_answer(horizons_s, levels, table)

    # ------------------------------------------------------------ a step closes

    def begin(self, slot: int, mean: float) -> None:
        """The first value of a series."""
        self.spread.begin(slot, mean)
        self.forget()

    def close(self, series: Sequence[Series], step: int) -> None:
        """A step of these series is over: outcomes teach, and all that can see forecast again."""
        self.forget()
        values = close_steps([one.memory for one in series], step)
        awake = [one for one in series if not one.asleep]
        if awake:
            self._learn(awake, step)
        for one, value in zip(series, values, strict=True):
            one.advance(step, value)
        learn_shapes([one.own for one in series])
        made, ring = self.waiting.made, self.waiting.ring
        made[_slots(series) * ring + step % ring] = NEVER
        seeing = [one for one in awake if one.memory.since_known * 20 < self.grid.widths[0]]
        if seeing:
            at = _slots(seeing) * ring + step % ring
            self.waiting.waiting[at] = self._forecast(seeing, True)
            made[at] = step

    # ------------------------------------------------------------ forecasting and learning

    def forecast(self, series: Sequence[Series]) -> None:
        """Each of these series gets its quantiles now."""
        self._forecast(series, False)

    def _forecast(self, series: Sequence[Series], waits: bool) -> NDArray[np.float32] | None:
        """Ask the members, scale, blend; `waits`: all that learning will need (series, horizons, width)."""
        slots, size = _slots(series), self.grid.size
        rows, step = rows_of(slots, size), series[0].memory.step
        steady, known_sizes = self._of_step(series, slots, rows, step)
        mean = np.repeat(steady.mean, size)
        points, stack_inputs, x = self.members.points(rows, steady, [one.memory for one in series])
        learned, hour, inputs = self.spread.sizes(rows, known_sizes, points, mean)
        by_column = points.take(MEMBER_OF, axis=1)
        level = level_size(by_column[:, len(MEMBERS) : len(MEMBERS) + len(BY_LEVEL)], mean)
        scales = np.concatenate((learned, level, hour.take(BY_HOUR, axis=1)), axis=1)
        rise = mean * (stack_inputs[:, RISE_TO] - stack_inputs[:, RISE_FROM])
        rising = (rise > _RISE * learned[:, STACK]).astype(np.int64)
        each, mixed, context, width = self.blend.mix(rows, step, by_column, scales, rising, mean)
        today = x + 0.5 * steady.mean * stack_inputs[::size, 0]  # half way to the mean of five minutes
        said = self.steep.raised(slots, mixed.reshape(len(series), size, -1), today)
        for one, quantiles in zip(series, said, strict=True):
            one.take_rows(quantiles)
        if not waits:
            return None
        self.steep.say(slots, step, said, today)
        into = np.empty((len(points), RECORD.width), dtype=np.float32)
        at = RECORD.at
        into[:, at["points"]] = points
        into[:, at["scales"]] = scales
        into[:, at["base"]] = known_sizes[0]
        into[:, at["stack"]] = stack_inputs
        into[:, at["spread"]] = inputs.reshape(len(points), -1)
        into[:, at["upper"]] = each[:, :, UPPER].reshape(len(points), -1)
        into[:, at["mixed"]] = mixed
        missing = np.array([float(one.memory.missing) for one in series])
        rest = into[:, at["rest"]]
        rest[:, 0], rest[:, 1], rest[:, 2] = np.repeat(x, size), mean, np.repeat(missing, size)
        rest[:, 3], rest[:, 4], rest[:, 5], rest[:, 6] = context.hour, context.five, context.width, rising
        self.blend.settle(rows, width)
        return into.reshape(len(series), size, -1)

    def _of_step(
        self, series: Sequence[Series], slots: Ints, rows: Rows, step: int
    ) -> tuple[Steady, tuple[Floats, Floats]]:
        """What stays the same until the next step closes."""
        key = tuple(slots.tolist())
        found = self._steady.get(key)
        if found is None:
            steady = self.members.steady([one.own for one in series])
            sizes = self.spread.steady(rows, step, np.repeat(steady.mean, self.grid.size))
            found = self._steady[key] = (steady, sizes)
        return found

    def _learn(self, series: Sequence[Series], step: int) -> None:
        """Take in the outcomes that this step completes."""
        grid, at, ring = self.grid, RECORD.at, self.waiting.ring
        slots = _slots(series)
        origins = np.tile(step - grid.reach, (len(series), 1))
        place = slots[:, None] * ring + origins % ring
        ready = self.waiting.made[place] == origins
        if not ready.any():
            return
        record = self.waiting.waiting[place, np.arange(grid.size)].astype(np.float64)
        missing, since_known = np.array([(one.memory.missing, one.memory.since_known) for one in series]).T[:, :, None]
        lost = missing - record[:, :, -5]
        ready &= lost <= (1 - _KNOWN_SHARE) * grid.widths
        ready &= (since_known == 0) | ~lost.any(axis=1)[:, None] | (since_known * 20 < grid.widths)
        rows = rows_of(slots, grid.size)
        actual = largest([one.memory for one in series])
        if ready.all():
            actual, origins, record = actual.reshape(-1), origins.reshape(-1), record.reshape(-1, RECORD.width)
        else:
            if not ready.any():
                return
            rows = (slots[:, None] * grid.size + np.arange(grid.size))[ready]
            actual, origins, record = actual[ready], origins[ready], record[ready]
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
        owners, horizons = np.divmod(numbers_of(rows), grid.size)
        self.steep.learn(owners, horizons, origins, actual)


def _slots(series: Sequence[Series]) -> Ints:
    return np.array([one.slot for one in series], dtype=np.int64)


def _rises_beyond(series: Sequence[Series], horizon_s: float) -> Floats:
    """How much higher the profile of each (all of one bank) goes by this horizon than by the longest learned one, as
    far as it is trusted; worked out once for each step that closes.
    """
    grid = series[0].grid
    steps = min(math.ceil(horizon_s / grid.step_s), grid.season_steps)
    new = [one for one in series if steps not in one.rises]
    if new:
        rows = np.array([one.row(-1) for one in new])
        trust = np.add.reduce(new[0].bank.blend.weights[1, rows].take(KNOW_SEASON, axis=1), axis=1)
        within = np.array(rises_within([one.memory for one in new], steps))
        for one, rise in zip(new, (1.0 + trust * (within - 1.0)).tolist(), strict=True):
            one.rises[steps] = rise
    return np.array([one.rises[steps] for one in series])
