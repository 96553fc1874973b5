"""What each rule would have cost and missed: one simulated fleet for each rule; simulate.py advances them.

Demand does not depend on the fleet, so the replay is exact but for the fluid model. A replica is billed from when it is
asked for, serves a lead time later, and the youngest are given up first; so the running number is the least that was
wanted within the last lead time. Demand over what runs carries within the SLO misses, including what an overload left
behind. Pure numpy on plain bytes, so that the memory can be saved as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from policies.predictive.rules.family import Family, Floats
from policies.predictive.rules.level_histogram import BUCKETS

ROWS = 128
"""Bins that are stored: longer lead times count as this long."""
SHORT, LONG = 0, 1
HALF_LIVES_S = (86400.0, 3 * 86400.0)
"""Half-lives of the record that compares rules, and of the one that prices a miss in the long run."""
_COMMON_SHARE, _MOST_PATIENT = 0.01, 4.0
MISSED, COST, STARTS, SQUARES = 0, 1, 2, 3


@dataclass(slots=True)
class SimulationMemory:
    """Plain data. Times in seconds, demand in replicas at the SLO, sums in replica-bins.

    Of deployments whose bins close together the bytes may be views of arrays of all of them (`fleets.Fleets`): they
    are read, written in place and saved like bytes of their own.
    """

    rows: int = 0
    """Bins seen; the newest lies at `(rows - 1) % ROWS` of the rings."""
    targets: bytearray = field(default_factory=bytearray)
    """int16 (ROWS, rules): target of each rule's fleet."""
    wants: bytearray = field(default_factory=bytearray)
    """int16 (ROWS, rules): what each rule would have kept, without backlog and hold."""
    demand: bytearray = field(default_factory=bytearray)
    """float32 (ROWS)."""
    backlog: bytearray = field(default_factory=bytearray)
    """float64 (rules): replica-seconds that wait, or are in progress beyond what demand explains."""
    record: bytearray = field(default_factory=bytearray)
    """float64 (2 half-lives, missed / cost / starts / squares of what whole blocks of time missed, rules): faded."""
    block: bytearray = field(default_factory=bytearray)
    """float64 (rules): missed in the current block of time."""
    block_bins: int = 0
    past: bytearray = field(default_factory=bytearray)
    """float32 (past.BUCKETS): faded demand by its size."""
    steady: bytearray = field(default_factory=bytearray)
    """float64 (steady rules): the levels that they hold."""
    demand_sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    weights: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Faded demand, and faded number of bins."""

    def __post_init__(self) -> None:
        """A saved memory that was cut off is refused when it is read. Errors: ValueError."""
        rules = len(self.backlog) // 8
        lengths = {"targets": 2 * ROWS * rules, "wants": 2 * ROWS * rules, "demand": 4 * ROWS, "backlog": 8 * rules}
        lengths |= {"record": 8 * 2 * 4 * rules, "block": 8 * rules, "past": 4 * BUCKETS}
        for name, length in lengths.items():
            found = len(getattr(self, name))
            if found != length and (rules or found):
                raise ValueError(f"{name} holds {found} bytes where {rules} rules have {length}")


def patience(allowed_share: float) -> float:
    """Factor on the half-lives: misses of one in a thousand requests are decided by rarer days than misses of one in a
    hundred.
    """
    return min(max(1.0, math.sqrt(_COMMON_SHARE / max(allowed_share, 1e-9))), _MOST_PATIENT)


def belongs(memory: SimulationMemory, family: Family) -> bool:
    """Whether the memory was begun with as many rules; one saved by another version may be of another family."""
    rules, steady = family.bytes_of_state
    return len(memory.backlog) == rules and len(memory.steady) == steady


def demand_a_day(memory: SimulationMemory, which: int, bin_s: float) -> float:
    """Replica-bins, by the short or the long record."""
    return memory.demand_sums[which] / max(memory.weights[which], 1.0) * 86400.0 / bin_s


def begin(memory: SimulationMemory, family: Family, first: int) -> None:
    """Make what is missing of a memory, or all of it where it is another family's; `first` as for `RuleSimulation`."""
    if belongs(memory, family):
        return
    size, steady = family.size, 8 * len(family.steady_shares)
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


class RuleSimulation:
    """Views into a memory; makes what is missing of it. Cheap to build: no copy. Bins go in by `fleets.Fleets`."""

    def __init__(self, memory: SimulationMemory, family: Family, first: int) -> None:
        """`first`: replicas that every rule's fleet begins with."""
        begin(memory, family, first)
        self.memory = memory
        self.family = family
        self.targets: NDArray[np.int16] = np.frombuffer(memory.targets, dtype=np.int16).reshape(ROWS, family.size)
        self.record: Floats = np.frombuffer(memory.record, dtype=np.float64).reshape(2, 4, family.size)
        self.block: Floats = np.frombuffer(memory.block, dtype=np.float64)

    @property
    def target(self) -> NDArray[np.int16]:
        """Target of each rule's fleet for the next bin."""
        return np.asarray(self.targets[(self.memory.rows - 1) % ROWS])

    def end_block(self, bin_s: float, patience: float = 1.0) -> None:
        """A block of time is over: what it missed counts as one event. `patience`: see there."""
        for i, half_life_s in enumerate(HALF_LIVES_S):
            fade = 0.25 ** (self.memory.block_bins * bin_s / (patience * half_life_s))
            self.record[i, SQUARES] = self.record[i, SQUARES] * fade + self.block * self.block
        self.block[:] = 0.0
        self.memory.block_bins = 0

    def expected_misses(self, which: int, doubt: float) -> Floats:
        """Misses of each rule, less `doubt` (0..1) times what came in a single event, which does not predict the next.

        sum - doubt * max(0, 2 * sum of squares / sum - sum): a single event leaves nothing, two alike count in full.
        """
        missed = self.record[which, MISSED]
        lone = np.maximum(2.0 * self.record[which, SQUARES] / np.maximum(missed, 1e-9) - missed, 0.0)
        return np.asarray(np.maximum(missed - doubt * lone, 0.0))


def missed_share(demand: float | Floats, carries: Floats, soft: float) -> Floats:
    """Share of a bin's requests that miss, by demand over what the fleet carries within the SLO.

    Replicas do not fail together: one is full before the mean is, and a full one fails few requests at first. None miss
    below 1 - soft, all above 1 + 2 * soft; 0: all or none.
    """
    if soft <= 0:
        return np.asarray((carries < demand).astype(np.float64))
    load = demand / np.maximum(carries, 1e-9)
    return np.asarray(np.clip((load - (1.0 - soft)) / (3.0 * soft), 0.0, 1.0))
