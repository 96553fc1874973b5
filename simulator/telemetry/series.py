"""Reports: the figures of one process as samples of the series that Ray's page and vLLM's have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from autoscaler.core.types import Histogram
from autoscaler.sources import names
from autoscaler.sources.exposition import Sample, Series
from policies.base import DeploymentKey
from simulator.serve.replicas import Replica
from simulator.telemetry.figures import HandleFigures, ReplicaSnapshot

Report = tuple[tuple[Sample, ...], tuple[Sample, ...]]
"""Counters and gauges of one process."""


class ReplicaSeries:
    """The series of one replica, made once."""

    def __init__(self, key: DeploymentKey, replica: Replica) -> None:
        serve = {names.APPLICATION: key.app, names.DEPLOYMENT: key.deployment, names.REPLICA: replica.replica_id}
        serve[names.WORKER_ID] = replica.worker_id
        vllm = {names.ENGINE: "0", names.REPLICA_ID: replica.replica_id, names.WORKER_ID: replica.worker_id}
        self.processing = Series(names.SERVE_PROCESSING, serve)
        self.running, self.waiting, self.kv_usage, self.prompt, self.output, self.cached, self.preemptions = (
            Series(name, vllm)
            for name in (
                names.VLLM_RUNNING,
                names.VLLM_WAITING,
                names.VLLM_KV_USAGE,
                names.VLLM_PROMPT_TOKENS,
                names.VLLM_OUTPUT_TOKENS,
                names.VLLM_CACHED_TOKENS,
                names.VLLM_PREEMPTIONS,
            )
        )
        self.finished = Series(names.VLLM_FINISHED, {**vllm, names.FINISHED_REASON: "stop"})
        self.ttft, self.itl = Series(names.VLLM_TTFT_BUCKET, vllm), Series(names.VLLM_ITL_BUCKET, vllm)
        self.ttft_sum, self.itl_sum = Series(names.VLLM_TTFT_SUM, vllm), Series(names.VLLM_ITL_SUM, vllm)
        self.mean_itl = Series(names.VLLM_MEAN_ITL_BUCKET, vllm)
        self.mean_itl_sum = Series(names.VLLM_MEAN_ITL_SUM, vllm)

        self._counters: tuple[Series, ...] = (
            self.prompt, self.output, self.cached, self.finished, self.preemptions, self.ttft, self.ttft_sum
        )  # fmt: skip
        self._gauges = (self.processing, self.running, self.waiting, self.kv_usage)

    def report(self, snapshot: ReplicaSnapshot, engine_shows: bool) -> Report:
        """Of vLLM's two histograms of times between tokens the one that readers prefer."""
        f = snapshot.figures()
        itl = (self.mean_itl, self.mean_itl_sum) if f.itl_of_requests else (self.itl, self.itl_sum)
        counters: list[float | Histogram] = [f.prompt_tokens, f.output_tokens, f.cached_tokens, f.finished]
        counters += [f.preemptions, f.ttft, f.ttft_sum_s, f.itl, f.itl_sum_s]
        gauges = (f.ongoing, f.running, f.waiting, f.kv_usage_fraction) if engine_shows else (f.ongoing,)
        return _samples((*self._counters, *itl), counters), _samples(self._gauges, gauges)


class HandleSeries:
    """The series of a deployment's handle, made once."""

    def __init__(self, key: DeploymentKey) -> None:
        labels = {names.APPLICATION: key.app, names.DEPLOYMENT: key.deployment, names.HANDLE: f"{key.deployment}-proxy"}
        labels[names.WORKER_ID] = f"proxy-{key.app}"
        self.arrivals = Series(names.SERVE_ROUTED, labels)
        self.queued, self.ongoing = Series(names.SERVE_QUEUED, labels), Series(names.SERVE_ONGOING, labels)

    def report(self, f: HandleFigures) -> Report:
        gauges = (Sample(self.queued, f.queued), Sample(self.ongoing, f.ongoing))
        return (Sample(self.arrivals, f.arrivals),), gauges


_SAMPLE: Callable[[tuple[Series, float | Histogram]], Sample] = partial(tuple.__new__, Sample)
"""A Sample of a pair. Pages hold thousands of them, and this way no line of Python runs for each."""


def _samples(series: Sequence[Series], values: Iterable[float | Histogram]) -> tuple[Sample, ...]:
    return tuple(map(_SAMPLE, zip(series, values, strict=False)))  # of idle engines fewer gauges than series
