"""The result of `oracle`: a bill that was computed, in the form of a run that never was.

The bound counts in nodes of its group's smallest size; the books, like everybody's, count nodes that can be bought: the
fewest that have so many GPUs, all of the largest size. Its requests are those of the scenario, within the SLO but for
the misses that the cheapest plan leaves; there are no latencies, since nothing was served. The timeline shows the nodes
that the bound pays for.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

import numpy as np

from policies.base import TokenMix
from policies.base.knowledge import KnownDeployment, KnownPool, KnownWorld
from policies.references.oracle import OraclePolicy, PoolBound
from policies.references.oracle_need import best_capacity
from simulator.experiments.references.known import known_world
from simulator.kernel.outcomes import ColdStarts, Outcomes
from simulator.result import DeploymentFigures, PoolFigures, Result
from simulator.scenario.load import Scenario
from simulator.timeline import Row, Sink

NOTE = "oracle: a lower bound of the bill, computed and not simulated; no latencies"


def bound_result(scenario: Scenario, policy: OraclePolicy, timeline: Sink | None, notes: tuple[str, ...]) -> Result:
    """The bound as a result. Needs a policy that was given the workload."""
    started = time.perf_counter()
    world = known_world(scenario)
    pools = {p.name: p for p in world.pools}
    deployments, costs = [], []
    for (members, _), bound in zip(world.groups(), policy.bounds, strict=True):
        # which deployment missed is unknown: each gets the share of the misses that it has of the allowed ones
        may_miss = {d.key: world.budget(d) for d in members}
        total = sum(may_miss.values()) or 1.0
        deployments += [_figures(world, d, bound.misses * may_miss[d.key] / total) for d in members]
        costs += _pools(bound, pools)
    if timeline is not None:
        _write(scenario, world, policy.bounds, timeline)
    order = {d.key: i for i, d in enumerate(world.deployments)}
    return Result(
        scenario=scenario.name,
        policy=policy.name,
        policy_options={},
        clairvoyant=True,
        seed=scenario.file.seed,
        duration_s=scenario.duration_s,
        window_s=scenario.duration_s - scenario.file.warmup_s,
        deployments=tuple(sorted(deployments, key=lambda f: order[f.key])),
        pools=tuple(costs),
        guards=Counter(),
        wall_s=time.perf_counter() - started,
        notes=(*notes, NOTE),
        reaches_target=all(b.misses <= b.allowed_misses + 1e-6 for b in policy.bounds),
    )


def _figures(world: KnownWorld, d: KnownDeployment, misses: float) -> DeploymentFigures:
    t = d.traffic
    counted = t.arrival_s >= world.begin_s
    requests = int(counted.sum())
    outcomes = Outcomes(d.slo, world.begin_s, world.end_s)
    missed = min(requests, int(misses + 1e-6))
    outcomes.counts[0] = requests
    outcomes.within_slo = requests - missed
    outcomes.prompt_tokens = int(t.prompt_tokens[counted].sum())
    outcomes.output_tokens = int(t.output_tokens[counted].sum())
    mean = TokenMix(outcomes.prompt_tokens / max(requests, 1), outcomes.output_tokens / max(requests, 1))
    return DeploymentFigures(
        key=d.key,
        outcomes=outcomes,
        cold=ColdStarts(0, 0, 0, 0, 0.0),
        starts=0,
        scale_ups=0,
        scale_downs=0,
        allocated_gpu_s=0.0,
        busy_gpu_s=0.0,
        preemptions=0,
        recomputed_tokens=0,
        capacity_rps=best_capacity(d.profile, mean, d.slo).rps if requests else None,
        gpus_per_replica=d.gpus,
    )


def _pools(bound: PoolBound, pools: dict[str, KnownPool]) -> list[PoolFigures]:
    """The group's bill, written to its first pool."""
    first = pools[bound.pools[0]]
    smallest, largest = _sizes(bound, pools)
    return [
        PoolFigures(
            name=name,
            gpus_per_node=largest,
            billed_node_s=bound.node_s * smallest / largest if name == first.name else 0.0,
            cost_usd=bound.cost_usd if name == first.name else 0.0,
            nodes_started=bound.starts * smallest // largest if name == first.name else 0,
            nodes_prewarmed=0,
            prewarm_wasted_node_s=0.0,
        )
        for name in bound.pools
    ]


def _sizes(bound: PoolBound, pools: Mapping[str, KnownPool]) -> tuple[int, int]:
    """GPUs of the group's smallest node, and of its largest."""
    gpus = [pools[name].gpus_per_node for name in bound.pools]
    return min(gpus), max(gpus)


def _write(scenario: Scenario, world: KnownWorld, bounds: list[PoolBound], timeline: Sink) -> None:
    """A row for each tick and deployment, as a run has them; replicas are what the nodes of its group hold."""
    tick_s = scenario.file.tick_s
    ends_s = [min((i + 1) * tick_s, world.end_s) for i in range(int(np.ceil(world.end_s / tick_s - 1e-9)))]
    group_of = {d.key: bound for (members, _), bound in zip(world.groups(), bounds, strict=True) for d in members}
    counts = {
        d.key: np.histogram(d.traffic.arrival_s, bins=np.concatenate(([0.0], ends_s)))[0] for d in world.deployments
    }
    sizes = {d.key: _sizes(group_of[d.key], {p.name: p for p in world.pools}) for d in world.deployments}
    for i, end_s in enumerate(ends_s):
        for d in world.deployments:
            smallest, largest = sizes[d.key]
            nodes = group_of[d.key].nodes_at(end_s - tick_s / 2)
            replicas = nodes * (smallest // d.gpus) or nodes * smallest // d.gpus
            real = -(-nodes * smallest // largest)
            timeline.write(_row(end_s, str(d.key), float(counts[d.key][i]) / tick_s, real, replicas))


def _row(time_s: float, key: str, arrivals_rps: float, nodes: int, replicas: int) -> Row:
    return Row(
        time_s=time_s,
        deployment=key,
        arrivals_rps=arrivals_rps,
        forecast_q50_rps=None,
        forecast_q90_rps=None,
        forecast_q95_rps=None,
        forecast_q99_rps=None,
        target=replicas,
        running=replicas,
        starting=0,
        draining=0,
        waiting=0,
        ongoing=0,
        kv_usage_fraction=None,
        nodes_ready=nodes,
        nodes_starting=0,
        nodes_prewarmed=0,
        ttft_p99_s=None,
        slo_misses=0,
        cost_usd=None,
    )
