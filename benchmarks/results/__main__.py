"""Plays the league and writes its table. Broken off, it goes on where it was; what is there is shown at any time.

    python -m benchmarks.results [--quick] [--traces DIR] [--jobs N] [--ray ADDRESS] [--only SCENARIO]
                                 [--without POLICY] [--defaults-first] [--render]

Everything goes below results/full (or results/quick): scenarios and traces as they were made, a file for each finished
run, the studies, and results.markdown. `--render` only writes that from what is there, `--publish FILE` copies it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from autoscaler.common.errors import InputError
from benchmarks.command import INTERRUPTED, check_names, run_and_exit
from benchmarks.results.alone import alone
from benchmarks.results.league import read_league
from benchmarks.results.render import render
from benchmarks.results.session import JUDGED, SHORT, WHOLE, Session
from benchmarks.results.store import ROOT
from benchmarks.results.traces import public_traces, tell_stand_ins, traces_argument
from benchmarks.results.world import build
from simulator.experiments.parallel.workers import workers


def main() -> None:
    args = _arguments()
    run_and_exit(lambda: _results(args))


def _results(args: argparse.Namespace) -> int:
    """Exit status. Errors: LeadtimeError, OSError."""
    size = SHORT if args.quick else WHOLE
    command = f"make results{'-quick' if args.quick else ''}"
    league = read_league()
    _check(args, [s["name"] for s in league["scenarios"]])
    traces = public_traces(args.traces)
    folder = args.folder.resolve() / size.name
    with ExitStack() as stack:
        if not args.render:
            stack.enter_context(alone(folder.with_suffix(".lock"), command))
            if args.fresh:
                shutil.rmtree(folder, ignore_errors=True)
        pairs = build(league, traces, folder, size.window)
        pairs = [p for p in pairs if not args.only or p.name in args.only]
        session = Session(size, folder, pairs, args.without, args.defaults_first)
        interrupted = False
        try:
            if not args.render:
                tell_stand_ins(pairs)
                with workers(args.jobs, args.ray) as pool:
                    session.run(pool)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            text = render(session.table(command))
            (folder / "results.markdown").write_text(text, "utf-8")
            if args.publish is not None:
                args.publish.write_text(text, "utf-8")
    if interrupted:
        sys.stderr.write(f"stopped; `{command}` goes on from here, what is there is in {folder / 'results.markdown'}\n")
        return INTERRUPTED
    print(folder / "results.markdown")
    return 0


def _check(args: argparse.Namespace, scenarios: Sequence[str]) -> None:
    """What was typed. Errors: InputError naming the option, its value and what is allowed."""
    for option, typed, allowed in (("--only", args.only, scenarios), ("--without", args.without, JUDGED)):
        check_names(option, typed, allowed)
    if args.jobs < 0:
        raise InputError(f"--jobs {args.jobs}; allowed: a whole number >= 0")
    if args.fresh and args.only:
        raise InputError("--fresh with --only: it would throw away the other scenarios too; allowed: one of the two")
    if args.publish is not None and not args.publish.absolute().parent.is_dir():
        raise InputError(f"--publish {args.publish}: there is no such folder")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="hours instead of days, four rivals, 6 trials")
    traces_argument(parser)
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="processes (default: one per core)")
    parser.add_argument("--ray", metavar="ADDRESS", help="or on this Ray cluster")
    parser.add_argument("--only", action="append", default=[], metavar="SCENARIO", help="only this one (repeatable)")
    parser.add_argument(
        "--without", action="append", default=[], metavar="POLICY", help="leave it out this time (repeatable)"
    )
    parser.add_argument(
        "--defaults-first", action="store_true", help="all scenarios with everybody's defaults before any tuning"
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "results", metavar="DIR", help="where results go")
    parser.add_argument("--render", action="store_true", help="write the table of what is there; run nothing")
    parser.add_argument("--publish", type=Path, metavar="FILE", help="copy the table there too")
    parser.add_argument("--fresh", action="store_true", help="throw away what is there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
