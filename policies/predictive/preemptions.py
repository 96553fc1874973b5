"""Nodes that are taken away with replicas on them: how many more replicas that takes, and what a replica costs with
them.

A replacement takes a new node's lead time. So the mean number of missing replicas is the exposed ones, times the rate
of losses per node, times the lead time. The margin over the followed rule is the least number for which more than it
are missing at most for the share that may miss: a miss is worth one over that share. The rules' own price does not
include losses. Room that today's demand leaves is subtracted, and there is no margin while users miss much less than
they may. The margin is zero until a node was taken away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from policies.base import DeploymentView, PoolView, Term, whole_up
from policies.predictive.context import FleetContext, SizingContext
from policies.predictive.pools import replicas_on

_LEAST_PER_HOUR = 1e-4
"""Losses per node-hour below once a year count as none."""
_BEARABLE = 0.5, 0.25
"""Fraction of the allowed misses: a margin begins above the first and ends below the second."""
_DEAR_S = 6 * 3600.0
"""Time (s) after a pool refused without a margin, if another pool follows: it would be bought there and stay."""
_MOST_LOST = 0.5
"""Fraction of the allowed misses: if more requests die with their node, the pool should not be named first."""
_STICKS, _TREMBLES = 1.5, 0.5
"""A margin is removed only if it is not wanted either for a share this much smaller or with this much less room:
effective demand fluctuates.
"""
_FULL = 0.88
"""Share of a replica's capacity above which requests arrive faster than they end (rules/simulate.py)."""


@dataclass(frozen=True, slots=True)
class Exposed:
    """Replicas on nodes of pools that lose nodes."""

    replicas: int
    missing: float
    """Mean number of replicas that are being replaced."""
    at_once: float
    """Mean number of replicas that one event takes."""
    pools: tuple[PoolView, ...]

    def beyond(self, count: float) -> float:
        """Probability that more than `count` replicas are missing at a time."""
        return max(0.0, 1.0 - math.fsum(self._chances(count)))

    def _chances(self, count: float) -> list[float]:
        """Poisson probabilities of 0..k simultaneous events, each taking `at_once` replicas, up to `count` replicas
        together.
        """
        events = self.missing / self.at_once
        chances = [math.exp(-events)] if count >= 0.0 else []
        for k in range(1, math.floor(max(count, 0.0) / self.at_once) + 1):
            chances.append(chances[-1] * events / k)
        return chances


def takes_away(pool: PoolView) -> bool:
    return pool.taken_per_node_hour > _LEAST_PER_HOUR


def exposed(d: DeploymentView, pools: Sequence[PoolView], replicas: int, lead_s: float) -> Exposed | None:
    """The part of `replicas` on nodes that may be taken away; None: none. `pools`: in order of preference.

    Which nodes hold them is unknown: existing nodes are filled in the order of the list, the rest goes to the first
    pool that may grow.
    """
    left, missing, count, at_once = replicas, 0.0, 0, 1.0
    size = max(d.gpus_per_replica, 1)
    held = []
    for pool in pools:
        there = min(left, replicas_on((pool.nodes_ready or 0) + (pool.nodes_starting or 0), pool.gpus_per_node, size))
        held.append(there)
        left -= there
    if left and pools:
        grows = next((i for i, pool in enumerate(pools) if not pool.refused), len(pools) - 1)
        held[grows] += left
    risky = []
    for pool, there in zip(pools, held, strict=True):
        if there and takes_away(pool):
            risky.append(pool)
            count += there
            go, nodes = max(1, pool.gpus_per_node // size), 1
            if d.gang_size > 1:  # a gang goes with any of the nodes that its members are on
                go, nodes = whole_up(go, d.gang_size), max(1, -(-d.gang_size * size // pool.gpus_per_node))
            missing += there * nodes * pool.taken_per_node_hour * lead_s / 3600.0
            at_once = max(at_once, pool.taken_at_once * min(there, go))
    return Exposed(count, missing, at_once, tuple(risky)) if risky else None


def margin(found: Exposed, room: float, share: float) -> int:
    """Margin: the least number for which more than it are missing for at most this share of the time.

    `room`: replicas that today's demand leaves free. Never more than are exposed.
    """
    count = 0
    while count < found.replicas and found.beyond(room + count) > share:
        count += 1
    return count


@dataclass(frozen=True, slots=True)
class Stake:
    """Inputs. Replicas: `wants` of the followed rule, `effective` demand of now. Seconds: `lead_s` until a replacement
    serves, `stays_s` of a request, which is lost with its replica. `allowed_share` of requests may miss.
    """

    wants: int
    effective: float
    lead_s: float
    stays_s: float
    allowed_share: float

    @property
    def room(self) -> float:
        """Replicas that today's demand leaves free."""
        return max(0.0, self.wants - self.effective / _FULL)


def taken_away(context: SizingContext, fleet_context: FleetContext, followed: Term) -> tuple[Term | None, Term | None]:
    """Terms for more replicas than the followed rule wants, and for their cost. Updates the memory."""
    d, book = context.situation.view, context.book
    pools = [fleet_context.pools[name] for name in d.node_pools if name in fleet_context.pools]
    allowed_share = 1.0 - d.slo.target_fraction
    stake = Stake(followed.wants, book.smooth or 0.0, context.start.mean_s, context.stays_s(), allowed_share)
    account = book.sizing.account
    bearable = account.missed <= (_BEARABLE[1] if book.margin else _BEARABLE[0]) * allowed_share * account.seen
    now_s, refused_at_s = context.situation.now_s, book.refused_at_s
    pool_cost = any(now_s - refused_at_s[pool.name] < _DEAR_S for pool in pools[:-1] if pool.name in refused_at_s)
    more = None if bearable or pool_cost else margin_term(d, pools, stake, book.margin)
    book.margin = 0 if more is None else more.wants - followed.wants
    return more, losses_term(d, pools, stake)


def margin_term(d: DeploymentView, pools: Sequence[PoolView], stake: Stake, before: int) -> Term | None:
    """The followed rule's want plus a margin; None: no margin. `before`: the margin at the last tick."""
    found = exposed(d, pools, stake.wants, stake.lead_s)
    if found is None:
        return None
    count = margin(found, stake.room, stake.allowed_share)
    if count < before:
        count = min(before, margin(found, max(0.0, stake.room - _TREMBLES), stake.allowed_share / _STICKS))
    if any(pool.refused for pool in found.pools):
        count = min(before, count)  # one more would come from a dear pool
    count = min(count, d.max_replicas - stake.wants)
    if count <= 0:
        return None
    words = ", ".join(
        f"a node of {p.name} is taken away {p.taken_per_node_hour:.2g} times an hour" for p in found.pools
    )
    why = f"{count} more than the rule: {words}; a replacement serves after {stake.lead_s:.0f} s"
    missing = f"of {found.replicas} replicas {found.missing:.2f} are missing on average"
    return Term("losses", stake.wants + count, f"{why}, {missing}")


def losses_term(d: DeploymentView, pools: Sequence[PoolView], stake: Stake) -> Term | None:
    """Text: cost of a replica of the first pool with its margin, and of the next pool; None: nothing to compare.

    The term wants no replicas: leadtime does not choose the pool of the next node.
    """
    if len(pools) < 2 or not takes_away(pools[0]) or not stake.wants:
        return None
    first, following = pools[:2]
    own, other = (_usd_per_hour(d, pool, stake) for pool in (first, following))
    if own is None or other is None:
        return None
    lost = first.taken_per_node_hour * stake.stays_s / 3600.0
    words = (
        f"with its margin a replica of {first.name} costs {own:.2f} USD an hour, one of {following.name} {other:.2f}"
    )
    share = f"{lost:.2%} of the requests are lost with their nodes, {stake.allowed_share:.2%} may miss"
    better = own > other or lost > _MOST_LOST * stake.allowed_share
    return Term("risk", stake.wants, f"{words}; {share}{f': name {following.name} first' if better else ''}")


def _usd_per_hour(d: DeploymentView, pool: PoolView, stake: Stake) -> float | None:
    """Cost of a replica by the GPUs that it holds, with its part of the margin if all replicas were on this pool."""
    if pool.price_usd_per_hour is None:
        return None
    alone = exposed(d, [pool], stake.wants, stake.lead_s)
    more = 0 if alone is None else margin(alone, stake.room, stake.allowed_share)
    bill = pool.price_usd_per_hour * max(d.gpus_per_replica, 1) / max(pool.gpus_per_node, 1)
    return bill * (1.0 + more / stake.wants)
