"""Connects the policy to the rules: `predictive` follows the cheapest simulated rule that meets the target.

`update` feeds the bins that closed since the last decision and, before the first one, history (warm_start.py).
`followed_term` is the resulting term. The rules themselves are in rules/.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

import numpy as np

from policies.base import Forecast, Term
from policies.predictive.context import SizingContext, smoother, stop_s
from policies.predictive.rules.family import Floats
from policies.predictive.rules.horizons import Horizons
from policies.predictive.rules.sizing import Closed, Got, Sizing
from policies.predictive.rules.smoothing import OccupancySmoother
from policies.predictive.state import RuleState
from policies.predictive.terms import Situation
from policies.predictive.warm_start import warm_start

SETTLES_S = 120.0
"""Capacity is not known well before this: the first requests to finish are the short ones."""


def update(sizing: Sizing, contexts: Sequence[SizingContext], bin_s: float, rehearsing: int = 1) -> None:
    """Feed the bins that closed since the last tick, for all deployments at once. While history is replayed they are
    left out.

    `rehearsing`: number of deployments with history to replay.
    """
    settled = [context for context in contexts if _settled(context)]
    past = [context for context in settled if context.book.diary is not None]
    closed = [
        (context, [(end_s, rate_rps) for end_s, rate_rps in context.situation.view.bins if rate_rps is not None])
        for context in settled
        if context.situation.view.bins and context.book.diary is None
    ]
    warm_start(sizing, past, rehearsing)
    for turn in range(max((len(bins) for _, bins in closed), default=0)):
        now = [(context, bins[turn]) for context, bins in closed if turn < len(bins)]
        _close(sizing, [context for context, _ in now], np.array([one for _, one in now]), bin_s)


def _settled(context: SizingContext) -> bool:
    """Record what users got; returns whether capacity is known."""
    book, s = context.book, context.situation
    book.requests += s.view.judged_requests
    book.missed += s.view.judged_missed
    book.begun_at_s = s.now_s if book.begun_at_s is None else book.begun_at_s
    return s.replicas_per_rps is not None and s.now_s - book.begun_at_s >= SETTLES_S


def _close(sizing: Sizing, contexts: Sequence[SizingContext], bins: Floats, bin_s: float) -> None:
    """One bin of each deployment: end (s) and rate (req/s)."""
    share = [context.share(bin_s) for context in contexts]
    per_rps = [context.situation.replicas_per_rps or 0.0 for context in contexts]
    effective = [
        smoother(context.book, (rate_rps * each,), weighs)
        for context, rate_rps, each, weighs in zip(contexts, bins[:, 1].tolist(), per_rps, share, strict=True)
    ]
    got = [_got(sizing, context, bin_s) for context in contexts]
    demand = np.array(effective)[:, 0]
    how = OccupancySmoother(np.array(per_rps), np.array(share), bin_s, sizing.family.array_of_levels)
    ahead = _ahead(sizing, contexts, demand, how)
    memories = [context.book.sizing for context in contexts]
    sizing.close(
        memories, [context.frame(bin_s) for context in contexts], Closed(bins[:, :1], demand[:, None], ahead), got
    )
    for context in contexts:
        context.book.requests = context.book.missed = 0.0


def _got(sizing: Sizing, context: SizingContext, bin_s: float) -> Got | None:
    """What users got; None if the fleet was not sized by leadtime: another limit applied, or the fleet is larger than
    asked for (a dry run, a pause, a manual level).
    """
    book, view = context.book, context.situation.view
    if view.running is None:
        return None
    wanted = sizing.target(book.sizing)
    limited = wanted is not None and view.target is not None and view.target < wanted
    held = book.asked is not None and view.target is not None and view.target > book.asked
    known = book.requests > 0 and not limited and not held
    followed = in_force(sizing, book, bin_s) and not book.margin
    return Got(float(view.running), book.missed / book.requests if known else None, followed)


def _ahead(sizing: Sizing, contexts: Sequence[SizingContext], demand: Floats, effective: OccupancySmoother) -> Horizons:
    """Expected demand after the bin of each deployment, in replicas; today's demand without a forecast."""
    levels = sizing.family.array_of_levels
    alike: dict[tuple[float, ...], list[tuple[int, Forecast]]] = {}
    for i, context in enumerate(contexts):
        forecast = context.situation.view.forecast
        if forecast is not None and forecast.values_rps:
            alike.setdefault(forecast.levels, []).append((i, forecast))
    found = Horizons(*(np.repeat(demand[:, None, None], len(levels), axis=2) for _ in range(3)))
    for known, members in alike.items():
        at = [i for i, _ in members]
        wake_rps, reach_s, stops_s = np.array([_reach(contexts[i], effective.bin_s) for i in at]).T
        horizons_s, rows = _tables([one for _, one in members])
        if known != sizing.family.levels:
            rows = np.array([[np.interp(levels, known, row) for row in one] for one in rows])
        rows = np.where(rows < wake_rps[:, None, None], 0.0, rows) * effective.per_rps[at, None, None]
        made = Horizons.of(
            rows,
            horizons_s,
            reach_s,
            stops_s,
            OccupancySmoother(effective.per_rps[at], effective.share[at], effective.bin_s, levels),
        )
        found.lead[at, 0], found.early[at, 0], found.keep[at, 0] = made.lead, made.early, made.keep
    return found


def _tables(forecasts: Sequence[Forecast]) -> tuple[Floats, Floats]:
    """Horizons and rows of forecasts as arrays: (forecasts, horizons) and (forecasts, horizons, levels).

    Forecasts with fewer horizons are padded with their last row, which holds for everything beyond anyway.
    """
    longest = max(len(one.horizons_s) for one in forecasts)
    horizons_s, rows = [], list[tuple[float, ...]]()
    for one in forecasts:
        missing = longest - len(one.horizons_s)
        horizons_s.append(one.horizons_s + one.horizons_s[-1:] * missing)
        rows += one.values_rps + one.values_rps[-1:] * missing
    values = np.fromiter(chain.from_iterable(rows), np.float64, len(rows) * len(rows[0]))
    return np.array(horizons_s), values.reshape(len(forecasts), longest, -1)


def _reach(context: SizingContext, bin_s: float) -> tuple[float, float, float]:
    return context.situation.wake_rps, context.start.reach_s(bin_s), stop_s(context.book)


def in_force(sizing: Sizing, book: RuleState, bin_s: float) -> bool:
    """Whether there is enough record to choose a rule."""
    return book.diary is None and sizing.ready(book.sizing, bin_s)


def followed_term(sizing: Sizing, book: RuleState, s: Situation, lead_s: float) -> Term | None:
    """What the followed rule wants."""
    wants = sizing.target(book.sizing)
    if wants is None:
        return None
    account = book.sizing.account
    return _rule_term(wants, sizing.rule(book.sizing), account.price, account.capped, lead_s)


@lru_cache(maxsize=4096)
def _rule_term(wants: int, rule: str, price: float, capped: bool, lead_s: float) -> Term:
    """Cached, like the texts of next rules: they stay the same for as long as a rule is followed."""
    cap = " (as much as it may be)" if capped else ""
    words = f"rule {rule!r} is the cheapest at {price:.1f} replica-seconds for a missed one{cap}"
    if not price:
        words = f"rule {rule!r} until the first choice among the rules"
    return Term("rule", wants, f"{words}; a replica asked for now serves within {lead_s:.0f} s")


def next_term(sizing: Sizing, book: RuleState) -> Term | None:
    """The more careful rule that was passed over, and the price from which it would be followed."""
    account = book.sizing.account
    wants = sizing.target(book.sizing, account.next_rule)
    if wants is None:
        return None
    return _next_rule_term(wants, sizing.family.names[account.next_rule], account.next_price)


@lru_cache(maxsize=4096)
def _next_rule_term(wants: int, rule: str, price: float) -> Term:
    return Term("next rule", wants, f"rule {rule!r} would be followed from {price:.1f} on")
