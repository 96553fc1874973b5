"""What each part of the flagship is worth: the quick league's scenarios, played without one part at a time.

    python -m benchmarks.ablation [--only VARIANT] [--on SCENARIO] [--seeds 1,2,..] [--jobs N] [--traces DIR]
                                  [--render] [--publish docs/ablation.md]

Three minutes of one core for each variant and seed. Every finished run is kept below results/ablation: a call that is
broken off goes on, and only what depends on changed code is played again. Without public traces, generated stand-ins.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse

from benchmarks.ablation.page import page
from benchmarks.ablation.runs import asked, found, play_piece
from benchmarks.ablation.variants import FLAGSHIP, VARIANTS
from benchmarks.command import check_names, play_variants, run_and_exit, show, variants_parser
from benchmarks.pages import Marks
from benchmarks.results.alone import alone
from benchmarks.results.league import read_league
from benchmarks.results.store import ROOT, Store
from benchmarks.results.traces import public_traces
from benchmarks.results.world import QUICK, build

MARKS = Marks("python -m benchmarks.ablation")


def main() -> None:
    args = variants_parser(MARKS, __doc__, "VARIANT", ROOT / "results" / "ablation").parse_args()
    run_and_exit(lambda: _ablation(args))


def _ablation(args: argparse.Namespace) -> int:
    league = read_league()
    check_names("--on", args.on, [s["name"] for s in league["scenarios"]])
    check_names("--only", args.only, [v.name for v in VARIANTS])
    traces = public_traces(args.traces)
    folder = args.folder.resolve()
    with alone(folder.with_suffix(".lock"), MARKS.command):
        pairs = build(league, traces, folder, QUICK)
        pairs = [p for p in pairs if not args.on or p.name in args.on]
        chosen = [v for v in VARIANTS if not args.only or v.name in args.only or v is FLAGSHIP]
        store, pieces = Store(folder / "runs"), asked(chosen, pairs, args.seeds)
        status = play_variants(args, pairs, store, pieces, play_piece, lambda piece: piece.words)
    return show(args, MARKS, page(found(store, pieces, chosen, pairs, args.seeds)), status)


if __name__ == "__main__":
    main()
