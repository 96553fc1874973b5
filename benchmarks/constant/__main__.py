"""Is what the flagship attains beyond its target dear? Its bill over that of constant settings of itself.

    python -m benchmarks.constant [--only SETTING] [--on SCENARIO] [--seeds 1,2,..] [--jobs N] [--traces DIR]
                                  [--render] [--publish docs/constant.md]

The league's smooth scenarios, two judged days each; 15 CPU seconds for each setting, scenario and seed. Runs are kept
below results/constant: a call that is broken off goes on, and only what depends on changed code is played again.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse

from benchmarks.command import check_names, play_variants, run_and_exit, show, variants_parser
from benchmarks.constant.page import page
from benchmarks.constant.runs import asked, found, play_piece
from benchmarks.constant.settings import FLAGSHIP, SETTINGS
from benchmarks.pages import Marks
from benchmarks.results.alone import alone
from benchmarks.results.league import read_league
from benchmarks.results.store import ROOT, Store
from benchmarks.results.traces import public_traces
from benchmarks.results.world import FULL, build

MARKS = Marks("python -m benchmarks.constant")
SMOOTH = ("smooth-code", "smooth-strong-day", "smooth-mild-day", "smooth-llm")


def main() -> None:
    args = variants_parser(MARKS, __doc__, "SETTING", ROOT / "results" / "constant").parse_args()
    run_and_exit(lambda: _constant(args))


def _constant(args: argparse.Namespace) -> int:
    check_names("--on", args.on, SMOOTH)
    check_names("--only", args.only, [s.name for s in SETTINGS])
    league = read_league()
    league["scenarios"] = [s for s in league["scenarios"] if s["name"] in (args.on or SMOOTH)]
    traces = public_traces(args.traces)
    folder = args.folder.resolve()
    with alone(folder.with_suffix(".lock"), MARKS.command):
        pairs = build(league, traces, folder, FULL)
        chosen = [s for s in SETTINGS if not args.only or s.name in args.only or s is FLAGSHIP]
        store, pieces = Store(folder / "runs"), asked(chosen, pairs, args.seeds)
        status = play_variants(args, pairs, store, pieces, play_piece, lambda piece: piece.words)
    return show(args, MARKS, page(found(store, pieces, chosen, pairs, args.seeds)), status)


if __name__ == "__main__":
    main()
