"""What the gauges of an engine say when they are not there. Pure.

vLLM writes its gauges after a step, and Ray's page forgets what is not written again within some 20 s: an idle engine
has none, and a page that says nothing of an engine is no page that says nothing runs. So absent stays unknown, but for
one case: Serve itself says that the replica has no request. See docs/decisions/0008-vllm-under-ray-serve.md.
"""

from __future__ import annotations

from autoscaler.core.types import DeploymentMetrics
from policies.base import ReplicaMetrics


def engine_gauges(metrics: DeploymentMetrics) -> tuple[ReplicaMetrics, ...]:
    """The replicas' gauges, with those of an engine that is idle as Serve counts: nothing runs, waits or is cached.

    Only where engines of the deployment count tokens: what has no engine metrics at all is no idle engine.
    """
    if not metrics.prompt_tokens_total:
        return metrics.replicas
    for one in metrics.replicas:
        if _vanished(one):
            break
    else:
        return metrics.replicas
    return tuple(_idle(one) if _vanished(one) and one.ongoing == 0.0 else one for one in metrics.replicas)


def _vanished(one: ReplicaMetrics) -> bool:
    return one.running is None and one.waiting is None and one.kv_usage_fraction is None


def _idle(one: ReplicaMetrics) -> ReplicaMetrics:
    return ReplicaMetrics(one.replica_id, one.ongoing, 0.0, 0.0, 0.0)
