"""Replicas that cost more than usual: the pools that a deployment prefers refuse, so the next replica comes from a
dearer one.

A miss is worth a number of replica-seconds at the usual cost. At twice the cost it is worth half as many. So beyond
what the refusing pools hold, the want of the rule that is cheapest at the lower price is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from policies.base import DeploymentView, PoolView, Term
from policies.predictive.rules.fleet import COST, SHORT, STARTS, RuleSimulation, demand_a_day
from policies.predictive.rules.sizing import Sizing
from policies.predictive.state import RuleState

_REFUSES_S = 900.0
"""Time (s) after its last refusal during which a pool counts as refusing."""

_RECORD_S = 43200.0
"""With a shorter record it is unknown how much a cheaper rule would miss."""


@dataclass(frozen=True, slots=True)
class PoolCost:
    """`room`: replicas that fit in what the refusing pools hold; `times`: cost of a replica of `pool` over that of one
    of those.
    """

    room: int
    times: float
    refusing: str
    pool: str


def marginal_cost(
    d: DeploymentView, pools_by_name: Mapping[str, PoolView], book: RuleState, now_s: float
) -> PoolCost | None:
    """Pool and cost of one more replica now, if it costs more than usual; None: it does not, or it is unknown.

    Remembers refusals.
    """
    pools = [pools_by_name[name] for name in d.node_pools if name in pools_by_name]
    for p in pools:
        if p.refused:
            book.refused_at_s[p.name] = now_s
    if len(pools) < 2:
        return None
    count = 0
    while count < len(pools) and now_s - book.refused_at_s.get(pools[count].name, -_REFUSES_S) < _REFUSES_S:
        count += 1
    if not 0 < count < len(pools):
        return None
    refusing, following = pools[:count], pools[count]
    usual, price = [_usd_per_gpu(p) for p in refusing], _usd_per_gpu(following)
    if not price or not all(usual):
        return None
    times = price / min(one for one in usual if one)
    size = max(d.gpus_per_replica, 1)
    room = sum(((p.nodes_ready or 0) + (p.nodes_starting or 0)) * (p.gpus_per_node // size) for p in refusing)
    names = ", ".join(p.name for p in refusing)
    return PoolCost(room, times, names, following.name) if times > 1.0 else None


def _usd_per_gpu(pool: PoolView) -> float | None:
    return None if pool.price_usd_per_hour is None else pool.price_usd_per_hour / max(pool.gpus_per_node, 1)


def cap_by_cost(
    sizing: Sizing,
    book: RuleState,
    followed: Term,
    pool_cost: PoolCost,
    start_bins: float,
    bin_s: float,
    allowed_share: float,
) -> Term:
    """The followed rule's want; of dear replicas only as many as a miss is worth, among rules that meet the target.

    `start_bins`: cost of a start beside the bill, in bins of one replica; `allowed_share`: share of requests that may
    miss.
    """
    if followed.wants <= pool_cost.room or book.sizing.account.rule < 0:
        return followed
    if book.sizing.shadow.weights[SHORT] * bin_s < _RECORD_S:
        return followed
    price = book.sizing.account.price / pool_cost.times
    shadow = RuleSimulation(book.sizing.shadow, sizing.family, 1)
    record = shadow.record[SHORT]
    allowed_a_day = allowed_share * demand_a_day(book.sizing.shadow, SHORT, bin_s)
    missed = shadow.expected_misses(SHORT, 0.0) * book.sizing.account.believed(allowed_a_day, sizing.settings)
    bill = record[COST] + start_bins * record[STARTS] + price * missed
    within = missed <= allowed_share * book.sizing.shadow.demand_sums[SHORT]
    thrifty = int(np.argmin(np.where(within, bill, np.inf)))
    if not within[thrifty]:
        return followed
    wants = sizing.target(book.sizing, thrifty)
    if wants is None or wants >= followed.wants:
        return followed
    words = f"{pool_cost.refusing} refuses nodes and one of {pool_cost.pool} costs {pool_cost.times:.1f} times as much"
    name = sizing.family.names[thrifty]
    why = f"rule {name!r} is the cheapest at {price:.1f} replica-seconds for a missed one, since {words}"
    return Term(followed.name, max(wants, pool_cost.room), why)
