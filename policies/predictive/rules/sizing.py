"""Sizing by simulated rules: fed once a bin, it chooses a rule and returns what that rule wants.

Deployments whose bins close at the same moment are fed together (simulate.py says why). Everything in replicas;
capacity, lead times and forecasts come from outside. Backlog and saturation cannot be forecast and are handled in
predictive/terms.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import is_
from struct import Struct

import numpy as np

from policies.base.record import record
from policies.predictive.rules.family import Family, Floats
from policies.predictive.rules.fleet import (
    ROWS,
    SHORT,
    RuleSimulation,
    SimulationMemory,
    belongs,
    demand_a_day,
    missed_share,
    patience,
)
from policies.predictive.rules.fluid_queue import Quantiles, QueueParams
from policies.predictive.rules.horizons import Horizons
from policies.predictive.rules.minute_of_hour import MinuteOfHourBank, MinuteOfHourMemory
from policies.predictive.rules.shadow_price import Account, PriceSettings, choose
from policies.predictive.rules.simulate import SimulatedFleets

CHOOSE_EVERY_S = 900.0
"""Shortest time (s) between two choices of a rule."""
_FIRST_RULE = "hold 0.95"
_ENOUGH_S = 3600.0
"""Length of record before which the first rule is followed."""
_DRIFT = 0.1
"""Change of the usable share, in logarithms, for a day's allowed misses more or fewer than the model predicts."""
_FORGIVES_S = 43200.0
"""Half-life of the usable share's distance from one: a fleet without misses does not show how much would have been
enough.
"""
_LEAST_USE, _MOST_USE = 0.6, 1.3
_TOLD = Struct("<h")
"""A number in `SimulationMemory.targets`."""


@dataclass(slots=True)
class SizingMemory:
    """Plain data of one deployment."""

    shadow: SimulationMemory = field(default_factory=SimulationMemory)
    clock: MinuteOfHourMemory = field(default_factory=MinuteOfHourMemory)
    account: Account = field(default_factory=Account)
    closed_at_s: float | None = None
    """End of the newest bin."""
    bins: int = 0
    """Bins since a rule was last chosen."""
    use: float = 0.0
    """Share of what a replica carries at the SLO that is planned with; 0 = none yet."""
    bin_s: float = 0.0
    """Of the bins that are counted here; 0 = none yet, or saved before it was kept."""

    def met(self, bin_s: float) -> None:
        """Bins of this width close. Those of another one are no record of theirs; what users got stays."""
        if self.bin_s and self.bin_s != bin_s:
            self.shadow, self.clock, self.bins = SimulationMemory(), MinuteOfHourMemory(), 0
            self.account.begin_anew()
            self.account.seen *= self.bin_s / bin_s
            self.account.missed *= self.bin_s / bin_s
        self.bin_s = bin_s


@record(frozen=True, slots=True)
class Frame:
    """What a bin is judged by. Quantiles by the family's levels, in replicas at the SLO; bounds: least, most."""

    lead_bins: int
    bin_s: float
    bounds: tuple[int, int]
    allowed_share: float
    """Share of requests that may miss."""
    quantum: int = 1
    """Replicas are wanted in multiples of it: those that a node holds, where one more on it costs nothing."""
    stop_bins: int = 0
    """Time (s) that a stopped replica stays on the bill: it drains, its node idles."""
    patience_s: float = 2.0
    """A queue that takes longer than this to serve is a miss."""
    serve_bins: int = 0
    """After how many bins a start serves in the replay, on average; 0: after `lead_bins`, which rules plan with."""
    lasts_s: float = 0.0
    """Time constant of effective demand (s): requests stay. 0: they end at once, or it is unknown."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Bins of several deployments that closed, as many of each and no hour without one: shape (deployments, bins).

    `demand` in replicas at the SLO; `ahead`: what was expected when each had closed.
    """

    ends_s: Floats
    demand: Floats
    ahead: Horizons

    def some(self, begin: int, end: int) -> Closed:
        """Some of the bins."""
        a = self.ahead
        ahead = Horizons(a.lead[:, begin:end], a.early[:, begin:end], a.keep[:, begin:end])
        return Closed(self.ends_s[:, begin:end], self.demand[:, begin:end], ahead)


@record(frozen=True, slots=True)
class Got:
    """What users got in a bin: running replicas; share of requests that missed the SLO (None: unknown)."""

    running: float
    missed_share: float | None
    compared: bool = True
    """The fleet was that of the followed rule, so its replay can be compared with what users got."""


@dataclass(slots=True)
class _Lately:
    """Deployments whose bins closed last; their fleets, if the same ones closed together before."""

    memories: Sequence[SimulationMemory] = ()
    fleets: SimulatedFleets | None = None
    clocks: MinuteOfHourBank | None = None


@dataclass(frozen=True)
class Sizing:
    """Rules and constants; `use`: the usable share to begin with, `learn_use`: whether it follows what users get."""

    family: Family = field(default_factory=Family)
    settings: PriceSettings = field(default_factory=PriceSettings)
    use: float = 1.0
    learn_use: bool = True
    soft: float = 0.12
    """How far from what it carries a fleet begins to miss (`missed_share`)."""
    _lately: _Lately = field(default_factory=_Lately, init=False, repr=False, compare=False)
    """No memory: only where those of the deployments lie."""

    def close(
        self, memories: Sequence[SizingMemory], frames: Sequence[Frame], closed: Closed,
        got: Sequence[Got | None] = (),
    ) -> None:  # fmt: skip
        """Bins closed, all of one width: rules are judged by each and decide for the next; every quarter of an hour one
        of them is chosen. `got`: of the first bin, where somebody knows.
        """
        for memory, frame in zip(memories, frames, strict=True):
            memory.met(frame.bin_s)
            memory.use = memory.use or self.use
            if not belongs(memory.shadow, self.family) or memory.account.rule >= self.family.size:
                memory.account.begin_anew()
        self._book(memories, frames, closed.demand[:, 0], got)
        bin_s, begin, bins = frames[0].bin_s, 0, closed.demand.shape[1]
        while begin < bins:
            end = min(bins, begin + min(self._until_choice(memory, bin_s) for memory in memories))
            missed = self.advance(memories, frames, closed.some(begin, end))
            if begin == 0:
                self._compare(memories, frames, closed.demand[:, 0], missed, got)
            for memory, frame in zip(memories, frames, strict=True):
                memory.bins += end - begin
                if memory.bins * bin_s >= CHOOSE_EVERY_S or memory.account.rule < 0:
                    self._choose(memory, frame)
            begin = end

    def advance(self, memories: Sequence[SizingMemory], frames: Sequence[Frame], closed: Closed) -> Floats:
        """The replay alone: what the bins cost every rule, and what each tells its fleet for the next.

        Returns what each rule missed of the first bin (replica-bins), shape (deployments, rules).
        """
        terms = self._terms(memories, frames)
        bins, room = closed.demand.shape[1], terms.room(self.family)
        fleets = self._fleets(memories, frames, min(terms.rows(self.family, bins), ROWS))
        clocks = self._clocks(memories, terms.bin_s)
        first = np.zeros((len(memories), self.family.size))
        for begin in range(0, bins, room):
            some = closed if bins <= room else closed.some(begin, begin + room)
            missed = fleets.play(some.demand, self._quantiles(clocks, some, terms), terms)
            first = missed[:, 0] if begin == 0 else first
        fleets.store()
        for memory, end_s in zip(memories, closed.ends_s[:, -1].tolist(), strict=True):
            memory.closed_at_s = end_s
        return first

    def _fleets(self, memories: Sequence[SizingMemory], frames: Sequence[Frame], rows: int) -> SimulatedFleets:
        """Those of the last time where the same close again; laid side by side when they do so for the second time."""
        shadows, lately = [m.shadow for m in memories], self._lately
        if lately.fleets is not None and lately.fleets.holds(shadows):
            lately.fleets.resume()
            return lately.fleets
        lay = len(shadows) == len(lately.memories) and all(map(is_, shadows, lately.memories))
        fleets = SimulatedFleets(shadows, self.family, [max(1, f.bounds[0]) for f in frames], rows, lay)
        lately.memories, lately.fleets = shadows, fleets if lay else None
        return fleets

    def _clocks(self, memories: Sequence[SizingMemory], bin_s: float) -> MinuteOfHourBank:
        """Those of the last time where the same close again."""
        own, lately = [m.clock for m in memories], self._lately
        if lately.clocks is None or not lately.clocks.holds(own, bin_s):
            lately.clocks = MinuteOfHourBank(own, bin_s)
        return lately.clocks

    def _quantiles(self, clocks: MinuteOfHourBank, closed: Closed, s: QueueParams) -> Quantiles:
        numbers = np.rint(closed.ends_s / s.bin_s).astype(np.int64)
        levels, ahead = self.family.array_of_levels, closed.ahead
        at = clocks.quantiles(numbers, closed.demand, s.lead_bins[:, 0] + 1, levels)
        return Quantiles(ahead.lead, ahead.early, ahead.keep, np.where(at == at, at, ahead.lead))

    def _terms(self, memories: Sequence[SizingMemory], frames: Sequence[Frame]) -> QueueParams:
        lead_bins = [min(f.lead_bins, ROWS - 2) for f in frames]
        serve_bins = [min(f.serve_bins or lead, lead) for f, lead in zip(frames, lead_bins, strict=True)]
        rows = [
            (*f.bounds, f.quantum, memory.use, f.lasts_s, f.patience_s, patience(f.allowed_share))
            for f, memory in zip(frames, memories, strict=True)
        ]
        columns = np.array(rows, dtype=np.float64).T[:, :, None]
        return QueueParams(
            frames[0].bin_s, self.soft, np.array(lead_bins)[:, None], np.array(serve_bins)[:, None], *columns
        )

    def ready(self, memory: SizingMemory, bin_s: float) -> bool:
        """Whether there is enough record."""
        shadow = memory.shadow
        enough = shadow.weights[SHORT] * bin_s >= _ENOUGH_S
        return enough and memory.account.rule >= 0 and belongs(shadow, self.family)

    def shadow(self, memory: SizingMemory, s: Frame) -> RuleSimulation:
        return RuleSimulation(memory.shadow, self.family, max(1, s.bounds[0]))

    def _until_choice(self, memory: SizingMemory, bin_s: float) -> int:
        """Bins until a rule is chosen."""
        return 1 if memory.account.rule < 0 else max(1, math.ceil(CHOOSE_EVERY_S / bin_s) - memory.bins)

    def _choose(self, memory: SizingMemory, s: Frame) -> None:
        memory.bins = 0
        shadow = self.shadow(memory, s)
        shadow.end_block(s.bin_s, patience(s.allowed_share))
        if memory.shadow.weights[SHORT] * s.bin_s < 0.99 * _ENOUGH_S:
            memory.account.rule = self.family.names.index(_FIRST_RULE)
            return
        choose(shadow, memory.account, s.allowed_share, s.bin_s, s.lead_bins, self.settings, stop_bins=s.stop_bins)

    def _book(
        self, memories: Sequence[SizingMemory], frames: Sequence[Frame], seen: Floats, got: Sequence[Got | None]
    ) -> None:
        """What users got, on the account; the fluid model is right where it counts as many misses as they had."""
        known = [
            (i, one.running * memories[i].use, one.missed_share)
            for i, one in enumerate(got)
            if one is not None and one.missed_share is not None
        ]
        if not known:
            return
        demand = seen[[i for i, _, _ in known]]
        model = demand * missed_share(demand, np.array([carries for _, carries, _ in known]), self.soft)
        for (i, _, share), brought, modelled in zip(known, demand.tolist(), model.tolist(), strict=True):
            missed = share * brought
            memories[i].account.book(brought, missed, frames[i].bin_s, self.settings)
            if self.learn_use:
                self._learn_use(memories[i], modelled - missed, frames[i])

    def _compare(
        self, memories: Sequence[SizingMemory], frames: Sequence[Frame], seen: Floats, replayed: Floats,
        got: Sequence[Got | None],
    ) -> None:  # fmt: skip
        """What users missed of a bin beside what the followed rule's fleet missed of it in the replay."""
        for memory, frame, brought, missed, one in zip(memories, frames, seen.tolist(), replayed, got, strict=False):
            if one is not None and one.missed_share is not None and one.compared and self.ready(memory, frame.bin_s):
                replay_missed = float(missed[memory.account.rule])
                memory.account.compare(one.missed_share * brought, replay_missed, frame.bin_s, self.settings)

    def _learn_use(self, memory: SizingMemory, more: float, s: Frame) -> None:
        """`more`: misses, in replica-bins, that the model predicted and users did not have."""
        moved = _DRIFT * more / max(demand_a_day(memory.shadow, SHORT, s.bin_s) * s.allowed_share, 1e-9)
        use = 1.0 + (memory.use - 1.0) * 0.5 ** (s.bin_s / _FORGIVES_S)
        memory.use = min(max(use * (1.0 + min(max(moved, -0.05), 0.05)), _LEAST_USE), _MOST_USE)

    def target(self, memory: SizingMemory, rule: int | None = None) -> int | None:
        """What a rule (None: the followed one) tells its fleet; None before the first bin of this family."""
        rule = memory.account.rule if rule is None else rule
        shadow, size = memory.shadow, self.family.size
        if not shadow.rows or not 0 <= rule < size or not belongs(shadow, self.family):
            return None
        found: int = _TOLD.unpack_from(shadow.targets, ((shadow.rows - 1) % ROWS * size + rule) * _TOLD.size)[0]
        return found

    def rule(self, memory: SizingMemory) -> str:
        """Name of the followed rule."""
        return self.family.names[memory.account.rule] if memory.account.rule >= 0 else "none"
