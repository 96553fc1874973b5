"""Runs of the ablation: what is played, how it is found again, what is there of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from benchmarks.ablation.page import Ablation
from benchmarks.ablation.variants import VARIANTS, Variant
from benchmarks.acceptance.runs import code_behind
from benchmarks.results.play import Judge, play
from benchmarks.results.store import Store, key_of
from benchmarks.results.table import Entry
from benchmarks.results.world import QUICK, Pair

POLICY = "predictive"


@dataclass(frozen=True, slots=True)
class Piece:
    """One variant, by its name, on the days to be judged of one scenario."""

    variant: str
    scenario: str
    """File."""
    seed: int

    @property
    def judge(self) -> Judge:
        return Judge(self.scenario, POLICY, dict(_named(self.variant).options), self.seed)

    @property
    def key(self) -> str:
        """By all that it depends on: the league's key of a run, what is patched, and the code behind it."""
        run = key_of("ablation", Path(self.scenario), POLICY, dict(self.judge.options), self.seed)
        content = [run, self.variant, _named(self.variant).code, code_behind(False)]
        return blake2b(json.dumps(content).encode(), digest_size=12).hexdigest()

    @property
    def words(self) -> str:
        return f"{self.variant}, {Path(self.scenario).stem.removesuffix('-judge')}, seed {self.seed}"


def _named(name: str) -> Variant:
    return next(v for v in VARIANTS if v.name == name)


def play_piece(piece: Piece) -> dict[str, Any]:
    """The run, as the league plays it, without the part."""
    with _named(piece.variant).at_work():
        return play(piece.judge)


def asked(variants: Sequence[Variant], pairs: Sequence[Pair], seeds: Sequence[int]) -> dict[str, Piece]:
    """All runs by their keys: a seed after the other, so that what is there early can be shown."""
    pieces = [Piece(v.name, str(p.judge), seed) for seed in seeds for v in variants for p in pairs]
    return {piece.key: piece for piece in pieces}


def found(
    store: Store, pieces: Mapping[str, Piece], variants: Sequence[Variant], pairs: Sequence[Pair], seeds: Sequence[int]
) -> Ablation:
    """What is there; a variant counts on a scenario once it was played there with every seed."""
    runs = {piece: run for key, piece in pieces.items() if (run := store.get(key)) is not None}
    entries = {}
    for variant in variants:
        for pair in pairs:
            own = [runs.get(Piece(variant.name, str(pair.judge), seed)) for seed in seeds]
            known = [run for run in own if run is not None]
            if len(known) == len(own):
                entries[variant.name, pair.name] = Entry(pair.name, POLICY, variant.name, known, variant.options)
    return Ablation(
        variants=variants,
        targets={p.name: p.targets for p in pairs},
        entries=entries,
        seeds=seeds,
        judged_s=QUICK.judge_s,
        stand_ins=tuple(dict.fromkeys(name for p in pairs for name in p.stand_ins)),
        cpu_s=sum(run["cpu_s"] for run in runs.values()),
        revisions=sorted({run["revision"] for run in runs.values()}),
    )
