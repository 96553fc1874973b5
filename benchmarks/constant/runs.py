"""Runs of constant settings: what is played, how it is found again, what is there of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import yaml

from benchmarks.acceptance.runs import code_behind
from benchmarks.constant.page import Constant
from benchmarks.constant.settings import Setting
from benchmarks.results.play import Judge, play
from benchmarks.results.store import Store, key_of, write_whole
from benchmarks.results.table import Entry
from benchmarks.results.world import Pair

POLICY = "predictive"


@dataclass(frozen=True, slots=True)
class Piece:
    """One setting on the days to be judged of one scenario. `scenario`: the file, in which it is told its target."""

    setting: Setting
    name: str
    scenario: str
    seed: int

    @property
    def key(self) -> str:
        """By all that it depends on: what a run of the league does, what is patched, and the code behind it."""
        run = key_of("constant", Path(self.scenario), POLICY, {}, self.seed)
        content = [run, self.setting.rule, self.setting.code, code_behind(False)]
        return blake2b(json.dumps(content).encode(), digest_size=12).hexdigest()

    @property
    def words(self) -> str:
        return f"{self.name}, {self.setting.name}, seed {self.seed}"


def play_piece(piece: Piece) -> dict[str, Any]:
    """The run, as the league plays it, with the setting."""
    with piece.setting.at_work():
        return play(Judge(piece.scenario, POLICY, {}, piece.seed))


def asked(settings: Sequence[Setting], pairs: Sequence[Pair], seeds: Sequence[int]) -> dict[str, Piece]:
    """All runs by their keys: a seed after the other, so that what is there early can be shown. Writes the scenarios in
    which another target is told.
    """
    pieces = [
        Piece(setting, pair.name, str(_scenario(pair.judge, setting)), seed)
        for seed in seeds
        for pair in pairs
        for setting in settings
    ]
    return {piece.key: piece for piece in pieces}


def _scenario(judge: Path, setting: Setting) -> Path:
    """The file to play: the scenario, or beside it one with the told target."""
    if setting.told is None:
        return judge
    path = judge.with_name(f"{judge.stem}-{setting.told:g}.yaml")
    document = yaml.safe_load(judge.read_text("utf-8"))
    for deployment in document["deployments"]:
        deployment.setdefault("slo", {})["target_fraction"] = setting.told
    write_whole(path, yaml.safe_dump(document, sort_keys=False, width=120))
    return path


def found(
    store: Store, pieces: Mapping[str, Piece], settings: Sequence[Setting], pairs: Sequence[Pair], seeds: Sequence[int]
) -> Constant:
    """What is there; a setting counts on a scenario once it was played there with every seed."""
    runs = {
        (piece.setting.name, piece.name, piece.seed): run
        for key, piece in pieces.items()
        if (run := store.get(key)) is not None
    }
    entries = {}
    for setting in settings:
        for pair in pairs:
            known = [run for seed in seeds if (run := runs.get((setting.name, pair.name, seed))) is not None]
            if len(known) == len(seeds):
                entries[setting.name, pair.name] = Entry(pair.name, POLICY, setting.name, known, {})
    return Constant(
        settings=settings,
        targets={p.name: p.targets for p in pairs},
        entries=entries,
        seeds=seeds,
        stand_ins=tuple(dict.fromkeys(name for p in pairs for name in p.stand_ins)),
        cpu_s=sum(run["cpu_s"] for run in runs.values()),
        revisions=sorted({run["revision"] for run in runs.values()}),
    )
