"""Which traffic is played: public traces where somebody has them, generated stand-ins elsewhere."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from autoscaler.common.errors import InputError
from benchmarks.results.store import ROOT
from benchmarks.results.world import Pair


def traces_argument(parser: argparse.ArgumentParser) -> None:
    """`--traces`, for `public_traces`."""
    said = os.environ.get("LEADTIME_TRACES")
    parser.add_argument(
        "--traces",
        type=Path,
        default=Path(said) if said else None,
        metavar="DIR",
        help="public traces, DIR/rates/*.csv.gz (default: $LEADTIME_TRACES, else ../shared/traces where it is)",
    )


def public_traces(typed: Path | None) -> Path | None:
    """The folder of public traces; None: there is none. Errors: InputError for one that was asked for."""
    if typed is None:
        beside = ROOT.parent / "shared" / "traces"
        return beside if beside.is_dir() else None
    if not typed.is_dir():
        raise InputError(f"--traces {typed}: no such folder; without --traces, generated stand-ins are played")
    return typed


def tell_stand_ins(pairs: Sequence[Pair]) -> None:
    """Hours should not be played on other traffic than one believes."""
    names = dict.fromkeys(name for pair in pairs for name in pair.stand_ins)
    if names:
        sys.stderr.write(f"no public trace rates/NAME.csv.gz: a generated stand-in for {', '.join(names)}\n")
