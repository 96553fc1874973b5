"""The words of a report: numbers as people read them, and headlines that are computed, also when they say we lose."""

from __future__ import annotations

import math
from collections.abc import Sequence

from simulator.experiments.league import Run, Summary

_OWN = "predictive"
_MOST_NAMED = 2
MINUS = "\N{MINUS SIGN}"
NARROW = "\N{NO-BREAK SPACE}"


def display_name(policy: str) -> str:
    """What a policy is called for people."""
    names = {
        "predictive": "leadtime",
        "static": "static peak",
        "hpa_ongoing": "HPA",
        "hpa_queue": "HPA on queue",
        "hpa_kv": "HPA on KV cache",
        "ray_serve": "Ray Serve",
        "knative": "Knative",
        "keda": "KEDA",
    }
    return names.get(policy, policy)


def dollars(value: float | None) -> str:
    """`$4,363`, `$84.8`; unknown is `?`."""
    if value is None:
        return "?"
    if value == 0:
        return "$0"
    sign = MINUS if value < 0 else ""
    value = abs(value)
    return f"{sign}${value:,.0f}" if value >= 1000 else f"{sign}${value:.3g}" if value >= 1 else f"{sign}${value:.2f}"


def percent(fraction: float | None, digits: int = 2) -> str:
    """`0.39 %`; a share that is not 0 never shows as 0, and one that is not 1 never as 100 %."""
    if fraction is None:
        return "?"
    step = 10.0**-digits
    value = 100 * fraction
    text = f"{value:.{digits}f}"
    if fraction > 0 and float(text) == 0:
        return f"< {step:g}{NARROW}%"
    if fraction < 1 and float(text) >= 100:
        return f"> {100 - step:g}{NARROW}%"
    return f"{text}{NARROW}%"


def change(fraction: float | None) -> str:
    """`−48 %`, `+3 %`; unknown or not applicable is a dash."""
    if fraction is None or not math.isfinite(fraction):
        return "–"
    return f"{MINUS if round(100 * fraction) < 0 else '+'}{abs(round(100 * fraction))}{NARROW}%"


def seconds(value: float | None) -> str:
    """Three digits: `0.341`, `12.6`, `155`."""
    return "?" if value is None else f"{value:.3g}"


def span(duration_s: float) -> str:
    """`58 minutes`, `one day`, `7 days`."""
    if duration_s < 2 * 3600:
        return f"{duration_s / 60:.0f} minutes"
    if duration_s < 36 * 3600:
        hours = duration_s / 3600
        return "one day" if abs(hours - 24) < 0.5 else f"{hours:.0f} hours"
    return f"{duration_s / 86400:.0f} days"


def miss_fraction(summary: Summary) -> float | None:
    attained = summary.slo_attainment_fraction
    return None if attained is None else 1 - attained


def target_words(run: Run) -> str:
    """`the 99 % target`, or `every target` where deployments differ."""
    targets = set(run.targets.values())
    if len(targets) != 1:
        return "every target"
    return f"the {share(targets.pop())} target"


def share(fraction: float) -> str:
    """A target or what it leaves, as short as it is: `99 %`, `0.5 %`."""
    return f"{100 * fraction:.6g}{NARROW}%"


def missed_words(row: Summary, run: Run) -> str:
    """Whose targets a policy misses: `the 99 % target`; where there are several deployments, `the 95 % target of
    code/llm`, `the targets of 5 of 12 deployments`.
    """
    if len(run.targets) == 1:
        return target_words(run)
    targets = {s.target_fraction for s in row.missing_target}
    what = f"the {share(targets.pop())} target" if len(targets) == 1 else "the targets"
    return f"{what} of {_whose(row, run, ' and ')}"


def verdict(row: Summary, run: Run) -> str:
    """For a cell: `meets the target`, `misses the target`, `misses: code/llm`."""
    several = len(run.targets) > 1
    if row.reaches_target:
        return "meets every target" if several else "meets the target"
    return f"misses: {_whose(row, run, ', ')}" if several else "misses the target"


def _whose(row: Summary, run: Run, between: str) -> str:
    """The deployments that miss: by name where they are few."""
    names = [s.deployment for s in row.missing_target]
    if len(names) <= _MOST_NAMED:
        return between.join(names)
    return "every deployment" if len(names) == len(run.targets) else f"{len(names)} of {len(run.targets)} deployments"


def headline(rows: Sequence[Summary], run: Run) -> tuple[str, str]:
    """The headline and the sentence under it, for one scenario. `run` is any run of it."""
    own = next((r for r in rows if r.policy == _OWN), rows[0])
    name, target = display_name(own.policy), target_words(run)
    others = [r for r in rows if r is not own]
    rivals = sorted((r for r in others if _is_rival(r) and r.reaches_target), key=_cost)
    title = _title(name, target, own, others, rivals) if own.reaches_target else _lost(name, own, rivals, run)
    return title, _details(own, others, run)


def _lost(name: str, own: Summary, rivals: Sequence[Summary], run: Run) -> str:
    """The headline if `predictive` misses, and which policies do not."""
    missed, several = missed_words(own, run), len(run.targets) > 1
    if rivals:
        return f"{name} misses {missed}; {display_name(rivals[0].policy)} meets {'every target' if several else 'it'}"
    fraction, whose = miss_fraction(own), "all requests" if several else "requests"
    if several and len(own.missing_target) == 1:
        fraction, whose = 1 - own.missing_target[0].slo_attainment_fraction, "its requests"
    return f"{name} misses {missed}: {percent(fraction)} of {whose} got less than promised"


def _title(name: str, target: str, own: Summary, others: Sequence[Summary], rivals: Sequence[Summary]) -> str:
    if not others:
        return f"{name} meets {target} for {dollars(own.cost_usd)}"
    if not rivals:
        return f"{name} meets {target}; nobody else does"
    best = display_name(rivals[0].policy)
    if own.cost_usd is None or not rivals[0].cost_usd:
        return f"{name} and {best} meet {target}"
    ratio = own.cost_usd / rivals[0].cost_usd
    if abs(ratio - 1) < 0.005:
        return f"{name} meets {target} at the same cost as {best}"
    if ratio > 1:
        return f"{name} meets {target}, but costs {_whole(ratio - 1)} more than {best}"
    return f"{name} meets {target} for {_whole(1 - ratio)} less than {best}, the cheapest other that does"


def _whole(fraction: float) -> str:
    return f"{round(100 * fraction)}{NARROW}%"


def _is_rival(row: Summary) -> bool:
    """Oracles are bounds. A constant fleet is a rival, though its size was found with hindsight: people run that."""
    return not row.clairvoyant or row.policy == "static"


def _cost(row: Summary) -> float:
    return math.inf if row.cost_usd is None else row.cost_usd


def _details(own: Summary, others: Sequence[Summary], run: Run) -> str:
    """Figures of `predictive`, then of all policies from the cheapest that meets the target on."""
    parts = [f"{display_name(own.policy)}: {dollars(own.cost_usd)} at {percent(miss_fraction(own))} misses."]
    for row in sorted(others, key=lambda r: (not r.reaches_target, _cost(r))):
        knows = " (which knows the traffic beforehand)" if row.clairvoyant else ""
        missed = missed_words(row, run) if len(run.targets) > 1 else "the target"
        meets = "" if row.reaches_target else f", which misses {missed}"
        figures = f"{dollars(row.cost_usd)} at {percent(miss_fraction(row))} misses{meets}"
        parts.append(f"{display_name(row.policy)}{knows}: {figures}.")
    return " ".join(parts)
