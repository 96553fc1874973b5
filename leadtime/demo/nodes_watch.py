"""Follows the nodes of `leadtime demo --nodes`: which are busy, stand ready or arrive, and what starts waited for.

It reads what the controller saw and decided, asks nobody anything and decides nothing. Times are seconds since the
traffic began.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from autoscaler.api.status import nodes_by_state
from autoscaler.api.telemetry import Telemetry
from autoscaler.core.types import FINE_OUTCOMES, EndedStart, Plan, PoolSignals
from leadtime.demo.nodes import POOL
from leadtime.demo.scene import Decision

_STOOD_S = 3.0
"""A node that was ready for so long before a replica was on it came ahead: Ray's own word on who uses it is late."""
_SAVES = 2.0
"""Seconds by which two medians must differ to be told apart."""


@dataclass(frozen=True, slots=True)
class NodeSample:
    """The pool at one tick."""

    at_s: float
    busy: int
    prewarmed: int
    arriving: int


@dataclass(slots=True)
class NodesWatch:
    """`begin_s` is the wall time at which traffic begins."""

    begin_s: float
    samples: list[NodeSample] = field(default_factory=list)
    starts: list[EndedStart] = field(default_factory=list)
    """Those that ended well."""
    came_s: dict[str, float] = field(default_factory=dict)
    """By node: when it was first seen ready; of those that were there from the beginning, nothing."""
    used_s: dict[str, float] = field(default_factory=dict)
    """By node: when a replica was first seen on it."""
    _first: set[str] | None = None
    _failed: str = ""
    """Why nodes could not be asked for; empty when they could."""

    def take(self, telemetry: Telemetry) -> list[Decision]:
        """A tick that the board just got; what is new about nodes."""
        plan, signals = telemetry.plan, telemetry.signals
        pool = next((p for p in signals.pools if p.name == POOL), None) if signals is not None else None
        if plan is None or pool is None:
            return []
        at_s = plan.now_s - self.begin_s
        self.starts += [start for start in plan.ended if start.runs]
        self._follow(pool, at_s)
        counts = nodes_by_state(pool)
        self.samples.append(NodeSample(at_s, counts["busy"], counts["prewarmed"], counts["arriving"]))
        return [*self._asked(telemetry, plan, at_s), *self._learned(plan, at_s)]

    def _follow(self, pool: PoolSignals, at_s: float) -> None:
        ready = {node.name: node for node in pool.nodes if node.state == "ready"}
        if self._first is None:
            self._first = set(ready)
        for name, node in ready.items():
            if name not in self._first:
                self.came_s.setdefault(name, at_s)
                if node.gpus_used:
                    self.used_s.setdefault(name, at_s)

    def _asked(self, telemetry: Telemetry, plan: Plan, at_s: float) -> list[Decision]:
        applied = telemetry.applied.get(POOL)
        own = next((one for one in plan.pools if one.name == POOL), None)
        if applied is None or own is None:
            return []
        failed = applied.why if applied.outcome not in FINE_OUTCOMES else ""
        news, self._failed = failed and failed != self._failed, failed
        if news:
            return [Decision(at_s, "nodes", "", f"not asked for ({applied.outcome}): {applied.why}")]
        if applied.outcome != "ok":
            return []
        why = own.terms[0].why if own.terms else applied.why
        return [Decision(at_s, "nodes", f"ask for {own.nodes}", why)]

    def _learned(self, plan: Plan, at_s: float) -> list[Decision]:
        words = [one for one in plan.learned if one.startswith("node ") and f" of pool {POOL} " in one]
        return [Decision(at_s, "nodes", "", f"learned: {one}") for one in words]

    # ------------------------------------------------------------ figures

    @property
    def ahead(self) -> int:
        """Nodes that came before a replica needed them."""
        last_s = self.samples[-1].at_s if self.samples else 0.0
        return sum(self.used_s.get(name, last_s) - at_s >= _STOOD_S for name, at_s in self.came_s.items())

    def seconds(self, path: str) -> list[float]:
        """How long each start took that found its GPU so (`free_gpu`, `new_node`), ascending."""
        return sorted(one.ended_at_s - one.asked_at_s for one in self.starts if one.path == path)

    def node_seconds(self, to_s: float) -> tuple[float, float]:
        """(ready in all, of those without any replica), from the beginning of the traffic on."""
        total = idle = 0.0
        for i, sample in enumerate(self.samples):
            ends_s = self.samples[i + 1].at_s if i + 1 < len(self.samples) else to_s
            width_s = max(0.0, min(ends_s, to_s) - max(sample.at_s, 0.0))
            total += width_s * (sample.busy + sample.prewarmed)
            idle += width_s * sample.prewarmed
        return total, idle

    def line(self) -> str:
        """What there is now, in one line; empty before anything was seen."""
        if not self.samples:
            return ""
        now = self.samples[-1]
        picture = "█" * now.busy + "▒" * now.prewarmed + "░" * now.arriving
        return f"nodes  {picture} {now.busy} busy █, {now.prewarmed} prewarmed ▒, {now.arriving} arriving ░"

    def words(self, seconds: float, first_start_s: float | None = None) -> list[str]:
        """The end of the pass in sentences, from what was seen of it. `first_start_s`: what the very first replicas
        took, for which nobody could ask ahead."""
        total_s, idle_s = self.node_seconds(seconds)
        found, waited = self.seconds("free_gpu"), self.seconds("new_node")
        lines = [
            f"Nodes: {len(self.came_s)} came, {self.ahead} of them before a replica needed them; "
            f"{total_s:.0f} node-seconds, {idle_s:.0f} of them without a replica.",
            f"Cold starts: {_starts(found)} found a GPU on a node that was there; {_starts(waited)} waited for a node.",
        ]
        if first_start_s is not None:
            lines.append(f"Before the traffic the first replicas had to wait for a node: {first_start_s:.0f} s.")
        if found and waited:
            spared_s = statistics.median(waited) - statistics.median(found)
            if spared_s >= _SAVES:
                lines.append(f"A node that was there spared a replica {spared_s:.0f} s in this run (of medians).")
            else:
                lines.append("A node that was there spared replicas nothing in this run (of medians).")
        return lines


def _starts(seconds: Sequence[float]) -> str:
    return f"{len(seconds)} (median {statistics.median(seconds):.0f} s)" if seconds else "0"
