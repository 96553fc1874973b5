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
import sys
from collections.abc import Sequence
from pathlib import Path

from autoscaler.errors import InputError
from benchmarks.ablation.page import page
from benchmarks.ablation.runs import asked, found, play_piece
from benchmarks.ablation.variants import FLAGSHIP, VARIANTS
from benchmarks.command import INTERRUPTED, play_missing, run_and_exit, seeds
from benchmarks.pages import Marks
from benchmarks.results.alone import alone
from benchmarks.results.league import read_league
from benchmarks.results.store import ROOT, Store
from benchmarks.results.traces import public_traces, tell_stand_ins, traces_argument
from benchmarks.results.world import QUICK, build
from policies.options import nearest
from simulator.parallel.workers import workers

MARKS = Marks("python -m benchmarks.ablation")


def main() -> None:
    args = _arguments()
    run_and_exit(lambda: _ablation(args))


def _ablation(args: argparse.Namespace) -> int:
    league = read_league()
    _check("--on", args.on, [s["name"] for s in league["scenarios"]])
    _check("--only", args.only, [v.name for v in VARIANTS])
    traces = public_traces(args.traces)
    folder = args.folder.resolve()
    interrupted = False
    with alone(folder.with_suffix(".lock"), MARKS.command):
        pairs = build(league, traces, folder, QUICK)
        pairs = [p for p in pairs if not args.on or p.name in args.on]
        chosen = [v for v in VARIANTS if not args.only or v.name in args.only or v is FLAGSHIP]
        store, pieces = Store(folder / "runs"), asked(chosen, pairs, args.seeds)
        try:
            if not args.render:
                tell_stand_ins(pairs)
                with workers(args.jobs) as pool:
                    play_missing(pool, store, pieces, play_piece, lambda piece: piece.words)
        except KeyboardInterrupt:
            interrupted = True
    text = page(found(store, pieces, chosen, pairs, args.seeds))
    if args.publish is not None:
        MARKS.publish(args.publish, text)
    print(text)
    if interrupted:
        sys.stderr.write("stopped; the same command goes on from here\n")
    return INTERRUPTED if interrupted else 0


def _check(option: str, typed: Sequence[str], allowed: Sequence[str]) -> None:
    """Errors: InputError naming the option, its value and what is allowed."""
    for name in typed:
        if name not in allowed:
            raise InputError(f"{option} {name}: unknown{nearest(name, allowed)} (allowed: {', '.join(allowed)})")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", default=[], metavar="VARIANT", help="only this one (repeatable)")
    parser.add_argument("--on", action="append", default=[], metavar="SCENARIO", help="only there (repeatable)")
    parser.add_argument("--seeds", type=seeds, default=(1,), metavar="N,..", help="default: 1")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (0: one per core; default: 1)")
    traces_argument(parser)
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "results" / "ablation", metavar="DIR", help="where runs go"
    )
    parser.add_argument("--render", action="store_true", help="show what is there; play nothing")
    parser.add_argument("--publish", type=MARKS.typed, metavar="FILE", help="put it into this page, between its marks")
    return parser.parse_args()


if __name__ == "__main__":
    main()
