"""A GPU budget across deployments: guarantees first, then priority classes, then weighted max-min inside a class.

Pure: wants in, grants out. What a deployment already holds is taken back only as far as others' guarantees and
priorities need it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace


@dataclass(frozen=True, slots=True)
class Claim:
    """What one deployment wants, in replicas, and what it may insist on."""

    name: str
    wants: int
    gpus_per_replica: int
    minimum: int = 0
    guaranteed_gpus: int = 0
    priority: int = 0
    weight: float = 1.0
    holds: int = 0
    """Replicas that run or start."""
    draining: int = 0
    """Replicas that were given up and still hold their GPUs."""
    allowance: int | None = None
    """Most replicas, draining ones included, that it may be in others' way with; None: as many as it says it has."""
    entry: str = ""
    """Claims of one entry share its guarantee; "" = it has its own."""

    @property
    def in_the_way(self) -> int:
        """Replicas that others have to wait for: what is claimed beyond every grant is not believed for long."""
        claimed = self.holds + self.draining
        return claimed if self.allowance is None else min(claimed, self.allowance)


def share(claims: Sequence[Claim], budget_gpus: int) -> dict[str, int]:
    """Replicas granted to each claim: never more than it wants, never more GPUs in all than the budget.

    Order: guarantees (up to each want), then minima, then higher priority before lower, and within a priority weighted
    max-min: the next replica goes to whoever holds the least per weight and still wants one that fits.
    """
    granted = _guaranteed(claims, budget_gpus)
    left = budget_gpus - sum(granted[c.name] * c.gpus_per_replica for c in claims)
    for claim in _by_priority(claims):
        more = min(min(claim.wants, claim.minimum) - granted[claim.name], left // claim.gpus_per_replica)
        if more > 0:
            granted[claim.name] += more
            left -= more * claim.gpus_per_replica
    for priority in sorted({c.priority for c in claims}, reverse=True):
        left = _max_min([c for c in claims if c.priority == priority], granted, left)
    return granted


def paced(claims: Sequence[Claim], granted: Mapping[str, int], budget_gpus: int) -> dict[str, int]:
    """The grants, growing only into GPUs that nobody holds any more: what was lent comes back as replicas drain.

    Who is below its guarantee grows first, then by priority; what a claim holds is never touched here.
    """
    paced_grants = dict(granted)
    guaranteed = _guaranteed(claims, budget_gpus)
    free = budget_gpus - sum(c.in_the_way * c.gpus_per_replica for c in claims)

    def first(claim: Claim) -> tuple[bool, int, str]:
        return claim.holds >= guaranteed[claim.name], -claim.priority, claim.name

    for claim in sorted(claims, key=first):
        wanted = granted[claim.name] - claim.holds
        if wanted <= 0:
            continue
        more = min(wanted, max(free, 0) // claim.gpus_per_replica)
        paced_grants[claim.name] = claim.holds + more
        free -= more * claim.gpus_per_replica
    return paced_grants


def _guaranteed(claims: Sequence[Claim], budget_gpus: int) -> dict[str, int]:
    """The replicas of each claim that its guarantee pays for, as far as it wants them."""
    granted = {c.name: 0 for c in claims}
    left, of_entry = budget_gpus, {c.entry: c.guaranteed_gpus for c in claims if c.entry}
    for claim in _by_priority(claims):
        own = of_entry[claim.entry] if claim.entry else claim.guaranteed_gpus
        replicas = min(claim.wants, min(own, left) // claim.gpus_per_replica)
        if replicas > 0:
            granted[claim.name] = replicas
            left -= replicas * claim.gpus_per_replica
            if claim.entry:
                of_entry[claim.entry] -= replicas * claim.gpus_per_replica
    return granted


def _by_priority(claims: Sequence[Claim]) -> list[Claim]:
    return sorted(claims, key=lambda c: (-c.priority, c.name))


def _max_min(claims: Sequence[Claim], granted: dict[str, int], left: int) -> int:
    """One replica after the other to the poorest; who wants no more, or one that does not fit any more, is done."""
    by_name = {c.name: c for c in claims}
    poorest = [(granted[c.name] * c.gpus_per_replica / c.weight, c.name) for c in claims if granted[c.name] < c.wants]
    heapify(poorest)
    while poorest and left > 0:
        name = poorest[0][1]
        claim = by_name[name]
        if claim.gpus_per_replica > left:
            heappop(poorest)
            continue
        granted[name] += 1
        left -= claim.gpus_per_replica
        if granted[name] < claim.wants:
            heapreplace(poorest, (granted[name] * claim.gpus_per_replica / claim.weight, name))
        else:
            heappop(poorest)
    return left
