"""What each part is worth, as tables in Markdown: over all scenarios, and on each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.ablation.variants import FLAGSHIP, Variant
from benchmarks.acceptance.section import table
from benchmarks.results.table import Entry

_MANY = 10.0
"""Times the allowed misses, from which on they are told without decimals."""


@dataclass(frozen=True, slots=True)
class Ablation:
    """`entries`: by variant and scenario, of those that were played with every seed. `targets`: by scenario and
    deployment.
    """

    variants: Sequence[Variant]
    targets: Mapping[str, Mapping[str, float]]
    entries: Mapping[tuple[str, str], Entry]
    seeds: Sequence[int]
    judged_s: float
    stand_ins: Sequence[str]
    cpu_s: float
    revisions: Sequence[str]

    def scenarios(self, variant: Variant) -> list[str]:
        """Where it was played, and the flagship too."""
        return [s for s in self.targets if {(variant.name, s), (FLAGSHIP.name, s)} <= self.entries.keys()]

    def missing(self) -> list[str]:
        """Variants that were not played everywhere."""
        counts = {v.name: len(self.scenarios(v)) for v in self.variants}
        return [f"{name} ({n} of {len(self.targets)})" for name, n in counts.items() if n < len(self.targets)]

    def ratio(self, variant: Variant, scenario: str) -> float:
        """What it costs over what the flagship costs."""
        return self.entries[variant.name, scenario].cost / self.entries[FLAGSHIP.name, scenario].cost

    def misses(self, variant: Variant, scenario: str) -> float:
        """Over those that are allowed, of the worst deployment."""
        return self.entries[variant.name, scenario].worst_misses(self.targets[scenario])

    def reaches(self, variant: Variant, scenario: str) -> bool:
        return self.entries[variant.name, scenario].reaches(self.targets[scenario])

    def starts(self, variant: Variant, scenarios: Sequence[str]) -> float:
        """Replicas started, over all of these scenarios."""
        return math.fsum(self.entries[variant.name, s].mean("replica_starts") or 0.0 for s in scenarios)


def page(a: Ablation) -> str:
    """The part between the marks."""
    done = [v for v in a.variants if a.scenarios(v)]
    stand_ins = f"**Generated stand-ins** take the place of the public traces {', '.join(a.stand_ins)}."
    seeds = f"seed{'s' if len(a.seeds) > 1 else ''} {', '.join(map(str, a.seeds))}"
    parts = [
        f"Simulated, not measured. {len(a.targets)} scenarios, {a.judged_s / 3600:g} judged hours each, "
        f"{seeds}; {a.cpu_s / 60:.0f} minutes of one core. "
        f"Code: {', '.join(a.revisions) or 'unknown'}.",
        *([stand_ins] if a.stand_ins else []),
        *([f"**Not played everywhere**: {', '.join(a.missing())}."] if a.missing() else []),
    ]
    if done:
        parts += ["## All scenarios", _together(a, done), "## On each", _each(a, done)]
    return "\n\n".join([*parts, "## What is taken out", _about(a.variants)])


def _together(a: Ablation, done: Sequence[Variant]) -> str:
    names = [
        "variant", "cost / flagship", "dearest", "cheapest", "under the target", "misses / allowed, mean", "worst",
        "starts / flagship",
    ]  # fmt: skip
    rows = []
    for variant in done:
        scenarios = a.scenarios(variant)
        ratios = {s: a.ratio(variant, s) for s in scenarios}
        misses = {s: a.misses(variant, s) for s in scenarios}
        mean = math.exp(math.fsum(math.log(r) for r in ratios.values()) / len(ratios))
        dearest, cheapest = (found(ratios, key=lambda s: ratios[s]) for found in (max, min))
        worst = max(misses, key=lambda s: misses[s])
        starts, usual = a.starts(variant, scenarios), a.starts(FLAGSHIP, scenarios)
        same = variant.name == FLAGSHIP.name
        rows.append(
            [
                f"**{variant.name}**" if same else variant.name,
                f"{mean:.3f}",
                "" if same else f"{ratios[dearest]:.2f} {dearest}",
                "" if same else f"{ratios[cheapest]:.2f} {cheapest}",
                f"{sum(not a.reaches(variant, s) for s in scenarios)} of {len(scenarios)}",
                _misses(math.fsum(misses.values()) / len(misses)),
                f"{_misses(misses[worst])} {worst}",
                f"{starts / usual:.2f}" if usual else "?",
            ]
        )
    return table(names, rows)


def _each(a: Ablation, done: Sequence[Variant]) -> str:
    """Cost over the flagship's, and misses over allowed; those under the target in bold."""
    rows = []
    for variant in done:
        cells, played = [], a.scenarios(variant)
        for s in a.targets:
            if s not in played:
                cells.append("-")
                continue
            cell = f"{a.ratio(variant, s):.2f}, {_misses(a.misses(variant, s))}"
            cells.append(cell if a.reaches(variant, s) else f"**{cell}**")
        rows.append([variant.name, *cells])
    words = "Cost over the flagship's, and misses over the allowed ones; **bold**: under the target."
    return f"{words}\n\n{table(['variant', *a.targets], rows)}"


def _about(variants: Sequence[Variant]) -> str:
    return table(["variant", "instead"], [[v.name, v.about] for v in variants])


def _misses(value: float) -> str:
    return f"{value:.0f}" if value >= _MANY else f"{value:.2f}"
