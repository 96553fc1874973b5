"""From a world that has run to the figures of its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autoscaler.core.types.pools import CONTROLLER_DEFAULT, SCENARIO_DEFAULT
from policies.base import LeadPath, TokenMix
from policies.base.durations import Duration
from policies.capacity import capacity
from simulator.cluster.nodes import NodePool
from simulator.environment import Live
from simulator.kernel.outcomes import StartWindow, cold_starts
from simulator.result import DeploymentFigures, PoolFigures
from simulator.scenario.load import Deployment, Scenario


def deployment_figures(scenario: Scenario, one: Live) -> DeploymentFigures:
    """Everything that was measured of a deployment in the result's window."""
    end_s = scenario.duration_s
    outcomes, serve = one.outcomes, one.serve
    starts = serve.starts_so_far()
    windows = []
    for start in starts:
        lead_s = lead_p50_s(scenario, one.spec, start.path or "new_node")
        cut_off = start.ended_at_s is None
        to_s = end_s if start.ended_at_s is None else start.ended_at_s
        windows.append(StartWindow(start.asked_at_s - lead_s, to_s, cut_off or start.withdrawn))
    totals = one.plane.totals()
    completed = max(outcomes.counts[0], 1)
    mix = TokenMix(outcomes.prompt_tokens / completed, outcomes.output_tokens / completed)
    carries_rps = capacity(one.spec.profile, mix, one.spec.slo).rps if outcomes.counts[0] else None
    return DeploymentFigures(
        key=one.key,
        outcomes=outcomes,
        cold=cold_starts(windows, outcomes),
        starts=len(starts),
        scale_ups=serve.scale_ups,
        scale_downs=serve.scale_downs,
        allocated_gpu_s=serve.allocated.total(end_s),
        busy_gpu_s=totals.busy_s * one.spec.gpus,
        preemptions=totals.preemptions,
        recomputed_tokens=totals.recomputed_tokens,
        capacity_rps=carries_rps or None,
        gpus_per_replica=one.spec.gpus,
    )


def pool_figures(scenario: Scenario, pools: Mapping[str, NodePool]) -> tuple[PoolFigures, ...]:
    """What each pool held and cost in the result's window."""
    end_s = scenario.duration_s
    return tuple(
        PoolFigures(
            name=name,
            gpus_per_node=pool.spec.gpus_per_node,
            billed_node_s=pool.billed_nodes.total(end_s),
            cost_usd=pool.cost_usd(end_s),
            nodes_started=pool.started,
            nodes_prewarmed=len(pool.prewarmed),
            nodes_refused=pool.refused,
            nodes_preempted=pool.preempted,
            prewarm_wasted_node_s=pool.prewarm_wasted_node_s(end_s),
        )
        for name, pool in pools.items()
    )


def lead_p50_s(scenario: Scenario, d: Deployment, path: LeadPath) -> float:
    """The median time from asking for a replica to RUNNING on a path: the stages' true medians in its first pool."""
    pool = next(p for p in scenario.pools if p.name == d.block.pools[0])
    stages: list[Duration] = [d.load_s, d.init_s]
    if path != "free_gpu":
        stages += [pool.image_pull_s, pool.worker.start_s]
    if path == "new_node":
        stages.append(pool.provision_s)
    return sum(s.median_s for s in stages)


def prewarm_notes(scenario: Scenario, pools: Sequence[PoolFigures]) -> tuple[str, ...]:
    """Names pools whose nodes were started ahead of need by a scenario's default, which is no controller's."""
    silent = {p.name for p in scenario.pools if "prewarm" not in p.model_fields_set}
    names = [p.name for p in pools if p.name in silent and p.nodes_prewarmed]
    if not names:
        return ()
    return (
        f"pool{'s' if len(names) > 1 else ''} {', '.join(names)}: without `prewarm`, so simulated with "
        f"{SCENARIO_DEFAULT}, and nodes were started ahead of need; a controller's default is {CONTROLLER_DEFAULT}",
    )
