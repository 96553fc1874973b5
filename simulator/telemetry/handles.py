"""What the handle of a deployment pushes to Serve's own autoscaler."""

from __future__ import annotations

from collections import deque

from policies.base import HandleReport
from simulator.kernel.events import EventQueue, Priority
from simulator.serve.lifecycle import Serve
from simulator.telemetry.figures import Figures


class HandleRecorder:
    """Records and pushes as a Serve handle does: series of (time_s, value), kept for the look-back period.

    Serve's extra push at the first request without replicas is left out: it carries what was recorded before, zeros.
    """

    def __init__(
        self, serve: Serve, figures: Figures, queue: EventQueue, metrics_interval_s: float, look_back_s: float
    ) -> None:
        self._serve = serve
        self._figures = figures
        self._queue = queue
        self._push_s = metrics_interval_s
        self._record_s = min(0.2 * look_back_s, metrics_interval_s)
        self._look_back_s = look_back_s
        self._queued: deque[tuple[float, float]] = deque()
        self._running: dict[str, deque[tuple[float, float]]] = {}
        self.report: HandleReport | None = None
        self._record()
        self._push()

    def _record(self) -> None:
        now_s = self._queue.now_s
        self._figures.advance(now_s)
        self._queued.append((now_s, self._figures.handle_figures().queued))
        serving = [i for i, r in self._serve.replicas.items() if r.running_since_s is not None]
        for replica_id in serving:
            ongoing = self._figures.ongoing(replica_id)
            if ongoing > 0 or replica_id in self._running:
                self._running.setdefault(replica_id, deque()).append((now_s, float(ongoing)))
        for replica_id in [i for i in self._running if i not in serving]:
            del self._running[replica_id]
        for series in (self._queued, *self._running.values()):
            while series[0][0] < now_s - self._look_back_s:
                series.popleft()
        self._queue.after(self._record_s, self._record, Priority.MEASURE)

    def _push(self) -> None:
        self.report = HandleReport(
            "proxy", tuple(self._queued), tuple((i, tuple(s)) for i, s in sorted(self._running.items()))
        )
        self._queue.after(self._push_s, self._push, Priority.MEASURE)
