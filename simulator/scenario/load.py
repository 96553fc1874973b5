"""Reads a scenario with everything it points to: overrides, engine profiles, traces, history. Gives a `Scenario`.

Errors are one line, a ScenarioError: file, line, key, value, what is allowed, and of a trace its file and row. Nothing
of a bad scenario is ever used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from autoscaler.common.errors import ConfigError, ScenarioError
from autoscaler.settings.document.problems import Problem, problem_of
from autoscaler.settings.document.reading import Loc, SettingsFile, dotted, read_settings_file
from autoscaler.settings.document.which import mistaken_for_scenario
from policies.base import DeploymentKey, PolicyError, Slo, whole_up
from policies.base.durations import Duration
from policies.capacity import EngineProfile
from policies.capacity.load import load_profile
from policies.options import exact, nearest
from simulator.scenario.checks import check_file, check_profiles
from simulator.scenario.file import ScenarioFile
from simulator.scenario.fleet import DeploymentBlock, NodePoolBlock
from simulator.scenario.left_out import Played, gap_notes, left_out, plays_nothing
from simulator.scenario.overrides import override
from simulator.scenario.reading import (
    ProblemsError,
    Read,
    Traffic,
    common_start_s,
    counts_from_1970,
    read_history,
    read_traffic,
)
from simulator.scenario.traffic import SyntheticBlock
from simulator.workload.synthetic import Synthetic
from simulator.workload.traces import RequestTrace

_PRESETS = Path(__file__).parents[1] / "presets"
_PREFIX = "preset:"
_A_MONDAY_S = 1_704_067_200.0
"""2024-01-01 0:00 UTC: time 0 of a scenario whose traffic has no calendar."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployment of a scenario, with its profile and traces read."""

    key: DeploymentKey
    block: DeploymentBlock
    profile: EngineProfile
    load_s: Duration
    init_s: Duration
    traffic: Traffic
    prompt_tokens: Duration | None
    output_tokens: Duration | None
    history: Traffic | None
    """Past traffic. A trace is cut at `start_s`, so that no policy can read later rows."""
    start_s: float
    """The time of the trace's clock that is the scenario's time 0."""

    @property
    def calendar_s(self) -> float:
        """Seconds since 1970 at time 0."""
        return self.start_s if counts_from_1970(self.traffic) else _A_MONDAY_S

    @property
    def slo(self) -> Slo:
        s = self.block.slo
        return Slo(s.ttft_s, s.itl_s, s.target_fraction)

    @property
    def gpus(self) -> int:
        return self.profile.gpus

    @property
    def initial(self) -> int:
        r = self.block.replicas
        return whole_up(r.min, self.block.gang_size) if r.initial is None else r.initial


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a run is made from. `duration_s` is resolved; `source` is the file as it was named."""

    name: str
    source: str
    sha256: str
    file: ScenarioFile
    deployments: tuple[Deployment, ...]
    pools: tuple[NodePoolBlock, ...]
    duration_s: float
    notes: tuple[str, ...] = ()
    """What of the traces is not played, or was not recorded, in numbers."""

    def deployment(self, key: DeploymentKey) -> Deployment:
        return next(d for d in self.deployments if d.key == key)

    def node_price_usd_per_hour(self, pool: NodePoolBlock) -> float | None:
        """Of a node: as written, else GPUs times the dearest profile's price that runs there; None = unknown."""
        if pool.price_usd_per_hour is not None:
            return pool.price_usd_per_hour
        prices = [d.profile.price_usd_per_gpu_hour for d in self.deployments if pool.name in d.block.pools]
        known = [p for p in prices if p is not None]
        return max(known) * pool.gpus_per_node if known else None


def preset_names() -> tuple[str, ...]:
    """Scenarios that are shipped, sorted."""
    return tuple(sorted(p.stem for p in _PRESETS.glob("*.yaml")))


def scenario_path(reference: str) -> Path:
    """The file of a path or of `preset:NAME`. Errors: ScenarioError with the nearest preset."""
    if not reference.startswith(_PREFIX):
        path = Path(reference)
        if not path.exists() and reference in preset_names():
            raise ScenarioError(f"{reference}: no such file; did you mean '{_PREFIX}{reference}'?")
        return path
    name = reference.removeprefix(_PREFIX)
    if name in preset_names():
        return _PRESETS / f"{name}.yaml"
    hint = nearest(reference, [_PREFIX + n for n in preset_names()])
    raise ScenarioError(f"{reference}: no such preset; allowed: {', '.join(preset_names())}{hint}")


def load_scenario(reference: str, overrides: Sequence[str] = (), seed: int | None = None) -> Scenario:
    """A scenario by path or `preset:NAME`; `overrides` are KEY=VALUE with dotted keys, as `--set` takes them.

    Errors: ScenarioError.
    """
    path = scenario_path(reference)
    try:
        settings = read_settings_file(path, f"; shipped: {', '.join(_PREFIX + n for n in preset_names())}")
    except ConfigError as error:
        raise ScenarioError(str(error)) from None
    changed, set_locs = override(settings, overrides)
    changed = _with_own_traces(changed, set_locs)
    if seed is not None:
        changed = replace(changed, data={**changed.data, "seed": seed})
    try:
        return _build(reference, changed)
    except ProblemsError as found:
        raise _scenario_error(changed, found.problems, set_locs) from None


def _with_own_traces(settings: SettingsFile, set_locs: Mapping[Loc, str]) -> SettingsFile:
    """Traces that were typed in place of the scenario's traffic are not held to what was written for that traffic.

    A duration that was not typed becomes the traces', where all deployments have one, and a history that was the
    replaced traffic's own goes, where no start was typed: nothing lies before the trace.
    """
    entries = settings.data.get("deployments")
    if not isinstance(entries, list):
        return settings
    typed = {loc[1] for loc in set_locs if len(loc) > 2 and loc[0] == "deployments" and loc[2] == "workload"}
    own = [i in typed and _is_trace(entry) for i, entry in enumerate(entries)]
    changed = [
        {**entry, "history": None} if mine and _lost_history(i, entry, set_locs) else entry
        for i, (mine, entry) in enumerate(zip(own, entries, strict=True))
    ]
    data = {**settings.data, "deployments": changed}
    whole = own and all(own) and ("duration_s",) not in set_locs
    if whole and not any(entry["workload"].get("repeat") for entry in entries):
        data["duration_s"] = None
    return replace(settings, data=data)


def _is_trace(entry: object) -> bool:
    workload = entry.get("workload") if isinstance(entry, Mapping) else None
    return isinstance(workload, Mapping) and any(workload.get(name) for name in ("requests", "rates"))


def _lost_history(index: int, entry: Mapping[str, Any], set_locs: Mapping[Loc, str]) -> bool:
    history = entry.get("history")
    typed = any(loc[:3] == ("deployments", index, "history") for loc in set_locs)
    return (
        isinstance(history, Mapping)
        and bool(history.get("workload"))
        and not typed
        and not entry["workload"].get("start_s")
    )


def read_synthetic(path: Path) -> tuple[Synthetic, Duration | None, Duration | None]:
    """A recipe for traffic as a file of its own, with its lengths of prompts and outputs. Errors: ScenarioError."""
    try:
        settings = read_settings_file(path)
        block = SyntheticBlock.model_validate(settings.data)
    except ConfigError as error:
        raise ScenarioError(str(error)) from None
    except ValidationError as error:
        schema = SyntheticBlock.model_json_schema()
        raise _scenario_error(settings, [problem_of(dict(e), schema) for e in error.errors()], {}) from None
    if block.week and len(block.week) != 7:
        problem = Problem(("week",), f"{len(block.week)} factors; allowed: 7, one for each day")
        raise _scenario_error(settings, [problem], {})
    return block.spec(), block.prompt_tokens, block.output_tokens


def _build(reference: str, settings: SettingsFile) -> Scenario:
    try:
        file = ScenarioFile.model_validate(settings.data)
    except ValidationError as error:
        if (mistaken := mistaken_for_scenario(settings)) is not None:
            raise ScenarioError(mistaken) from None
        schema = ScenarioFile.model_json_schema()
        raise ProblemsError([problem_of(dict(e), schema) for e in error.errors()]) from None
    _raise_if(check_file(file))
    base = settings.path.parent
    profiles = _profiles(file, base)
    _raise_if(check_profiles(file, profiles))
    reads = [read_traffic(("deployments", i), d, base) for i, d in enumerate(file.deployments)]
    start_s = common_start_s([d.traffic for d in reads])
    deployments = tuple(
        _deployment(i, d, p, base, read, start_s)
        for i, (d, p, read) in enumerate(zip(file.deployments, profiles, reads, strict=True))
    )
    duration_s = file.duration_s if file.duration_s is not None else _end_s(deployments)
    if duration_s <= 0:
        raise ProblemsError([Problem(("duration_s",), "missing; allowed: a number > 0, for all requests come at 0 s")])
    if file.warmup_s >= duration_s:
        allowed = f"less than duration_s, {exact(duration_s)}"
        raise ProblemsError([Problem(("warmup_s",), f"{exact(file.warmup_s)}; allowed: {allowed}", (("duration_s",),))])
    played = [_played(d) for d in deployments]
    _raise_if(plays_nothing(played, duration_s))
    notes = tuple(note for one in played for note in (*left_out(one, duration_s), *gap_notes(one)))
    pools = tuple(file.node_pools)
    return Scenario(file.name, reference, settings.sha256, file, deployments, pools, duration_s, notes)


def _raise_if(problems: Sequence[Problem]) -> None:
    if problems:
        raise ProblemsError(problems)


def _profiles(file: ScenarioFile, base: Path) -> list[EngineProfile]:
    profiles, problems = [], []
    for i, d in enumerate(file.deployments):
        try:
            profiles.append(load_profile(d.profile, base))
        except PolicyError as error:
            text = str(error).removeprefix("engine profile ")
            problems.append(Problem(("deployments", i, "profile"), text))
    _raise_if(problems)
    return profiles


def _deployment(
    index: int, block: DeploymentBlock, profile: EngineProfile, base: Path, read: Read, common_s: float | None
) -> Deployment:
    load_s = block.startup.load_s if block.startup.load_s is not None else profile.load_s
    init_s = block.startup.init_s if block.startup.init_s is not None else profile.init_s
    start_s = block.workload.start_s
    if start_s is None:
        start_s = common_s if common_s is not None and counts_from_1970(read.traffic) else 0.0
    history = read_history(("deployments", index, "history"), block, start_s, read.traffic, base)
    lengths = read.prompt_tokens, read.output_tokens
    key = DeploymentKey.parse(block.name)
    return Deployment(key, block, profile, load_s, init_s, read.traffic, *lengths, history, start_s)


def _played(d: Deployment) -> Played:
    return Played(str(d.key), d.traffic, d.start_s, d.block.workload.repeat, d.history is not None)


def _end_s(deployments: Sequence[Deployment]) -> float:
    """Where the longest traffic ends, on the scenario's clock: after a trace's last request, in whole seconds."""
    ends = []
    for d in deployments:
        end_s = (d.traffic.duration_s if isinstance(d.traffic, Synthetic) else d.traffic.end_s) - d.start_s
        last = isinstance(d.traffic, RequestTrace) and end_s == np.floor(end_s) and end_s > 0
        ends.append(end_s + 1.0 if last else end_s)
    return float(np.ceil(max(ends)))


def _scenario_error(settings: SettingsFile, problems: Sequence[Problem], set_locs: Mapping[Loc, str]) -> ScenarioError:
    """The first problem in the file's order (a wrong key before what is missing because of it); others are counted."""
    blamed = [(p.loc, p) for p in problems] + [(other, p) for p in problems for other in p.others]
    for where, problem in blamed:
        for loc, text in set_locs.items():
            if where[: len(loc)] == loc:
                return ScenarioError(f"--set {text!r}: {dotted(problem.loc)}: {problem.text}")

    def order(problem: Problem) -> tuple[bool, int, str]:
        line = settings.where(problem.loc).rpartition(":")[2]
        return not problem.text.startswith("unknown key"), int(line) if line.isdigit() else 0, dotted(problem.loc)

    first = min(problems, key=order)
    more = len(problems) - 1
    tail = f" (and {more} more problem{'s' if more > 1 else ''})" if more else ""
    return ScenarioError(first.line(settings) + tail)
