"""Measures what the flagship promises and no league shows: quiet, resonance, cliffs, starts, budgets, failures.

    python -m benchmarks.acceptance [--only LETTER] [--seeds 1,2,..] [--jobs N] [--render] [--publish FILE]

Traffic is made up, so anybody can run it. Every finished run is kept below results/acceptance: a call that is broken
off goes on, and only what depends on changed code is played again. `--publish docs/acceptance.md` writes the page's
table.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import sys
from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path

from benchmarks.acceptance.lines import budget, constant, failing, hours, square_wave, starts, sweep
from benchmarks.acceptance.page import MARKS, Page
from benchmarks.acceptance.runs import Case, Found, kept, newest, play
from benchmarks.acceptance.section import Line, Section
from benchmarks.command import INTERRUPTED, play_missing, seeds
from benchmarks.results.store import ROOT, Store
from simulator.experiments.parallel.workers import Workers, workers

LINES = (constant.LINE, square_wave.LINE, sweep.LINE, starts.LINE, budget.LINE, failing.LINE, hours.LINE)


def main() -> None:
    args = _arguments()
    lines = [line for line in LINES if not args.only or line.letter in args.only]
    store = Store(args.folder / "runs")
    if args.fresh:
        for path in store.folder.glob("*.json"):
            path.unlink()
    interrupted = False
    if not args.render:
        try:
            with workers(args.jobs) as pool:
                _play(pool, store, _cases(lines, args.seeds))
        except KeyboardInterrupt:
            interrupted = True
    text = page(store, lines, args.seeds, newest(store) if args.render else {}).text()
    if args.publish is not None:
        MARKS.publish(args.publish, text)
    print(text)
    if interrupted:
        sys.stderr.write("stopped; the same command goes on from here\n")
        sys.exit(INTERRUPTED)


def _cases(lines: Sequence[Line], seeds: Sequence[int]) -> dict[str, Case]:
    """All runs of the lines, each once, by its key."""
    return {case.key: case for line in lines for case in line.cases(seeds)}


def _play(pool: Workers, store: Store, cases: dict[str, Case]) -> None:
    play_missing(pool, store, cases, play, attrgetter("name"))


def page(store: Store, lines: Sequence[Line], seeds: Sequence[int], earlier: Mapping[str, str]) -> Page:
    """What is there of the lines; where a run is missing, one of its name among the `earlier` ones (`newest`)."""
    all_found: dict[str, Found] = {}
    sections: list[Section | None] = []
    for line in lines:
        cases = line.cases(seeds)
        found = {case.name: run for case in cases if (run := kept(store, case, earlier)) is not None}
        all_found |= found
        sections.append(line.judge(found, seeds) if len(found) == len({c.name for c in cases}) else None)
    runs = list(all_found.values())
    revisions = sorted({run.revision for run in runs})
    return Page(lines, sections, seeds, len(runs), sum(run.cpu_s for run in runs), revisions)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.acceptance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    letters = [line.letter for line in LINES]
    parser.add_argument(
        "--only", action="append", default=[], choices=letters, metavar="LETTER", help="only this line (repeatable)"
    )
    parser.add_argument("--seeds", type=seeds, default=(1,), metavar="N,..", help="default: 1")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (0: one per core; default: 1)")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "results" / "acceptance", metavar="DIR", help="where runs go"
    )
    parser.add_argument("--render", action="store_true", help="show what is there, of earlier code too; run nothing")
    parser.add_argument(
        "--publish", type=MARKS.typed, metavar="FILE", help="put it into this page too, between its marks"
    )
    parser.add_argument("--fresh", action="store_true", help="throw away the runs that are there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
