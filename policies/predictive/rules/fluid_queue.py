"""How a fleet serves a bin: its parameters, what it serves and misses, and what waits afterwards. Pure; no memory.

For fleets of several deployments at once, as simulate.py advances them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from policies.predictive.rules.family import MOST, Counts, Family, Floats, Ints
from policies.predictive.rules.fleet import HALF_LIVES_S, ROWS, missed_share

NOTHING = 1e-3
"""Replicas: fading sums never reach zero by themselves; less than this counts as zero."""
_FULL = 0.88
"""Share of a fleet's mean capacity above which requests arrive faster than they end, since their lengths spread."""
_DRAIN_S = 60.0
_LONGEST_QUEUE_S = 120.0


@dataclass(slots=True)
class QueueParams:
    """By what bins are judged and targets set; shape (deployments, 1), but for what all have in common.

    `lead_bins`, `serve_bins`: after how many bins a start serves, as rules plan and as it is replayed. `least`, `most`:
    replicas, wanted in multiples of `quantum`. `use`: share of what a replica carries at the SLO that is planned with.
    `lasts_s`: how long demand is felt; an overload leaves requests in progress that are felt for as long. 0: requests
    end at once; an overload queues, and a wait longer than `patience_s` is a miss. `soft`: see `missed_share`.
    `patience`: so many times as long as usual is remembered (fleet.patience).
    """

    bin_s: float
    soft: float
    lead_bins: Ints
    serve_bins: Ints
    least: Floats
    most: Floats
    quantum: Floats
    use: Floats
    lasts_s: Floats
    patience_s: Floats
    patience: Floats

    stays: NDArray[np.bool_] = field(init=False)
    felt_s: Floats = field(init=False)
    """Time constant of the backlog (s); infinite: none."""
    carries: Floats = field(init=False)
    """Service rate of a replica, as a share of what it carries at the SLO."""
    calm: Floats = field(init=False)
    """Of a share of what a replica carries as demand: no fleet that nothing waits for misses any or becomes full."""
    longest_queue_s: Floats = field(init=False)
    drain_s: Floats = field(init=False)
    fades: Floats = field(init=False)
    """What is left of a record after a bin: (deployments, half-lives)."""
    bounds: tuple[NDArray[np.int16], NDArray[np.int16]] = field(init=False)
    """`least` and `most`, as fleets are told them."""
    one_by_one: bool = field(init=False)
    """No deployment wants replicas in multiples."""

    def __post_init__(self) -> None:
        self.stays = self.lasts_s > 0
        self.felt_s = np.where(self.stays, self.lasts_s, np.inf)
        at_once = np.maximum(self.use, 1.0) * (1.0 + self.soft) if self.soft > 0 else 1.0
        self.carries = np.where(self.stays, self.use * _FULL, at_once)
        self.calm = 0.99 * np.minimum(self.carries, self.use * (1.0 - max(self.soft, 0.0)))
        self.longest_queue_s = np.maximum(_LONGEST_QUEUE_S, self.lasts_s)
        self.drain_s = np.maximum(_DRAIN_S, self.lasts_s)
        self.fades = np.power(0.5, self.bin_s / (self.patience * np.array(HALF_LIVES_S)))
        least, most = (np.minimum(one, MOST).astype(np.int16) for one in (self.least, self.most))
        self.bounds = least, most
        self.one_by_one = bool((self.quantum == 1).all())

    def of(self, deployments: Ints) -> QueueCells:
        """What fleets of these deployments, shape (fleets,), meet a bin by."""
        stays, felt_s, carries, use, patience_s, longest_queue_s = (
            one[deployments, 0]
            for one in (self.stays, self.felt_s, self.carries, self.use, self.patience_s, self.longest_queue_s)
        )
        return QueueCells(self.bin_s, self.soft, stays, felt_s, carries, use, patience_s, longest_queue_s)

    def windows(self, family: Family) -> list[int]:
        """The family's windows in bins."""
        return [min(max(1, round(window_s / self.bin_s)), ROWS) for window_s in family.windows_s]

    def rows(self, family: Family, bins: int) -> int:
        """Whether this many rows of the rings hold these bins beside everything that the first one looks back at."""
        return bins - 1 + max(*self.windows(family), int(self.lead_bins.max()) + 1, 2)

    def room(self, family: Family) -> int:
        """So many bins at a time: the rings hold them beside all that is looked back at from the first."""
        return ROWS - self.rows(family, 0)


@dataclass(frozen=True, slots=True)
class QueueCells:
    """`QueueParams` of fleets one by one, shape (fleets,)."""

    bin_s: float
    soft: float
    stays: NDArray[np.bool_]
    felt_s: Floats
    carries: Floats
    use: Floats
    patience_s: Floats
    longest_queue_s: Floats


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of demand, in replicas at the SLO, by the family's levels: shape (deployments, bins, levels).

    `lead`: of the largest until a replica asked for now serves; `early`: until half a lead time later; `keep`: until
    one given up now and wanted back would have paid; `clock`: of demand at the moment at which a replica asked for now
    serves.
    """

    lead: Floats
    early: Floats
    keep: Floats
    clock: Floats


def serve_bin(
    demand: Floats, backlog: Floats, running: Counts, s: QueueCells
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Some fleets meet a bin: their backlog after it, what each missed of it, and who is full; shape (fleets,) each."""
    carried = running * s.carries
    served = np.where(s.stays, np.minimum(demand + backlog / s.felt_s, carried), carried)
    backlog = np.maximum(backlog + (demand - served) * s.bin_s, 0.0)
    effective = demand + backlog / s.felt_s
    full = np.where(s.stays, effective > carried + NOTHING, backlog > 0)
    missed = demand * missed_share(effective, running * s.use, s.soft)
    missed = np.where(~s.stays & (backlog > s.patience_s * running), demand, missed)
    return np.minimum(backlog, s.longest_queue_s * np.maximum(running, 1.0)), missed, full
