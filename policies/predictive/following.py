"""`predictive` follows the cheapest rule of a shadow family that meets the target: the glue between view and shadow.

`live` feeds what closed since the last look, `rehearse` what history told before the first one, `followed_term` is the
argument that comes of it. The rules themselves are in policies/shadow/.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from policies.base import Diary, Forecast, Term
from policies.predictive.state import ShadowBook
from policies.predictive.terms import Situation
from policies.shadow.noise import Felt
from policies.shadow.sizing import Ahead, Frame, Got, Sizing

_REHEARSED_AT_ONCE = 10_000
"""Bins of all deployments per look, about a second; each has its share of them."""
_AGE_SHARE = 1.3
"""Of the time that a request stays: for how long it is felt. Those in progress are long ones, and hold more as they
grow; against the simulator's engine, for lengths that spread as chats do (docs/decisions/0017)."""
_STOP_BEFORE_S, _STOPS_BEFORE = 600.0, 5.0
"""A replica given up is taken to stay on the bill for so long until as many were seen: nodes go after ten minutes."""
_PATIENCE_S = 2.0
SETTLES_S = 120.0
"""What a replica carries is not known well before: the first requests to finish are the short ones."""


@dataclass(frozen=True, slots=True)
class Start:
    """What asking for a replica means: surely serving within `lead_s`, on average within `mean_s`; wanted in multiples
    of `quantum`.
    """

    lead_s: float
    mean_s: float
    quantum: int

    def serve_bins(self, bin_s: float) -> int:
        """Whole bins until a replica serves in the replay."""
        return math.ceil(self.mean_s / bin_s)

    def reach_s(self, bin_s: float) -> float:
        """How far the rules look ahead: through the first bin that a replica asked for now serves whole, or where a
        start takes little more than a bin every step of demand would be met too late in the replay.
        """
        return max(self.lead_s, (self.serve_bins(bin_s) + 1) * bin_s)


def stop_s(book: ShadowBook) -> float:
    """For how long a replica that was given up stays on the bill, by what was seen."""
    return (_STOPS_BEFORE * _STOP_BEFORE_S + book.trailed) / (_STOPS_BEFORE + book.stops)


def watch(book: ShadowBook, s: Situation, idle_replicas: float) -> None:
    """How long requests stay, and what stays on the bill of replicas that were given up.

    `idle_replicas`: those that would fit the GPUs of the deployment's own nodes which nobody uses.
    """
    d = s.view
    if d.rate_rps and d.ongoing and not d.waiting:
        stays_s = d.ongoing / d.rate_rps
        before = book.residence_s
        book.residence_s = stays_s if before is None else before + min(1.0, s.period_s / 600.0) * (stays_s - before)
    passed_s = 0.0 if book.seen_at_s is None else min(max(s.now_s - book.seen_at_s, 0.0), 300.0)
    fade = 0.5 ** (passed_s / 86400.0)
    fewer = max(0, (book.supply or 0) - s.supply)
    book.stops = book.stops * fade + fewer
    book.trailed = book.trailed * fade + passed_s * ((d.draining or 0) + max(idle_replicas, 0.0))
    book.seen_at_s, book.supply = s.now_s, s.supply


def _stays_s(book: ShadowBook, s: Situation) -> float:
    """How long a request stays, or would at capacity; 0: not known."""
    if s.view.capacity_rps and s.view.capacity_batch:
        return s.view.capacity_batch / s.view.capacity_rps
    return book.residence_s or 0.0


def _share(stays_s: float, bin_s: float) -> float:
    """What a bin weighs in what is felt."""
    return 1.0 - math.exp(-bin_s / (_AGE_SHARE * stays_s)) if stays_s > 0 else 1.0


def _felt(book: ShadowBook, demand: float, stays_s: float, bin_s: float) -> float:
    """The demand of a bin as replicas feel it: what came within the last minutes is still there."""
    before = demand if book.smooth is None else book.smooth
    book.smooth = before + _share(stays_s, bin_s) * (demand - before)
    return book.smooth


def live(sizing: Sizing, book: ShadowBook, s: Situation, start: Start, bin_s: float, rehearsing: int = 1) -> None:
    """Take in the bins that closed since the last look; while history is rehearsed they are left out.

    `rehearsing`: how many deployments have a history to rehearse.
    """
    d = s.view
    book.requests += d.judged_requests
    book.missed += d.judged_missed
    book.begun_at_s = s.now_s if book.begun_at_s is None else book.begun_at_s
    if s.replicas_per_rps is None or s.now_s - book.begun_at_s < SETTLES_S:
        return
    if book.diary is not None:
        _rehearse(sizing, book, book.diary, s, start, math.ceil(_REHEARSED_AT_ONCE / max(rehearsing, 1)))
        return
    for end_s, rate_rps in d.bins:
        if rate_rps is None:
            continue
        frame = _frame(book, s, start, bin_s)
        demand = _felt(book, rate_rps * s.replicas_per_rps, _stays_s(book, s), bin_s)
        felt = Felt(s.replicas_per_rps, _share(_stays_s(book, s), bin_s), bin_s, sizing.family.array_of_levels)
        ahead = _ahead(sizing, d.forecast, demand, s, start.reach_s(bin_s), stop_s(book), felt)
        sizing.close(book.sizing, end_s, demand, ahead, frame, _got(book, sizing, s))
        book.requests = book.missed = 0.0


def _frame(book: ShadowBook, s: Situation, start: Start, bin_s: float) -> Frame:
    d = s.view
    return Frame(
        lead_bins=math.ceil(start.lead_s / bin_s),
        bin_s=bin_s,
        bounds=(d.min_replicas, d.max_replicas),
        allowed_share=max(1.0 - d.slo.target_fraction, 1e-4),
        quantum=start.quantum,
        stop_bins=round(stop_s(book) / bin_s),
        patience_s=d.slo.ttft_s or _PATIENCE_S,
        serve_bins=start.serve_bins(bin_s),
        lasts_s=_AGE_SHARE * _stays_s(book, s),
    )


def _got(book: ShadowBook, sizing: Sizing, s: Situation) -> Got | None:
    """None where our own sizing is not what users felt: somebody else's limit was in the way."""
    if s.view.running is None:
        return None
    wanted = sizing.target(book.sizing)
    limited = wanted is not None and s.view.target is not None and s.view.target < wanted
    known = book.requests > 0 and not limited
    return Got(float(s.view.running), book.missed / book.requests if known else None)


def _ahead(
    sizing: Sizing, forecast: Forecast | None, demand: float, s: Situation, lead_s: float, stop_s: float, felt: Felt
) -> Ahead:
    """What is expected, in replicas; today's demand where there is no forecast."""
    levels = sizing.family.array_of_levels
    if forecast is None or not forecast.values_rps or s.replicas_per_rps is None:
        return Ahead(*(np.full(len(levels), demand),) * 3)
    rows = np.array(forecast.values_rps)
    if forecast.levels != sizing.family.levels:
        rows = np.stack([np.interp(levels, forecast.levels, row) for row in rows])
    rows = np.where(rows < s.wake_rps, 0.0, rows) * s.replicas_per_rps
    return Ahead.of(rows, forecast.horizons_s, lead_s, stop_s, felt)


def _rehearse(sizing: Sizing, book: ShadowBook, diary: Diary, s: Situation, start: Start, bins: int) -> None:
    """The next bins of the diary, with what is known now of capacity and lead times."""
    per_rps = book.replicas_per_rps = book.replicas_per_rps or s.replicas_per_rps or 0.0
    rates = np.frombuffer(diary.rates_rps, dtype=np.float32)
    shape = (-1, len(diary.horizons_s), len(diary.levels))
    steps = np.frombuffer(diary.forecasts, dtype=np.float16).reshape(shape)
    frame = _frame(book, s, start, diary.bin_s)
    stays_s = _stays_s(book, s)
    felt = Felt(per_rps, _share(stays_s, diary.bin_s), diary.bin_s, np.array(diary.levels))
    until = min(book.rehearsed + bins, len(rates))
    ahead = Ahead(*(np.zeros(len(diary.levels)),) * 3)
    for i in range(book.rehearsed, until):
        demand = _felt(book, float(rates[i]) * per_rps, stays_s, diary.bin_s)
        made = (i + 1) // diary.bins_per_step - 1
        if made < 0:
            continue
        if (i + 1) % diary.bins_per_step == 0 or i == book.rehearsed:
            rows = steps[made].astype(np.float64) * diary.unit_rps
            rows = np.where(rows < s.wake_rps, 0.0, rows) * per_rps
            ahead = Ahead.of(rows, diary.horizons_s, start.reach_s(diary.bin_s), stop_s(book), felt)
        end_s = diary.last_end_s - (len(rates) - 1 - i) * diary.bin_s
        sizing.close(book.sizing, end_s, demand, ahead, frame, None)
    book.rehearsed = until
    if until == len(rates):
        book.diary, book.rehearsed, book.replicas_per_rps = None, 0, None


def in_force(sizing: Sizing, book: ShadowBook, bin_s: float) -> bool:
    """There is record enough to follow a rule by it."""
    return book.diary is None and sizing.ready(book.sizing, bin_s)


def followed_term(sizing: Sizing, book: ShadowBook, s: Situation, lead_s: float) -> Term | None:
    """What the followed rule wants."""
    wants = sizing.target(book.sizing)
    if wants is None:
        return None
    account = book.sizing.account
    cap = " (as much as it may be)" if account.capped else ""
    words = f"rule {sizing.rule(book.sizing)!r} is the cheapest at {account.price:.1f} replica-seconds for a missed one"
    return Term("rule", wants, f"{words}{cap}; a replica asked for now serves within {lead_s:.0f} s")


def next_term(sizing: Sizing, book: ShadowBook) -> Term | None:
    """The more careful rule that was not followed, and what would change that."""
    account = book.sizing.account
    wants = sizing.target(book.sizing, account.next_rule)
    if wants is None:
        return None
    name = sizing.family.names[account.next_rule]
    return Term("next rule", wants, f"rule {name!r} would be followed from {account.next_price:.1f} on")
