"""Reads what a demo left, live and simulated, in the same terms: when requests came, what they got, what ran."""

from __future__ import annotations

import csv
import json
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from autoscaler.runtime.journal_file import read_journal
from simulator.experiments.simulation import simulate
from simulator.run import Choice, Outputs, make_policy
from simulator.scenario.load import load_scenario
from simulator.timeline import Row

_LATE_S = 1.0


@dataclass(frozen=True)
class Got:
    """One request: `ttft_s` None = no token came."""

    deployment: str
    arrival_s: float
    ttft_s: float | None


@dataclass(frozen=True)
class Played:
    """One pass: requests by time, and per deployment (time, running, held) in order."""

    seconds: float
    requests: list[Got]
    replicas: dict[str, list[tuple[float, int, int]]]

    starts_s: tuple[float, ...] = ()
    """How long the starts took that ended in it."""

    def first_tokens(self, name: str) -> list[float]:
        return [float("inf") if r.ttft_s is None else r.ttft_s for r in self.requests if r.deployment == name]

    def running(self, name: str, at_s: float) -> int:
        rows = self.replicas[name]
        return rows[max(0, bisect_right([t for t, _, _ in rows], at_s) - 1)][1]

    @property
    def replica_seconds(self) -> float:
        total = 0.0
        for rows in self.replicas.values():
            ends = [*(t for t, _, _ in rows[1:]), self.seconds]
            for (begin_s, _, held), end_s in zip(rows, ends, strict=True):
                total += held * max(0.0, min(end_s, self.seconds) - max(begin_s, 0.0))
        return total


def live_pass(out: Path) -> Played:
    note = json.loads((out / "leadtime" / "pass.json").read_text())
    replicas: dict[str, list[tuple[float, int, int]]] = {"chat": [], "code": []}
    starts: list[float] = []
    for record in read_journal(out / "leadtime" / "journal"):
        if record.data["kind"] != "tick":
            continue
        learned = " ".join(record.data["learned"])
        starts += [float(s) for s in re.findall(r"demo/(?:chat|code): a replica was RUNNING (\S+) s after", learned)]
        for name, rows in replicas.items():
            inventory = record.data["signals"][f"demo/{name}"]["inventory"]
            states = [r["state"] for r in inventory["replicas"]]
            rows.append((record.data["now_s"] - note["begin_s"], states.count("RUNNING"), len(states)))
    with (out / "requests-leadtime.csv").open() as file:
        found = [
            Got(row["deployment"], float(row["arrival_s"]), float(row["ttft_s"]) if row["ttft_s"] else None)
            for row in csv.DictReader(file)
        ]
    return Played(note["seconds"], sorted(found, key=lambda r: r.arrival_s), replicas, tuple(starts))


class _Rows:
    def __init__(self) -> None:
        self.replicas: dict[str, list[tuple[float, int, int]]] = {"chat": [], "code": []}

    def write(self, row: Row) -> None:
        held = row.running + row.starting + row.draining
        self.replicas[row.deployment.removeprefix("demo/")].append((row.time_s, row.running, held))


def simulated_pass(out: Path, start_s: float) -> Played:
    """The same day in the simulator, told how long a start takes on this machine."""
    document = yaml.safe_load((out / "scenario" / "scenario.yaml").read_text())
    for deployment in document["deployments"]:
        deployment["startup"] = {"load_s": start_s, "init_s": 0.0}
    path = out / "scenario" / "as-live.yaml"
    path.write_text(yaml.safe_dump(document))
    scenario = load_scenario(str(path))
    rows, requests = _Rows(), _Requests()
    simulate(scenario, make_policy(scenario, Choice()), Outputs(timeline=rows, requests=requests))
    return Played(scenario.duration_s, sorted(requests.found, key=lambda r: r.arrival_s), rows.replicas)


class _Requests:
    def __init__(self) -> None:
        self.found: list[Got] = []

    def write(self, key: object, ended: object) -> None:
        name = key.deployment  # type: ignore[attr-defined]
        for arrival_s, ttft_s in zip(ended.arrival_s.tolist(), ended.ttft_s.tolist(), strict=True):  # type: ignore[attr-defined]
            self.found.append(Got(name, arrival_s, None if ttft_s != ttft_s else ttft_s))


def median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def late(values: Sequence[float]) -> float:
    """Share of requests whose first token came late or never."""
    return sum(value > _LATE_S for value in values) / len(values)


def longest_run(values: Sequence[int], above: int) -> int:
    """The most values in a row that are larger than `above`."""
    longest = current = 0
    for value in values:
        current = current + 1 if value > above else 0
        longest = max(longest, current)
    return longest
