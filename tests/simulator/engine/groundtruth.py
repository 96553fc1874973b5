"""Measured runs of a real vLLM (../shared/groundtruth/cpu), and the scheduler replayed over its own step log."""

from __future__ import annotations

import copy
import csv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from policies.base.durations import Duration
from policies.capacity.profile import EngineProfile, Limits, Scheduling, StepLaw
from tests.simulator.engine.reference_engine import Batch, ReferenceEngine, Request

FOLDER = Path(__file__).parents[3].parent / "shared" / "groundtruth" / "cpu"

# Fitted on calibration/ only: least absolute relative error over both step files, K = the KV usage less half a block a
# request and less the prompt in the step; host time from total_s, API time from ttft_*.
PROFILE = EngineProfile(
    name="cpu",
    gpus=1,
    gpu="cpu",
    step=StepLaw("affine", a_s=0.01024, b_s=0.000657, c_s=2.45e-6, d_s=0.0007346, h_s=0.0013),
    host_s=0.0017,
    api_s=0.007,
    limits=Limits(16, 512, 32, 5088, 2048),
    scheduling=Scheduling(asynchronous=False),
    load_s=Duration(0.0),
    init_s=Duration(0.0),
)


def table(path: Path) -> dict[str, np.ndarray]:
    """A CSV's columns; text that is no number is NaN."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([_number(row[name]) for row in rows]) for name in rows[0]}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


@dataclass(frozen=True)
class Composition:
    """What vLLM's iteration log says of a step, measured and scheduled: prompts, their tokens, generating requests."""

    step: int
    measured: tuple[int, ...]
    scheduled: tuple[int, ...]


@dataclass
class Replay:
    """The scheduler over a run's step log.

    It is fed the measured step times, and for each step told which arrivals it sees: those, within `slack_s` of the
    reconstructed clock, with which it does what was measured, if there are such; requests sent within `slack_s` of
    each other may have reached the engine in either order. The clock is put right by every admission and by the log's
    stamps of whole seconds (`second_at_s`: when the log's first second began).
    """

    run: str
    slack_s: float = 0.1
    second_at_s: float | None = None
    ends_s: list[float] = field(default_factory=list)
    differing: list[Composition] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = table(FOLDER / self.run / "steps.csv")
        requests = table(FOLDER / self.run / "requests.csv")
        columns = zip(requests["arrival_s"], requests["prompt_tokens"], requests["output_tokens"], strict=True)
        made = [Request(i, float(a), int(p), int(o)) for i, (a, p, o) in enumerate(columns)]
        self.arrivals = sorted(made, key=lambda r: r.arrival_s)
        self.engine = ReferenceEngine(PROFILE, lambda _: 0.0)
        self.seen = 0
        self.clock_s = 0.0

    def go(self) -> Replay:
        for k in range(len(self.log["elapsed_ms"])):
            self.step(k)
        return self

    def step(self, k: int) -> None:
        engine = self.engine
        if not engine.running and not engine.waiting and self.seen < len(self.arrivals):
            self.clock_s = max(self.clock_s, self.arrivals[self.seen].arrival_s)
        measured = tuple(int(self.log[name][k]) for name in ("ctx_reqs", "ctx_tokens", "gen_reqs"))
        visible, first = self.choose(measured)
        running = {r.id for r in engine.running}
        self.show(engine, visible, first)
        engine.begin(self.clock_s)
        scheduled = (engine.current or Batch()).composition[:3]
        if scheduled != measured:
            self.differing.append(Composition(k, measured, scheduled))
        self.resynchronise(visible, [r for r in engine.running if r.id not in running])
        self.clock_s += self.log["elapsed_ms"][k] / 1e3 + PROFILE.host_s
        if self.second_at_s is not None:
            second_s = self.second_at_s + self.log["log_s"][k]
            self.clock_s = min(max(self.clock_s, second_s), second_s + 1.0)
        self.ends_s.append(self.clock_s)
        if engine.current is not None:
            engine.end_s = self.clock_s
            engine.end()
        engine.log.clear()

    def choose(self, measured: tuple[int, ...]) -> tuple[int, int]:
        """How many arrivals the engine has seen, and which of its newest waiting requests comes first."""
        expected, fewest, most = (self.before(self.clock_s + d) for d in (0.0, -self.slack_s, self.slack_s))
        counts = sorted(range(fewest, most + 1), key=lambda n: abs(n - expected))
        for first in range(4):
            for count in counts:
                trial = self.engine.clone()
                if self.show(trial, count, first):
                    trial.begin(0.0)
                    if (trial.current or Batch()).composition[:3] == measured:
                        return count, first
        return expected, 0

    def before(self, at_s: float) -> int:
        count = self.seen
        while count < len(self.arrivals) and self.arrivals[count].arrival_s <= at_s:
            count += 1
        return count

    def show(self, engine: ReferenceEngine, count: int, first: int) -> bool:
        """Let the engine see arrivals; put its `first`-th never scheduled request before the others, if it may be."""
        for request in self.arrivals[self.seen : count]:
            engine.waiting.append(copy.copy(request))
        fresh = [i for i, r in enumerate(engine.waiting) if r.scheduled_s is None]
        if first == 0:
            return True
        if first >= len(fresh):
            return False
        head, chosen = engine.waiting[fresh[0]], engine.waiting[fresh[first]]
        if chosen.arrival_s - head.arrival_s > self.slack_s:
            return False
        engine.waiting.remove(chosen)
        engine.waiting.insert(fresh[0], chosen)
        return True

    def resynchronise(self, visible: int, admitted: list[Request]) -> None:
        """A request that was admitted had been sent; one that is not seen yet had not."""
        self.seen = visible
        for request in admitted:
            self.clock_s = max(self.clock_s, request.arrival_s)
        if admitted and not self.engine.waiting and visible < len(self.arrivals):
            self.clock_s = min(self.clock_s, self.arrivals[visible].arrival_s)


def replay_schedule(run: str) -> Replay:
    """Once to find where the log's seconds begin (from its first ten, before the clock drifts), then with that."""
    rough = Replay(run).go()
    stamps, ends_s = rough.log["log_s"], np.array(rough.ends_s)
    crossing = np.flatnonzero(np.diff(stamps) == 1)
    begins_s = (ends_s[crossing] + ends_s[crossing + 1]) / 2 - stamps[crossing + 1]
    return Replay(run, second_at_s=float(np.median(begins_s[:10]))).go()
