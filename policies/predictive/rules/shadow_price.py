"""What a missed request less is worth, and which rule is the cheapest at that price: an error budget, spent where it
buys most.

Two records of every rule (missed, cost) give a lower hull; its slope where the budget stands is the price of the next
miss. The short record and the account of what users really got say what it costs today, the long one what it costs in
general, and today's may not run away from that. Nothing is ever bought for more than `cap` over the allowed share.
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
    """Of the misses that the target allows: what is steered for."""
    leeway: float = 3.0
    """How far today's price may be from the long run's, as a factor."""
    repay_days: float = 1.5
    spend_days: float = 1.0
    """Over which a debt of misses is repaid, a credit spent."""
    cap: float = 16.0
    """A miss is never worth more than this over the allowed share ..."""
    most: float = 2000.0
    """... nor more than so many times what serving it would have cost ..."""
    strict_cap: float = 2.0
    """... but for the strictest targets, for which that is less than this over the allowed share."""
    least: float = 1.0
    """A miss is never worth less than this: serving it would have cost as much."""
    least_share: float = 0.35
    most_share: float = 3.0
    """Bounds of what is steered for at the moment, in multiples of the aim."""
    account_days: float = 14.0
    """Half-life of the account."""
    stick: float = 0.005
    """Another rule is followed when it is better by this share."""
    start_cost: float = 1.0
    """What a start costs beside the bill, in lead times of one replica."""
    learn_days: float = 3.0
    """Half-life of how many of the misses that the replay counts users have."""
    learn_prior_days: float = 2.0
    """As many days' allowed misses are taken to have been counted right before any was seen."""
    least_believed: float = 0.2
    """Of the replay's misses at least so many count."""
    doubt_days: float = 7.0
    """Before so much was seen, misses that came in one event count for less than those of many."""


@dataclass(slots=True)
class Account:
    """What users really got (demand-weighted, faded), and which rule is followed at what price."""

    seen: float = 0.0
    missed: float = 0.0
    rule: int = -1
    price: float = 0.0
    share_now: float = 0.0
    """The share of misses that is steered for at the moment."""
    capped: bool = False
    next_rule: int = -1
    """The more careful rule that would be followed from `next_price` on; -1: none misses less."""
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
        """The record is another family's: no rule is followed, nothing was compared. What users got stays."""
        self.rule = self.next_rule = -1
        self.users_missed = self.replay_missed = 0.0

    def compare(self, users_missed: float, replay_missed: float, bin_s: float, settings: PriceSettings) -> None:
        """One bin: what users missed, and what the followed rule's fleet missed of it in the replay (replica-bins)."""
        fade = 0.5 ** (bin_s / (settings.learn_days * 86400.0))
        self.users_missed = self.users_missed * fade + users_missed
        self.replay_missed = self.replay_missed * fade + replay_missed

    def believed(self, allowed_a_day: float, settings: PriceSettings) -> float:
        """Share of the replay's misses that users have: where starts come sooner than in the replay, or reflexes and
        rounding help, it counts too many. That it counts too few is left to the usable share.
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
    cheaper = np.ones(len(cost), dtype=bool)  # than all who miss no more
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
