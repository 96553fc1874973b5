"""Plays rows of the matrix, several at once, and writes the table: `python -m tests.faults [WORDS OF NAMES...]`."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path

from tests.faults import play as plays
from tests.faults.invariants import breaches
from tests.faults.matrix import all_rows, in_every_run
from tests.faults.row import Row
from tests.faults.table import ROWS_PAGE, Outcome, outcome, page


async def outcomes(rows: list[Row], seed: int, jobs: int, folder: Path) -> dict[str, Outcome]:
    slots = asyncio.Semaphore(jobs)
    for word in sorted({row.world for row in rows}):
        plays.PASTS[word] = await plays.past(word, folder / "pasts")

    async def one(number: int, row: Row) -> tuple[str, Outcome]:
        async with slots:
            started_s = time.monotonic()
            play = await plays.played(row, folder / str(number), folder / "pasts", seed)
            found = outcome(play, breaches(play))
            words = "; ".join(found.breaches) or "holds"
            print(f"{time.monotonic() - started_s:5.1f} s  {row.name}: {words}", flush=True)
            return row.name, found

    return dict(await asyncio.gather(*(one(number, row) for number, row in enumerate(rows))))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("words", nargs="*", help="only rows whose names hold one of these")
    parser.add_argument("--part", action="store_true", help="only the part that make test plays")
    parser.add_argument("--seed", type=int, default=0, help="another seed: the same kinds of faults, other values")
    parser.add_argument("--jobs", type=int, default=2, help="rows that are played at once")
    parser.add_argument("--page", action="store_true", help="write docs/faults.md")
    parser.add_argument("--outcomes", type=Path, help="keep outcomes in this file (JSON), beside those already there")
    args = parser.parse_args()
    every = all_rows(args.seed)
    rows = [row for name, row in every.items() if not args.words or any(word in name for word in args.words)]
    rows = [row for row in rows if not args.part or in_every_run(row.name)]
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(outcomes(rows, args.seed, args.jobs, Path(folder)))
    known = dict(found)
    if args.outcomes:
        if args.outcomes.exists():
            before = json.loads(args.outcomes.read_text(encoding="utf-8"))
            known = {name: Outcome(tuple(words), back) for name, (words, back) in before.items()} | found
        kept = {name: (one.breaches, one.back) for name, one in known.items()}
        args.outcomes.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    if args.page:
        ROWS_PAGE.write_text(page(list(every.values()), known), encoding="utf-8")
    bad = [name for name, one in found.items() if one.breaches]
    print(f"{len(found) - len(bad)} of {len(found)} rows hold")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
