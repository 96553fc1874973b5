"""Draws the pictures of docs/policy.md from a run of a shipped scenario: what the shadow rules would have cost and
missed, and which of them were followed when.

    python benchmarks/draw_policy.py [--scenario preset:lunch-peak] [--at-h 14] [--out docs/pictures]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from autoscaler.common import svg as draw
from policies.base import FleetProposal, FleetView
from policies.predictive import PredictiveOptions, PredictivePolicy
from policies.predictive.rules.fleet import COST, MISSED, SHORT, RuleSimulation
from policies.predictive.rules.shadow_price import lower_hull
from policies.predictive.state import PredictiveState, RuleState
from simulator.experiments.simulation import simulate
from simulator.scenario.load import load_scenario

_WIDTH, _LEFT, _PLOT = 900, 60, 830
_COLOURS = {
    "hold": "#1f77b4", "early": "#17becf", "keep": "#9467bd", "clock": "#2ca02c", "steady": "#ff7f0e",
    "clock vendor": "#bcbd22", "reactive": "#8c564b",
}  # fmt: skip
_STYLE = (
    "text{font:12px sans-serif;fill:#454e5c}path{vector-effect:non-scaling-stroke;fill:none}.back{fill:#fff}"
    ".dot{stroke-width:6;stroke-linecap:round;opacity:.75}.chosen{stroke:#12161d;stroke-width:13;stroke-linecap:round}"
    ".hull{stroke:#12161d;stroke-width:1;stroke-dasharray:4 3}.aim{stroke:#d5453b}.frame{stroke:#c4cad4}"
    ".running{fill:#5b6b8433}.target{stroke:#5b6b84}.demand{stroke:#12161d;stroke-width:1.3}.price{stroke:#d5453b}"
)
_LEAST_SHARE = 1e-4
"""Rules that missed less are drawn here: the axis is logarithmic."""
_MOST_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule would have got, over the short record."""

    kind: str
    missed_share: float
    replicas: float
    """On the bill, on average."""


@dataclass(frozen=True, slots=True)
class Record:
    """All rules at one moment."""

    hour: float
    rules: tuple[Rule, ...]
    followed: int
    name: str
    price: float
    allowed_share: float


@dataclass(frozen=True, slots=True)
class Look:
    """One tick: in replicas, and what was followed."""

    at_s: float
    demand: float
    target: int
    running: int
    kind: str
    price: float


class Watched(PredictivePolicy):
    """`predictive` at its defaults, which is looked at while it works: its first deployment."""

    def __init__(self, at_s: float) -> None:
        super().__init__(PredictiveOptions())
        self.looks: list[Look] = []
        self.record: Record | None = None
        self._at_s = at_s

    def propose(self, fleet: FleetView, state: PredictiveState, now_s: float) -> FleetProposal:
        proposal = super().propose(fleet, state, now_s)
        d = fleet.deployments[0]
        memory = state.deployments.get(d.key.full)
        if memory is not None and d.key in proposal.replicas and memory.shadow.sizing.account.rule >= 0:
            book, account = memory.shadow, memory.shadow.sizing.account
            kind = kind_of(self.sizing.rule(book.sizing))
            wants = proposal.replicas[d.key].replicas
            self.looks.append(Look(now_s, book.smooth or 0.0, wants, d.running or 0, kind, account.price))
            if self.record is None and now_s >= self._at_s:
                self.record = self._record(book, now_s, max(1.0 - d.slo.target_fraction, 1e-4))
        return proposal

    def _record(self, book: RuleState, now_s: float, allowed_share: float) -> Record:
        memory, account, family = book.sizing.shadow, book.sizing.account, self.sizing.family
        record = RuleSimulation(memory, family, 1).record[SHORT]
        demand, bins = memory.demand_sums[SHORT], memory.weights[SHORT]
        each = zip(family.names, record[MISSED].tolist(), record[COST].tolist(), strict=True)
        rules = tuple(Rule(kind_of(name), missed / demand, cost / bins) for name, missed, cost in each)
        name = self.sizing.rule(book.sizing)
        return Record(now_s / 3600.0, rules, account.rule, name, account.price, allowed_share)


def kind_of(rule: str) -> str:
    """The block of a rule, by its name: `clock vendor 16` belongs to `clock vendor`."""
    return max((kind for kind in _COLOURS if rule.startswith(f"{kind} ")), key=len)


def rules_picture(record: Record) -> str:
    """Every rule by what it missed (across) and cost (up), the hull, the target, the rule that is followed."""
    dearest = sorted(r.replicas for r in record.rules)[int(0.9 * len(record.rules))]
    ticks = draw.nice_ticks(0.0, 1.1 * dearest)
    x, y = draw.Scale(_LEAST_SHARE, _MOST_SHARE, log=True), draw.Scale(0.0, ticks[-1], flip=True)
    missed, replicas = np.array([(r.missed_share, r.replicas) for r in record.rules]).T
    hull = lower_hull(missed, replicas)
    shapes = [draw.line([(x(a), y(b)) for a, b in hull], "hull")]
    aim = x(record.allowed_share)
    shapes.append(draw.rule(aim, 0, aim, 1000, "aim"))
    followed = record.rules[record.followed]
    shapes.append(draw.dot(x(followed.missed_share), y(followed.replicas), "chosen"))
    for r in record.rules:
        mark = draw.dot(x(r.missed_share), y(min(r.replicas, ticks[-1])), "dot")
        shapes.append(mark.replace("<path ", f'<path stroke="{_COLOURS[r.kind]}" ', 1))
    height, plot_height = 420, 330
    words = [f'<text x="4" y="44">{ticks[-1]:g} replicas</text>', f'<text x="4" y="{30 + plot_height}">0</text>']
    for share in (1e-4, 1e-3, 1e-2, 1e-1):
        less = "≤ " if share == _LEAST_SHARE else ""
        at_px = _LEFT + _PLOT * x(share) / 1000
        words.append(f'<text x="{at_px:.0f}" y="{48 + plot_height}">{less}{100 * share:g} %</text>')
    head = (
        f"each dot a rule after {record.hour:.0f} h: missed across, replicas on the bill up; black {record.name!r}, "
        f"followed; red what may miss; dashed the hull"
    )
    words.append(f'<text x="{_LEFT}" y="18">{escape(head)}</text>')
    return _page(height, "rules by what they missed and cost", [_plot(shapes, 30, plot_height), *words, _legend(404)])


def day_picture(looks: list[Look]) -> str:
    """Demand and fleet over the run, which block was followed, and the price of a miss."""
    end_s = looks[-1].at_s
    top = draw.nice_ticks(0.0, max(max(one.running, one.target, one.demand) for one in looks))[-1]
    x, y = draw.Scale(0.0, end_s), draw.Scale(0.0, top, flip=True)
    at_s = [one.at_s for one in looks]

    def curve(values: list[float], scale: draw.Scale) -> list[tuple[float, float]]:
        return [(x(t), scale(v)) for t, v in draw.steps(draw.thin(at_s, values))]

    fleet = [
        draw.area(curve([float(one.running) for one in looks], y), 1000, "running"),
        draw.line(curve([float(one.target) for one in looks], y), "target"),
        draw.line([(x(t), y(v)) for t, v in draw.thin(at_s, [one.demand for one in looks])], "demand"),
    ]
    bands = []
    for first, last in _stretches([one.kind for one in looks]):
        band = draw.box(x(at_s[first]), 0, x(at_s[min(last, len(at_s) - 1)]), 1000, "band")
        bands.append(band.replace("<path ", f'<path style="fill:{_COLOURS[looks[first].kind]}" ', 1))
    most = max(one.price for one in looks)
    price = draw.Scale(0.5, max(most, 1.0), log=True, flip=True)
    prices = [draw.line(curve([one.price for one in looks], price), "price")]
    clock = [
        f'<text x="{_LEFT + (_PLOT - 40) * i / 4:.0f}" y="356">{end_s / 3600 * i / 4:.3g} h</text>' for i in range(5)
    ]
    words = [
        f'<text x="{_LEFT}" y="18">demand as replicas feel it (black), wanted (line), running (grey)</text>',
        f'<text x="4" y="36">{top:g}</text>',
        f'<text x="{_LEFT}" y="232">the block of the rule that is followed</text>',
        f'<text x="{_LEFT}" y="276">replica-seconds that a missed one is worth (0.5 to {most:.3g})</text>',
    ]
    plots = [_plot(fleet, 24, 190), _plot(bands, 238, 22), _plot(prices, 282, 56)]
    return _page(390, "a day of sizing", [*plots, *words, *clock, _legend(376)])


def _stretches(kinds: list[str]) -> list[tuple[int, int]]:
    """First and last place (the next stretch's first) of each run of equal kinds."""
    starts = [i for i, kind in enumerate(kinds) if i == 0 or kind != kinds[i - 1]]
    return list(zip(starts, [*starts[1:], len(kinds)], strict=True))


def _plot(shapes: list[str], top_px: int, height_px: int) -> str:
    frame = draw.box(0, 0, 1000, 1000, "frame")
    plot = draw.svg([frame, *shapes], "plot")
    return plot.replace("<svg ", f'<svg x="{_LEFT}" y="{top_px}" width="{_PLOT}" height="{height_px}" ', 1)


def _legend(y_px: int) -> str:
    words, at_px = [], float(_LEFT)
    for kind, colour in _COLOURS.items():
        words.append(f'<rect x="{at_px:.0f}" y="{y_px - 9}" width="10" height="10" fill="{colour}"/>')
        words.append(f'<text x="{at_px + 14:.0f}" y="{y_px}">{kind}</text>')
        at_px += 34 + 7 * len(kind)
    return "".join(words)


def _page(height_px: int, label: str, parts: list[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height_px}" role="img" '
        f'aria-label="{escape(label)}"><style>{_STYLE}</style>'
        f'<rect class="back" width="{_WIDTH}" height="{height_px}"/>{"".join(parts)}</svg>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="preset:lunch-peak")
    parser.add_argument("--at-h", type=float, default=14.0, help="when the rules are looked at, hours after the start")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    options = parser.parse_args()
    policy = Watched(options.at_h * 3600.0)
    simulate(load_scenario(options.scenario, seed=options.seed), policy)
    if policy.record is None:
        parser.error(f"--at-h {options.at_h:g}: no rule was followed by then; allowed: hours within the scenario")
    (options.out / "policy-rules.svg").write_text(rules_picture(policy.record), "utf-8")
    (options.out / "policy-day.svg").write_text(day_picture(policy.looks), "utf-8")


if __name__ == "__main__":
    main()
