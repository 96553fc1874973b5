"""Runs of the acceptance lines: what is played, what is kept of it, and how it is found again.

A run is kept by its scenario, its policy and the code that it depends on, so that a call that was broken off goes on
and a change of the policy plays its runs again and no others.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from benchmarks.results.store import ROOT, Store, code_of, what_it_does
from simulator.experiments.simulation import simulate
from simulator.run import Choice, Outputs, make_policy
from simulator.scenario.load import load_scenario
from simulator.timeline import Row

_FORM = 2
"""Of what is kept: runs that were kept in another form are played again."""
_COLUMNS = ("time_s", "arrivals_rps", "target", "running", "starting", "draining", "waiting", "slo_misses")
_REFERENCES = ("oracle_lead", "static")
_NO_MATTER = ("presets", "report", "parallel", "tuning", "calibration")
_NOT_DECIDING = ("cli", "demo", "kube", "kuberay", "diagnosis", "wiring", "runtime", "actuators", "config")
"""Rooms whose code has no say in a simulated decision."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run. `decisions`: what the policy proposed, what was granted and which argument won is kept too."""

    name: str
    scenario: Mapping[str, Any]
    policy: str = "predictive"
    options: Mapping[str, Any] = field(default_factory=dict)
    decisions: bool = False

    @property
    def key(self) -> str:
        content = [_FORM, self.scenario, self.policy, dict(self.options), self.decisions, code_of(self.policy)]
        content.append(code_behind(self.policy in _REFERENCES))
        return blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True)
class Track:
    """A deployment over time: columns of one length, a row a tick."""

    time_s: list[float]
    arrivals_rps: list[float]
    target: list[int]
    running: list[int]
    starting: list[int]
    draining: list[int]
    waiting: list[int]
    slo_misses: list[int]
    """Of requests that ended in the tick."""

    def at(self, from_s: float, to_s: float) -> range:
        """Rows of [from_s, to_s)."""
        inside = [i for i, t in enumerate(self.time_s) if from_s <= t < to_s]
        return range(inside[0], inside[-1] + 1) if inside else range(0)


@dataclass(frozen=True, slots=True)
class Found:
    """What is kept of a run."""

    case: Case
    result: Mapping[str, Any]
    """As `leadtime simulate --json` gives it."""
    hours: Mapping[str, list[list[int]]]
    """By deployment, for each clock hour: requests, and those within the SLO."""
    tracks: Mapping[str, Track]
    proposed: Mapping[str, list[int | None]]
    """By deployment and tick, where `decisions` were asked for: what the policy wanted."""
    planned: Mapping[str, list[int | None]]
    """What was granted of it."""
    raised: Mapping[str, Mapping[str, int]]
    """By deployment and winning argument: replicas that were asked for because of it."""
    revision: str
    cpu_s: float

    @property
    def track(self) -> Track:
        """Of a scenario with one deployment."""
        (only,) = self.tracks.values()
        return only

    def value(self, name: str) -> float:
        """A number of the result."""
        return float(self.result[name])


@cache
def code_behind(reference: bool) -> str:
    """The code of the simulator and, for a policy that looks and decides, of the controller; words do not count."""
    roots = [("simulator", _NO_MATTER)] + ([] if reference else [("autoscaler", _NOT_DECIDING)])
    files = sorted(
        path
        for root, without in roots
        for path in (ROOT / root).rglob("*.py")
        if path.relative_to(ROOT / root).parts[0] not in without
    )
    return blake2b("".join(what_it_does(p.read_text("utf-8")) for p in files).encode(), digest_size=8).hexdigest()


class _Rows:
    """Keeps the columns of every deployment."""

    def __init__(self) -> None:
        self.columns: dict[str, dict[str, list[float]]] = {}

    def write(self, row: Row) -> None:
        columns = self.columns.setdefault(row.deployment, {name: [] for name in _COLUMNS})
        for name in _COLUMNS:
            columns[name].append(getattr(row, name))


class _Decisions:
    """Keeps what was proposed and granted, of a journal that is written nowhere."""

    def __init__(self) -> None:
        self.proposed: dict[str, list[int | None]] = {}
        self.planned: dict[str, list[int | None]] = {}
        self.raised: dict[str, dict[str, int]] = {}

    def write(self, line: bytes) -> None:
        record = json.loads(line)
        if record["kind"] == "tick":
            for key, wanted in record["proposals"].items():
                planned, before = record["plan"]["deployments"][key], self.planned.get(key, [None])[-1]
                self.proposed.setdefault(key, []).append(wanted)
                self.planned.setdefault(key, []).append(planned)
                if planned is not None and before is not None and planned > before:
                    why = record["reasons"][key]["terms"][0]["name"]
                    raised = self.raised.setdefault(key, {})
                    raised[why] = raised.get(why, 0) + planned - before


def play(case: Case) -> dict[str, Any]:
    """The run, as plain data. Errors: as of a scenario that is wrong."""
    began_s = time.process_time()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "scenario.yaml"
        path.write_text(yaml.safe_dump(dict(case.scenario), sort_keys=False), "utf-8")
        scenario = load_scenario(str(path))
    rows, decisions = _Rows(), _Decisions()
    outputs = Outputs(timeline=rows, journal=decisions.write if case.decisions else None)
    result = simulate(scenario, make_policy(scenario, Choice(case.policy, case.options)), outputs)
    return {
        "form": _FORM,
        "name": case.name,
        "result": result.document(),
        "hours": {str(d.key): d.outcomes.by_hour.tolist() for d in result.deployments},
        "tracks": rows.columns,
        "proposed": decisions.proposed,
        "planned": decisions.planned,
        "raised": decisions.raised,
        "cpu_s": round(time.process_time() - began_s, 2),
    }


def kept(store: Store, case: Case, earlier: Mapping[str, str] | None = None) -> Found | None:
    """What is there of it; None = it was not played yet.

    `earlier`: keys of runs with earlier code by the name of their case (`newest`), where those are good enough.
    """
    data = store.get(case.key) or store.get((earlier or {}).get(case.name, ""))
    if data is None:
        return None
    tracks = {key: Track(**columns) for key, columns in data["tracks"].items()}
    rest: dict[str, Any] = {
        name: data[name] for name in ("result", "hours", "proposed", "planned", "raised", "revision", "cpu_s")
    }
    return Found(case=case, tracks=tracks, **rest)


def newest(store: Store) -> dict[str, str]:
    """The key of the newest run of each name, whatever code it was played with."""
    found: dict[str, str] = {}
    for path in sorted(store.folder.glob("*.json"), key=lambda p: p.stat().st_mtime_ns):
        data = json.loads(path.read_text("utf-8"))
        if data.get("form") == _FORM:
            found[data["name"]] = path.stem
    return found
