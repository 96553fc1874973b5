"""The long development traces through a fluid fleet: minutes instead of hours, the flagship's own sizing code.

Demand in replicas (99.9th percentile = peak), in bins of the policy's own width; a replica is billed from when it is
asked for and serves a lead time later; a bin is missed while demand is over 87 % of what runs or more than 2 s of queue
wait. The first third (at most two days) is history only. Not for what queues, tokens and nodes do: that is the
simulator's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from policies.base import ForecastSpec
from policies.forecasting import create
from policies.predictive import PredictiveOptions
from policies.predictive.rules.family import LEVELS, Family, Floats, Ints
from policies.predictive.rules.fleet import HALF_LIVES_S, LONG, ROWS, patience
from policies.predictive.rules.horizons import Horizons
from policies.predictive.rules.shadow_price import Account, PriceSettings, choose
from policies.predictive.rules.sizing import CHOOSE_EVERY_S, Closed, Frame, Sizing, SizingMemory
from simulator.workload.traces import read_rates

BIN_S = PredictiveOptions().bin_s
DAY = round(86400.0 / BIN_S)
USE = 0.87
ORACLE_USE = 0.85
HPA = tuple((use, stabilization_s) for stabilization_s in (60, 300, 900)
            for use in (0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.8))  # fmt: skip
_LADDER = tuple(BIN_S * 2**k for k in range(8))
_BLOCK = round(CHOOSE_EVERY_S / BIN_S)
"""Bins for which a rule is followed before another may be chosen."""


@dataclass(frozen=True, slots=True)
class Material:
    """One trace in bins: rates (req/s) and the forecast after each bin (bins, horizons, levels)."""

    name: str
    rates: Floats
    forecasts: np.ndarray


@dataclass(frozen=True, slots=True)
class Case:
    """One trace at one lead time and size of fleet; `demand` in replicas, `first`: where history ends."""

    name: str
    lead_s: float
    peak: float
    demand: Floats
    need: Ints
    first: int
    oracle_cost: float
    oracle_starts: int

    @property
    def lead(self) -> int:
        """Bins until a replica serves."""
        return math.ceil(self.lead_s / BIN_S)

    @property
    def most(self) -> int:
        """Replicas that nobody may exceed."""
        return 2 * int(self.need.max())


@dataclass(slots=True)
class Fleet:
    """One fleet that is really told: replica-bins of cost and misses."""

    targets: list[int]
    backlog: float = 0.0
    missed: float = 0.0
    cost: float = 0.0
    starts: int = 0

    def serve(self, demand: float, lead: int) -> float:
        """A bin's demand meets what runs; the share of it that is missed."""
        running = min(self.targets[-(lead + 1) :])
        self.backlog = max(0.0, self.backlog + (demand - running) * BIN_S)
        bad = running * USE < demand or self.backlog > 2.0 * running
        self.backlog = min(self.backlog, 120.0 * max(running, 1))
        self.cost += self.targets[-1]
        self.starts += max(0, self.targets[-1] - self.targets[-2])
        self.missed += demand if bad else 0.0
        return 1.0 if bad else 0.0

    def tell(self, target: int, demand: float, most: int) -> None:
        if self.backlog > 0:
            target = max(target, math.ceil(demand / 0.85 + self.backlog / 60.0))
        self.targets.append(min(max(target, 1), most))
        del self.targets[:-ROWS]


@dataclass(frozen=True, slots=True)
class Variant:
    """The flagship at a target, or one without a part: `without` = blocks of rules that may not be followed."""

    name: str
    settings: PriceSettings = field(default_factory=PriceSettings)
    without: tuple[str, ...] = ()
    target: float = 0.99

    def among(self, family: Family) -> Ints:
        kept = np.ones(family.size, dtype=bool)
        for block in self.without:
            kept[family.blocks[block]] = False
        return np.flatnonzero(kept)


@dataclass(frozen=True, slots=True)
class Figures:
    """What somebody paid and missed in one case: multiples of the oracle's, shares of demand.

    `worst_day_share`: of all misses, those of the worst 24 hours; `capped_share`: of the quarters of an hour, those in
    which a miss less would have cost more than it may.
    """

    name: str
    target: float
    cost: float
    missed_share: float
    starts: float = 0.0
    worst_day_share: float = 0.0
    worst_day: int = 0
    """Counted from the trace's first."""
    capped_share: float = 0.0


@dataclass(slots=True)
class _Player:
    """A variant on its way."""

    variant: Variant
    fleet: Fleet
    among: Ints
    account: Account = field(default_factory=Account)
    missed_by_day: dict[int, float] = field(default_factory=dict)
    choices: int = 0
    capped: int = 0

    def block(self, case: Case, begin: int, told: np.ndarray, sizing: Sizing, memory: SizingMemory) -> None:
        """Bins from `begin` on meet the fleet, which is told after each what its rule wants; then a rule is chosen."""
        demands = case.demand[begin : begin + len(told)].tolist()
        wants = told[:, self.account.rule].tolist()
        for i, (demand, want) in enumerate(zip(demands, wants, strict=True)):
            missed = self.fleet.serve(demand, case.lead) * demand
            self.account.book(demand, missed, BIN_S, self.variant.settings)
            if missed:
                day = (begin + i) // DAY
                self.missed_by_day[day] = self.missed_by_day.get(day, 0.0) + missed
            if i + 1 == len(demands):
                self.choose(case, sizing, memory)
                want = int(told[-1, self.account.rule])
            self.fleet.tell(want, demand, case.most)

    def choose(self, case: Case, sizing: Sizing, memory: SizingMemory) -> None:
        allowed = 1.0 - self.variant.target
        shadow = sizing.shadow(memory, frame_of(case, allowed))
        choose(shadow, self.account, allowed, BIN_S, case.lead, self.variant.settings, self.among)
        self.choices += 1
        self.capped += self.account.capped

    def figures(self, case: Case, total: float) -> Figures:
        f = self.fleet
        worst = max(self.missed_by_day, key=lambda day: self.missed_by_day[day], default=0)
        return Figures(
            self.variant.name,
            self.variant.target,
            f.cost / case.oracle_cost,
            f.missed / total,
            f.starts / case.oracle_starts,
            self.missed_by_day.get(worst, 0.0) / max(f.missed, 1e-9),
            worst,
            self.capped / max(self.choices, 1),
        )


# ---------------------------------------------------------------- traces


def rates_of(path: Path, days: float = 0.0) -> Floats:
    """A trace's mean rates in bins of `BIN_S`, cut to `days` (0: the whole). Errors: TraceError."""
    trace = read_rates(path)
    edges_s = trace.bin_s * np.arange(len(trace.rps) + 1)
    requests = np.concatenate([[0.0], np.cumsum(trace.rps * trace.bin_s)])
    bins = int(edges_s[-1] / BIN_S)
    bins = min(bins, round(days * DAY)) if days > 0 else bins
    return np.asarray(np.diff(np.interp(BIN_S * np.arange(bins + 1), edges_s, requests)) / BIN_S)


def forecasts_of(rates: Floats) -> np.ndarray:
    """What the controller would have expected after each bin: (bins, horizons, levels), req/s."""
    forecaster = create(ForecastSpec(bin_s=BIN_S, levels=LEVELS))
    said = np.zeros((len(rates), len(_LADDER), len(LEVELS)), dtype=np.float32)
    for i, rate in enumerate(rates.tolist()):
        forecaster.observe((i + 1) * BIN_S, rate)
        rows = forecaster.quantiles(_LADDER, LEVELS)
        said[i] = rows if rows else rate
    return said


def case_of(m: Material, lead_s: float, peak: float) -> Case:
    """The demand in replicas, and what somebody who knows it all and misses nothing pays."""
    demand = m.rates / (float(np.quantile(m.rates, 0.999)) / peak)
    need = np.maximum(1, np.ceil(demand / ORACLE_USE).astype(np.int64))
    first = max(1, min(2 * DAY, len(demand) // 3) // _BLOCK) * _BLOCK
    cost, starts = oracle(need[first:], lead_s)
    return Case(m.name, lead_s, peak, demand, need, first, cost, starts)


# ---------------------------------------------------------------- fleets


def oracle(need: Ints, lead_s: float) -> tuple[float, int]:
    """Replica-bins and starts: every level held over gaps shorter than a start takes."""
    cost, starts = 0.0, 0
    for level in range(1, int(need.max()) + 1):
        edges = np.diff(np.concatenate([[0], (need >= level).astype(int), [0]]))
        ups, downs = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        gaps_s = (ups[1:] - downs[:-1]) * BIN_S
        cost += float((downs - ups).sum() + np.minimum(gaps_s, lead_s).sum() / BIN_S + lead_s / BIN_S)
        starts += 1 + int((gaps_s > lead_s).sum())
    return cost, starts


def play(m: Material, c: Case, variants: Sequence[Variant]) -> tuple[list[Figures], list[Figures]]:
    """Every variant, in one replay for all targets that remember alike, and each rule alone, all from `first` on."""
    players = [_Player(v, Fleet([_begin_with(c)] * ROWS), v.among(Family())) for v in variants]
    groups: dict[float, list[_Player]] = {}
    for player in players:
        groups.setdefault(patience(1.0 - player.variant.target), []).append(player)
    total = float(c.demand[c.first :].sum())
    alone: list[Figures] = []
    for _, group in sorted(groups.items()):
        found = _replay(m, c, group, total)
        alone = alone or found
    return [player.figures(c, total) for player in players], alone


def _replay(m: Material, c: Case, players: Sequence[_Player], total: float) -> list[Figures]:
    """One replay, and whoever follows it; returns each rule alone."""
    allowed = 1.0 - players[0].variant.target
    sizing = Sizing(use=USE, learn_use=False, soft=0.0)
    family, memory, frame = sizing.family, SizingMemory(use=USE), frame_of(c, allowed)
    closed = _closed(m, c)
    record = np.zeros((4, family.size))
    fade = 0.5 ** (BIN_S / (patience(allowed) * HALF_LIVES_S[LONG]))
    for begin in range(0, len(c.demand), _BLOCK):
        end = min(begin + _BLOCK, len(c.demand))
        shadow = sizing.shadow(memory, frame)
        before = shadow.record[LONG].copy()
        sizing.advance([memory], [frame], closed.some(begin, end))
        shadow = sizing.shadow(memory, frame)
        told = shadow.targets[(memory.shadow.rows - np.arange(end - begin, 0, -1)) % ROWS].astype(np.int64)
        shadow.end_block(BIN_S, patience(allowed))
        if begin >= c.first:
            # Sums that fade: what the block added, as if all of it had come in its middle.
            bins = end - begin
            record += (shadow.record[LONG] - before * fade**bins) / fade ** ((bins - 1) / 2)
            for player in players:
                player.block(c, begin, told, sizing, memory)
        elif end == c.first:
            for player in players:
                player.choose(c, sizing, memory)
                player.fleet.tell(int(told[-1, player.account.rule]), float(c.demand[end - 1]), c.most)
    return [
        Figures(name, 0.0, cost / c.oracle_cost, missed / total)
        for name, missed, cost in zip(family.names, record[0].tolist(), record[1].tolist(), strict=True)
    ]


def frame_of(c: Case, allowed_share: float) -> Frame:
    return Frame(c.lead, BIN_S, (1, c.most), allowed_share)


def _begin_with(c: Case) -> int:
    return int(c.need[c.first]) + 2


def _closed(m: Material, c: Case) -> Closed:
    """The whole series, with what was expected after each of its bins."""
    bins = len(c.demand)
    horizon_s = (c.lead + 1) * BIN_S
    rows = m.forecasts[:bins].astype(np.float64) / (float(np.quantile(m.rates, 0.999)) / c.peak)
    ahead = Horizons.of(rows, _LADDER, np.full(bins, horizon_s), np.zeros(bins))
    ends_s = np.arange(1, bins + 1) * BIN_S
    return Closed(ends_s[None], c.demand[None], Horizons(ahead.lead[None], ahead.early[None], ahead.keep[None]))


def rivals(c: Case) -> list[Figures]:
    """Each of the HPA settings, and a constant fleet of each size (that one without its queue: it seems to miss less).

    Whoever chooses among them by what came of them has looked into the future.
    """
    total = float(c.demand[c.first :].sum())
    found = [_hpa(c, use, stabilization_s, total) for use, stabilization_s in HPA]
    demand = c.demand[c.first :]
    for replicas in range(1, c.most + 1):
        missed = float(demand[demand > replicas * USE].sum()) / total
        found.append(Figures(f"constant {replicas}", 0.0, replicas * len(demand) / c.oracle_cost, missed))
    return found


def _hpa(c: Case, use: float, stabilization_s: int, total: float) -> Figures:
    fleet, wants = Fleet([_begin_with(c)] * ROWS), [0] * max(1, round(stabilization_s / BIN_S))
    for i, d in enumerate(c.demand[c.first :].tolist()):
        fleet.serve(d, c.lead)
        running, current = max(min(fleet.targets[-(c.lead + 1) :]), 1), fleet.targets[-1]
        ratio = (d + fleet.backlog / 60.0) / running / use
        want = current if abs(ratio - 1) < 0.1 else math.ceil(running * ratio)
        wants[i % len(wants)] = want
        fleet.targets.append(min(max(want if want >= current else min(current, max(wants)), 1), c.most))
        del fleet.targets[:-ROWS]
    name = f"hpa {use:g}/{stabilization_s} s"
    return Figures(name, 0.0, fleet.cost / c.oracle_cost, fleet.missed / total, fleet.starts / c.oracle_starts)
