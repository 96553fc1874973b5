"""One call of the league: its folder, what is to be played and in which order, and what is still missing."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results.further import FLAGSHIP, contenders
from benchmarks.results.play import Judge, Options, Piece, Refer, Tune, play
from benchmarks.results.progress import Costs, Kind, in_words
from benchmarks.results.store import Store, key_of, write_whole
from benchmarks.results.table import Entry, Table
from benchmarks.results.world import FULL, QUICK, Pair, Window
from simulator.experiments.parallel.workers import Workers

RIVALS = (
    "predictive", "hpa_ongoing", "hpa_queue", "hpa_kv", "knative", "keda", "ray_serve", "apa", "wva",
    "dynamo_v1", "dynamo_v2", "dynamo_easy", "phpa", "target_tracking", "schedule",
)  # fmt: skip
FEW = ("predictive", "hpa_ongoing", "hpa_queue", "ray_serve")
UNTUNED = (FLAGSHIP,)
"""Judged as it comes only: it tunes itself, so what could be searched counts only before its rules have a record."""


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
    further: tuple[int, ...] = ()
    """Seeds that only those play who may be the cheapest (further.py)."""


WHOLE = Size("full", FULL, RIVALS, (1, 2, 3), 40, 21600.0, 12, 14, ("static_mean",), further=(4, 5))
SHORT = Size("quick", QUICK, FEW, (1, 2, 3), 6, 5400.0, 7, 7, ())

JUDGED = (*RIVALS, *WHOLE.derived, "oracle", "static", "oracle_lead", "hindsight")
"""Whoever has a row in the table."""

Pieces = dict[str, Piece]
"""By the key of the store."""


class Session:
    """`without`: rivals that this call leaves out; they stay missing. `defaults_first`: before anything is tuned, all
    scenarios get their references and the rivals with their defaults.
    """

    def __init__(
        self,
        size: Size,
        folder: Path,
        pairs: Sequence[Pair],
        without: Sequence[str] = (),
        defaults_first: bool = False,
    ) -> None:
        self.size, self.folder, self.pairs = size, folder, pairs
        self.store = Store(folder / "runs")
        self._without, self._defaults_first = without, defaults_first
        self._costs = Costs.of(self.store.everything())
        self._looked_at_s = time.monotonic()
        self._close: dict[str, tuple[set[str], list[Entry]]] = {}

    # ------------------------------------------------------------ playing

    def run(self, pool: Workers) -> None:
        """Everything that is not there yet, a scenario per worker at a time; what depends on tuning after it, further
        seeds at last.
        """
        groups = [self.pairs[i : i + pool.count] for i in range(0, len(self.pairs), pool.count)]
        if self._defaults_first:
            for group in groups:
                self._play(pool, [self.defaults(pair) for pair in group])
        for group in groups:
            self._play(pool, [self.defaults(pair) | self.tunings(pair) for pair in group])
            self._play(pool, [self.second(pair) for pair in group])
        self._play(pool, [self.further(pair) for pair in self.pairs])

    def _play(self, pool: Workers, todo: Sequence[Pieces]) -> None:
        pieces = {k: p for one in todo for k, p in one.items() if p.policy not in self._without}
        missing = [(key, piece) for key, piece in pieces.items() if not self.store.has(key)]
        for i, found in pool.each(play, [piece for _, piece in missing]):
            key, piece = missing[i]
            kind = Kind.of(piece, self._name(piece))
            self.store.put(key, {**found, "kind": {n: getattr(kind, n) for n in ("what", "policy", "scenario")}})
            self._costs.learn(kind, float(found["cpu_s"]))
            self._count_time()
            self._tell(piece, pool.count)

    def _count_time(self) -> None:
        """Adds what has passed since the last look to the time that all calls together have taken."""
        now_s = time.monotonic()
        total_s = self._elapsed_s() + now_s - self._looked_at_s
        self._looked_at_s = now_s
        write_whole(self.folder / "elapsed.json", json.dumps(round(total_s, 1)))

    def _elapsed_s(self) -> float:
        path = self.folder / "elapsed.json"
        return float(json.loads(path.read_text("utf-8"))) if path.is_file() else 0.0

    def _name(self, piece: Piece) -> str:
        return next(p.name for p in self.pairs if piece.scenario in (str(p.train), str(p.judge)))

    def _tell(self, piece: Piece, at_once: int) -> None:
        missing = [k for k in self.missing() if k.policy not in self._without]
        left_s = self._costs.left_s(missing)
        left = in_words(None if left_s is None else left_s / at_once)
        words = f"{self._name(piece)}: {_words(piece)} done; {len(missing)} to go, {left}"
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {words}\n")

    # ------------------------------------------------------------ what there is to do

    def judged(self, pair: Pair, policy: str, options: Options, seeds: Sequence[int] = ()) -> Pieces:
        """`seeds`: other ones than those that everybody plays."""
        pieces = [Judge(str(pair.judge), policy, options, seed) for seed in seeds or self.size.seeds]
        return {key_of("judge", pair.judge, policy, dict(p.options), p.seed): p for p in pieces}

    def tuning(self, pair: Pair, policy: str) -> tuple[str, Tune]:
        key = key_of("tune", pair.train, policy, self.size.trials, self.size.slice_s)
        study = self.folder / "studies" / f"{pair.name}-{policy}-{key}.sqlite"
        return key, Tune(str(pair.train), policy, self.size.trials, self.size.slice_s, str(study))

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

    def defaults(self, pair: Pair) -> Pieces:
        """References, and rivals as they come."""
        pieces: Pieces = {}
        for policy in ("oracle", "static", *self.size.derived, *self.size.rivals):
            pieces |= self.judged(pair, policy, {})
        return pieces | dict([self.referred(pair, "oracle_lead")])

    def tunings(self, pair: Pair) -> Pieces:
        return dict(self.tuning(pair, policy) for policy in self._tuned_rivals())

    def _tuned_rivals(self) -> list[str]:
        return [policy for policy in self.size.rivals if policy not in UNTUNED]

    def second(self, pair: Pair) -> Pieces:
        """What needs the tuned settings, of rivals that have them."""
        pieces: Pieces = {}
        for policy in self._tuned_rivals():
            options = self.tuned(pair, policy)
            pieces |= {} if options is None else self.judged(pair, policy, options)
        if self.tuned(pair, "hpa_ongoing") is not None:  # what it found is met by hindsight too
            pieces |= dict([self.referred(pair, "hindsight")])
        return pieces

    def further(self, pair: Pair) -> Pieces:
        """More seeds of the flagship, and of rivals that come close by what is there."""
        pieces: Pieces = {}
        if self.size.further and FLAGSHIP in self.size.rivals:
            for policy, options in [(FLAGSHIP, {}), *((e.policy, e.options) for e in self._contenders(pair))]:
                pieces |= self.judged(pair, policy, dict(options), self.size.further)
        return pieces

    def _contenders(self, pair: Pair) -> list[Entry]:
        """Read again only when another piece of theirs is there."""
        there = {key for key in self.defaults(pair) | self.second(pair) if self.store.has(key)}
        known = self._close.get(pair.name)
        if known is None or known[0] != there:
            found = contenders([*self._rivals(pair, self.size.seeds)], pair.targets)
            known = self._close[pair.name] = (there, found)
        return known[1]

    def _asked(self, pair: Pair) -> Pieces:
        """Every piece of which the settings are known."""
        return self.defaults(pair) | self.tunings(pair) | self.second(pair) | self.further(pair)

    def missing(self) -> list[Kind]:
        """Every piece that is not there, those too of which nobody knows the settings yet."""
        kinds = []
        for pair in self.pairs:
            pieces = self._asked(pair)
            kinds += [Kind.of(p, pair.name) for key, p in pieces.items() if not self.store.has(key)]
            for policy in self._tuned_rivals():
                if self.tuned(pair, policy) is None:
                    kinds += [Kind("judge", policy, pair.name)] * len(self.size.seeds)
            if self.tuned(pair, "hpa_ongoing") is None:
                kinds.append(Kind("search", "hindsight", pair.name))
        return kinds

    # ------------------------------------------------------------ what is there

    def table(self, command: str) -> Table:
        """What is there so far; runs of former code that are asked for no more count for nothing."""
        asked = [key for pair in self.pairs for key in self._asked(pair)]
        runs = [found for found in map(self.store.get, asked) if found is not None]
        costs, missing = Costs.of(runs), self.missing()
        return Table(
            name=self.size.name,
            about={p.name: p.about for p in self.pairs},
            stand_ins=tuple(dict.fromkeys(s for p in self.pairs for s in p.stand_ins)),
            entries=tuple(entry for pair in self.pairs for entry in self._entries(pair)),
            seeds=self.size.seeds,
            judged_s=self.size.window.judge_s,
            trained_s=self.size.window.train_s,
            trials=self.size.trials,
            slice_s=self.size.slice_s,
            missing=len(missing),
            cpu_s=costs.total_s,
            left_s=costs.left_s(missing),
            elapsed_s=self._elapsed_s(),
            revisions=tuple(sorted({r["revision"] for r in runs})),
            command=command,
            targets={p.name: p.targets for p in self.pairs},
            further=tuple(entry for pair in self.pairs for entry in self._further_entries(pair)),
            further_seeds=self.size.further,
        )

    def _entries(self, pair: Pair) -> Iterator[Entry]:
        for policy in ("oracle", "static", *self.size.derived):
            yield from self._entry(pair, policy, "", {})
        for policy in ("oracle_lead", "hindsight"):
            found = self.store.get(self.referred(pair, policy)[0])
            if found is not None:
                yield Entry(pair.name, policy, "", found["documents"], found["options"])
        yield from self._rivals(pair, self.size.seeds)

    def _rivals(self, pair: Pair, seeds: Sequence[int]) -> Iterator[Entry]:
        for policy in self.size.rivals:
            yield from self._entry(pair, policy, "default", {}, seeds)
            options = self.tuned(pair, policy)
            if options is not None:
                yield from self._entry(pair, policy, "tuned", options, seeds)

    def _further_entries(self, pair: Pair) -> Iterator[Entry]:
        """Whoever has played all seeds, the further ones too."""
        if self.size.further:
            yield from self._rivals(pair, (*self.size.seeds, *self.size.further))

    def _entry(self, pair: Pair, policy: str, setting: str, options: Options, seeds: Sequence[int] = ()) -> list[Entry]:
        keys = list(self.judged(pair, policy, options, seeds))
        documents = [d for d in (self.store.get(k) for k in keys) if d is not None and "impossible" not in d]
        return [Entry(pair.name, policy, setting, documents, dict(options))] if len(documents) == len(keys) else []


def _words(piece: Piece) -> str:
    if isinstance(piece, Judge):
        return f"{piece.policy}, seed {piece.seed}"
    return f"{'tuning' if isinstance(piece, Tune) else 'search of'} {piece.policy}"
