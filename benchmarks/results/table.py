"""What was played, as the pages show it: a policy with one setting on a scenario, and all of them together.

Figures are means over seeds. A policy reaches the target when each deployment's mean share over the seeds does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A policy with one setting on a scenario, a result for each seed. `setting`: default, tuned, or nothing to set."""

    scenario: str
    policy: str
    setting: str
    documents: Sequence[Document]
    options: Mapping[str, Any]

    @property
    def costs(self) -> list[float]:
        return [float(d["cost_usd"]) for d in self.documents]

    @property
    def cost(self) -> float:
        return math.fsum(self.costs) / len(self.costs)

    @property
    def label(self) -> str:
        return f"{self.policy} ({self.setting})" if self.setting else self.policy

    def mean(self, *path: str) -> float | None:
        values = []
        for document in self.documents:
            value: Any = document
            for name in path:
                value = value[name]
            values.append(value)
        known = [float(v) for v in values if v is not None]
        return math.fsum(known) / len(known) if known else None

    def reaches(self, targets: Mapping[str, float]) -> bool:
        """Whether the mean share of every deployment is at its target."""
        return all(share >= target for share, target in self._shares(targets))

    def worst_misses(self, targets: Mapping[str, float]) -> float:
        """Of the worst deployment: the share that missed over the share that may."""
        return max([0.0, *((1.0 - share) / (1.0 - target) for share, target in self._shares(targets))])

    def _shares(self, targets: Mapping[str, float]) -> list[tuple[float, float]]:
        """Where it is known: the share within the SLO and the target."""
        shares = [(self.mean("deployments", key, "slo_attainment_fraction"), t) for key, t in targets.items()]
        return [(share, target) for share, target in shares if share is not None]


@dataclass(frozen=True, slots=True)
class Table:
    """Everything that there is to show."""

    name: str
    about: Mapping[str, str]
    stand_ins: tuple[str, ...]
    entries: tuple[Entry, ...]
    seeds: tuple[int, ...]
    judged_s: float
    trained_s: float
    trials: int
    slice_s: float
    missing: int
    cpu_s: float
    """Of all finished pieces."""
    left_s: float | None
    """CPU seconds that what is missing may take, by what finished pieces of its kind took."""
    elapsed_s: float
    revisions: tuple[str, ...]
    command: str
    targets: Mapping[str, Mapping[str, float]]
    """By scenario and deployment."""
    further: tuple[Entry, ...] = ()
    """Whoever has played `further_seeds` too: results of all seeds, the further ones last."""
    further_seeds: tuple[int, ...] = ()

    def of(self, scenario: str) -> list[Entry]:
        return [e for e in self.entries if e.scenario == scenario]

    def find(self, scenario: str, policy: str, setting: str = "") -> Entry | None:
        return next((e for e in self.of(scenario) if (e.policy, e.setting) == (policy, setting)), None)

    def reaches(self, entry: Entry) -> bool:
        """Whether every deployment's mean share is at its target."""
        return entry.policy == "oracle" or entry.reaches(self.targets[entry.scenario])

    def longest(self, entry: Entry) -> Entry:
        """The same policy and setting over all of its seeds."""
        same = (entry.scenario, entry.policy, entry.setting)
        return next((e for e in self.further if (e.scenario, e.policy, e.setting) == same), entry)

    def paired(self, one: Entry, other: Entry) -> tuple[Entry, Entry]:
        """Both over the seeds that both have played."""
        both = self.longest(one), self.longest(other)
        return both if len(both[0].documents) == len(both[1].documents) else (one, other)
