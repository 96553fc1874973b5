"""`dynamo_easy`: Dynamo's planner as users get it, with its static thresholds: one replica more or less at a time.

Re-stated from ai-dynamo/dynamo, core/load_scaling.py, optimisation targets `throughput` (the default) and `latency`.
Utilisation of an engine is its tokens in the KV cache, those of requests that wait for room in it and prompts that
wait, over what the cache holds. Engines report it after each of their steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from policies.base import DeploymentView, ReplicaProposal, Term
from policies.baselines.dynamo import EngineLoad, engine_loads
from policies.baselines.each import EachDeployment, bounded, mean_tokens, stays
from policies.options import among, between, option

Target = Literal["throughput", "latency"]
THRESHOLDS: dict[str, tuple[float, float]] = {"throughput": (1.0, 0.6), "latency": (0.4, 0.1)}
"""More when any engine is above the first, fewer when all are below the second."""


@dataclass(frozen=True, slots=True)
class DynamoEasyOptions:
    """Upstream's settings with its defaults; min and max replicas are the deployment's own."""

    optimization_target: Target = option("throughput", doc="which thresholds", search=among("throughput", "latency"))
    interval_s: float = option(5.0, low=1, high=3600, doc="how often it decides", search=between(5, 120, log=True))


@dataclass(slots=True)
class DynamoEasyState:
    """One entry per deployment; there is nothing to remember of it."""

    deployments: dict[str, None] = field(default_factory=dict)


def utilization(load: EngineLoad, prompt_tokens: float, kv_tokens: float) -> float:
    """Tokens held and waiting over tokens that fit; > 1 when requests wait at a full cache."""
    return (load.kv_tokens + load.waiting * prompt_tokens) / kv_tokens


def step(target: Target, utilizations: list[float], replicas: int) -> int:
    """One more, one fewer, or the same."""
    up, down = THRESHOLDS[target]
    if any(u > up for u in utilizations):
        return replicas + 1
    return replicas - 1 if replicas > 1 and all(u < down for u in utilizations) else replicas


class DynamoEasyPolicy(EachDeployment):
    """See the module. While replicas start or stop it only watches."""

    Options = DynamoEasyOptions
    name = "dynamo_easy"
    telemetry: str | None = "ideal"

    options: DynamoEasyOptions

    def __init__(self, options: DynamoEasyOptions) -> None:
        super().__init__(options)
        self.period_s: float | None = options.interval_s

    def new_state(self) -> DynamoEasyState:
        return DynamoEasyState()

    def new_memory(self) -> None:
        return None

    def decide(self, d: DeploymentView, present: int, running: int, memory: None, now_s: float) -> ReplicaProposal:
        """Unknown sizes or silent replicas change nothing."""
        tokens = mean_tokens(d)
        if d.profile is None or tokens is None:
            return stays(present, "the size of the KV cache or of a request is unknown")
        if running != present:
            return ReplicaProposal(present, (Term("scaling", present, f"{running} of {present} run: only watching"),))
        loads = engine_loads(d, d.profile)
        if len(loads) != running:
            return stays(present, f"{len(loads)} of {running} replicas report")
        utilizations = [utilization(load, tokens[0], d.profile.limits.kv_tokens) for load in loads]
        count = bounded(d, step(self.options.optimization_target, utilizations, present), lowest=1)
        why = f"utilisation {min(utilizations):.2f} to {max(utilizations):.2f}" if utilizations else "no engine"
        return ReplicaProposal(count, (Term("utilization", count, why),))
