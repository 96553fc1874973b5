"""Engines of which pages tell only in part.

vLLM writes its gauges after a step, and Ray's page forgets what is not written again within some 20 s: an idle engine
has none, and a page that says nothing of an engine is no page that says nothing runs. So absent stays unknown, but for
one case: Serve itself says that the replica has no request (`engine_gauges`; decision 0008).

A request's tokens are what engines counted over how many requests they ended. Where an engine's prompts are on no
page, or hold no number, while its ended requests are counted, requests without tokens would enter the mix; the other
way round tokens without requests. So an engine counts for the mix with all of its counters or not at all
(`told_in_part`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from autoscaler.core.state import CounterMemory, DemandMemory
from autoscaler.core.types import DeploymentMetrics
from policies.base import ReplicaMetrics

T = TypeVar("T")
_NONE: frozenset[str] = frozenset()


def engine_of(series: str) -> str:
    """The engine that a series is of; ends of requests are counted by reason (`<engine>/<reason>`)."""
    return series.partition("/")[0]


def told_in_part(memory: DemandMemory, metrics: DeploymentMetrics) -> frozenset[str]:
    """Engines that lack a counter which they had, or whose counter is not to be believed, and have another.

    An engine that is on no page at all is not among them, nor is one that has not ended a request yet.
    """
    counters = (
        (memory.prompt_tokens, metrics.prompt_tokens_total),
        (memory.output_tokens, metrics.output_tokens_total),
        (memory.cached_tokens, metrics.cached_tokens_total),
        (memory.finished, metrics.finished_total),
    )
    ttft, series_of_ttft = metrics.ttft, memory.ttft.series
    # A histogram is remembered by two series: what was within the limit, and all.
    if len(series_of_ttft) <= 2 * len(ttft):
        for counter, current in counters:
            if counter.odd_at_s is not None or not current.keys() >= counter.series.keys():
                break
        else:
            return _NONE
    there = {engine_of(series) for _, current in counters for series in current} | ttft.keys()
    lost = {series[:-1] for series in series_of_ttft} - ttft.keys()
    for counter, current in counters:
        lost |= {engine_of(series) for series in counter.series if not _told(counter, current, series)}
    return frozenset(lost & there)


def _told(counter: CounterMemory, current: Mapping[str, float], series: str) -> bool:
    return series not in counter.fallen and current.get(series, -1.0) >= 0.0


def only(current: Mapping[str, T], engines: frozenset[str], inside: bool) -> Mapping[str, T]:
    """The series of those engines, or (not `inside`) of all others."""
    return {series: value for series, value in current.items() if (engine_of(series) in engines) == inside}


def engine_gauges(metrics: DeploymentMetrics) -> tuple[ReplicaMetrics, ...]:
    """The replicas' gauges; where Serve counts no request on a replica, absent engine gauges are 0.

    Only where engines of the deployment count tokens: what has no engine metrics at all is no idle engine.
    """
    if not metrics.prompt_tokens_total:
        return metrics.replicas
    for one in metrics.replicas:
        if one.running is None and _vanished(one):
            break
    else:
        return metrics.replicas
    return tuple(_idle(one) if _vanished(one) and one.ongoing == 0.0 else one for one in metrics.replicas)


def _vanished(one: ReplicaMetrics) -> bool:
    return one.running is None and one.waiting is None and one.kv_usage_fraction is None


def _idle(one: ReplicaMetrics) -> ReplicaMetrics:
    return ReplicaMetrics(one.replica_id, one.ongoing, 0.0, 0.0, 0.0)
