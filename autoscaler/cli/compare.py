"""`leadtime compare`: scenarios under many policies and seeds, on the same traffic and the same luck."""

from __future__ import annotations

import argparse
import math
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from autoscaler.cli.progress import share_done
from autoscaler.cli.simulate import add_override
from autoscaler.cli.text import console, say_json, warn
from autoscaler.cli.tune import add_workers
from autoscaler.common.safe_files import write_output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from simulator.experiments.league import Job, League, Run, Summary

DESCRIPTION = """Run scenarios under several policies with the same traffic and the same provisioning luck, and compare
cost and SLO attainment. Policies that know the traffic beforehand are marked."""
EXAMPLE = """leadtime compare preset:quickstart
leadtime compare preset:lunch-peak --policies predictive,static,hpa_ongoing --seeds 5 --jobs 4 --out out/lunch
leadtime compare a.yaml b.yaml --policies all --json > league.json"""

_NUMBERS, _PAGE = "compare.json", "report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenarios", nargs="+", metavar="SCENARIO", help="scenario files, or preset:NAME")
    add_comparison(parser)


def add_comparison(parser: argparse.ArgumentParser) -> None:
    """Who is compared, how often, and where it is written, for commands that end in a comparison."""
    parser.add_argument(
        "--policies",
        default="",
        metavar="A,B,..",
        help="policies, or `all` (default: predictive,static,hpa_ongoing,ray_serve)",
    )
    add_override(parser)
    parser.add_argument("--seeds", type=int, default=1, metavar="K", help="number of seeds, from the scenario's on (1)")
    parser.add_argument("--seed", type=int, metavar="N", help="first seed, instead of the scenario's")
    add_workers(parser)
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object and nothing else")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write compare.json and report.html there")


def run(args: argparse.Namespace) -> int:
    return compare(args, "compare")


def compare(args: argparse.Namespace, name: str) -> int:
    """Plays `args.scenarios` with `args.overrides` under all policies and tells of it; `name` of the command."""
    from autoscaler.cli.parser import UsageError
    from simulator.experiments.league import jobs_of, judge, leave_out, play_all
    from simulator.experiments.parallel.workers import workers
    from simulator.outputs import make_room
    from simulator.report.page import render
    from simulator.result import to_json

    for option, least in (("seeds", 1), ("jobs", 0)):
        if getattr(args, option) < least:
            raise UsageError(f"leadtime {name}: --{option} {getattr(args, option)}: allowed: a whole number >= {least}")
    if args.seed is not None and args.seed < 0:
        raise UsageError(f"leadtime {name}: --seed {args.seed}: allowed: a whole number >= 0")
    policies, left_out = _policies(args.policies, name), dict[str, str]()
    if args.policies.strip() == "all":
        left_out = leave_out(args.scenarios, args.overrides, policies)
        policies = [policy for policy in policies if policy not in left_out]
    for policy, why in left_out.items():
        warn(f"warning: {policy} is left out: {why}")
    scenarios = list(dict.fromkeys(args.scenarios))
    jobs = jobs_of(scenarios, args.overrides, policies, args.seeds, args.seed)
    if args.out is not None:
        make_room(args.out, (_NUMBERS, _PAGE))
    count = min(args.jobs or os.cpu_count() or 1, len(jobs))
    with workers(count, args.ray) as pool, share_done(name, f"{len(jobs)} runs") as progress:
        finished = 0

        def done(job: Job) -> None:
            nonlocal finished
            finished += 1
            if progress is not None:
                progress(finished / len(jobs))

        league = judge(play_all(jobs, pool, done))
    for warning in league.warnings:
        warn(f"warning: {warning}")
    for note in dict.fromkeys(note for run in league.runs for note in run.document["notes"]):
        warn(f"note: {note}")
    text = to_json(league.document())
    if args.out is not None:
        write_output(args.out / _NUMBERS, text + "\n")
        write_output(args.out / _PAGE, render(league, _command(args)))
    if args.json:
        say_json(text)
    else:
        _print(league, args.out)
    return 0


def _policies(text: str, command: str) -> list[str]:
    """Names in order, each once. Errors: UsageError for an empty list."""
    from autoscaler.cli.parser import UsageError
    from policies.registry import policy_names
    from simulator.experiments.league import DEFAULT_POLICIES

    if text.strip() == "all":
        return list(policy_names())
    names = [n.strip() for n in text.split(",") if n.strip()] or list(DEFAULT_POLICIES if not text else ())
    if not names:
        raise UsageError(f"leadtime {command}: --policies {text!r}: allowed: names with commas between them, or all")
    return list(dict.fromkeys(names))


def _command(args: argparse.Namespace) -> str:
    words = ["leadtime", "compare", *args.scenarios]
    words += ["--policies", args.policies] if args.policies else []
    for text in args.overrides:
        words += ["--set", text]
    words += ["--seeds", str(args.seeds)] if args.seeds != 1 else []
    return shlex.join(words + (["--seed", str(args.seed)] if args.seed is not None else []))


def _print(league: League, out: Path | None) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    screen = console()
    if not screen.is_terminal:
        screen = console(width=120)
    for scenario in dict.fromkeys(s.scenario for s in league.summaries):
        rows = [s for s in league.summaries if s.scenario == scenario]
        seeds = f"{rows[0].seeds} seed{'s' if rows[0].seeds > 1 else ''}"
        table = Table(title=f"{scenario}, {seeds}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
        table.add_column("policy", no_wrap=True)
        for name in ("cost", "difference", "in SLO", "target", "TTFT p99", "GPU h", "cold h/e", "ups/downs"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(*_cells(league, row))
        screen.print(table)
        for line in _who_misses(rows, next(r for r in league.runs if r.document["scenario"] == scenario)):
            screen.print(line, soft_wrap=True)
    note = "cold h/e: cold starts hidden from users / felt by them; *: knows the traffic beforehand"
    if len({s.policy for s in league.summaries}) > 1:
        note = f"difference: of cost, against {league.reference}; {note}"
    screen.print(note)
    if out is not None:
        screen.print(f"report: {out / _PAGE}", soft_wrap=True)


def _who_misses(rows: Sequence[Summary], run: Run) -> Iterator[str]:
    """Where a scenario has several deployments: whose targets each policy misses, and by how much."""
    from simulator.report.text import percent, share

    if len(run.targets) == 1:
        return
    for row in rows:
        short = [
            f"{s.deployment} ({percent(s.slo_attainment_fraction)} of {share(s.target_fraction)})"
            for s in row.missing_target
        ]
        if short:
            yield f"  {row.policy} misses: {', '.join(short)}"


def _cells(league: League, row: Summary) -> list[str]:
    from simulator.report.text import dollars, percent, seconds

    runs = [r.document for r in league.runs if r.document["scenario"] == row.scenario and r.job.policy == row.policy]

    def mean(*path: str) -> float:
        known = [v for v in (_dig(r, path) for r in runs) if v is not None]
        return sum(known) / len(known) if known else math.nan

    difference = _difference(row.cost_difference_usd, row.cost_difference_usd_ci95)
    return [
        row.policy + (" *" if row.clairvoyant else ""),
        dollars(row.cost_usd),
        "" if row.policy == league.reference else difference,
        percent(row.slo_attainment_fraction),
        "meets" if row.reaches_target else "misses",
        f"{seconds(mean('ttft_s', 'p99'))} s" if not math.isnan(mean("ttft_s", "p99")) else "",
        f"{mean('gpu_hours', 'billed'):.2f}",
        f"{mean('cold_starts_hidden'):.0f}/{mean('cold_starts_exposed'):.0f}",
        f"{mean('scale_ups'):.0f}/{mean('scale_downs'):.0f}",
    ]


def _difference(mean: float | None, ci95: tuple[float, float] | None) -> str:
    from simulator.report.text import dollars

    if mean is None:
        return "?"
    sign = "+" if mean >= 0 else ""
    return f"{sign}{dollars(mean)}" + (f" ± {dollars((ci95[1] - ci95[0]) / 2)}" if ci95 else "")


def _dig(document: dict[str, object], path: tuple[str, ...]) -> float | None:
    value: object = document
    for name in path:
        assert isinstance(value, dict)
        value = value[name]
    return float(value) if isinstance(value, int | float) else None
