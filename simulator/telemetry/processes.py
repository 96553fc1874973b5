"""The processes of a deployment: when each reports, when that can be read, and what the dead leave behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b

from autoscaler.sources.exposition import Sample
from simulator.kernel.events import EventQueue, Priority
from simulator.serve.lifecycle import Serve
from simulator.serve.replicas import Replica
from simulator.telemetry.figures import Figures, ReplicaSnapshot
from simulator.telemetry.series import HandleSeries, ReplicaSeries, Report
from simulator.telemetry.spec import TelemetrySpec

_SLOTS = 5
"""Processes report in this many groups, evenly over the period."""
_MAX_DEAD = 64
"""Dead replicas of a deployment whose counters are still shown: Ray never forgets them, a simulation must."""
HEAD = "head"
"""The node of the proxy, whose handle counts what arrives and what waits."""


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

    def note_steps(self, snapshot: ReplicaSnapshot, now_s: float) -> None:
        running, tokens = snapshot.running_and_tokens()
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
        self._series: dict[str, ReplicaSeries] = {}
        self._handle = _Process(HEAD)
        self._handle_slot = _slot_of(serve.spec.key.full)
        self._handle_series = HandleSeries(serve.spec.key)
        self._replicas: dict[str, _Process] = {}
        self._slots: list[dict[str, _Process]] = [{} for _ in range(_SLOTS)]
        """The same, by their time to report."""
        self.read_next_s = 0.0
        """Earliest time of the next read."""
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
            snapshot = self.figures.replica_figures(replica_id)
            if self._spec.idle_gauges_s is not None:
                process.note_steps(snapshot, now_s)
            shows = self._engine_shows(process, now_s)
            process.add(visible_s, partial(self._series[replica_id].report, snapshot, shows), now_s)
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
                self._series[replica_id] = ReplicaSeries(self.serve.spec.key, replica)
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


def _slot_of(name: str) -> int:
    return blake2b(name.encode(), digest_size=4).digest()[0] % _SLOTS
