"""Plays the league and writes its table. Broken off, it goes on where it was; what is there is shown at any time.

    python -m benchmarks.results [--quick] [--traces DIR] [--jobs N] [--ray ADDRESS] [--only SCENARIO]
                                 [--without POLICY] [--defaults-first] [--render]

Everything goes below results/full (or results/quick): scenarios and traces as they were made, a file for each finished
run, the studies, and results.markdown. `--render` only writes that from what is there, `--publish FILE` copies it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from benchmarks.results.render import render
from benchmarks.results.session import SHORT, WHOLE, Session
from benchmarks.results.store import ROOT
from benchmarks.results.world import build, read_league
from simulator.parallel.workers import workers

_INTERRUPTED = 130
"""Exit status of a command that was ended with Ctrl-C."""


def main() -> None:
    args = _arguments()
    size = SHORT if args.quick else WHOLE
    command = f"make results{'-quick' if args.quick else ''}"
    folder = args.folder.resolve() / size.name
    if args.fresh and not args.render:
        shutil.rmtree(folder, ignore_errors=True)
    pairs = build(read_league(), args.traces if args.traces.is_dir() else None, folder, size.window)
    pairs = [p for p in pairs if not args.only or p.name in args.only]
    session = Session(size, folder, pairs, args.without, args.defaults_first)
    interrupted = False
    try:
        if not args.render:
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
        sys.exit(_INTERRUPTED)
    print(folder / "results.markdown")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="hours instead of days, four rivals, 6 trials")
    default = os.environ.get("LEADTIME_TRACES", str(ROOT.parent / "shared" / "traces"))
    parser.add_argument(
        "--traces", type=Path, default=Path(default), metavar="DIR", help="public traces (rates/*.csv.gz)"
    )
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
