"""What a scenario knows of the future and of the past, in the words of the policies that may know it.

The future is for references that are marked as clairvoyant; the past (`history`) for policies that are sized by it.
Makes plain data; runs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from policies.base import PolicyError, TokenMix, whole_down, whole_up
from policies.base.durations import Duration
from policies.base.knowledge import KnownDeployment, KnownPool, KnownWorld, PastDemand, Traffic
from policies.capacity import capacity
from simulator.environment import arrivals_of
from simulator.scenario.fleet import NodePoolBlock
from simulator.scenario.load import Deployment, Scenario
from simulator.workload.history import history_bins
from simulator.workload.traces import RateTrace, RequestTrace

PAST_BIN_S = 60.0
_CLOSED_FROM_FRACTION = 0.5
"""A stock-out that refuses at least this share counts as closed for a plan made ahead."""


def known_world(scenario: Scenario) -> KnownWorld:
    """Every request to come, and the cluster as it is."""
    return KnownWorld(
        begin_s=scenario.file.warmup_s,
        end_s=scenario.duration_s,
        deployments=tuple(_deployment(scenario, d) for d in scenario.deployments),
        pools=tuple(_pool(scenario, p) for p in scenario.pools),
    )


def traffic_of(scenario: Scenario, d: Deployment) -> Traffic:
    """All requests of a deployment."""
    r = arrivals_of(d, scenario.duration_s, scenario.file.seed).take(math.inf)
    return Traffic(r.arrival_s, r.prompt_tokens, r.output_tokens, r.cached_prompt_tokens)


def _deployment(scenario: Scenario, d: Deployment) -> KnownDeployment:
    replicas = d.block.replicas
    return KnownDeployment(
        key=d.key,
        traffic=traffic_of(scenario, d),
        profile=d.profile,
        slo=d.slo,
        gpus=d.gpus,
        pools=d.block.pools,
        min_replicas=whole_up(replicas.min, d.block.gang_size),
        max_replicas=whole_down(replicas.max, d.block.gang_size),
        initial_replicas=d.initial,
        start_s=Duration.total([d.load_s, d.init_s]),
    )


def _pool(scenario: Scenario, p: NodePoolBlock) -> KnownPool:
    worker_gpus = p.worker.gpus if p.worker.gpus is not None else p.gpus_per_node
    # What is asked for reaches the cloud at the next tick, and then at the autoscaler's next look.
    notice_s = scenario.file.tick_s + p.worker.autoscaler_period_s + 1.0
    return KnownPool(
        name=p.name,
        gpus_per_node=p.gpus_per_node,
        worker_gpus=worker_gpus,
        floor_nodes=max(p.nodes.min, p.nodes.reserved),
        initial_nodes=max(_initial_nodes(scenario, p), p.nodes.min),
        max_nodes=p.nodes.max,
        node_s=Duration.total([p.provision_s, p.image_pull_s, p.worker.start_s]),
        linger_s=p.worker.idle_timeout_s + p.scale_down_after_s,
        price_usd_per_hour=scenario.node_price_usd_per_hour(p),
        spot=p.preemption_per_node_hour > 0,
        closed=tuple((s.start_s - notice_s, s.end_s) for s in p.stockouts if s.fraction >= _CLOSED_FROM_FRACTION),
    )


def _initial_nodes(scenario: Scenario, p: NodePoolBlock) -> int:
    """As written, but at least what the initial replicas that prefer this pool fill."""
    own = [d for d in scenario.deployments if d.block.pools[0] == p.name]
    gpus = sum(d.initial * d.gpus for d in own)
    return max(p.nodes.initial or 0, -(-gpus // p.gpus_per_node))


# ---------------------------------------------------------------- the past


def lacks_history(scenario: Scenario) -> list[str]:
    """Keys of deployments whose past is not known."""
    return [str(d.key) for d in scenario.deployments if d.history is None or not _bins(scenario, d)[0]]


def past_demand(scenario: Scenario, policy: str) -> dict[str, PastDemand]:
    """The past of every deployment, by key. Errors: PolicyError naming the deployment that has none."""
    missing = lacks_history(scenario)
    if missing:
        raise PolicyError(
            f"policy {policy}: without options it is derived from history, and {missing[0]} has none in "
            f"{scenario.source}; allowed: a history of the deployment, or options"
        )
    return {str(d.key): _past(scenario, d) for d in scenario.deployments}


def _bins(scenario: Scenario, d: Deployment) -> tuple[Sequence[float], Sequence[float]]:
    return history_bins(d, PAST_BIN_S, scenario.file.seed) if d.history is not None else ([], [])


def _past(scenario: Scenario, d: Deployment) -> PastDemand:
    ends_s, rates_rps = _bins(scenario, d)
    carries_rps = capacity(d.profile, past_mix(d), d.slo).rps
    if carries_rps <= 0:
        raise PolicyError(f"{d.key}: a replica of {d.profile.name} meets its SLO for no request at all")
    return PastDemand(tuple(ends_s), tuple(rates_rps), PAST_BIN_S, carries_rps)


def past_mix(d: Deployment) -> TokenMix:
    """Mean lengths of the past's requests; where history has none, of the workload's stated lengths."""
    history = d.history
    if isinstance(history, RequestTrace):
        cached = history.cached_prompt_tokens
        return TokenMix(
            float(history.prompt_tokens.mean()),
            float(history.output_tokens.mean()),
            0.0 if cached is None else float(cached.mean()),
        )
    means = []
    for name, stated in (("prompt_tokens", d.prompt_tokens), ("output_tokens", d.output_tokens)):
        column = getattr(history, name) if isinstance(history, RateTrace) else None
        if column is not None:
            rps = history.rps  # type: ignore[union-attr]
            means.append(float(np.average(column, weights=rps)) if rps.sum() > 0 else float(column.mean()))
        else:
            assert stated is not None  # the scenario refuses lengths that are given nowhere
            means.append(stated.mean_s)
    return TokenMix(*means)
