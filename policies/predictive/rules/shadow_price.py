"""The value of one missed request less, and the rule that is cheapest at that price: an error budget, spent where it
saves most.

Two records of every rule (missed, cost) give a lower hull; its slope at the budget is the price of the next miss. The
short record and the account of what users got give today's price, the long record the general one, and today's may
differ from that by a bounded factor only. Nothing is bought for more than `cap` over the allowed share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from policies.predictive.rules.family import Floats, Ints
from policies.predictive.rules.fleet import COST, LONG, SHORT, STARTS, RuleSimulation, demand_a_day


@dataclass(frozen=True, slots=True)
class PriceSettings:
    """One set of constants for every trace, lead time, fleet size and target; docs/policy.md says how they were set."""

    aim_share: float = 0.9
    """Share of the allowed misses that is aimed for."""
    leeway: float = 3.0
    """Largest factor between today's price and the long run's."""
    repay_days: float = 1.5
    spend_days: float = 1.0
    """Days' demand over which a debt of misses is repaid, and a credit spent."""
    cap: float = 16.0
    """A miss is worth at most this over the allowed share ..."""
    most: float = 2000.0
    """... and at most this many times what serving it would have cost ..."""
    strict_cap: float = 2.0
    """... except for the strictest targets, for which that is less than this over the allowed share."""
    least: float = 1.0
    """A miss is worth at least what serving it would have cost."""
    least_share: float = 0.35
    most_share: float = 3.0
    """Bounds of the current aim, in multiples of the aim."""
    account_days: float = 14.0
    """Half-life of the account."""
    stick: float = 0.005
    """Another rule is chosen if it is better by this share."""
    start_cost: float = 1.0
    """Cost of a start beside the bill, in lead times of one replica."""
    learn_days: float = 3.0
    """Half-life of the ratio of users' misses to the replay's."""
    learn_prior_days: float = 2.0
    """Prior weight of the ratio of users' misses to the replay's, in days of allowed misses (prior mean 1.0)."""
    least_believed: float = 0.2
    """Lower bound on that ratio."""
    doubt_days: float = 7.0
    """Until this much was observed, misses that came in one event count for less than those of many."""


@dataclass(slots=True)
class Account:
    """What users got (demand-weighted, faded), and which rule is followed at what price."""

    seen: float = 0.0
    missed: float = 0.0
    rule: int = -1
    price: float = 0.0
    share_now: float = 0.0
    """Share of misses aimed for at the moment."""
    capped: bool = False
    next_rule: int = -1
    """The more careful rule that would be followed from `next_price` on; -1: no rule misses less."""
    next_price: float = 0.0
    users_missed: float = 0.0
    replay_missed: float = 0.0
    """What users missed while a rule was followed, and what its fleet missed in the replay of the same bins (faded)."""

    def book(self, demand: float, missed: float, bin_s: float, settings: PriceSettings) -> None:
        """One bin: its demand (replica-bins), and what of it users did not get within the SLO."""
        fade = 0.5 ** (bin_s / (settings.account_days * 86400.0))
        self.seen = self.seen * fade + demand
        self.missed = self.missed * fade + missed

    def begin_anew(self) -> None:
        """Reset what belongs to another family: the chosen rule and the comparison. What users got stays."""
        self.rule = self.next_rule = -1
        self.users_missed = self.replay_missed = 0.0

    def compare(self, users_missed: float, replay_missed: float, bin_s: float, settings: PriceSettings) -> None:
        """One bin: what users missed, and what the followed rule's fleet missed of it in the replay (replica-bins)."""
        fade = 0.5 ** (bin_s / (settings.learn_days * 86400.0))
        self.users_missed = self.users_missed * fade + users_missed
        self.replay_missed = self.replay_missed * fade + replay_missed

    def believed(self, allowed_a_day: float, settings: PriceSettings) -> float:
        """Ratio of users' misses to the replay's, at most 1. The replay predicts too many where starts are faster than
        in it, or where saturation terms and rounding help. Too few are corrected by the usable share instead.
        """
        prior = settings.learn_prior_days * allowed_a_day
        share = (self.users_missed + prior) / max(self.replay_missed + prior, 1e-9)
        return min(max(share, settings.least_believed), 1.0)


def choose(
    shadow: RuleSimulation, account: Account, allowed_share: float, bin_s: float, lead_bins: int,
    settings: PriceSettings, among: Ints | None = None, stop_bins: int = 0,
) -> int:  # fmt: skip
    """The rule to follow from now on, by its number; updates the account.

    `allowed_share` = 1 - the SLO's target; `stop_bins`: for how long a replica given up stays on the bill; `among`: the
    numbers of the rules to choose from, ascending (None: all).
    """
    memory = shadow.memory
    rules = shadow.family.numbers if among is None else among
    record = shadow.record if among is None else shadow.record[:, :, among]
    doubt = max(0.0, 1.0 - memory.rows * bin_s / (settings.doubt_days * 86400.0)) if settings.doubt_days > 0 else 0.0
    aim = allowed_share * settings.aim_share
    day = [demand_a_day(memory, which, bin_s) for which in (SHORT, LONG)]
    missed = np.array([shadow.expected_misses(which, doubt) for which in (SHORT, LONG)])
    missed = missed if among is None else missed[:, among]
    missed *= account.believed(allowed_share * day[SHORT], settings)
    credit = aim * account.seen - account.missed
    days = settings.repay_days if credit < 0 else settings.spend_days
    now = aim + credit / max(day[LONG] * days, 1e-9)
    now = min(max(now, aim * settings.least_share), aim * settings.most_share)
    costs = record[:, COST] + max(settings.start_cost * lead_bins, stop_bins) * record[:, STARTS]
    today = hull_slope(missed[SHORT], costs[SHORT], now * memory.demand_sums[SHORT])
    general = hull_slope(missed[LONG], costs[LONG], aim * memory.demand_sums[LONG])
    general = max(general, 0.5) if math.isfinite(general) else 1000.0
    price = min(max(today, general / settings.leeway), general * settings.leeway)
    cap = max(min(settings.cap / allowed_share, settings.most), settings.strict_cap / allowed_share)
    account.capped = price > cap
    price = min(max(price, settings.least), cap)
    account.price, account.share_now = price, now
    bill = costs[SHORT] + price * (1.0 + 1e-6) * missed[SHORT]
    best = int(np.argmin(bill))
    current = np.flatnonzero(rules == account.rule)
    if not len(current) or bill[current[0]] > bill[best] * (1.0 + settings.stick):
        account.rule = int(rules[best])
        current = np.array([best])
    account.next_rule, account.next_price = _next_rule(missed[SHORT], costs[SHORT], int(current[0]))
    if account.next_rule >= 0:
        account.next_rule = int(rules[account.next_rule])
    return account.rule


def _next_rule(missed: Floats, cost: Floats, current: int) -> tuple[int, float]:
    """Place of the rule that misses less at the lowest price for each miss less, and that price; (-1, 0): none."""
    less = missed[current] - missed
    better = np.flatnonzero(less > 1e-9)
    if not len(better):
        return -1, 0.0
    prices = (cost[better] - cost[current]) / less[better]
    first = int(np.argmin(prices))
    return int(better[first]), max(0.0, float(prices[first]))


def lower_hull(missed: Floats, cost: Floats) -> list[tuple[float, float]]:
    """The corners (missed, cost) of the lower left hull, by what is missed."""
    order = np.lexsort((cost, missed))
    cost = cost[order]
    cheaper = np.ones(len(cost), dtype=bool)  # than all that miss no more
    cheaper[1:] = cost[1:] < np.minimum.accumulate(cost)[:-1]
    hull: list[tuple[float, float]] = []
    for x, y in zip(missed[order[cheaper]].tolist(), cost[cheaper].tolist(), strict=True):
        while len(hull) >= 2 and _above(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    return hull


def hull_slope(missed: Floats, cost: Floats, at: float) -> float:
    """Slope of the lower hull of (missed, cost) at `at`: what the next unit missed less costs there.

    Infinite where no rule misses so little; 0 where the cheapest rule does.
    """
    hull = lower_hull(missed, cost)
    if at < hull[0][0]:
        return float("inf")
    for (x0, y0), (x1, y1) in pairwise(hull):
        if x1 > at:
            return (y0 - y1) / (x1 - x0)
    return 0.0


def _above(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """b lies on or above the line from a to c."""
    return (c[1] - b[1]) * (b[0] - a[0]) <= (b[1] - a[1]) * (c[0] - b[0])
