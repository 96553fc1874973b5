"""The fleets of all rules of several deployments, advanced together a bin at a time.

A fleet's arithmetic costs less than a call of numpy, so deployments that close a bin at the same moment are computed
together. One deployment is the same case with the same formulas and numbers. What a fleet is: fleet.py; how one serves
a bin: fluid_queue.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from policies.predictive.rules.family import MOST, STAYS, Counts, Family, Floats, Ints, whole
from policies.predictive.rules.fleet import COST, MISSED, ROWS, SQUARES, STARTS, SimulationMemory, begin
from policies.predictive.rules.fluid_queue import NOTHING, Quantiles, QueueParams, serve_bin
from policies.predictive.rules.level_histogram import BUCKETS, levels_of, remember

_BRIEF_S = 120.0
_STEADY_S = 900.0
"""How long a level is held before it is looked at again."""
_DRAIN_USE = 0.85


class SimulatedFleets:
    """Copies of several memories, of one family and bins of one width; they take over what was learned by `store`.

    With `lay` no copies: the memories' own bytes become views of the arrays here, and stay so. Whoever looks at one of
    them sees what is now, and the next bin needs no copying for as long as the same close together (`holds`).
    """

    def __init__(
        self,
        memories: Sequence[SimulationMemory],
        family: Family,
        first: Sequence[int],
        rows: int = ROWS,
        lay: bool = False,
    ) -> None:
        """`first`: replicas that the fleets of each deployment begin with, where its memory is empty; `rows`: of the
        rings so many are copied, enough for what is looked back at and for the bins that come before `store`.
        """
        for memory, replicas in zip(memories, first, strict=True):
            begin(memory, family, replicas)
        self.memories = memories
        self.family = family
        size, blocks = family.size, family.blocks
        self._calm = blocks["hold"], slice(blocks["clock"].start, blocks["steady"].start)
        """Rules that look ahead and hold for a lead time."""
        self._laid = lay
        self._ring = ROWS if lay else rows
        self.targets: NDArray[np.int16] = self._newest("targets", np.int16, size)
        self.wants: NDArray[np.int16] = self._newest("wants", np.int16, size)
        self.demand: NDArray[np.float32] = self._newest("demand", np.float32)
        self.backlog: Floats = self._together("backlog", np.float64, size)
        self.record: Floats = self._together("record", np.float64, 2, 4, size)
        self.block: Floats = self._together("block", np.float64, size)
        self.past: NDArray[np.float32] = self._together("past", np.float32, BUCKETS)
        self.steady: Floats = self._together("steady", np.float64, len(family.steady_shares))
        self._each: Ints = np.arange(len(memories))
        self._own = [memory.record for memory in memories]
        self.sums: Floats
        """Faded demand and faded number of bins, for each half-life: (deployments, 2, half-lives)."""
        self.rows: Ints
        self.block_bins: Ints
        self._full: NDArray[np.bool_]
        self.resume()

    def holds(self, memories: Sequence[SimulationMemory]) -> bool:
        """These memories, and no other, are views of the arrays here."""
        if not self._laid or len(memories) != len(self.memories):
            return False
        return all(
            one is memory and memory.record is own
            for one, memory, own in zip(memories, self.memories, self._own, strict=True)
        )

    def resume(self) -> None:
        """Take in the numbers that memories keep by themselves."""
        self.sums = np.array([(m.demand_sums, m.weights) for m in self.memories])
        self.rows = np.array([m.rows for m in self.memories])
        self.block_bins = np.array([m.block_bins for m in self.memories])
        self._turns = 0
        self._full = self.backlog > 0

    def _together(self, name: str, dtype: DTypeLike, *shape: int) -> NDArray[Any]:
        joined = bytearray().join([getattr(memory, name) for memory in self.memories])
        if self._laid:
            whole, width = memoryview(joined), len(joined) // len(self.memories)
            for i, memory in enumerate(self.memories):
                setattr(memory, name, whole[i * width : (i + 1) * width])
        return np.frombuffer(joined, dtype=dtype).reshape(len(self.memories), *shape)

    def _newest(self, name: str, dtype: DTypeLike, *shape: int) -> NDArray[Any]:
        """The newest rows of a ring of each, row r at `r % self._ring`."""
        if self._laid:
            return self._together(name, dtype, ROWS, *shape)
        width = len(getattr(self.memories[0], name)) // ROWS
        spans = {rows: _newest_rows(width, rows, self._ring) for rows in {m.rows for m in self.memories}}
        parts = [getattr(m, name)[first:end] for m in self.memories for first, end in spans[m.rows]]
        return np.frombuffer(bytearray().join(parts), dtype=dtype).reshape(len(self.memories), self._ring, *shape)

    def store(self) -> None:
        """Write what the memories are to remember back to them."""
        if not self._laid:
            self._copy_back()
        rows, block_bins, sums = self.rows.tolist(), self.block_bins.tolist(), self.sums.tolist()
        for i, memory in enumerate(self.memories):
            memory.rows, memory.block_bins = rows[i], block_bins[i]
            memory.demand_sums, memory.weights = sums[i]
        self._turns = 0

    def _copy_back(self) -> None:
        for name in ("backlog", "record", "block", "past", "steady"):
            for memory, part in zip(self.memories, _parts(getattr(self, name)), strict=True):
                setattr(memory, name, part)
        for back in range(min(self._turns, self._ring), 0, -1):
            at = self.rows - back
            places = (at % ROWS).tolist()
            for name in ("targets", "wants", "demand"):
                rows = _parts(getattr(self, name)[self._each, at % self._ring])
                width = len(rows[0])
                for memory, place, row in zip(self.memories, places, rows, strict=True):
                    getattr(memory, name)[place * width : (place + 1) * width] = row

    @property
    def target(self) -> NDArray[np.int16]:
        """What each rule's fleet is told for the bin to come, shape (deployments, rules)."""
        return np.asarray(self.targets[self._each, (self.rows - 1) % self._ring])

    def play(self, demand: Floats, quantiles: Quantiles, s: QueueParams) -> Floats:
        """These bins (deployments, bins) closed, one after the other, no more than there is `room` for.

        Every rule is judged by each and tells its fleet a number for the next. Returns what each missed (replica-bins),
        shape (deployments, bins, rules).
        """
        wants, keeps = self._wants(demand, quantiles, s)
        held = self._held(keeps, quantiles, s)
        rows = self.rows[:, None] + np.arange(1, demand.shape[1] + 1)
        lately = np.maximum.reduce(self._back(self.demand, rows, s.lead_bins + 1), axis=0)
        missed = np.empty(wants.shape)
        told = np.empty((wants.shape[1] + 1, len(wants), wants.shape[2]), dtype=np.int16)
        told[0] = self.targets[self._each, (self.rows - 2) % self._ring]
        for i, seen in enumerate(np.ascontiguousarray(demand.T)):
            told[i + 1] = before = self.target
            missed[:, i] = self.score(seen, s)
            target = np.maximum(wants[:, i], np.minimum(before, held[:, i]))
            for calm in self._calm:
                stays = np.minimum(before[:, calm], self._stays(lately[:, i], seen, calm, s))
                np.maximum(target[:, calm], stays, out=target[:, calm])
            self._tell(target, seen, s)
        self.book(demand, missed, told, s)
        return missed

    def score(self, demand: Floats, s: QueueParams) -> Floats:
        """The bin that just closed meets every fleet; returns what each missed of it (replica-bins).

        `demand`: (deployments,); returns (deployments, rules). A first bin has no fleet to meet: none of it is missed.
        """
        running = np.maximum(np.minimum.reduce(self._back(self.targets, self.rows, s.serve_bins[:, 0] + 1)), 0)
        # Most fleets have room and no backlog: they serve everything, and nothing changes.
        busy = (demand[:, None] > running * s.calm) | (self.backlog > 0)
        busy &= (self.rows > 0)[:, None]
        self._full = np.zeros(busy.shape, dtype=bool)
        missed = np.zeros(busy.shape)
        at = np.nonzero(busy)
        self.backlog[self.rows == 0] = 0
        self.backlog[at], missed[at], self._full[at] = serve_bin(
            demand[at[0]], self.backlog[at], running[at], s.of(at[0])
        )
        return missed

    def book(self, demand: Floats, missed: Floats, told: Counts, s: QueueParams) -> None:
        """The last bins (deployments, bins), on the record: what each fleet missed of them (deployments, bins, rules).

        `told` (bins + 1, deployments, rules): what each fleet was told for them, and for the bin before. A first bin
        is not booked.
        """
        bins = demand.shape[1]
        known = self.rows > np.arange(bins, 0, -1)[:, None]
        weights = np.stack([np.where(known, demand.T, 0.0), known], axis=2)[:, :, :, None]
        fades = np.ones_like(self.record)
        fades[:, :, :SQUARES] = s.fades[:, :, None, None]
        now = np.zeros((len(demand), *self.record.shape[2:]))
        for i in range(bins):
            now[:, MISSED], now[:, COST] = missed[:, i], told[i + 1]
            np.maximum(told[i + 1] - told[i], 0, out=now[:, STARTS], casting="unsafe")
            if not known[i].all():
                now[~known[i]] = 0.0
            self.record *= fades
            self.record += now[:, None]
            self.block += now[:, MISSED]
            self.sums *= s.fades[:, None, :]
            self.sums += weights[i]
        self.block_bins += np.add.reduce(known)

    def _tell(self, target: Counts, demand: Floats, s: QueueParams) -> None:
        """Targets of the rules' fleets for the next bin; a fleet that is full gets more, within bounds."""
        full = np.nonzero(self._full)
        if len(full[0]):
            drain = demand[full[0]] / _DRAIN_USE + self.backlog[full] / s.drain_s[full[0], 0]
            target[full] = np.maximum(target[full], np.minimum(np.ceil(drain - NOTHING), MOST))
        if not s.one_by_one:
            whole_nodes = np.ceil(target / s.quantum - 1e-9) * s.quantum
            target = np.minimum(whole_nodes, MOST).astype(np.int16)
        least, most = s.bounds
        self.targets[self._each, self.rows % self._ring] = np.minimum(np.maximum(target, least), most)
        self.rows += 1
        self._turns += 1

    def _stays(self, lately: Floats, demand: Floats, rules: slice, s: QueueParams) -> Counts:
        """What fleets need to be full at no moment of a lead time like the last, with a twentieth more demand: a rule
        that holds for as long does not go below it: at the edge of what fits a replica would be back at once.

        `lately`, (deployments,): the largest demand of that time.
        """
        effective = np.maximum(lately[:, None], demand[:, None] + self.backlog[:, rules] / s.felt_s)
        return np.minimum(np.ceil(STAYS * effective / s.carries - NOTHING), MOST).astype(np.int16)

    def _wants(self, demand: Floats, quantiles: Quantiles, s: QueueParams) -> tuple[Counts, Counts]:
        """What each rule wants when each of these bins has closed, and what it would not give up then.

        Demand and the latter are remembered. Shapes (deployments, bins, rules).
        """
        deployments, bins = demand.shape
        rows = self.rows[:, None] + np.arange(1, bins + 1)
        self.demand[self._each[:, None], (rows - 1) % self._ring] = demand
        steady = self._steady(demand, rows, s)
        widths = s.windows(self.family)
        seen = self._back(self.demand, rows, np.minimum(max(widths), rows))
        recent = np.empty((deployments, bins, len(widths)))
        for i, width in enumerate(widths):
            np.maximum.reduce(seen[:width], axis=0, out=recent[:, :, i])
        parts = (quantiles.lead, quantiles.early, quantiles.clock, steady, recent, np.repeat(s.use, bins, axis=0))
        found = self.family.wants(*(part.reshape(deployments * bins, part.shape[-1]) for part in parts))
        wants, keeps = (one.reshape(deployments, bins, self.family.size) for one in found)
        self.wants[self._each[:, None], (rows - 1) % self._ring] = keeps
        return wants, keeps

    def _steady(self, demand: Floats, rows: Ints, s: QueueParams) -> Floats:
        """The levels that steady rules hold after each bin, shape (deployments, bins, steady shares)."""
        due = (rows == 1) | (rows % max(1, round(_STEADY_S / s.bin_s)) == 0)
        found = np.empty((*demand.shape, self.steady.shape[1]))
        for i in range(demand.shape[1]):
            remember(self.past, demand[:, i], s.bin_s)
            if due[:, i].any():
                self.steady[due[:, i]] = levels_of(self.past[due[:, i]], self.family.steady_shares)
            found[:, i] = self.steady
        return found

    def _held(self, keeps: Counts, quantiles: Quantiles, s: QueueParams) -> Counts:
        """How much of what a fleet has each rule does not give up, shape as `keeps`: that of the bin alone."""
        blocks = self.family.blocks
        rows = self.rows[:, None] + np.arange(1, keeps.shape[1] + 1)
        lately = self._back(self.wants, rows, s.lead_bins + 1)
        held: Counts = np.maximum.reduce(lately, axis=0)
        brief = min(int(s.lead_bins.max()), round(_BRIEF_S / s.bin_s)) + 1
        held[:, :, blocks["early"]] = np.maximum.reduce(lately[:brief, :, :, blocks["early"]], axis=0)
        held[:, :, blocks["keep"]] = whole(quantiles.keep * (STAYS / s.use)[:, None])
        for kind in ("steady", "reactive"):
            held[:, :, blocks[kind]] = keeps[:, :, blocks[kind]]
        return held

    def _back(self, ring: NDArray[Any], rows: Ints, bins: Ints) -> NDArray[Any]:
        """The newest `bins` rows of a ring as of each of `rows`; both (deployments,), or (deployments, moments).

        Newest first, shape (longest, *rows.shape, columns). Where one looks back farther than another, the other's
        oldest row comes again and again: extremes do not change by that.
        """
        each = self._each.reshape(-1, *(1,) * (rows.ndim - 1))
        longest = np.arange(min(int(bins.max()), self._ring)).reshape(-1, *(1,) * rows.ndim)
        place = each * self._ring + (rows - 1 - np.minimum(longest, bins - 1)) % self._ring
        return ring.reshape(-1, *ring.shape[2:]).take(place, axis=0)


def _newest_rows(width: int, rows: int, count: int) -> list[tuple[int, int]]:
    """Of a ring of ROWS rows, where `rows` is the number of the next one, the newest `count` as a ring of that size.

    Where its parts, which follow one another, begin and end in bytes; `width`: bytes of a row.
    """
    turn = rows % count
    parts = []
    for first, length in ((rows - turn, turn), (rows - count, count - turn)):
        at = first % ROWS
        end = min(at + length, ROWS)
        parts += [(at * width, end * width), (0, (at + length - end) * width)]
    return [(begins, ends) for begins, ends in parts if begins < ends]


def _parts(array: NDArray[Any]) -> list[bytearray]:
    """The bytes of each of its first axis."""
    data = bytearray(np.ascontiguousarray(array))
    size = len(data) // len(array)
    return [data[at : at + size] for at in range(0, len(data), size)]
