"""The long development traces through a fluid fleet: minutes instead of hours, the flagship's own sizing code.

Demand in replicas (99.9th percentile = peak), bins of 10 s; a replica is billed from when it is asked for and serves a
lead time later; a bin is missed while demand is over 87 % of what runs or more than 2 s of queue wait. The first third
(at most two days) is history only. Not for what queues, tokens and nodes do: that is the simulator's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from policies.base import ForecastSpec
from policies.forecasting import create
from policies.shadow.ahead import Ahead
from policies.shadow.fleet import ROWS
from policies.shadow.price import Account, PriceSettings, choose
from policies.shadow.rules import LEVELS, Family, Floats, Ints
from policies.shadow.sizing import CHOOSE_EVERY_S, Closed, Frame, Sizing, SizingMemory
from simulator.traffic.traces import read_rates

BIN_S = 10.0
DAY = 8640
USE = 0.87
ORACLE_USE = 0.85
HPA = tuple((use, stabilization_s) for stabilization_s in (60, 300, 900)
            for use in (0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.8))  # fmt: skip
_LADDER = tuple(BIN_S * 2**k for k in range(8))


@dataclass(frozen=True)
class Material:
    """One trace in bins: rates (req/s) and the forecast after each bin (bins, horizons, levels)."""

    name: str
    rates: Floats
    forecasts: np.ndarray


@dataclass(frozen=True)
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


@dataclass
class Fleet:
    """One fleet that is really told: replica-bins of cost and misses from `first` on."""

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


@dataclass(frozen=True)
class Variant:
    """The flagship, or one without a part: `without` = blocks of rules that may not be followed."""

    name: str
    settings: PriceSettings = field(default_factory=PriceSettings)
    without: tuple[str, ...] = ()
    target: float = 0.99

    def among(self, family: Family) -> Ints:
        kept = np.ones(family.size, dtype=bool)
        for block in self.without:
            kept[family.blocks[block]] = False
        return np.flatnonzero(kept)


@dataclass(frozen=True)
class Figures:
    """Of one variant in one case: multiples of the oracle's, shares of demand."""

    case: str
    lead_s: float
    peak: float
    variant: str
    cost: float
    missed_share: float
    starts: float


def material(path: Path, days: float, kept: Path) -> Material:
    """A trace cut to `days`, with forecasts as the controller would have them; kept in a folder once they were made."""
    trace = read_rates(path)
    bins = min(int(trace.bin_s * len(trace.rps) / BIN_S), round(days * DAY))
    at = np.minimum(((np.arange(bins) + 0.5) * BIN_S / trace.bin_s).astype(int), len(trace.rps) - 1)
    rates = np.asarray(trace.rps, dtype=np.float64)[at]
    name = path.name.removesuffix(".csv.gz")
    file = kept / f"{name}-{bins}.npy"
    if file.exists():
        return Material(name, rates, np.load(file, mmap_mode="r"))
    forecaster = create(ForecastSpec(bin_s=BIN_S, levels=LEVELS))
    said = np.zeros((bins, len(_LADDER), len(LEVELS)), dtype=np.float32)
    for i, rate in enumerate(rates.tolist()):
        forecaster.observe((i + 1) * BIN_S, rate)
        rows = forecaster.quantiles(_LADDER, LEVELS)
        said[i] = rows if rows else rate
    kept.mkdir(parents=True, exist_ok=True)
    np.save(file, said)
    return Material(name, rates, said)


def case_of(m: Material, lead_s: float, peak: float) -> Case:
    """The demand in replicas, and what somebody who knows it all and misses nothing pays."""
    demand = m.rates / (float(np.quantile(m.rates, 0.999)) / peak)
    need = np.maximum(1, np.ceil(demand / ORACLE_USE).astype(np.int64))
    first = min(2 * DAY, len(demand) // 3)
    cost, starts = oracle(need[first:], lead_s)
    return Case(m.name, lead_s, peak, demand, need, first, cost, starts)


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


def play(m: Material, c: Case, variants: Sequence[Variant]) -> tuple[list[Figures], dict[str, Floats]]:
    """Every variant in one replay, and what each rule alone would have cost and missed from `first` on."""
    sizing = Sizing(use=USE, learn_use=False, soft=0.0)
    family, memory = sizing.family, SizingMemory(use=USE)
    lead, most = math.ceil(c.lead_s / BIN_S), 2 * int(c.need.max())
    frame = Frame(lead, BIN_S, (1, most), 0.01)
    scale = float(np.quantile(m.rates, 0.999)) / c.peak
    horizon_s = (lead + 1) * BIN_S
    fleets = [Fleet([int(c.need[c.first]) + 2] * ROWS) for _ in variants]
    accounts = [Account() for _ in variants]
    among = [v.among(family) for v in variants]
    closed = _closed(m, c, horizon_s, scale)
    record = np.zeros((4, family.size))
    fade = 0.5 ** (BIN_S / (3 * 86400.0))
    every = round(CHOOSE_EVERY_S / BIN_S)
    for i, demand in enumerate(c.demand.tolist()):
        live = i >= c.first
        if live:
            for variant, fleet, account in zip(variants, fleets, accounts, strict=True):
                account.book(demand, fleet.serve(demand, lead) * demand, BIN_S, variant.settings)
        before = sizing.shadow(memory, frame).record[1].copy()
        sizing.advance([memory], [frame], closed.some(i, i + 1))
        shadow = sizing.shadow(memory, frame)
        if live:
            record += shadow.record[1] - before * fade
        if (i + 1) % every == 0:
            shadow.end_block(BIN_S)
        if i + 1 < c.first:
            continue
        for k, variant in enumerate(variants):
            account = accounts[k]
            if (i + 1) % every == 0 or account.rule < 0:
                choose(shadow, account, 1.0 - variant.target, BIN_S, lead, variant.settings, among[k])
            fleets[k].tell(int(shadow.target[account.rule]), demand, most)
    total = float(c.demand[c.first :].sum())
    found = [
        Figures(c.name, c.lead_s, c.peak, v.name, f.cost / c.oracle_cost, f.missed / total, f.starts / c.oracle_starts)
        for v, f in zip(variants, fleets, strict=True)
    ]
    return found, {"missed_share": record[0] / total, "cost": record[1] / c.oracle_cost}


def _closed(m: Material, c: Case, horizon_s: float, scale: float) -> Closed:
    """The whole series, with what was expected after each of its bins."""
    bins = len(c.demand)
    rows = m.forecasts[:bins].astype(np.float64) / scale
    ahead = Ahead.of(rows, _LADDER, np.full(bins, horizon_s), np.zeros(bins))
    ends_s = np.arange(1, bins + 1) * BIN_S
    return Closed(ends_s[None], c.demand[None], Ahead(ahead.lead[None], ahead.early[None], ahead.keep[None]))


def hpa(c: Case, target: float) -> tuple[float, float] | None:
    """Cost and misses of the cheapest HPA setting that keeps the target on this very trace; None where none does."""
    lead, most = math.ceil(c.lead_s / BIN_S), 2 * int(c.need.max())
    demand, best = c.demand[c.first :].tolist(), None
    for use, stabilization_s in HPA:
        fleet, wants = Fleet([int(c.need[c.first]) + 2] * ROWS), [0] * (stabilization_s // 10)
        for i, d in enumerate(demand):
            fleet.serve(d, lead)
            running, current = max(min(fleet.targets[-(lead + 1) :]), 1), fleet.targets[-1]
            ratio = (d + fleet.backlog / 60.0) / running / use
            want = current if abs(ratio - 1) < 0.1 else math.ceil(running * ratio)
            wants[i % len(wants)] = want
            fleet.targets.append(min(max(want if want >= current else min(current, max(wants)), 1), most))
            del fleet.targets[:-ROWS]
        missed = fleet.missed / sum(demand)
        if missed <= 1.0 - target and (best is None or fleet.cost / c.oracle_cost < best[0]):
            best = fleet.cost / c.oracle_cost, missed
    return best
