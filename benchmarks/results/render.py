"""results.md from what was played: each scenario's table, all scenarios together, and the relations that must hold.

Figures are means over seeds; intervals are 95 % by Student's t, of paired ratios to `oracle_lead` (the same traffic,
the same luck). A policy reaches the target when each deployment's mean share over the seeds does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.results.paired import half_interval
from benchmarks.results.promises import promises
from benchmarks.results.table import Entry, Table

_CLAIRVOYANT = ("oracle", "oracle_lead", "hindsight", "static")
_LEAST_TO_DECIDE = 1.3
_ROUNDING = 1.0005
"""Of a relation: bills that are equal but for the last cents."""


def render(table: Table) -> str:
    """The whole page."""
    parts = [_head(table), _together(table), promises(table), _relations(table)]
    parts += [_scenario(table, name) for name in table.about if table.of(name)]
    return "\n".join(part for part in parts if part).rstrip() + "\n"


def _head(table: Table) -> str:
    trained, judged, part = (f"{s / 3600:g} hours" for s in (table.trained_s, table.judged_s, table.slice_s))
    lines = [
        "# The league: results" + (", quick edition" if table.name == "quick" else ""),
        "",
        f"Made by `{table.command}`; do not edit. Simulated, not measured.",
        f"Seeds {', '.join(map(str, table.seeds))}.",
        f"Each scenario is tuned on {trained} of one day and judged on {judged} of later days. Every rival had",
        f"{table.trials} trials on {part}; the best of them and the defaults were judged on the whole training",
        "time, and the cheapest that used at most 0.7 of the allowed misses there is the tuned setting",
        "([tuning.md](tuning.md)).",
        f"What stands here took {table.cpu_s / 60:.0f} minutes of one core, on a machine shared with other work",
        f"(all calls so far, runs of former code included: {table.elapsed_s / 60:.0f} minutes by the clock).",
        f"Code: {', '.join(table.revisions) or 'unknown'} (+ with changes not committed).",
        "",
    ]
    if table.stand_ins:
        lines += [f"**Generated stand-ins** take the place of the public traces {', '.join(table.stand_ins)}.", ""]
    if table.missing:
        lines += [f"**Not finished**: {table.missing} pieces of work are missing; `{table.command}` goes on."]
        lines += [*_rest(table), ""]
    lines += [
        "`oracle` is a bound, `oracle_lead` the best plan found by who knows all arrivals, `hindsight` the HPA tuned",
        "on the judged time itself, `static` the smallest constant fleet that reaches the target there",
        "([rivals.md](rivals.md)). A cost of 1.00 is that of `oracle_lead`; ± is the 95 % interval over seeds, of the",
        "paired ratio where it is a ratio.",
        "",
    ]
    return "\n".join(lines)


def _rest(table: Table) -> list[str]:
    if table.left_s is None:
        return []
    whole_min = (table.cpu_s + table.left_s) / 60
    return [
        f"By what its finished pieces took, the whole takes about {whole_min:.0f} minutes of one core; a rival",
        "of which nothing is finished counts there like the mean of the others.",
    ]


def _together(table: Table) -> str:
    """Means over scenarios."""
    labels = list(dict.fromkeys((e.policy, e.setting) for e in table.entries))
    rows = []
    for policy, setting in labels:
        ratios, reached, played, attained = [], 0, 0, []
        for name in table.about:
            entry, best = table.find(name, policy, setting), table.find(name, "oracle_lead")
            if entry is None or best is None:
                continue
            played += 1
            ratios.append(entry.cost / best.cost)
            reached += table.reaches(entry)
            attained.append(_worst_misses(table, entry))
        if ratios:
            mean = math.exp(math.fsum(math.log(r) for r in ratios) / len(ratios))
            median = sorted(attained)[len(attained) // 2]
            rows.append((policy, setting, mean, reached, played, median))
    lines = [
        "## All scenarios",
        "",
        "| policy | setting | cost, geometric mean | reaches the target in | misses over allowed, median |",
    ]
    lines += ["| --- | --- | --- | --- | --- |"]
    for policy, setting, mean, reached, played, median in sorted(rows, key=lambda r: (-r[3] / r[4], r[2])):
        name = f"**{policy}**" if policy == "predictive" else policy + (" *" if policy in _CLAIRVOYANT else "")
        lines.append(f"| {name} | {setting} | {mean:.2f} | {reached} of {played} | {median:.2f} |")
    lines += ["", "\\* knows the traffic. Cheap is no merit of who misses the target.", ""]
    return "\n".join(lines)


def _worst_misses(table: Table, entry: Entry) -> float:
    return 0.0 if entry.policy == "oracle" else entry.worst_misses(table.targets[entry.scenario])


# ---------------------------------------------------------------- what must hold


def _relations(table: Table) -> str:
    lines = [
        "## Relations",
        "",
        "| scenario | oracle ≤ oracle_lead | oracle_lead ≤ all that reach | hindsight ≤ tuned HPA "
        "| static / oracle_lead ≥ 1.3 |",
    ]
    lines += ["| --- | --- | --- | --- | --- |"]
    for name in table.about:
        if table.of(name):
            cells = [_bound(table, name), _cheapest(table, name), _reactive(table, name), _to_decide(table, name)]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _verdict(holds: bool, words: str) -> str:
    return ("yes, " if holds else "**no**, ") + words


def _bound(table: Table, name: str) -> str:
    low, lead = table.find(name, "oracle"), table.find(name, "oracle_lead")
    if low is None or lead is None:
        return "?"
    return _verdict(low.cost <= lead.cost * _ROUNDING, f"{low.cost / lead.cost:.2f}")


def _cheapest(table: Table, name: str) -> str:
    lead = table.find(name, "oracle_lead")
    if lead is None:
        return "?"
    others = [e for e in table.of(name) if e.policy not in ("oracle", "oracle_lead") and table.reaches(e)]
    if not others:
        return "nobody else reaches it"
    best = min(others, key=lambda e: e.cost)
    note = "" if table.reaches(lead) else "; oracle_lead misses the target itself"
    return _verdict(lead.cost <= best.cost * _ROUNDING and not note, f"{best.label} {best.cost / lead.cost:.2f}{note}")


def _reactive(table: Table, name: str) -> str:
    best, tuned = table.find(name, "hindsight"), table.find(name, "hpa_ongoing", "tuned")
    if best is None or tuned is None:
        return "?"
    if not table.reaches(tuned):
        return "yes, the tuned one misses the target" + ("" if table.reaches(best) else ", both do")
    return _verdict(best.cost <= tuned.cost * _ROUNDING and table.reaches(best), f"{best.cost / tuned.cost:.2f}")


def _to_decide(table: Table, name: str) -> str:
    static, lead = table.find(name, "static"), table.find(name, "oracle_lead")
    if static is None or lead is None:
        return "?" if lead is None else "no constant fleet fits"
    return _verdict(static.cost / lead.cost >= _LEAST_TO_DECIDE, f"{static.cost / lead.cost:.2f}")


# ---------------------------------------------------------------- one scenario


def _scenario(table: Table, name: str) -> str:
    lead = table.find(name, "oracle_lead")
    targets = table.targets[name]
    shown = ", ".join(f"{100 * t:g} %" for t in dict.fromkeys(targets.values()))
    requests = table.of(name)[0].mean("requests") or next((e.mean("requests") for e in table.of(name)[1:]), None)
    lines = [
        f"## {name}",
        "",
        f"{table.about[name][0].upper()}{table.about[name][1:]}. Target {shown}; {requests or 0:,.0f} requests a seed.",
        "",
    ]
    lines += [
        "| policy | setting | cost, USD | over oracle_lead | within SLO | TTFT p99, s | cold starts hidden / felt |"
    ]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    entries = sorted(table.of(name), key=lambda e: (not table.reaches(e), e.cost))
    for entry in entries:
        lines.append(_row(table, entry, lead))
    tuned = [e for e in entries if e.setting == "tuned"]
    if tuned:
        found = "; ".join(f"{e.policy} {_options(e.options)}" for e in sorted(tuned, key=lambda e: e.policy))
        lines += ["", f"<details><summary>Tuned settings</summary>\n\n{found}\n\n</details>"]
    return "\n".join([*lines, ""])


def _row(table: Table, entry: Entry, lead: Entry | None) -> str:
    star = " *" if entry.policy in _CLAIRVOYANT else ""
    name = f"**{entry.policy}**" if entry.policy == "predictive" else entry.policy + star
    cost = _with_interval(entry.costs, "{:,.0f}")
    over = "?" if lead is None else _with_interval(
        [a / b for a, b in zip(entry.costs, lead.costs, strict=True)], "{:.2f}"
    )  # fmt: skip
    if entry.policy == "oracle":
        return f"| {name} | | {cost} | {over} | | | |"
    share, late = entry.mean("slo_attainment_fraction"), entry.mean("ttft_s", "p99")
    within = "?" if share is None else f"{100 * share:.2f} %"
    within += "" if table.reaches(entry) else ", misses"
    hidden, effective = entry.mean("cold_starts_hidden"), entry.mean("cold_starts_exposed")
    ttft = "?" if late is None else f"{late:.3g}"
    return (
        f"| {name} | {entry.setting} | {cost} | {over} | {within} | {ttft} | {hidden or 0:.0f} / {effective or 0:.0f} |"
    )


def _with_interval(values: Sequence[float], form: str) -> str:
    mean, half = math.fsum(values) / len(values), half_interval(values)
    return form.format(mean) + ("" if half is None else f" ± {form.format(half)}")


def _options(options: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{k}: {v}" for k, v in options.items()) + "}"
