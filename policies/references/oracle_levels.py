"""When each level of a fleet (its first node, its second, ...) is worth having, everything being known.

Demand stacks: level j is needed whenever j - 1 do not do. Each level is then a problem of its own: between two needs it
either stays, or goes and comes back, which costs the time that it is paid for without serving; and a need may be left
unserved at a price per missed request. That is solved exactly, by dynamic programming over the needs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from policies.references.oracle_need import BIN_S, Floats


@dataclass(frozen=True, slots=True)
class Need:
    """From when to when a level is needed (seconds), and requests that miss without it."""

    start_s: float
    end_s: float
    misses: float


@dataclass(frozen=True, slots=True)
class Run:
    """A stay of a level: asked for, needed from, given up (seconds)."""

    asked_s: float
    needed_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Terms:
    """What a stay costs besides its needs: paid from the asking (lead) until some time after the end (tail).

    The bill runs from `begin_s` to `end_s`. In `closed` times (from, to) nobody gets anything: ask before.
    """

    lead_s: float
    tail_s: float
    begin_s: float
    end_s: float
    closed: tuple[tuple[float, float], ...] = ()

    def billed_s(self, start_s: float, end_s: float) -> float:
        return max(0.0, min(end_s, self.end_s) - max(start_s, self.begin_s))

    def asked_s(self, needed_s: float) -> float:
        """When to ask for what is needed then; not before time 0."""
        at_s = max(0.0, needed_s - self.lead_s)
        for start_s, end_s in sorted(self.closed, reverse=True):
            if start_s <= at_s < end_s:
                at_s = max(0.0, start_s - 1.0)
        return at_s


@dataclass(frozen=True, slots=True)
class Covered:
    """A level's best plan at a price of misses: its bill (level-seconds), the misses left, its stays."""

    billed_s: float
    misses: float
    runs: tuple[Run, ...]


def needs_of(over: Floats, requests_per_replica_s: Floats, counted_from_s: float) -> list[Need]:
    """Bins of one level's overflow (replica-seconds) as needs; misses before `counted_from_s` count for nothing.

    Long needs are cut into minutes, so that a stay may begin late or end early within them.
    """
    minute = np.arange(len(over)) // round(60.0 / BIN_S)
    labels = np.where(over > 1e-9, minute + 1, 0)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], labels, [0]))))
    misses = over * requests_per_replica_s
    misses[: int(counted_from_s / BIN_S)] = 0.0
    total = np.concatenate(([0.0], np.cumsum(misses)))
    return [
        Need(s * BIN_S, e * BIN_S, float(total[e] - total[s])) for s, e in pairwise(edges.tolist()) if labels[s] > 0
    ]


def cover(needs: Sequence[Need], terms: Terms, price_s: float, there_at_start: bool) -> Covered:
    """The cheapest way through all needs when a missed request costs as much as `price_s` seconds of the level."""
    on, off = (0.0, terms.billed_s(0.0, terms.tail_s)) if there_at_start else (math.inf, 0.0)
    ended_s = 0.0
    choices: list[tuple[bool, bool]] = []
    """Per need: on came from on; off came from on."""
    for need in needs:
        leave = on + terms.billed_s(ended_s, ended_s + terms.tail_s)
        stay = on + terms.billed_s(ended_s, need.end_s)
        come = min(off, leave) + terms.billed_s(terms.asked_s(need.start_s), need.end_s)
        choices.append((stay <= come, leave < off))
        on, off = min(stay, come), min(off, leave) + price_s * need.misses
        ended_s = need.end_s
    leave = on + terms.billed_s(ended_s, ended_s + terms.tail_s)
    return _traced(needs, terms, there_at_start, choices, ends_on=leave < off)


def _traced(
    needs: Sequence[Need], terms: Terms, there_at_start: bool, choices: Sequence[tuple[bool, bool]], ends_on: bool
) -> Covered:
    """Walk back through the choices: which needs are served, and in which stays."""
    served = [False] * len(needs)
    linked = [False] * len(needs)
    """Served in the same stay as the need before (the first: as the start)."""
    here = ends_on
    for i in range(len(needs) - 1, -1, -1):
        from_on, off_from_on = choices[i]
        served[i] = here
        if here:
            linked[i] = from_on
            here = from_on or off_from_on
        else:
            here = off_from_on
    runs: list[Run] = []
    misses = 0.0
    if there_at_start:
        runs.append(Run(0.0, 0.0, 0.0))
    for i, need in enumerate(needs):
        if not served[i]:
            misses += need.misses
        elif linked[i] and runs:
            runs[-1] = Run(runs[-1].asked_s, runs[-1].needed_s, need.end_s)
        else:
            runs.append(Run(terms.asked_s(need.start_s), need.start_s, need.end_s))
    billed_s = sum(terms.billed_s(r.asked_s, r.end_s + terms.tail_s) for r in runs)
    return Covered(billed_s, misses, tuple(runs))


def cover_all(
    levels: Sequence[Sequence[Need]], terms: Terms, there_at_start: int, budget: float
) -> tuple[list[Covered], float]:
    """Every level at one price of misses: the lowest that leaves at most `budget` of them; and the bill that no plan
    with so few misses can be under (level-seconds): Lagrange's bound, the greatest over the prices that were tried.
    """

    def at(price_s: float) -> list[Covered]:
        return [cover(needs, terms, price_s, j < there_at_start) for j, needs in enumerate(levels)]

    def bound(plan: Sequence[Covered], price_s: float) -> float:
        return sum(c.billed_s for c in plan) + price_s * (sum(c.misses for c in plan) - budget)

    low, high = 0.0, 1.0
    plan = at(high)
    best = max(bound(at(0.0), 0.0), bound(plan, high))
    while sum(c.misses for c in plan) > budget and high < 1e12:
        low, high = high, high * 8
        plan = at(high)
        best = max(best, bound(plan, high))
    for _ in range(24):
        middle = (low * high) ** 0.5 if low > 0 else high / 8
        tried = at(middle)
        best = max(best, bound(tried, middle))
        if sum(c.misses for c in tried) > budget:
            low = middle
        else:
            high, plan = middle, tried
        if high <= 1e-6 or (low > 0 and high / low < 1.01):
            break
    return plan, best
