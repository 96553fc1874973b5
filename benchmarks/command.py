"""What the commands of the benchmarks have in common: pieces that are not there yet are played, an end is told."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from autoscaler.errors import InputError, LeadtimeError
from benchmarks.results.store import Store
from simulator.parallel.workers import Workers

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
