"""A GPU budget across deployments: guarantees first, then priority classes, then weighted max-min inside a class.

Pure: wants in, grants out. What a deployment already holds is taken back only as far as others' guarantees and
priorities need it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


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


def share(claims: Sequence[Claim], budget_gpus: int) -> dict[str, int]:
    """Replicas granted to each claim: never more than it wants, never more GPUs in all than the budget.

    Order: guarantees (up to each want), then higher priority before lower, and within a priority weighted max-min:
    the next replica goes to whoever holds the least per weight and still wants one that fits.
    """
    granted = {c.name: 0 for c in claims}
    left = budget_gpus
    for floor in ("guarantee", "minimum"):
        for claim in sorted(claims, key=lambda c: (-c.priority, c.name)):
            replicas = claim.minimum if floor == "minimum" else claim.guaranteed_gpus // claim.gpus_per_replica
            more = min(min(claim.wants, replicas) - granted[claim.name], left // claim.gpus_per_replica)
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
    free = budget_gpus - sum((c.holds + c.draining) * c.gpus_per_replica for c in claims)

    def first(claim: Claim) -> tuple[bool, int, str]:
        return claim.holds * claim.gpus_per_replica >= claim.guaranteed_gpus, -claim.priority, claim.name

    for claim in sorted(claims, key=first):
        wanted = granted[claim.name] - claim.holds
        if wanted <= 0:
            continue
        more = min(wanted, max(free, 0) // claim.gpus_per_replica)
        paced_grants[claim.name] = claim.holds + more
        free -= more * claim.gpus_per_replica
    return paced_grants


def _max_min(claims: Sequence[Claim], granted: dict[str, int], left: int) -> int:
    while True:
        open_claims = [c for c in claims if granted[c.name] < c.wants and c.gpus_per_replica <= left]
        if not open_claims:
            return left
        poorest = min(open_claims, key=lambda c: (granted[c.name] * c.gpus_per_replica / c.weight, c.name))
        granted[poorest.name] += 1
        left -= poorest.gpus_per_replica
