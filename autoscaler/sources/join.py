"""Joins the samples of all nodes to deployments: the one place where metric series become DeploymentMetrics.

Pure: the live source and the simulator both call `collect`. It keeps counters and histograms per series (the demand
model turns them into rates, since only it remembers), drops gauges of replicas that are gone (Ray goes on showing them
for some 20 s), and never fills a gap with 0. Names and labels: `autoscaler.sources.names`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import TypeVar

from autoscaler.common.fields import MOST_NUMBER
from autoscaler.core.types import DeploymentInventory, DeploymentMetrics, Histogram
from autoscaler.sources.exposition import Sample, Series
from autoscaler.sources.names import Field, Role
from policies.base import DeploymentKey, ReplicaMetrics

_SILENT_S = 30.0
"""A page this much older than the newest one is of a node that answers no more: the others need not wait for it."""
_FULL = 1.01
"""The fullest that a KV cache can be; sums of floats may end a little above 1."""
_FRACTION, _DEVIATIONS = 0.05, 3.0
"""Counts of requests in flight that differ by no more, or by so many standard deviations, tell of the same ones."""
_NO_NUMBER = -1.0
"""What a counter that holds no possible number is handed on as: none can have counted it, and JSON can hold it."""
T = TypeVar("T")
ByRank = dict[Field, dict[int, dict[str, T]]]
"""Of each field the sources that were found, by rank: their values by series id."""


@dataclass(frozen=True, slots=True)
class NodePage:
    """The samples of one node's page and when it was read; an old page stands for a node that does not answer now.

    `first`: no page of this node was read before, so its counters may have run long before we saw them.
    """

    as_of_s: float
    samples: tuple[Sample, ...]
    first: bool = False


def collect(
    samples_by_node: Mapping[str, NodePage],
    inventories: Mapping[DeploymentKey, DeploymentInventory],
    namespace: str,
    service: str,
    as_of_s: float,
) -> dict[DeploymentKey, DeploymentMetrics]:
    """Metrics of every deployment in `inventories` that belongs to `namespace`/`service`.

    A deployment's `as_of_s` is that of the oldest page that holds a series of it (so a node that stopped answering
    makes what it served stale, not small), and `as_of_s` where no page does. A page that has been silent for long is
    left out where others tell of the deployment, and counted (`silent_pages`): the demand model estimates what it would
    have said. Samples of deployments and replicas that no inventory lists are dropped. NaN, infinite and
    negative values are unknown, and so are values that no gauge can have.
    """
    owners = _Owners(inventories, namespace, service)
    for page in samples_by_node.values():
        owners.learn_workers(page.samples)
    newest_s = max((page.as_of_s for page in samples_by_node.values()), default=as_of_s)
    silent = []
    for page in samples_by_node.values():
        if page.as_of_s < newest_s - _SILENT_S:
            silent.append(page)
        else:
            owners.add(page)
    if silent:
        owners.add_silent(silent)
    return {key: gathered.metrics(as_of_s) for key, gathered in owners.gathered.items()}


class _Owners:
    """Which deployment a series belongs to, and what was gathered for each."""

    def __init__(self, inventories: Mapping[DeploymentKey, DeploymentInventory], namespace: str, service: str) -> None:
        self.gathered: dict[DeploymentKey, _Gathered] = {}
        self.by_name: dict[tuple[str | None, str | None], _Gathered] = {}
        self.by_application: dict[str | None, _Gathered] = {}
        """Of each application its ingress."""
        self.by_replica: dict[str, tuple[_Gathered, str]] = {}
        self.by_worker: dict[str, tuple[_Gathered, str]] = {}
        self.alive: set[str] = set()
        self.dead_workers: set[str] = set()
        for key, inventory in inventories.items():
            if (key.namespace, key.service) != (namespace, service):
                continue
            gathered = self.gathered[key] = self.by_name[key.app, key.deployment] = _Gathered()
            if inventory.is_ingress:
                self.by_application[key.app] = gathered
            for replica in inventory.replicas:
                self.alive.add(replica.replica_id)
                self.by_replica[replica.replica_id] = (gathered, replica.replica_id)
                if replica.worker_id:
                    self.by_worker[replica.worker_id] = (gathered, replica.replica_id)

    def learn_workers(self, samples: Iterable[Sample]) -> None:
        """Workers that served a replica which is gone: what their handles say lingers too and must be dropped."""
        for series, _ in samples:
            if series.replica is None or series.replica in self.alive:
                continue
            if series.worker is not None and series.worker not in self.by_worker:
                self.dead_workers.add(series.worker)

    def add_silent(self, pages: Iterable[NodePage]) -> None:
        """Old pages: all that is known of deployments that no other page tells of; of the others a number."""
        told = [gathered for gathered in self.gathered.values() if gathered.as_of_s < inf]
        for page in pages:
            before = {id(gathered): gathered.as_of_s for gathered in told}
            for gathered in told:
                gathered.as_of_s, gathered.closed = inf, True
            self.add(page)
            for gathered in told:
                gathered.silent_pages += gathered.as_of_s < inf
                gathered.as_of_s, gathered.closed = before[id(gathered)], False

    def add(self, page: NodePage) -> None:
        """All samples of a page. Large deployments have thousands of them: nothing here is done twice."""
        as_of_s, first, by_replica = page.as_of_s, page.first, self.by_replica
        replica_id: str | None
        for series, value in page.samples:
            role = series.role
            if role is None:
                continue
            if role.owner == "replica":
                found = by_replica.get(series.engine_of)
                if found is None:
                    found = None if series.worker is None else self.by_worker.get(series.worker)
                    if found is None:
                        continue
                gathered, replica_id = found
            else:
                if role.owner == "deployment":
                    named = self.by_name.get(series.deployment)
                else:
                    named = self.by_application.get(series.deployment[0])
                if named is None:
                    continue
                gathered, replica_id = named, series.replica
            if as_of_s < gathered.as_of_s:
                gathered.as_of_s = as_of_s
            if gathered.closed:
                continue
            kind = role.kind
            if first and kind != "gauge":
                gathered.baseline.add(series.id)
            if isinstance(value, Histogram):
                gathered.of(gathered.histograms, role)[series.id] = value
            elif kind == "histogram":
                continue
            elif kind == "counter":
                if series.counts:  # what is no number, or below 0, is for the demand model to notice
                    good = 0.0 <= value <= MOST_NUMBER
                    gathered.of(gathered.counters, role)[series.id] = value if good else _NO_NUMBER
                elif role.field == "finished":
                    gathered.ended_early[series.id] = value if 0.0 <= value <= MOST_NUMBER else _NO_NUMBER
            elif not 0.0 <= value <= (_FULL if role.field == "kv_usage" else MOST_NUMBER):
                continue
            elif replica_id is not None:
                if replica_id in self.alive:
                    gathered.add_replica_gauge(series, value, role, replica_id)
            elif series.worker not in self.dead_workers:
                gathered.add_gauge(series, value, role)


class _Gathered:
    """What was seen of one deployment; everything by series id, so that a page read twice counts once."""

    __slots__ = (
        "as_of_s", "baseline", "closed", "counters", "ended_early", "gauges", "histograms", "replica_gauges",
        "silent_pages",
    )  # fmt: skip

    def __init__(self) -> None:
        self.as_of_s = inf
        self.closed = False
        """Takes in nothing: only whether a page tells of it is asked."""
        self.silent_pages = 0
        self.baseline: set[str] = set()
        self.counters: ByRank[float] = {}
        self.ended_early: dict[str, float] = {}
        self.gauges: dict[Field, dict[str, float]] = {}
        self.replica_gauges: dict[str, ByRank[float]] = {}
        self.histograms: ByRank[Histogram] = {}

    @staticmethod
    def of(found: ByRank[T], role: Role) -> dict[str, T]:
        """The values of one source of one field."""
        by_rank = found.get(role.field)
        if by_rank is None:
            by_rank = found[role.field] = {}
        values = by_rank.get(role.rank)
        if values is None:
            values = by_rank[role.rank] = {}
        return values

    def add_gauge(self, series: Series, value: float, role: Role) -> None:
        self.gauges.setdefault(role.field, {})[series.id] = value

    def add_replica_gauge(self, series: Series, value: float, role: Role, replica_id: str) -> None:
        of_replica = self.replica_gauges.get(replica_id)
        if of_replica is None:
            of_replica = self.replica_gauges[replica_id] = {}
        self.of(of_replica, role)[series.id] = value

    def metrics(self, as_of_s: float) -> DeploymentMetrics:
        replicas = tuple(_replica(replica_id, seen) for replica_id, seen in sorted(self.replica_gauges.items()))
        at_handles = _sum(self.gauges.get("ongoing"))
        ongoing = _in_flight(at_handles, _at_replicas(replicas), _in_engines(replicas))
        return DeploymentMetrics(
            as_of_s=as_of_s if self.as_of_s == inf else self.as_of_s,
            arrivals_total=_best(self.counters, "arrivals"),
            prompt_tokens_total=_best(self.counters, "prompt_tokens"),
            output_tokens_total=_best(self.counters, "output_tokens"),
            cached_tokens_total=_best(self.counters, "cached_tokens"),
            finished_total=_best(self.counters, "finished"),
            ended_early_total=self.ended_early,
            at_front_total=_best(self.counters, "at_front"),
            at_replicas_total=_best(self.counters, "at_replicas"),
            errors_total=_best(self.counters, "errors"),
            rejected_total=_best(self.counters, "rejected"),
            preemptions_total=_best(self.counters, "preemptions"),
            ttft=_best(self.histograms, "ttft"),
            itl=_best(self.histograms, "itl"),
            ttft_sum_s=_best(self.counters, "ttft_sum"),
            itl_sum_s=_best(self.counters, "itl_sum"),
            queued_at_handles=_sum(self.gauges.get("queued")),
            ongoing=ongoing,
            ongoing_beside_handles=(ongoing or 0.0) - (at_handles or 0.0),
            replicas=replicas,
            baseline=tuple(sorted(self.baseline)),
            silent_pages=self.silent_pages,
        )


def _best(found: ByRank[T], field: Field) -> dict[str, T]:
    """The source with the lowest rank of those that are there."""
    by_rank = found.get(field)
    return by_rank[min(by_rank)] if by_rank else {}


def _sum(values: Mapping[str, float] | None) -> float | None:
    return sum(values.values()) if values else None


def _in_flight(at_handles: float | None, *others: float | None) -> float | None:
    """What handles count, unless another witness sees requests where they see none, or clearly more than they do.

    Processes report some seconds apart, so a little more is no contradiction.
    """
    most = max((count for count in others if count is not None), default=None)
    if at_handles is None or most is None:
        return most if at_handles is None else at_handles
    missed = most - at_handles
    if at_handles == 0.0 or missed > max(_FRACTION * most, _DEVIATIONS * most**0.5):
        return max(at_handles, most)
    return at_handles


def _at_replicas(replicas: Iterable[ReplicaMetrics]) -> float | None:
    """Requests that replicas themselves say they process."""
    known = [one.ongoing for one in replicas if one.ongoing is not None]
    return sum(known) if known else None


def _in_engines(replicas: Iterable[ReplicaMetrics]) -> float | None:
    """Requests that run or wait in the replicas' engines."""
    known = [one for one in replicas if one.running is not None or one.waiting is not None]
    return sum((one.running or 0.0) + (one.waiting or 0.0) for one in known) if known else None


def _replica(replica_id: str, seen: ByRank[float]) -> ReplicaMetrics:
    usage = _best(seen, "kv_usage")
    return ReplicaMetrics(
        replica_id=replica_id,
        ongoing=_sum(_best(seen, "processing")),
        running=_sum(_best(seen, "running")),
        waiting=_sum(_best(seen, "waiting")),
        kv_usage_fraction=sum(usage.values()) / len(usage) if usage else None,
    )
