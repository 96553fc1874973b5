"""What the commands of the benchmarks have in common: pieces that are not there yet are played, an end is told."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from autoscaler.common.errors import InputError, LeadtimeError
from benchmarks.pages import Marks
from benchmarks.results.store import Store
from benchmarks.results.traces import tell_stand_ins, traces_argument
from benchmarks.results.world import Pair
from policies.options import nearest
from simulator.experiments.parallel.workers import Workers, workers

INTERRUPTED = 130
"""Exit status of a command that was ended with Ctrl-C."""
Piece = TypeVar("Piece")


def run_and_exit(command: Callable[[], int]) -> NoReturn:
    """Exits with the command's status, or says in one line what is wrong: 2 for what was typed, 1 for the rest."""
    try:
        status = command()
    except LeadtimeError as error:
        sys.stderr.write(f"{error}\n")
        status = 2 if isinstance(error, InputError) else 1
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        sys.stderr.write(f"{where}{error.strerror or error}\n")
        status = 1
    sys.exit(status)


def play_missing(
    pool: Workers,
    store: Store,
    pieces: Mapping[str, Piece],
    play: Callable[[Piece], dict[str, Any]],
    name: Callable[[Piece], str],
) -> None:
    """Plays what the store does not have, by its keys, and keeps each as it is done (`cpu_s` is told)."""
    missing = [(key, piece) for key, piece in pieces.items() if not store.has(key)]
    for done, (i, found) in enumerate(pool.each(play, [piece for _, piece in missing]), 1):
        key, piece = missing[i]
        store.put(key, found)
        tell(f"{done} of {len(missing)}: {name(piece)}: {found['cpu_s']:.0f} s")


def check_names(option: str, typed: Sequence[str], allowed: Sequence[str]) -> None:
    """Errors: InputError naming the option, its value and what is allowed."""
    for name in typed:
        if name not in allowed:
            raise InputError(f"{option} {name}: unknown{nearest(name, allowed)} (allowed: {', '.join(allowed)})")


def variants_parser(marks: Marks, about: str | None, only: str, folder: Path) -> argparse.ArgumentParser:
    """Options of a benchmark that plays variants of the flagship (`only`: what they are called) on league scenarios."""
    parser = argparse.ArgumentParser(
        prog=marks.command, description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", default=[], metavar=only, help="only this one (repeatable)")
    parser.add_argument("--on", action="append", default=[], metavar="SCENARIO", help="only there (repeatable)")
    parser.add_argument("--seeds", type=seeds, default=(1,), metavar="N,..", help="default: 1")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (0: one per core; default: 1)")
    traces_argument(parser)
    parser.add_argument("--folder", type=Path, default=folder, metavar="DIR", help="where runs go")
    parser.add_argument("--render", action="store_true", help="show what is there; play nothing")
    parser.add_argument("--publish", type=marks.typed, metavar="FILE", help="put it into this page, between its marks")
    return parser


def play_variants(
    args: argparse.Namespace,
    pairs: Sequence[Pair],
    store: Store,
    pieces: Mapping[str, Piece],
    play: Callable[[Piece], dict[str, Any]],
    name: Callable[[Piece], str],
) -> int:
    """Plays what is missing, unless it is only to be shown; the status to exit with."""
    try:
        if not args.render:
            tell_stand_ins(pairs)
            with workers(args.jobs) as pool:
                play_missing(pool, store, pieces, play, name)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def show(args: argparse.Namespace, marks: Marks, text: str, status: int) -> int:
    """The page's part, where it was asked for; the status again."""
    if args.publish is not None:
        marks.publish(args.publish, text)
    print(text)
    if status == INTERRUPTED:
        sys.stderr.write("stopped; the same command goes on from here\n")
    return status


def tell(words: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {words}\n")


def seeds(text: str) -> tuple[int, ...]:
    """For argparse: whole numbers, separated by commas."""
    try:
        found = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: whole numbers, separated by commas") from None
    if min(found) < 0:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: numbers >= 0")
    return found
