"""What came of the long traces, as tables in Markdown: who reached what, and whether anybody could for our bill."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.acceptance.section import percent, table
from benchmarks.attainment_fluid import Figures

_BILL = 1.25
"""A target counts as out of reach where no rival reaches it for so many times our bill."""
_LESS = 0.002
"""Of all requests: by how much nobody may miss less within that bill."""
_LENIENT_FROM, _LENIENT = 0.999, 1.25
"""From this target on: so many times the allowed misses are still taken for reached."""
_SAME = 1.0005
_SHOWN = 6
"""Cases that are missing, by name."""


@dataclass(frozen=True, slots=True)
class Played:
    """One trace at one lead time and size of fleet: ours at each target, ours without parts, rivals, rules alone."""

    trace: str
    days: float
    lead_s: float
    peak: float
    ours: Mapping[float, Figures]
    parts: Mapping[str, Figures]
    rivals: Sequence[Figures]
    alone: Sequence[Figures]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`words` say why not, or why nobody could; `reached` None: no rival reaches it for that bill either."""

    reached: bool | None
    words: str

    @property
    def cell(self) -> str:
        if self.reached:
            return "yes"
        return f"{'**no**' if self.reached is False else 'out of reach'}: {self.words}"


def may_miss(target: float) -> float:
    """The share of requests that may miss for a target to count as reached."""
    return (1.0 - target) * (_LENIENT if target >= _LENIENT_FROM else 1.0) * _SAME


def verdict(ours: Figures, rivals: Sequence[Figures]) -> Verdict:
    """Reached, missed, or out of everybody's reach for about our bill (issue 7 of this repository)."""
    allowed = may_miss(ours.target)
    if ours.missed_share <= allowed:
        return Verdict(True, "")
    within = [r for r in rivals if r.cost <= _BILL * ours.cost]
    reaching = [r for r in within if r.missed_share <= allowed]
    if reaching:
        best = min(reaching, key=lambda r: r.cost)
        return Verdict(False, f"{best.name} reaches it for {best.cost / ours.cost:.2f} of our bill")
    least = min(within, key=lambda r: r.missed_share, default=None)
    if least is None:
        return Verdict(None, "every rival is dearer")
    less = ours.missed_share - least.missed_share
    words = f"{least.name}, with the fewest misses for that bill, has {percent(least.missed_share)}"
    return Verdict(False if less > _LESS else None, words)


def page(played: Sequence[Played], missing: Sequence[str], cpu_s: float, revisions: Sequence[str]) -> str:
    """The part between the marks."""
    traces = {p.trace: p.days for p in played}
    parts = [
        f"{len(traces)} traces of {sum(traces.values()):.0f} days, {len(played)} cases of trace, lead time and fleet; "
        f"{cpu_s / 60.0:.0f} minutes of one core beside forecasts. Code: {', '.join(revisions) or 'unknown'}.",
        *([f"**Not played**: {_listed(missing)}."] if missing else []),
        _summary(played),
    ]
    for lead_s, peak in dict.fromkeys((p.lead_s, p.peak) for p in played):
        some = [p for p in played if (p.lead_s, p.peak) == (lead_s, peak)]
        parts += [f"## A start takes {lead_s:g} s, {peak:g} replicas at the peak", _cases(some)]
    if any(p.parts for p in played):
        parts += ["## The flagship minus one part at a time, target 99 %", _parts([p for p in played if p.parts])]
    return "\n\n".join(parts)


def _listed(missing: Sequence[str]) -> str:
    shown = "; ".join(missing[:_SHOWN])
    return shown if len(missing) <= _SHOWN else f"{len(missing)} cases ({shown} ...)"


def _summary(played: Sequence[Played]) -> str:
    """For each target and kind of case: how many reached it, and what that cost."""
    kinds = dict.fromkeys((target, p.lead_s, p.peak) for p in played for target in p.ours)
    rows = []
    for target, lead_s, peak in sorted(kinds):
        some = [p for p in played if (p.lead_s, p.peak) == (lead_s, peak) and target in p.ours]
        found = [verdict(p.ours[target], p.rivals) for p in some]
        both = [(p, best) for p in some if (best := cheapest(p.rivals, target, "hpa"))]
        both = [(p, best) for p, best in both if p.ours[target].missed_share <= may_miss(target)]
        against = [p.ours[target].cost / best.cost for p, best in both]
        rows.append(
            [
                percent(target, 1),
                f"{lead_s:g}",
                f"{peak:g}",
                f"{sum(v.reached is True for v in found)} of {len(found)}",
                sum(v.reached is None for v in found),
                sum(v.reached is False for v in found),
                f"{mean([p.ours[target].cost for p in some]):.2f}",
                f"{mean(against):.2f} ({len(against)})" if against else "nowhere both",
            ]
        )
    names = ["target", "start, s", "peak", "reached", "out of reach", "missed", "cost / oracle", "/ hindsight HPA"]
    return table(names, rows)


def _cases(played: Sequence[Played]) -> str:
    rows = []
    for p in played:
        for target, ours in sorted(p.ours.items()):
            hpa, constant = (cheapest(p.rivals, target, kind) for kind in ("hpa", "constant"))
            rule = cheapest(p.alone, target)
            rows.append(
                [
                    f"{p.trace} ({p.days:.0f} days)",
                    percent(target, 1),
                    f"{ours.cost:.2f}",
                    percent(ours.missed_share),
                    f"{ours.missed_share / (1.0 - target):.2f}",
                    verdict(ours, p.rivals).cell,
                    _bill(hpa),
                    _bill(constant, name=False),
                    _bill(rule),
                    f"{ours.starts:.2f}",
                    "-" if ours.missed_share <= 0 else f"{percent(ours.worst_day_share, 0)} on day {ours.worst_day}",
                    percent(ours.capped_share, 0),
                ]
            )
    names = [
        "trace", "target", "cost / oracle", "missed", "missed / allowed", "reached", "best HPA in hindsight",
        "smallest constant fleet", "cheapest rule alone", "starts / oracle", "worst day's share of misses",
        "price at its cap",
    ]  # fmt: skip
    return table(names, rows)


def _bill(found: Figures | None, name: bool = True) -> str:
    return "none" if found is None else f"{found.cost:.2f}" + (f" ({found.name})" if name else "")


def _parts(played: Sequence[Played]) -> str:
    full = {id(p): p.ours[0.99] for p in played if 0.99 in p.ours}
    names = list(dict.fromkeys(name for p in played for name in p.parts))
    rows = []
    for name in ["flagship", *names]:
        pairs = [(full[id(p)] if name == "flagship" else p.parts[name], full[id(p)]) for p in played if id(p) in full]
        own = [a for a, _ in pairs]
        rows.append(
            [
                name,
                len(own),
                f"{mean([a.cost / b.cost for a, b in pairs]):.3f}",
                percent(math.fsum(a.missed_share for a in own) / len(own)),
                sum(a.missed_share > 0.01 * _SAME for a in own),
                sum(a.missed_share > 0.011 for a in own),
                f"{mean([a.starts / b.starts for a, b in pairs if a.starts and b.starts]):.2f}",
            ]
        )
    names = ["variant", "cases", "cost / flagship", "missed, mean", "over 1 %", "over 1.1 %", "starts / flagship"]
    return table(names, rows)


def cheapest(some: Sequence[Figures], target: float, kind: str = "") -> Figures | None:
    """Of those whose name begins so, the cheapest that reaches the target; None: none does."""
    reaching = [f for f in some if f.name.startswith(kind) and f.missed_share <= may_miss(target)]
    return min(reaching, key=lambda f: f.cost, default=None)


def mean(values: Sequence[float]) -> float:
    """Geometric."""
    return math.exp(math.fsum(math.log(max(v, 1e-9)) for v in values) / len(values)) if values else math.nan
