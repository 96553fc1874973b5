"""Plays the league and writes its table. Broken off, it goes on where it was; what is there is shown at any time.

    python -m benchmarks.results [--quick] [--traces DIR] [--jobs N] [--ray ADDRESS] [--only SCENARIO] [--render]

Everything goes below results/full (or results/quick): scenarios and traces as they were made, a file for each finished
run, the studies, and results.markdown. `--render` only writes that from what is there, `--publish FILE` copies it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results.play import Judge, Options, Piece, Refer, Tune, play
from benchmarks.results.render import Entry, Table, render
from benchmarks.results.store import ROOT, Store, key_of
from benchmarks.results.world import FULL, QUICK, Pair, Window, build, read_league
from simulator.parallel.workers import Workers, workers

RIVALS = (
    "predictive", "hpa_ongoing", "hpa_queue", "hpa_kv", "knative", "keda", "ray_serve", "apa", "wva",
    "dynamo_v1", "dynamo_v2", "dynamo_easy", "phpa", "target_tracking", "schedule",
)  # fmt: skip
FEW = ("predictive", "hpa_ongoing", "hpa_queue", "ray_serve")
FIXED: Mapping[str, Options] = {"ray_serve": {"decide_every_s": 5.0}}
"""Serve decides every 0.1 s; here every 5 s, which its reports every 10 s and delays of 30 and 600 s hardly feel."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is played."""

    name: str
    window: Window
    rivals: tuple[str, ...]
    seeds: tuple[int, ...]
    trials: int
    slice_s: float
    lead_trials: int
    hindsight_trials: int
    derived: tuple[str, ...]
    """Rivals without anything to tune."""


WHOLE = Size("full", FULL, RIVALS, (1, 2, 3), 40, 21600.0, 12, 14, ("static_mean",))
SHORT = Size("quick", QUICK, FEW, (1, 2, 3), 6, 5400.0, 7, 7, ())


class Session:
    """One call: its folder, its workers, and what is still to do."""

    def __init__(self, size: Size, folder: Path, pairs: Sequence[Pair]) -> None:
        self.size, self.folder, self.pairs = size, folder, pairs
        self.store = Store(folder / "runs")

    def run(self, pool: Workers) -> None:
        """Everything that is not there yet, a scenario per worker at a time; what depends on tuning after it."""
        for i in range(0, len(self.pairs), pool.count):
            group = self.pairs[i : i + pool.count]
            self._play(pool, [k for pair in group for k in self.first(pair).items()])
            self._play(pool, [k for pair in group for k in self.second(pair).items()])

    def _play(self, pool: Workers, todo: Sequence[tuple[str, Piece]]) -> None:
        missing = [(key, piece) for key, piece in dict(todo).items() if self.store.get(key) is None]
        done = len(todo) - len(missing)
        for i, found in pool.each(play, [piece for _, piece in missing]):
            key, piece = missing[i]
            self.store.put(key, found)
            done += 1
            name = Path(piece.scenario).stem
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {done}/{len(todo)} {name} {_words(piece)}\n")

    def judged(self, pair: Pair, policy: str, options: Options) -> dict[str, Piece]:
        pieces = [Judge(str(pair.judge), policy, options, seed) for seed in self.size.seeds]
        return {key_of("judge", pair.judge, policy, dict(p.options), p.seed): p for p in pieces}

    def tuning(self, pair: Pair, policy: str) -> tuple[str, Tune]:
        fixed = FIXED.get(policy, {})
        key = key_of("tune", pair.train, policy, dict(fixed), self.size.trials, self.size.slice_s)
        study = self.folder / "studies" / f"{pair.name}-{policy}-{key}.sqlite"
        return key, Tune(str(pair.train), policy, fixed, self.size.trials, self.size.slice_s, str(study))

    def referred(self, pair: Pair, policy: str) -> tuple[str, Refer]:
        size = self.size
        trials = size.lead_trials if policy == "oracle_lead" else size.hindsight_trials
        also = [o for o in (self.tuned(pair, "hpa_ongoing"), {}) if o] if policy == "hindsight" else []
        piece = Refer(str(pair.judge), policy, size.seeds, trials, tuple(also))
        return key_of("refer", pair.judge, policy, trials, also, size.seeds), piece

    def tuned(self, pair: Pair, policy: str) -> dict[str, Any] | None:
        """The options that the search has found; None while it has not."""
        found = self.store.get(self.tuning(pair, policy)[0])
        return None if found is None else dict(found["options"])

    def first(self, pair: Pair) -> dict[str, Piece]:
        pieces: dict[str, Piece] = {}
        for policy in ("oracle", "static", *self.size.derived, *self.size.rivals):
            pieces |= self.judged(pair, policy, FIXED.get(policy, {}))
        pieces |= dict([self.referred(pair, "oracle_lead")])
        return pieces | dict(self.tuning(pair, policy) for policy in self.size.rivals)

    def second(self, pair: Pair) -> dict[str, Piece]:
        pieces: dict[str, Piece] = {}
        for policy in self.size.rivals:
            options = self.tuned(pair, policy)
            pieces |= {} if options is None else self.judged(pair, policy, options)
        return pieces | dict([self.referred(pair, "hindsight")])

    def table(self, command: str) -> Table:
        """What is there so far."""
        entries: list[Entry] = []
        for pair in self.pairs:
            for policy in ("oracle", "static", *self.size.derived):
                entries += self._entry(pair, policy, "", {})
            for policy in ("oracle_lead", "hindsight"):
                found = self.store.get(self.referred(pair, policy)[0])
                if found is not None:
                    entries.append(Entry(pair.name, policy, "", found["documents"], found["options"]))
            for policy in self.size.rivals:
                entries += self._entry(pair, policy, "default", FIXED.get(policy, {}))
                options = self.tuned(pair, policy)
                if options is not None:
                    entries += self._entry(pair, policy, "tuned", options)
        runs = self.store.everything()
        wall_s = sum(r["wall"]["wall_s"] if "wall" in r else r.get("wall_s", 0.0) for r in runs)
        missing = sum(self.store.get(k) is None for p in self.pairs for k in (*self.first(p), *self.second(p)))
        return Table(
            name=self.size.name,
            about={p.name: p.about for p in self.pairs},
            stand_ins=tuple(dict.fromkeys(s for p in self.pairs for s in p.stand_ins)),
            entries=tuple(entries),
            seeds=self.size.seeds,
            judged_s=self.size.window.judge_s,
            trained_s=self.size.window.train_s,
            trials=self.size.trials,
            slice_s=self.size.slice_s,
            missing=missing,
            wall_s=wall_s,
            elapsed_s=sum(json.loads(_read(self.folder / "elapsed.json", "[]"))),
            revisions=tuple(sorted({r["revision"] for r in runs})),
            command=command,
            targets={p.name: p.targets for p in self.pairs},
        )

    def _entry(self, pair: Pair, policy: str, setting: str, options: Options) -> list[Entry]:
        keys = list(self.judged(pair, policy, options))
        documents = [d for d in (self.store.get(k) for k in keys) if d is not None and "impossible" not in d]
        return [Entry(pair.name, policy, setting, documents, dict(options))] if len(documents) == len(keys) else []


def _words(piece: Piece) -> str:
    if isinstance(piece, Judge):
        return f"{piece.policy} seed {piece.seed}"
    return f"{'tune' if isinstance(piece, Tune) else 'search'} {piece.policy}"


def _read(path: Path, default: str) -> str:
    return path.read_text("utf-8") if path.is_file() else default


def _add_elapsed(folder: Path, elapsed_s: float) -> None:
    path = folder / "elapsed.json"
    path.write_text(json.dumps([*json.loads(_read(path, "[]")), round(elapsed_s, 1)]), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="four hours, four rivals, 6 trials: a quarter of an hour")
    default = os.environ.get("LEADTIME_TRACES", str(ROOT.parent / "shared" / "traces"))
    parser.add_argument(
        "--traces", type=Path, default=Path(default), metavar="DIR", help="public traces (rates/*.csv.gz)"
    )
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="processes (default: one per core)")
    parser.add_argument("--ray", metavar="ADDRESS", help="or on this Ray cluster")
    parser.add_argument("--only", action="append", default=[], metavar="SCENARIO", help="only this one (repeatable)")
    parser.add_argument("--folder", type=Path, default=ROOT / "results", metavar="DIR", help="where results go")
    parser.add_argument("--render", action="store_true", help="write the table of what is there; run nothing")
    parser.add_argument("--publish", type=Path, metavar="FILE", help="copy the table there too")
    parser.add_argument("--fresh", action="store_true", help="throw away what is there")
    args = parser.parse_args()
    size = SHORT if args.quick else WHOLE
    folder = args.folder.resolve() / size.name
    if args.fresh and not args.render:
        shutil.rmtree(folder, ignore_errors=True)
    pairs = build(read_league(), args.traces if args.traces.is_dir() else None, folder, size.window)
    pairs = [p for p in pairs if not args.only or p.name in args.only]
    session = Session(size, folder, pairs)
    started = time.monotonic()
    try:
        if not args.render:
            with workers(args.jobs, args.ray) as pool:
                session.run(pool)
    finally:
        if not args.render:
            _add_elapsed(folder, time.monotonic() - started)
        command = f"make results{'-quick' if args.quick else ''}"
        text = render(session.table(command))
        (folder / "results.markdown").write_text(text, "utf-8")
        if args.publish is not None:
            args.publish.write_text(text, "utf-8")
    print(folder / "results.markdown")


if __name__ == "__main__":
    main()
