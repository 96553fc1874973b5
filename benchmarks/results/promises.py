"""What `predictive` is to be worth, scenario by scenario: its bill over that of others who reach the target.

Bounds are those that were set before it was played: not dearer than any rival at its defaults (0.5 %), at most 3 % than
one tuned on the day before, at most 5 % than the HPA tuned in hindsight; 80 % of what `oracle_lead` saves of the
smallest constant fleet; in no run more than 1.25 of the misses that the target allows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.results.further import FLAGSHIP, NEAR, WITHIN
from benchmarks.results.paired import Ratio
from benchmarks.results.table import Entry, Table

_DEFAULT, _TUNED, _HINDSIGHT = 1.005, 1.03, 1.05
_SAVED = 0.8
_MISSES = 1.25
_REFERENCES = ("oracle", "oracle_lead", "hindsight", "static")


def promises(table: Table) -> str:
    """The section of the page; empty where nothing of it was played."""
    rows = [row for name in table.about if (row := _row(table, name)) is not None]
    if not rows:
        return ""
    lines = [
        f"## What `{FLAGSHIP}` promises",
        "",
        "Its bill over that of whom it is dearest against, of those who reach the target (bold: over what is promised, "
        f"{_DEFAULT:g} / {_TUNED:g} / {_HINDSIGHT:g}), paired by",
        "seed: the geometric mean and its 95 % interval, over as many seeds as are told; of what `oracle_lead` saves",
        f"of `static`, the share that it saves ({_SAVED:g} promised on average); the misses of its worst seed over",
        f"allowed ones ({_MISSES:g}).",
        *_further(table),
        "",
        "| scenario | rivals' defaults | tuned rivals | hindsight | seeds | saved | worst seed's misses |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        *_means(table),
        "",
    ]
    return "\n".join(lines)


def _further(table: Table) -> list[str]:
    """Who has played more seeds."""
    if not table.further:
        return []
    seeds = ", ".join(map(str, table.further_seeds))
    return [
        f"Seeds {seeds} are played by `{FLAGSHIP}` and by rivals that use at most {NEAR:g} of the allowed misses and "
        "are at most",
        f"{100 * (WITHIN - 1):.0f} % dearer than the cheapest of their setting that reaches the target (of the tuned "
        "ones, two), and",
        "count in this table alone.",
    ]


def _row(table: Table, name: str) -> str | None:
    ours = table.find(name, FLAGSHIP, "default")
    if ours is None:
        return None
    bounds = ((_rivals(table, name, "default"), _DEFAULT), (_rivals(table, name, "tuned"), _TUNED))
    nearest = [
        (_nearest(table, ours, others), most) for others, most in (*bounds, (_hindsight(table, name), _HINDSIGHT))
    ]
    cells = ["nobody reaches it" if one is None else one.words(most) for one, most in nearest]
    cells.append(" / ".join("-" if one is None else str(one.ratio.seeds) for one, _ in nearest))
    saved = _saved(table, name)
    cells.append("?" if saved is None else _bold(f"{100 * saved:.0f} %", saved >= _SAVED))
    longest = table.longest(ours)
    worst = max(_misses(table, longest, i) for i in range(len(longest.documents)))
    cells.append(_bold(f"{worst:.2f}", worst <= _MISSES))
    return f"| {name} | {' | '.join(cells)} |"


def _rivals(table: Table, name: str, setting: str) -> list[Entry]:
    return [e for e in table.of(name) if e.policy not in (*_REFERENCES, FLAGSHIP) and e.setting == setting]


def _hindsight(table: Table, name: str) -> list[Entry]:
    found = table.find(name, "hindsight")
    return [] if found is None else [found]


@dataclass(frozen=True, slots=True)
class _Against:
    """The flagship's bill over that of a rival who reaches the target."""

    policy: str
    ratio: Ratio

    def words(self, most: float) -> str:
        label = "" if self.policy == "hindsight" else f" {self.policy}"
        return _bold(f"{self.ratio.words}{label}", self.ratio.mean <= most)


def _nearest(table: Table, ours: Entry, others: Sequence[Entry]) -> _Against | None:
    """The rival that it is dearest against, of those who reach the target in the seeds of both; None: nobody does."""
    pairs = [table.paired(ours, other) for other in others]
    found = [_Against(b.policy, Ratio.of(a.costs, b.costs)) for a, b in pairs if table.reaches(b)]
    return max(found, key=lambda one: one.ratio.mean, default=None)


def _saved(table: Table, name: str) -> float | None:
    """Of the difference between the smallest constant fleet and the plan of who knows all arrivals."""
    ours = table.find(name, FLAGSHIP, "default")
    static, lead = table.find(name, "static"), table.find(name, "oracle_lead")
    if ours is None or static is None or lead is None or static.cost <= lead.cost:
        return None
    return (static.cost - ours.cost) / (static.cost - lead.cost)


def _misses(table: Table, entry: Entry, seed: int) -> float:
    """Of one seed, of the worst deployment: the share that missed over the share that may."""
    deployments = entry.documents[seed]["deployments"]
    shares = [
        (deployments[key]["slo_attainment_fraction"], target) for key, target in table.targets[entry.scenario].items()
    ]
    return max([0.0, *((1.0 - share) / (1.0 - target) for share, target in shares if share is not None)])


def _means(table: Table) -> list[str]:
    names = [name for name in table.about if table.find(name, FLAGSHIP, "default") is not None]
    over = [_ratio(table, name) for name in names]
    known = [ratio for ratio in over if ratio is not None]
    saved = [share for name in names if (share := _saved(table, name)) is not None]
    words = []
    if known:
        mean = math.exp(math.fsum(math.log(r) for r in known) / len(known))
        words.append(
            f"over `hindsight` {_bold(f'{mean:.2f}', mean <= 0.9)} (geometric mean of {len(known)}; 0.9 promised)"
        )
    if saved:
        mean = math.fsum(saved) / len(saved)
        words.append(f"saved {_bold(f'{100 * mean:.0f} %', mean >= _SAVED)}")
    return [f"On average {', '.join(words)}."] if words else []


def _ratio(table: Table, name: str) -> float | None:
    ours = table.find(name, FLAGSHIP, "default")
    best = None if ours is None else _nearest(table, ours, _hindsight(table, name))
    return None if best is None else best.ratio.mean


def _bold(words: str, kept: bool) -> str:
    return words if kept else f"**{words}**"
