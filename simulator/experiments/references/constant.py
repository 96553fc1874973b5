"""Constant fleets: the smallest that reaches the target on a workload, and the policy that keeps it.

Finding it needs the whole traffic, so a result with it is marked clairvoyant. A constant fleet is complete from time 0
on. Each deployment is searched alone (a constant fleet shares no engine with anybody), by bisection, in whole gangs:
more replicas never serve a workload worse, but for luck in routing.
"""

from __future__ import annotations

import math

from policies.base import whole_up
from simulator.dataplane.deployment import Plane
from simulator.environment import arrivals_of, tail_s
from simulator.kernel.outcomes import Outcomes
from simulator.scenario.load import Deployment, Scenario

_FEED_S = 600.0


def smallest_constant_fleet(scenario: Scenario) -> dict[str, int]:
    """By key, the smallest fleet that reaches each deployment's target; a deployment that none can: its maximum."""
    return {str(d.key): _smallest(scenario, d) for d in scenario.deployments}


def _smallest(scenario: Scenario, d: Deployment) -> int:
    arrival_s = arrivals_of(d, scenario.duration_s, scenario.file.seed).take(math.inf).arrival_s
    requests = int((arrival_s >= scenario.file.warmup_s).sum())
    may_miss = (1.0 - d.slo.target_fraction) * requests + 1.0
    size = d.block.gang_size
    low, high = whole_up(d.block.replicas.min, size) // size, d.block.replicas.max // size
    while low < high:
        middle = (low + high) // 2
        attained = attained_by(scenario, d, middle * size, may_miss)
        if attained is None or attained >= d.slo.target_fraction:
            high = middle
        else:
            low = middle + 1
    return low * size


def attained_by(scenario: Scenario, d: Deployment, replicas: int, may_miss: float = math.inf) -> float | None:
    """Share of a deployment's requests within the SLO with a constant number of replicas; None without requests.

    As soon as more than `may_miss` were missed it is 0.0: fleets that are too small are the slow ones.
    """
    duration_s = scenario.duration_s
    plane = Plane(
        d.profile,
        max_ongoing_requests=d.block.max_ongoing_requests,
        request_timeout_s=d.block.request_timeout_s,
        seed=scenario.file.seed,
        name=d.key.full,
        since_s=0.0,
    )
    for number in range(replicas):
        plane.add_replica(f"constant-{number}", 0.0)
    outcomes = Outcomes(d.slo, scenario.file.warmup_s, duration_s)
    arrivals = arrivals_of(d, duration_s, scenario.file.seed)
    now_s = 0.0
    while now_s < duration_s:
        now_s = min(now_s + _FEED_S, duration_s)
        coming = arrivals.take(now_s)
        if len(coming):
            plane.feed(coming)
        plane.advance(now_s)
        outcomes.add(plane.take_ended())
        if outcomes.requests - outcomes.within_slo > may_miss:
            return 0.0
    plane.advance(duration_s + tail_s(d))
    outcomes.add(plane.take_ended())
    outcomes.add(plane.take_unfinished())
    return outcomes.attainment_fraction
