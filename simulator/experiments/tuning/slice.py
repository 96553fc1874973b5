"""A few hours of a scenario in which most happens: where many settings are tried before few are tried on all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simulator.experiments.references.known import traffic_of
from simulator.scenario.load import Scenario

_QUARTER_S = 900.0
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Slice:
    """From `start_s` (on the scenario's clock), of which the first `warmup_s` are not judged."""

    start_s: float
    duration_s: float
    warmup_s: float

    def overrides(self, scenario: Scenario) -> list[str]:
        """As `--set` takes them: the scenario begins later and ends sooner; what has a time moves along."""
        texts = [f"duration_s={self.duration_s!r}", f"warmup_s={self.warmup_s!r}"]
        for i, d in enumerate(scenario.deployments):
            texts.append(f"deployments.{i}.workload.start_s={d.start_s + self.start_s!r}")
            if d.block.hints:
                hints = [
                    {**h.model_dump(), **{n: max(0.0, getattr(h, n) - self.start_s) for n in ("at_s", "start_s")}}
                    | {"end_s": h.end_s - self.start_s}
                    for h in d.block.hints
                    if h.end_s > self.start_s
                ]
                texts.append(f"deployments.{i}.hints={_flow(hints)}")
        for i, pool in enumerate(scenario.pools):
            if pool.stockouts:
                later = [
                    {"start_s": max(0.0, s.start_s - self.start_s), "end_s": s.end_s - self.start_s}
                    | {"fraction": s.fraction}
                    for s in pool.stockouts
                    if s.end_s > self.start_s
                ]
                texts.append(f"node_pools.{i}.stockouts={_flow(later)}")
        return texts


def _flow(rows: Sequence[Mapping[str, object]]) -> str:
    def word(value: object) -> str:
        return "null" if value is None else repr(value)

    return "[" + ", ".join("{" + ", ".join(f"{k}: {word(v)}" for k, v in row.items()) + "}" for row in rows) + "]"


def busiest_slice(scenario: Scenario, judged_s: float, warmup_s: float) -> Slice:
    """`judged_s` seconds, from a whole hour on, in which the rate of quarter hours goes up by the most in all.

    Before them come `warmup_s` seconds in which a fleet finds its size.
    """
    whole_s = judged_s + warmup_s
    rises = np.zeros(max(1, int(scenario.duration_s / _QUARTER_S)))
    for d in scenario.deployments:
        arrival_s = traffic_of(scenario, d).arrival_s
        edges = _QUARTER_S * np.arange(len(rises) + 1)
        counts, _ = np.histogram(arrival_s, edges)
        up = np.maximum(np.diff(counts, prepend=counts[:1]), 0)
        rises += up / max(1, counts.max()) * d.gpus
    starts = np.arange(0.0, scenario.duration_s - whole_s + 1e-6, _HOUR_S)
    best = max(starts, key=lambda start_s: _sum(rises, start_s + warmup_s, start_s + whole_s), default=0.0)
    return Slice(float(best), whole_s, warmup_s)


def _sum(rises: np.ndarray, from_s: float, to_s: float) -> float:
    return float(rises[int(from_s / _QUARTER_S) : int(to_s / _QUARTER_S)].sum())
