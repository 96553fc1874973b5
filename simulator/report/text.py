"""The words of a report: numbers as people read them, and headlines that are computed, also when they say we lose."""

from __future__ import annotations

import math
from collections.abc import Sequence

from simulator.league import Run, Summary

_OWN = "predictive"
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
    return f"the {100 * targets.pop():.6g}{NARROW}% target"


def headline(rows: Sequence[Summary], run: Run) -> tuple[str, str]:
    """The headline and the sentence under it, for one scenario. `run` is any run of it."""
    own = next((r for r in rows if r.policy == _OWN), rows[0])
    name, target = display_name(own.policy), target_words(run)
    others = [r for r in rows if r is not own]
    rivals = sorted((r for r in others if _is_rival(r) and r.reaches_target), key=_cost)
    return _title(name, target, own, others, rivals), _details(own, others)


def _title(name: str, target: str, own: Summary, others: Sequence[Summary], rivals: Sequence[Summary]) -> str:
    if not own.reaches_target and rivals:
        return f"{name} misses {target}; {display_name(rivals[0].policy)} meets it"
    if not own.reaches_target:
        return f"{name} misses {target}: {percent(miss_fraction(own))} of requests got less than promised"
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


def _details(own: Summary, others: Sequence[Summary]) -> str:
    """Own figures, then everybody's from the cheapest that meets the target on."""
    parts = [f"{display_name(own.policy)}: {dollars(own.cost_usd)} at {percent(miss_fraction(own))} misses."]
    for row in sorted(others, key=lambda r: (not r.reaches_target, _cost(r))):
        knows = " (which knows the traffic beforehand)" if row.clairvoyant else ""
        meets = "" if row.reaches_target else ", which misses the target"
        figures = f"{dollars(row.cost_usd)} at {percent(miss_fraction(row))} misses{meets}"
        parts.append(f"{display_name(row.policy)}{knows}: {figures}.")
    return " ".join(parts)
