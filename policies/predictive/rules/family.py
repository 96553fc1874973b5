"""The family of sizing rules: what each would want now, in replicas, from quantiles of demand and from past demand.

All are evaluated at once. None is best everywhere (docs/policy.md has the table), so none is chosen here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Counts = NDArray[np.int16]

LEVELS = (0.1, 0.25, 0.5, 0.7, 0.8, 0.87, 0.92, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998)
"""Quantile levels that the forecast is asked for."""
PRICES = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
"""Values of a missed replica-second of demand for the newsvendor rules, in replica-seconds."""
STEADY_SHARES = (0.2, 0.1, 0.05, 0.02, 0.01, 0.003, 0.0)
"""Shares of the last days' demand that may exceed the level which a steady rule holds."""
UTILIZATIONS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
"""Target utilisations of the reactive rules, relative to what a replica carries within the SLO."""
WINDOWS_S = (60.0, 300.0, 900.0)
"""Windows (s) over which the reactive rules hold."""
STAYS = 1.05
"""A replica is given up only if demand this many times as large would not want it back: at the edge between two
numbers, noise of signals and arrivals would otherwise start and stop a replica each time.
"""
_QUANTILE_KINDS = ("hold", "early", "keep", "clock")
_EPSILON = 1e-9
MOST = 30_000.0
"""Largest number of replicas that the memory can hold."""


@dataclass(frozen=True)
class Family:
    """Which rules there are, in blocks.

    A rule for each level: `hold` wants the quantile of the largest demand until a replica asked for now serves, held
    for a lead time; `early` looks half a lead time farther and holds for two minutes; `keep` does not give
    up what the quantile wants within the break-even time; `clock` wants the quantile, by the same minute of earlier
    hours, of demand at the moment at which a replica asked for now serves, held for a lead time. A rule for each price:
    `clock vendor` wants the number that is worth its price under that distribution, held for a lead time. A rule for
    each share: `steady` holds the level above which no more than that of the last days' demand came. `reactive`: the
    largest recent demand at a utilisation.
    """

    levels: tuple[float, ...] = LEVELS
    prices: tuple[float, ...] = PRICES
    steady_shares: tuple[float, ...] = STEADY_SHARES
    utilizations: tuple[float, ...] = UTILIZATIONS
    windows_s: tuple[float, ...] = WINDOWS_S

    @cached_property
    def names(self) -> tuple[str, ...]:
        found = [f"{kind} {level:g}" for kind in _QUANTILE_KINDS for level in self.levels]
        found += [f"clock vendor {price:g}" for price in self.prices]
        found += [f"steady {share:g}" for share in self.steady_shares]
        found += [f"reactive {use:g}/{window_s:g} s" for window_s in self.windows_s for use in self.utilizations]
        return tuple(found)

    @cached_property
    def size(self) -> int:
        return len(self.names)

    @cached_property
    def numbers(self) -> Ints:
        return np.arange(self.size)

    @cached_property
    def bytes_of_state(self) -> tuple[int, int]:
        """Of a memory of its rules, and of the levels of its steady ones: float64 each (fleet.py)."""
        return 8 * self.size, 8 * len(self.steady_shares)

    @cached_property
    def blocks(self) -> dict[str, slice]:
        sizes = dict.fromkeys(_QUANTILE_KINDS, len(self.levels))
        sizes |= {"clock vendor": len(self.prices), "steady": len(self.steady_shares)}
        at, found = 0, {}
        for kind, size in (sizes | {"reactive": len(self.utilizations) * len(self.windows_s)}).items():
            found[kind] = slice(at, at + size)
            at += size
        return found

    @cached_property
    def array_of_levels(self) -> Floats:
        return np.array(self.levels)

    @cached_property
    def _mass(self) -> Floats:
        """Probability weight of each level: half of the way to its neighbours, and the whole tail at the ends."""
        levels = self.array_of_levels
        return np.diff(np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]]))

    @cached_property
    def _prices(self) -> Floats:
        return np.array(self.prices)[:, None]

    @cached_property
    def _demand_per_replica(self) -> Floats:
        return 1.0 / np.array(self.utilizations)

    def wants(
        self, lead: Floats, early: Floats, clock: Floats, steady: Floats, recent: Floats, use: Floats
    ) -> tuple[Counts, Counts]:
        """Replicas that each rule of each deployment wants for now, and those that it would not give up (`STAYS`; a
        newsvendor has reckoned with that) before what it holds: whole numbers, shape (deployments, size).

        Quantiles (deployments, levels) of demand, in replicas at the SLO: `lead`, the largest until a replica asked for
        now serves; `early`, until half a lead time later; `clock`, at that moment by the clock. `steady`: level for
        each of `steady_shares`; `recent`: largest demand in each of `windows_s`. `use`, (deployments, 1): share of what
        a replica carries at the SLO that may be planned with.
        """
        n, out, blocks = len(self.levels), np.empty((len(lead), self.size)), self.blocks
        by_lead, by_clock = lead * (1.0 / use), clock * (1.0 / use)
        out[:, :n] = out[:, 2 * n : 3 * n] = by_lead
        np.multiply(early, 1.0 / use, out=out[:, n : 2 * n])
        out[:, 3 * n : 4 * n] = by_clock
        out[:, blocks["clock vendor"]] = self._newsvendor(by_clock)
        np.multiply(steady, 1.0 / use, out=out[:, blocks["steady"]])
        out[:, blocks["reactive"]] = (recent[:, :, None] * self._demand_per_replica).reshape(len(out), -1)
        wants, keeps = whole(out), whole(out * STAYS)
        keeps[:, blocks["clock vendor"]] = wants[:, blocks["clock vendor"]]
        return wants, keeps

    def _newsvendor(self, demand: Floats) -> Floats:
        """argmin over N of N + price * E[demand; demand > N]: certainty is bought where it is cheap, tails are not."""
        counts = np.ceil(demand - _EPSILON)
        above = np.zeros((len(demand), demand.shape[1] + 1))
        np.cumsum((self._mass * demand)[:, ::-1], axis=1, out=above[:, -2::-1])
        below = np.add.reduce(demand[:, None] <= (counts + _EPSILON)[:, :, None], axis=2)
        each = np.arange(len(demand))[:, None]
        bill = counts[:, None] + self._prices * above[each, below][:, None]
        return np.asarray(counts[each, np.argmin(bill, axis=2)])


def whole(replicas: Floats) -> Counts:
    """Rounded up, at most what the memory can hold."""
    found = replicas - _EPSILON
    return np.minimum(np.ceil(found, out=found), MOST, out=found).astype(np.int16)
