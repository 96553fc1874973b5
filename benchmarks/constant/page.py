"""The flagship's bill over that of the cheapest constant setting of itself, as tables in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.acceptance.section import percent, table
from benchmarks.constant.settings import FLAGSHIP, Setting
from benchmarks.results.paired import Ratio
from benchmarks.results.table import Entry

MOST = 1.05
"""Times the bill of the cheapest constant setting that reaches the target: what is promised."""


@dataclass(frozen=True, slots=True)
class Constant:
    """`entries`: by setting and scenario, of those that were played with every seed. `targets`: by scenario and
    deployment, what all are judged by.
    """

    settings: Sequence[Setting]
    targets: Mapping[str, Mapping[str, float]]
    entries: Mapping[tuple[str, str], Entry]
    seeds: Sequence[int]
    stand_ins: Sequence[str]
    cpu_s: float
    revisions: Sequence[str]

    def of(self, scenario: str) -> list[Entry]:
        """Settings that were played there, but for the flagship as it comes."""
        names = [s.name for s in self.settings if s.name != FLAGSHIP.name]
        return [self.entries[name, scenario] for name in names if (name, scenario) in self.entries]

    def cheapest(self, scenario: str) -> Entry | None:
        """Of the constant settings that reach the target; None: none of those that were played does."""
        reach = [e for e in self.of(scenario) if e.reaches(self.targets[scenario])]
        return min(reach, key=lambda e: e.cost, default=None)

    def missing(self) -> list[str]:
        """Settings that were not played everywhere."""
        counts = {s.name: sum((s.name, name) in self.entries for name in self.targets) for s in self.settings}
        return [f"{name} ({n} of {len(self.targets)})" for name, n in counts.items() if n < len(self.targets)]


def page(c: Constant) -> str:
    """The part between the marks."""
    stand_ins = f"**Generated stand-ins** take the place of the public traces {', '.join(c.stand_ins)}."
    seeds = f"Seed{'s' if len(c.seeds) > 1 else ''} {', '.join(map(str, c.seeds))}"
    parts = [
        f"Simulated, not measured. {seeds}; {c.cpu_s / 60:.0f} minutes of one core. "
        f"Code: {', '.join(c.revisions) or 'unknown'}.",
        *([stand_ins] if c.stand_ins else []),
        *([f"**Not played everywhere**: {', '.join(c.missing())}."] if c.missing() else []),
    ]
    done = [name for name in c.targets if (FLAGSHIP.name, name) in c.entries and c.of(name)]
    if done:
        parts += [_promise(c, done), "## Every setting", _each(c, done)]
    return "\n\n".join([*parts, "## What is set", table(["setting", "what it does"], _about(c.settings))])


def _promise(c: Constant, done: Sequence[str]) -> str:
    rows, ratios = [], []
    for name in done:
        ours, best = c.entries[FLAGSHIP.name, name], c.cheapest(name)
        row = [name, f"{ours.cost:,.0f}", _misses(c, ours)]
        if best is None:
            rows.append([*row, "none of these", "", "", "nothing to judge"])
            continue
        ratio = Ratio.of(ours.costs, best.costs)
        ratios.append(ratio.mean)
        kept = "yes" if ratio.mean <= MOST else "**no**"
        rows.append([*row, best.setting, _misses(c, best), ratio.words, kept])
    names = ["scenario", "flagship, USD", "misses / allowed", "cheapest constant setting", "its misses / allowed"]
    lines = table([*names, "flagship / cheapest", f"at most {MOST:g}"], rows)
    if not ratios:
        return lines
    mean = math.exp(math.fsum(math.log(r) for r in ratios) / len(ratios))
    return f"{lines}\n\nOn average {mean:.3f} (geometric mean of {len(ratios)}), at worst {max(ratios):.3f}."


def _each(c: Constant, done: Sequence[str]) -> str:
    """Cost over the flagship's, and misses over allowed; those under the target in bold."""
    rows = []
    for setting in c.settings:
        cells = []
        for name in done:
            entry = c.entries.get((setting.name, name))
            if entry is None:
                cells.append("-")
                continue
            share = entry.mean("slo_attainment_fraction")
            within = "?" if share is None else percent(share)
            cell = f"{Ratio.of(entry.costs, c.entries[FLAGSHIP.name, name].costs).mean:.3f}, {within}"
            cells.append(cell if entry.reaches(c.targets[name]) else f"**{cell}**")
        rows.append([setting.name, *cells])
    words = "Cost over the flagship's, and the share within the SLO; **bold**: under the target."
    return f"{words}\n\n{table(['setting', *done], rows)}"


def _misses(c: Constant, entry: Entry) -> str:
    return f"{entry.worst_misses(c.targets[entry.scenario]):.2f}"


def _about(settings: Sequence[Setting]) -> list[list[str]]:
    return [[s.name, s.about] for s in settings]
