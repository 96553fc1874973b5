"""Makes scenario files from benchmarks/league.yaml: traces found or generated, scaled to a number of replicas.

A scenario becomes two files that `leadtime` reads like any other: NAME-train.yaml and NAME-judge.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.results.store import write_whole
from policies.base import Slo, TokenMix
from policies.base.durations import Duration
from policies.capacity import EngineProfile, capacity
from policies.capacity.load import load_profile
from simulator.kernel.draws import component_seed
from simulator.scenario.load import read_synthetic
from simulator.workload.synthetic import generate
from simulator.workload.traces import Floats, RateTrace, read_rates

HERE = Path(__file__).resolve().parent.parent
DAY_S = 86400.0
_FULL = 0.7
"""Share of what replicas carry that the first minutes fill: the fleet at time 0."""
_ROOM = 1.5
"""Most replicas over those that the peak needs."""


@dataclass(frozen=True, slots=True)
class Window:
    """How much is tuned on and judged; what is less than a day begins at the scenario's `quick_hour`."""

    train_s: float
    judge_s: float


FULL = Window(DAY_S, 2 * DAY_S)
QUICK = Window(8 * 3600.0, 8 * 3600.0)


@dataclass(frozen=True, slots=True)
class Pair:
    """One scenario of the league: the file to tune on and the one to be judged on; which traces were real."""

    name: str
    about: str
    train: Path
    judge: Path
    stand_ins: tuple[str, ...]
    targets: Mapping[str, float]
    """By deployment."""


def build(league: Mapping[str, Any], traces: Path | None, folder: Path, window: Window) -> list[Pair]:
    """Writes all scenario files, and the traces that they need, below `folder`."""
    (folder / "traces").mkdir(parents=True, exist_ok=True)
    (folder / "scenarios").mkdir(parents=True, exist_ok=True)
    return [_Builder(league, scenario, traces, folder, window).pair() for scenario in league["scenarios"]]


@dataclass
class _Builder:
    league: Mapping[str, Any]
    scenario: Mapping[str, Any]
    traces: Path | None
    folder: Path
    window: Window

    def __post_init__(self) -> None:
        self.profile: EngineProfile = load_profile(self.league["engine"]["profile"], HERE)
        self.stand_ins: list[str] = []
        lengths = {name: Duration.from_median_p99(v["median"], v["p99"]) for name, v in self.league["tokens"].items()}
        self.mix = TokenMix(lengths["prompt_tokens"].mean_s, lengths["output_tokens"].mean_s, 0.0)
        part_of_day = self.window.train_s < DAY_S
        self.from_s = self.scenario["quick_hour"] * 3600.0 if part_of_day else 0.0

    def pair(self) -> Pair:
        paths, targets = [], dict[str, float]()
        for part, days, length_s in (("train", 0, self.window.train_s), ("judge", 1, self.window.judge_s)):
            path = self.folder / "scenarios" / f"{self.scenario['name']}-{part}.yaml"
            document = self._document(days, length_s)
            targets = {d["name"]: d["slo"]["target_fraction"] for d in document["deployments"]}
            text = yaml.safe_dump(document, sort_keys=False, width=120)
            write_whole(path, f"# {self.scenario['about']} ({part}); made from benchmarks/league.yaml\n{text}")
            paths.append(path)
        return Pair(
            self.scenario["name"],
            self.scenario["about"],
            paths[0],
            paths[1],
            tuple(dict.fromkeys(self.stand_ins)),
            targets,
        )

    def _document(self, days: int, length_s: float) -> dict[str, Any]:
        deployments: list[dict[str, Any]] = []
        pools: list[dict[str, Any]] = []
        for d in self.scenario["deployments"]:
            own = self._pools(d, length_s)
            deployments.append(self._deployment(d, days, [p["name"] for p in own]))
            pools += [p for p in own if p["name"] not in [q["name"] for q in pools]]
        for pool in pools:
            users = [d for d in deployments if pool["name"] in d["node_pools"]]
            most = sum(d["replicas"]["max"] for d in users)
            budget = self.scenario.get("budget_replicas", most)
            pool["nodes"] = {"min": 0, "max": min(most, budget)}
        document: dict[str, Any] = {
            "version": 1,
            "name": self.scenario["name"],
            "duration_s": length_s,
            "tick_s": self.league["tick_s"],
            "least_period_s": self.league["least_period_s"],
            "telemetry": {"profile": "prometheus_15s"},
        }
        if "budget_replicas" in self.scenario:
            gpus = self.scenario["budget_replicas"] * self.profile.gpus
            document["gpu_budget"] = {self.profile.gpu: gpus}
            self._fit_start(deployments, self.scenario["budget_replicas"])
        return {**document, "deployments": deployments, "node_pools": pools}

    def _fit_start(self, deployments: list[dict[str, Any]], budget: int) -> None:
        while sum(d["replicas"]["initial"] for d in deployments) > budget:
            largest = max(deployments, key=lambda d: d["replicas"]["initial"])
            largest["replicas"]["initial"] -= 1

    def _pools(self, d: Mapping[str, Any], length_s: float) -> list[dict[str, Any]]:
        start = {**self.league["start"], **d.get("start", {})}
        engine = self.league["engine"]
        pool = {
            "name": f"{d['name'].partition('/')[0]}-nodes" if "start" in d else "h100",
            "gpus_per_node": engine["gpus"],
            "provision_s": start["provision_s"],
            "image_pull_s": start["image_pull_s"],
            "price_usd_per_hour": engine["price_usd_per_hour"],
            "scale_down_after_s": 600,
        }
        if "cheap_pool" not in d:
            return [pool]
        first, last = d["cheap_pool"]["stock_out_hours"]
        shift_h = self.from_s / 3600.0
        outs = [
            {"start_s": max(0.0, (24 * k + first - shift_h) * 3600.0), "end_s": (24 * k + last - shift_h) * 3600.0}
            for k in range(ceil(length_s / DAY_S))
        ]
        cheap = {**pool, "name": "cheap", "price_usd_per_hour": d["cheap_pool"]["price_usd_per_hour"]}
        return [{**cheap, "stockouts": outs}, pool]

    def _deployment(self, d: Mapping[str, Any], days: int, pools: list[str]) -> dict[str, Any]:
        slo = {**self.league["slo"], **{k: d[k] for k in ("target_fraction",) if k in d}}
        train_day = d.get("train_day", self.scenario["train_day"])
        first_s = train_day * DAY_S + self.from_s
        start_s = first_s + days * DAY_S
        trace = self._trace(d["trace"])
        longer = d.get("longer_outputs", 1.0)
        peak_mix = TokenMix(self.mix.prompt_tokens, self.mix.output_tokens * longer, 0.0)
        promise = Slo(slo["ttft_s"], slo["itl_s"], slo["target_fraction"])
        each_rps = capacity(self.profile, peak_mix, promise).rps
        path, trace = self._changed(d, trace, train_day)
        seen = _five_minutes(trace, train_day * DAY_S, (train_day + 3) * DAY_S)
        scale = float(f"{d['peak'] * each_rps / float(np.quantile(seen, 0.999)):.5g}")
        usual_rps = capacity(self.profile, self.mix, promise).rps
        now_rps = float(_five_minutes(trace, start_s, start_s + 900.0).mean()) * scale
        least, most = d.get("min", 1), ceil(d["peak"] * _ROOM) + 1
        begin = self.league["start"] | d.get("start", {})
        return {
            "name": d.get("name", "chat/llm"),
            "profile": self.league["engine"]["profile"],
            "node_pools": pools,
            "replicas": {
                "min": least,
                "max": most,
                "initial": min(most, max(least, ceil(now_rps / _FULL / usual_rps))),
            },
            "slo": slo,
            "max_ongoing_requests": 256,
            "request_timeout_s": 1800,
            "graceful_shutdown_timeout_s": 1800,
            "startup": {"load_s": begin["load_s"], "init_s": begin["init_s"]},
            "workload": {
                "rates": str(path.resolve()),
                "start_s": start_s,
                "rate_scale": scale,
                "prompt_tokens": self.league["tokens"]["prompt_tokens"],
                "output_tokens": self.league["tokens"]["output_tokens"],
            },
            "history": {"workload": True},
        }

    # ------------------------------------------------------------ traces

    def _path(self, name: str) -> Path:
        """The public trace where there is one, else its stand-in."""
        if self.traces is not None and (self.traces / "rates" / f"{name}.csv.gz").is_file():
            return self.traces / "rates" / f"{name}.csv.gz"
        self.stand_ins.append(name)
        path = self.folder / "traces" / f"{name}.stand-in.csv"
        if not path.is_file():
            spec, _, _ = read_synthetic(HERE / "stand-ins" / f"{name}.yaml")
            _write(path, generate(spec, component_seed(1, f"stand-in/{name}")))
        return path

    def _trace(self, name: str) -> RateTrace:
        return read_rates(self._path(name))

    def _changed(self, d: Mapping[str, Any], trace: RateTrace, train_day: int) -> tuple[Path, RateTrace]:
        """The trace with silences or longer outputs, as a file of its own where it is changed."""
        path = self._path(d["trace"])
        rps, columns = trace.rps, None
        if "silent_fraction" in d:
            rps = np.maximum(rps - np.quantile(rps, d["silent_fraction"]), 0.0)
        if "longer_outputs" in d:
            time_s = trace.start_s + trace.bin_s * np.arange(len(rps))
            shift_s = (train_day + 1) * DAY_S + 12 * 3600.0
            longer = np.where(time_s >= shift_s, d["longer_outputs"], 1.0)
            columns = (np.full(len(rps), self.mix.prompt_tokens), self.mix.output_tokens * longer)
        if rps is trace.rps and columns is None:
            return path, trace
        changed = RateTrace(trace.source, trace.start_s, trace.bin_s, rps, *(columns or (None, None)))
        path = self.folder / "traces" / f"{self.scenario['name']}.csv"
        _write(path, changed)
        return path, changed


def _five_minutes(trace: RateTrace, from_s: float, to_s: float) -> Floats:
    """Mean rates of five minutes, from a time to a time of the trace."""
    first, last = (int((t - trace.start_s) / trace.bin_s) for t in (from_s, to_s))
    each = max(1, round(300.0 / trace.bin_s))
    rates = trace.rps[first : min(last, len(trace.rps))]
    if len(rates) < each:
        raise SystemExit(f"{trace.source}: it ends before {to_s / DAY_S:g} days")
    means: Floats = rates[: len(rates) // each * each].reshape(-1, each).mean(axis=1)
    return means


def _write(path: Path, trace: RateTrace) -> None:
    """A rates trace as CSV; the bytes depend on the trace alone."""
    columns = [trace.rps]
    names = ["timestamp_s", "rps"]
    if trace.prompt_tokens is not None and trace.output_tokens is not None:
        columns += [trace.prompt_tokens, trace.output_tokens]
        names += ["prompt_tokens", "output_tokens"]
    lines = [",".join(names)]
    for i, values in enumerate(zip(*columns, strict=True)):
        lines.append(",".join([f"{trace.start_s + i * trace.bin_s:.10g}", *(f"{v:.6g}" for v in values)]))
    write_whole(path, "\n".join(lines) + "\n")
