"""The policy of `leadtime standby`: while the controller is silent, raise levels to carry what is in flight.

It uses no forecast and remembers nothing, so it has nothing that can be wrong after hours of waiting. It never
lowers a level: a controller that returns lowers them again, with everything it knows. Not a rival for `compare` and
not in the registry of policies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from policies.base import UNBOUNDED_SLOTS, DeploymentView, FleetProposal, FleetView, ReplicaProposal, Term
from policies.baselines.each import in_system
from policies.plugin import PolicyPlugin

FILL_FRACTION = 0.7
"""Share of what a replica can hold in flight that is planned for: the rest is room while the next one starts."""
_ASSUMED_SLOTS = 64
"""Requests in flight that fill a replica where neither a profile nor max_ongoing_requests limits them."""

Released = Callable[[DeploymentView, float], str | None]
"""Why the controller does not look after a deployment now; None while it does."""


class StandbyPolicy(PolicyPlugin):
    """Proposes a level for each deployment that `released` gives a reason for, and leaves all others alone."""

    name = "standby"

    def __init__(self, released: Released) -> None:
        super().__init__()
        self._released = released

    def propose(self, fleet: FleetView, state: Any, now_s: float) -> FleetProposal:
        """Levels at or above those in force."""
        replicas = {}
        for d in fleet.deployments:
            why = self._released(d, now_s)
            if why is not None and d.target is not None:
                replicas[d.key] = _raised(d, d.target, why)
        return FleetProposal(replicas)


def _raised(d: DeploymentView, target: int, why: str) -> ReplicaProposal:
    wanted, words = needed(d)
    if wanted > target:
        return ReplicaProposal(wanted, (Term("standby", wanted, f"{why}; {words}"),))
    return ReplicaProposal(target, (Term("standby", target, f"{why}; {words}; a standby lowers nothing"),))


def needed(d: DeploymentView) -> tuple[int, str]:
    """Replicas that carry what is in flight and what arrives, by whichever of the two is known and asks for more."""
    options: list[tuple[int, str]] = []
    requests, slots = in_system(d), _slots(d)
    if requests is None and d.waiting:
        requests = d.waiting
    if requests is not None:
        count = math.ceil(requests / (FILL_FRACTION * slots) - 1e-9)
        options.append((count, f"{requests:.0f} requests in flight need {count} at {FILL_FRACTION * slots:.3g} each"))
    if d.rate_rps is not None and d.capacity_rps:
        count = math.ceil(d.rate_rps / (FILL_FRACTION * d.capacity_rps) - 1e-9)
        options.append((count, f"{d.rate_rps:.3g} req/s need {count} at {FILL_FRACTION * d.capacity_rps:.3g} each"))
    return max(options, default=(0, "neither requests in flight nor arrivals are known"))


def _slots(d: DeploymentView) -> float:
    """Requests in flight that fill one replica."""
    bound = d.max_ongoing_requests
    slots = float(bound) if bound is not None and bound < UNBOUNDED_SLOTS else float(_ASSUMED_SLOTS)
    return min(slots, d.capacity_batch) if d.capacity_batch else slots
