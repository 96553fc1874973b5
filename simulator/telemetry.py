"""What the controller can see of the simulated deployments, and how late: metric pages of nodes, and handle reports.

Truth stays in the data plane. Every process (a replica, a handle) reports its counters and gauges at its own times; a
report can be read some seconds later; gauges of a dead replica linger, its counters stay as long as its node does;
reads of a page fail now and then. The pages are joined to deployments by the live source's own code, `collect`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import Protocol

from autoscaler.model import Histogram
from autoscaler.sources import names
from autoscaler.sources.exposition import Sample, Series
from policies.base import DeploymentKey
from simulator.events import EventQueue, Priority
from simulator.serve.lifecycle import Serve
from simulator.serve.replicas import Replica

_SLOTS = 5
"""Processes report in this many groups, evenly over the period."""
_MAX_DEAD = 64
"""Dead replicas of a deployment whose counters are still shown: Ray never forgets them, a simulation must."""
HEAD = "head"
"""The node of the proxy, whose handle counts what arrives and what waits."""


@dataclass(frozen=True, slots=True)
class TelemetrySpec:
    """`period_s` 0: everything is read as it is now. `handles`: Serve's own handle reports are shown too."""

    period_s: float
    delay_s: float
    drop_fraction: float = 0.0
    noise_fraction: float = 0.0
    gauges_linger_s: float = 20.0
    keep_dead_counters: bool = True
    handles: bool = False
    idle_gauges_s: float | None = None
    """So long after its last step an engine's gauges leave the page (None: they stay, as on vLLM's own page)."""
    read: bool = True
    """False: nobody looks, and nothing is reported."""


PROFILES: Mapping[str, TelemetrySpec] = {
    # Measured on Ray 2.60: a change shows after 4-8 s, at times after 13 s; gauges of dead replicas stay for 20 s, and
    # those of engines that make no step (decision 0008).
    "ray_serve": TelemetrySpec(period_s=10.0, delay_s=1.0, idle_gauges_s=20.0),
    "serve_handles": TelemetrySpec(period_s=10.0, delay_s=1.0, handles=True, idle_gauges_s=20.0),
    "prometheus_15s": TelemetrySpec(period_s=15.0, delay_s=0.0, gauges_linger_s=0.0, keep_dead_counters=False),
    "ideal": TelemetrySpec(period_s=0.0, delay_s=0.0, gauges_linger_s=0.0, keep_dead_counters=False),
}


@dataclass(frozen=True, slots=True)
class ReplicaFigures:
    """What one replica's own counters and gauges say at one moment; histogram counts are cumulative, last +inf."""

    ongoing: float
    running: float
    waiting: float
    kv_usage_fraction: float
    prompt_tokens: float
    output_tokens: float
    cached_tokens: float
    finished: float
    preemptions: float
    ttft: Histogram
    itl: Histogram
    ttft_sum_s: float = 0.0
    itl_sum_s: float = 0.0
    itl_of_requests: bool = False
    """`itl` counts ended requests by their mean; else, before any has ended, every gap between two tokens."""

    def running_and_tokens(self) -> tuple[float, float]:
        return self.running, self.prompt_tokens + self.output_tokens

    def figures(self) -> ReplicaFigures:
        return self


@dataclass(frozen=True, slots=True)
class HandleFigures:
    """What the handle in front of a deployment says: waiting for a replica, sent and not finished, all that came."""

    queued: float
    ongoing: float
    arrivals: float


class ReplicaLook(Protocol):
    """Figures of one replica at one moment, made when somebody reads them."""

    def running_and_tokens(self) -> tuple[float, float]: ...
    def figures(self) -> ReplicaFigures: ...


class Figures(Protocol):
    """Where the truth is."""

    def advance(self, until_s: float) -> None: ...
    def replica_figures(self, replica_id: str) -> ReplicaLook: ...
    def handle_figures(self) -> HandleFigures: ...
    def ongoing(self, replica_id: str) -> int: ...


Report = tuple[tuple[Sample, ...], tuple[Sample, ...]]
"""Counters and gauges of one process."""


@dataclass(slots=True)
class _Process:
    """A process that reports: what can be read of it, and what it has reported but nobody can read yet.

    A report is made into samples when it is read: most are replaced by the next one before anybody reads.
    """

    node: str
    shown: Report = ((), ())
    coming: deque[tuple[float, Callable[[], Report]]] = field(default_factory=deque)
    died_at_s: float | None = None
    tokens: float = 0.0
    stepped_at_s: float | None = None
    """When it last reported that its engine had made a step since the report before; None: never."""

    def note_steps(self, look: ReplicaLook, now_s: float) -> None:
        running, tokens = look.running_and_tokens()
        if running > 0 or tokens != self.tokens:
            self.tokens, self.stepped_at_s = tokens, now_s

    def add(self, visible_s: float, report: Callable[[], Report], now_s: float) -> None:
        while len(self.coming) > 1 and self.coming[1][0] <= now_s:
            self.coming.popleft()
        self.coming.append((visible_s, report))

    def visible(self, now_s: float) -> Report:
        newest = None
        while self.coming and self.coming[0][0] <= now_s:
            newest = self.coming.popleft()[1]
        if newest is not None:
            self.shown = newest()
        return self.shown


class DeploymentTelemetry:
    """The processes of one deployment."""

    def __init__(self, serve: Serve, figures: Figures, spec: TelemetrySpec, queue: EventQueue) -> None:
        self.serve = serve
        self.figures = figures
        self._spec = spec
        self._queue = queue
        self._series: dict[str, _ReplicaSeries] = {}
        self._handle = _Process(HEAD)
        self._handle_slot = _slot_of(serve.spec.key.full)
        self._handle_series = _HandleSeries(serve.spec.key)
        self._replicas: dict[str, _Process] = {}
        self._slots: list[dict[str, _Process]] = [{} for _ in range(_SLOTS)]
        """The same, by their time to report."""
        self.read_next_s = 0.0
        """Nobody reads before this time."""
        self._dead: dict[str, _Process] = {}
        self._next_slot = 0
        if spec.period_s > 0 and spec.read:
            self._queue.after(spec.period_s / _SLOTS, self._on_slot, Priority.MEASURE)

    # ------------------------------------------------------------ reporting

    def _on_slot(self) -> None:
        if not self._replaced_unread():
            self._report(self._next_slot)
        self._next_slot = (self._next_slot + 1) % _SLOTS
        self._queue.after(self._spec.period_s / _SLOTS, self._on_slot, Priority.MEASURE)

    def _replaced_unread(self) -> bool:
        """Whether who reports now reports again before anybody reads, so that this report is none.

        Where the dead or idle engines leave their last words, every report may count.
        """
        spec = self._spec
        lasts = spec.keep_dead_counters or spec.gauges_linger_s > 0 or spec.idle_gauges_s is not None
        return not lasts and self._queue.now_s + spec.period_s + spec.delay_s < self.read_next_s

    def _report(self, slot: int | None) -> None:
        """Processes of a slot (None: all) report what is true now."""
        self._adopt()
        chosen = self._replicas if slot is None else self._slots[slot]
        handle = slot is None or self._handle_slot == slot
        if not chosen and not handle:
            return
        now_s = self._queue.now_s
        visible_s = now_s + self._spec.delay_s
        self.figures.advance(now_s)
        for replica_id, process in chosen.items():
            look = self.figures.replica_figures(replica_id)
            if self._spec.idle_gauges_s is not None:
                process.note_steps(look, now_s)
            shows = self._engine_shows(process, now_s)
            process.add(visible_s, partial(self._series[replica_id].report, look, shows), now_s)
        if handle:
            report = partial(self._handle_series.report, self.figures.handle_figures())
            self._handle.add(visible_s, report, now_s)

    def _engine_shows(self, process: _Process, now_s: float) -> bool:
        """vLLM writes its gauges after a step; Ray's page forgets those that are not written again."""
        idle_s = self._spec.idle_gauges_s
        return idle_s is None or (process.stepped_at_s is not None and now_s < process.stepped_at_s + idle_s)

    def _adopt(self) -> None:
        """Replicas that serve since the last look become processes."""
        for replica_id, replica in self.serve.replicas.items():
            if replica.running_since_s is not None and replica_id not in self._replicas:
                self._series[replica_id] = _ReplicaSeries(self.serve.spec.key, replica)
                process = self._replicas[replica_id] = _Process(replica.node or HEAD)
                self._slots[_slot_of(replica_id)][replica_id] = process

    def gone(self, replica: Replica) -> None:
        """A replica ended: it reports no more."""
        process = self._replicas.pop(replica.replica_id, None)
        self._slots[_slot_of(replica.replica_id)].pop(replica.replica_id, None)
        self._series.pop(replica.replica_id, None)
        if process is not None and (self._spec.keep_dead_counters or self._spec.gauges_linger_s > 0):
            process.died_at_s = self._queue.now_s
            self._dead[replica.replica_id] = process
            if len(self._dead) > _MAX_DEAD:
                del self._dead[next(iter(self._dead))]

    # ------------------------------------------------------------ reading

    def add_to_pages(self, pages: dict[str, list[Sample]], nodes: set[str], now_s: float) -> None:
        """Puts everything that can be read now on the pages of its nodes; pages of gone nodes are gone."""
        if self._spec.period_s <= 0:
            self._report(None)
        for process in (self._handle, *self._replicas.values()):
            counters, gauges = process.visible(now_s)
            pages.setdefault(process.node, []).extend((*counters, *gauges))
        for replica_id, process in list(self._dead.items()):
            if process.node not in nodes:
                del self._dead[replica_id]
                continue
            counters, gauges = process.visible(now_s)
            page = pages.setdefault(process.node, [])
            if self._spec.keep_dead_counters:
                page.extend(counters)
            if process.died_at_s is not None and now_s < process.died_at_s + self._spec.gauges_linger_s:
                page.extend(gauges)


class _ReplicaSeries:
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

    def report(self, look: ReplicaLook, engine_shows: bool) -> Report:
        """Of vLLM's two histograms of times between tokens the one that whoever reads both prefers."""
        f = look.figures()
        itl = (self.mean_itl, self.mean_itl_sum) if f.itl_of_requests else (self.itl, self.itl_sum)
        counters: list[float | Histogram] = [f.prompt_tokens, f.output_tokens, f.cached_tokens, f.finished]
        counters += [f.preemptions, f.ttft, f.ttft_sum_s, f.itl, f.itl_sum_s]
        gauges = (f.ongoing, f.running, f.waiting, f.kv_usage_fraction) if engine_shows else (f.ongoing,)
        return _samples((*self._counters, *itl), counters), _samples(self._gauges, gauges)


class _HandleSeries:
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


def _slot_of(name: str) -> int:
    return blake2b(name.encode(), digest_size=4).digest()[0] % _SLOTS
