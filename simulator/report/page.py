"""The report: one HTML file that needs nothing else, readable on a phone, in the dark and on paper.

Order: a sentence, cost against misses, the day under each policy, the bill. Made of results only. This module and its
neighbours turn results into records; what a reader sees is in templates/.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from autoscaler import __version__
from simulator.experiments.league import League, Run, Summary
from simulator.report import text as text
from simulator.report.bill import Bill, bill
from simulator.report.day import Day, day
from simulator.report.pareto import Pareto, pareto


@dataclass(frozen=True, slots=True)
class ScenarioPart:
    """What the report says of one scenario; `pareto` None: a single policy, or no known cost."""

    what: str
    title: str
    sentence: str
    pareto: Pareto | None
    day: Day | None
    bill: Bill


@dataclass(frozen=True, slots=True)
class Page:
    """The whole report."""

    title: str
    warnings: tuple[str, ...]
    scenarios: tuple[ScenarioPart, ...]
    command: str
    notes: str
    seeds: str
    version: str


def render(league: League, command: str) -> str:
    """The page of a league, or of a single run."""
    return _templates().get_template("report.html").render(page=page_of(league, command)) + "\n"


def page_of(league: League, command: str) -> Page:
    """The records that the templates show."""
    seeds = sorted({r.job.seed for r in league.runs})
    return Page(
        title=", ".join(dict.fromkeys(s.scenario for s in league.summaries)),
        warnings=tuple(league.warnings),
        scenarios=tuple(_scenario(league, ref) for ref in dict.fromkeys(r.job.scenario for r in league.runs)),
        command=command,
        notes=" ".join(dict.fromkeys(f"{n}." for r in league.runs for n in r.document.get("notes", ()))),
        seeds=f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0]),
        version=__version__,
    )


@lru_cache(maxsize=1)
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("simulator.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _scenario(league: League, reference: str) -> ScenarioPart:
    runs = [r for r in league.runs if r.job.scenario == reference]
    name = runs[0].document["scenario"]
    rows = [s for s in league.summaries if s.scenario == name]
    title, sentence = text.headline(rows, runs[0])
    return ScenarioPart(
        what=f"{'compare' if len(rows) > 1 else 'simulate'}, scenario {name}: {_extent(runs[0], rows)}",
        title=title,
        sentence=sentence,
        pareto=pareto(rows, runs) if len(rows) > 1 else None,
        day=day(rows, [r for r in runs if r.job.seed == runs[0].job.seed]),
        bill=bill(rows, runs),
    )


def _extent(run: Run, rows: Sequence[Summary]) -> str:
    policies = "policy" if len(rows) == 1 else "policies"
    seeds = f"{rows[0].seeds} seed{'s' if rows[0].seeds > 1 else ''}"
    return f"{text.span(run.document['duration_s'])}, {len(rows)} {policies}, {seeds}"
