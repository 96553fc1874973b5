"""What each rule would have cost and missed: a fluid fleet for every one of them, advanced a bin at a time.

Demand does not depend on who serves it, so the replay is exact but for the fluid model: a replica is billed from when
it is asked for, serves a lead time later, and the youngest are given up first; so what runs is the least that was
wanted within the last lead time. A bin is missed while demand is over what runs carries within the SLO, counting what
an overload left behind. Pure numpy on plain bytes, so that the memory can be saved as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from policies.shadow.past import BUCKETS, levels_of, remember
from policies.shadow.rules import Family, Floats, whole

ROWS = 128
"""Bins that are remembered: longer lead times count as this long."""
_FULL = 0.88
"""Of what a fleet carries by its means: from here on requests come faster than they end, since their lengths spread."""
_NOTHING = 1e-3
"""Replicas: what fades never ends by itself, and less than this is not felt."""
_BRIEF_S = 120.0
_STEADY_S = 900.0
"""How long a level is held before it is looked at again."""
_DRAIN_S = 60.0
_DRAIN_USE = 0.85
_LONGEST_QUEUE_S = 120.0
SHORT, LONG = 0, 1
HALF_LIVES_S = (86400.0, 3 * 86400.0)
"""Of the record on which rules are compared, and of the one that tells what a miss costs in the long run."""
MISSED, COST, STARTS, SQUARES = 0, 1, 2, 3


@dataclass(slots=True)
class ShadowMemory:
    """Plain data. Times in seconds, demand in replicas at the SLO, sums in replica-bins."""

    rows: int = 0
    """Bins seen; the newest lies at `(rows - 1) % ROWS` of the rings."""
    targets: bytearray = field(default_factory=bytearray)
    """int16 (ROWS, rules): what each rule's fleet was told."""
    wants: bytearray = field(default_factory=bytearray)
    """int16 (ROWS, rules): what each rule wanted, without backlog and hold."""
    demand: bytearray = field(default_factory=bytearray)
    """float32 (ROWS)."""
    backlog: bytearray = field(default_factory=bytearray)
    """float64 (rules): replica-seconds that wait, or are in progress beyond what demand explains."""
    record: bytearray = field(default_factory=bytearray)
    """float64 (2 half-lives, missed / cost / starts / squares of what whole blocks of time missed, rules): faded."""
    block: bytearray = field(default_factory=bytearray)
    """float64 (rules): missed in the block of time that has not ended."""
    block_bins: int = 0
    past: bytearray = field(default_factory=bytearray)
    """float32 (past.BUCKETS): faded demand by its size."""
    steady: bytearray = field(default_factory=bytearray)
    """float64 (steady rules): the levels that they hold."""
    demand_sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    weights: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Faded demand, and faded number of bins."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of demand, in replicas at the SLO, by the family's levels.

    `lead`: of the largest until a replica asked for now serves; `early`: until half a lead time later; `keep`: until
    one given up now and wanted back would have paid; `clock`: of demand at the moment at which a replica asked for now
    serves.
    """

    lead: Floats
    early: Floats
    keep: Floats
    clock: Floats


class Shadow:
    """Views into a memory; makes what is missing of it. Cheap to build: no copy."""

    def __init__(self, memory: ShadowMemory, family: Family, first: int) -> None:
        """`first`: replicas that every rule's fleet begins with."""
        size, steady = family.size, 8 * len(family.steady_shares)
        if len(memory.backlog) != 8 * size or len(memory.steady) != steady:
            memory.rows = 0
            memory.targets = bytearray(np.full((ROWS, size), first, dtype=np.int16).tobytes())
            memory.wants = bytearray(2 * ROWS * size)
            memory.demand = bytearray(4 * ROWS)
            memory.backlog = bytearray(8 * size)
            memory.record = bytearray(8 * 2 * 4 * size)
            memory.block = bytearray(8 * size)
            memory.block_bins = 0
            memory.past, memory.steady = bytearray(4 * BUCKETS), bytearray(steady)
            memory.demand_sums, memory.weights = [0.0, 0.0], [0.0, 0.0]
        self.memory = memory
        self.family = family
        self.targets: NDArray[np.int16] = np.frombuffer(memory.targets, dtype=np.int16).reshape(ROWS, size)
        self.wants: NDArray[np.int16] = np.frombuffer(memory.wants, dtype=np.int16).reshape(ROWS, size)
        self.demand: NDArray[np.float32] = np.frombuffer(memory.demand, dtype=np.float32)
        self.backlog: Floats = np.frombuffer(memory.backlog, dtype=np.float64)
        self.record: Floats = np.frombuffer(memory.record, dtype=np.float64).reshape(2, 4, size)
        self.block: Floats = np.frombuffer(memory.block, dtype=np.float64)
        self.past: NDArray[np.float32] = np.frombuffer(memory.past, dtype=np.float32)
        self.steady: Floats = np.frombuffer(memory.steady, dtype=np.float64)
        self._full: NDArray[np.bool_] = self.backlog > 0

    @property
    def target(self) -> NDArray[np.int16]:
        """What each rule's fleet is told for the bin to come."""
        return np.asarray(self.targets[(self.memory.rows - 1) % ROWS])

    def score(
        self, demand: float, lead_bins: int, bin_s: float, use: float, soft: float = 0.0, patience_s: float = 2.0,
        lasts_s: float = 0.0,
    ) -> Floats:  # fmt: skip
        """The bin that just closed meets every fleet; returns what each missed of it (replica-bins).

        `soft`: see `missed_share`. `lasts_s`: how long demand is felt; an overload leaves requests in progress that are
        felt for as long. 0: requests end at once; an overload queues, and a wait longer than `patience_s` is a miss.
        """
        memory = self.memory
        running = np.maximum(_window(self.targets, memory.rows, lead_bins + 1, np.minimum), 0).astype(np.float64)
        total = self.targets[(memory.rows - 1) % ROWS]
        before = self.targets[(memory.rows - 2) % ROWS]
        backlog = self.backlog
        if lasts_s > 0:
            carried = running * (use * _FULL)
            served = np.minimum(demand + backlog / lasts_s, carried)
        else:
            carried = served = running * (max(use, 1.0) * (1.0 + soft) if soft > 0 else 1.0)
        backlog += (demand - served) * bin_s
        np.maximum(backlog, 0.0, out=backlog)
        if lasts_s > 0:
            felt = demand + backlog / lasts_s
            self._full = felt > carried + _NOTHING
            missed = demand * missed_share(felt, running * use, soft)
        else:
            self._full = backlog > 0
            late = backlog > patience_s * running
            missed = demand * np.where(late, 1.0, missed_share(demand, running * use, soft))
        np.minimum(backlog, max(_LONGEST_QUEUE_S, lasts_s) * np.maximum(running, 1.0), out=backlog)
        now = np.stack([missed, total, np.maximum(total - before, 0)])
        for i, half_life_s in enumerate(HALF_LIVES_S):
            fade = 0.5 ** (bin_s / half_life_s)
            self.record[i, :SQUARES] *= fade
            self.record[i, :SQUARES] += now
            memory.demand_sums[i] = memory.demand_sums[i] * fade + demand
            memory.weights[i] = memory.weights[i] * fade + 1.0
        self.block += missed
        memory.block_bins += 1
        return np.asarray(missed)

    def end_block(self, bin_s: float) -> None:
        """A block of time is over: what it missed counts as one event."""
        for i, half_life_s in enumerate(HALF_LIVES_S):
            fade = 0.25 ** (self.memory.block_bins * bin_s / half_life_s)
            self.record[i, SQUARES] = self.record[i, SQUARES] * fade + self.block * self.block
        self.block[:] = 0.0
        self.memory.block_bins = 0

    def expected_misses(self, which: int, doubt: float) -> Floats:
        """What each rule missed, less `doubt` (0..1) of what came in one event alone: it says nothing of the next.

        sum - doubt * max(0, 2 * sum of squares / sum - sum): nothing is left of a single event, all of two alike.
        """
        missed = self.record[which, MISSED]
        lone = np.maximum(2.0 * self.record[which, SQUARES] / np.maximum(missed, 1e-9) - missed, 0.0)
        return np.asarray(np.maximum(missed - doubt * lone, 0.0))

    def decide(
        self, demand: float, quantiles: Quantiles, lead_bins: int, bin_s: float, use: float, bounds: tuple[int, int],
        quantum: int = 1, lasts_s: float = 0.0,
    ) -> None:  # fmt: skip
        """What each rule tells its fleet for the bin to come; `bounds`: least and most; in multiples of `quantum`.

        `lasts_s` as for `score`.
        """
        memory, family, blocks = self.memory, self.family, self.family.blocks
        at = memory.rows % ROWS
        self.demand[at] = demand
        memory.rows += 1
        remember(self.past, demand, bin_s)
        if memory.rows == 1 or memory.rows % max(1, round(_STEADY_S / bin_s)) == 0:
            self.steady[:] = levels_of(self.past, family.steady_shares)
        recent = np.array([self._largest(round(window_s / bin_s)) for window_s in family.windows_s])
        wants = family.wants(quantiles.lead, quantiles.early, quantiles.clock, self.steady, recent, use)
        self.wants[at] = wants
        held = np.array(_window(self.wants, memory.rows, lead_bins + 1, np.maximum), dtype=np.float64)
        brief = min(lead_bins, round(_BRIEF_S / bin_s)) + 1
        held[blocks["early"]] = _window(self.wants[:, blocks["early"]], memory.rows, brief, np.maximum)
        held[blocks["keep"]] = whole(quantiles.keep * (1.0 / use))
        held[blocks["steady"]] = wants[blocks["steady"]]
        held[blocks["reactive"]] = wants[blocks["reactive"]]
        target = np.maximum(wants, np.minimum(self.targets[at - 1], held))
        if self._full.any():
            drain = np.ceil(demand / _DRAIN_USE + self.backlog / max(_DRAIN_S, lasts_s) - _NOTHING)
            target = np.where(self._full, np.maximum(target, drain), target)
        if quantum > 1:
            target = np.ceil(target / quantum - 1e-9) * quantum
        self.targets[at] = np.minimum(np.maximum(target, bounds[0]), bounds[1])

    def _largest(self, bins: int) -> float:
        return float(_window(self.demand, self.memory.rows, max(1, min(bins, self.memory.rows)), np.maximum))


def missed_share(demand: float | Floats, carries: Floats, soft: float) -> Floats:
    """Of the requests of a bin, by what the fleet carries within the SLO.

    A fleet does not fail as one: some replica is full before the mean is, and a full one fails few at first. None miss
    below 1 - soft of what it carries, all above 1 + 2 * soft; 0: all or none.
    """
    if soft <= 0:
        return np.asarray((carries < demand).astype(np.float64))
    load = demand / np.maximum(carries, 1e-9)
    return np.asarray(np.clip((load - (1.0 - soft)) / (3.0 * soft), 0.0, 1.0))


def _window(ring: NDArray[np.generic], rows: int, length: int, ufunc: np.ufunc) -> NDArray[np.generic]:
    """`ufunc` over the newest `length` rows of a ring."""
    length = min(length, ROWS)
    end = (rows - 1) % ROWS + 1
    if length <= end:
        return np.asarray(ufunc.reduce(ring[end - length : end], axis=0))
    older = ufunc.reduce(ring[end - length :], axis=0)
    return np.asarray(ufunc(ufunc.reduce(ring[:end], axis=0), older))
