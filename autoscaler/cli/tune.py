"""`leadtime tune`: search a policy's options for the cheapest that keeps the SLO on scenarios."""

from __future__ import annotations

import argparse
import csv
import io
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoscaler.cli.progress import share_done
from autoscaler.cli.simulate import add_override
from autoscaler.cli.text import console, say_json, warn
from autoscaler.common.escaping import no_formula
from autoscaler.common.safe_files import create_output, write_output

if TYPE_CHECKING:
    from simulator.experiments.tuning.tuner import Final, Tuned

DESCRIPTION = """Search the options that a policy declares as worth searching, for the cheapest that keep the SLO. Many
settings are tried on the six hours in which traffic rises the most (scenarios of up to twelve: on everything), the best
of them and the defaults on everything. Where none reaches the target, best.yaml is what misses it least, and says so.
With --out a search that was broken off goes on when it is called again. best.yaml is a `policy:` block for a scenario
or for the controller."""
EXAMPLE = """leadtime tune preset:lunch-peak --policy hpa_ongoing --trials 40 --out out/hpa
leadtime tune mine.yaml other.yaml --policy headroom.py:Headroom --jobs 4
leadtime tune mine.yaml --policy predictive --ray auto --out out/predictive"""

_BEST, _TRIALS, _STUDY = "best.yaml", "trials.csv", "study.sqlite"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenarios", nargs="+", metavar="SCENARIO", help="scenario files, or preset:NAME")
    parser.add_argument("--policy", required=True, metavar="P", help="whose options are searched")
    parser.add_argument(
        "--trials", type=int, default=40, metavar="N", help="settings to try (40; 16 at most for one option)"
    )
    add_override(parser)
    parser.add_argument(
        "--seed", type=int, metavar="N", help="seed of all luck and of the search, instead of the scenario's"
    )
    parser.add_argument(
        "--slice-s",
        type=float,
        metavar="S",
        help="try settings on this many seconds, in which traffic rises the most (six hours of longer than twelve)",
    )
    add_workers(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write best.yaml, trials.csv and study.sqlite there")
    parser.add_argument("--json", action="store_true", help="print what was found as one JSON object and nothing else")


def add_workers(parser: argparse.ArgumentParser) -> None:
    """`--jobs` and `--ray`, for commands that make many runs."""
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="processes (default: one per core)")
    parser.add_argument("--ray", metavar="ADDRESS", help="or on this Ray cluster: auto, HOST:PORT or ray://HOST:PORT")


def run(args: argparse.Namespace) -> int:
    from autoscaler.cli.parser import UsageError
    from policies.options import exact
    from simulator.experiments.parallel.workers import workers
    from simulator.experiments.tuning.tuner import Plan, Tuner
    from simulator.outputs import make_room
    from simulator.result import to_json

    for name, least in (("trials", 1), ("jobs", 0), ("seed", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UsageError(f"leadtime tune: --{name} {value}: allowed: a whole number >= {least}")
    if args.slice_s is not None and not args.slice_s > 0:
        raise UsageError(f"leadtime tune: --slice-s {exact(args.slice_s)}: allowed: seconds > 0")
    plan = Plan(tuple(args.scenarios), args.policy, args.trials, tuple(args.overrides), args.seed, args.slice_s)
    if args.out is not None:
        make_room(args.out, (_BEST, _TRIALS, _STUDY))
    tuner = Tuner(plan, None if args.out is None else args.out / _STUDY)
    before = len(tuner.study.tried)
    with workers(args.jobs, args.ray) as pool, share_done("tune", f"{args.policy}, {tuner.trials} trials") as progress:
        found = replace(tuner.run(pool, progress), command=_command(args))
    if args.out is not None:
        write_output(args.out / _BEST, found.yaml())
        _write_trials(args.out / _TRIALS, found)
    if found.short_of_target is not None:
        warn(f"warning: {args.policy}: {found.short_of_target}")
    if args.json:
        say_json(to_json(_document(found)))
    else:
        _print(found, args.out, before)
    return 0


def _command(args: argparse.Namespace) -> str:
    from policies.options import exact

    words = ["leadtime", "tune", *args.scenarios, "--policy", args.policy, "--trials", str(args.trials)]
    for text in args.overrides:
        words += ["--set", text]
    words += ["--seed", str(args.seed)] if args.seed is not None else []
    return shlex.join(words + (["--slice-s", exact(args.slice_s)] if args.slice_s is not None else []))


def _document(found: Tuned) -> dict[str, Any]:
    def final(f: Final) -> dict[str, Any]:
        return {
            "options": dict(f.params),
            "cost_usd": f.score.cost_usd,
            "gpu_hours": f.score.gpu_hours,
            "reaches_target": f.score.reaches_target,
            "misses_over_allowed": f.score.misses,
            "judged_s": f.score.judged_s,
        }

    return {
        "version": 1,
        **found.block(),
        "reaches_target": found.best.score.reaches_target,
        "best": final(found.best),
        "defaults": final(found.defaults),
        "finals": [final(f) for f in found.finals],
        "trials": len(found.tried),
        "trials_cut_short": sum(t.score.stopped for t in found.tried),
    }


def _option(value: Any) -> Any:
    return no_formula(value) if isinstance(value, str) else value


def _write_trials(path: Path, found: Tuned) -> None:
    names = sorted({name for t in found.tried for name in t.params})
    with io.TextIOWrapper(create_output(path), encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["trial", *names, "cost_usd_per_hour", "misses_over_allowed", "state", "gpu_hours"])
        for t in found.tried:
            state = "refused" if t.score.refused else "cut short" if t.score.stopped else "complete"
            cost, hours = ("" if v is None else f"{v:.6g}" for v in (t.score.cost_usd_per_hour, t.score.gpu_hours))
            options = (_option(t.params.get(n, "")) for n in names)
            writer.writerow([t.number, *options, cost, f"{t.score.misses:.6g}", state, hours])


def _print(found: Tuned, out: Path | None, before: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from simulator.experiments.tuning.tuner import times
    from simulator.report.text import dollars

    out_to = console(soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, title=f"{found.policy}: judged on the whole scenarios", title_justify="left")
    table.add_column("options")
    for name in ("cost", "misses / allowed"):
        table.add_column(name, justify="right", no_wrap=True)
    for final in sorted(found.finals, key=lambda f: f.rank):
        words = ", ".join(f"{k}: {v}" for k, v in final.params.items()) or "(defaults)"
        table.add_row(words, dollars(final.score.cost_usd), times(final.score.misses))
    out_to.print(table)
    cut = sum(t.score.stopped for t in found.tried)
    resumed = f", {before} of them before" if before else ""
    out_to.print(f"{len(found.tried)} trials{resumed}; {cut} cut short")
    out_to.print(found.yaml(), end="")
    if out is not None:
        out_to.print(f"written: {out / _BEST}, {out / _TRIALS}, {out / _STUDY}")
