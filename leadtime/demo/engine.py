"""One emulated vLLM engine in wall time: the simulator's own replica model, advanced by the clock on the wall.

`WallEngine` is told the time and tells what came out; `EngineLoop` runs it on asyncio and gives each request its tokens
as they come. There is no second model of an engine here: batching, KV blocks and step times are `simulator.dataplane`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from policies.capacity import EngineProfile
from policies.capacity.load import load_profile

if TYPE_CHECKING:
    from simulator.dataplane.plane import DataPlane

_LOOK_EVERY_S = 0.012
"""How often the engine looks whether a step has ended; a tenth of a step."""
_ONLY = 0
"""The number of the one replica that this data plane has."""


def demo_profile() -> EngineProfile:
    """The profile of the demo's engines; the controller is given the same."""
    return load_profile(str(Path(__file__).with_name("engine.yaml")))


def start_s(seed: int, replica_id: str, least_s: float, most_s: float) -> float:
    """How long this replica takes to start: drawn evenly, the same for the same seed and replica."""
    drawn = int.from_bytes(blake2b(f"{seed}/{replica_id}".encode(), digest_size=6).digest(), "big") / 2**48
    return least_s + (most_s - least_s) * drawn


def without_compiling() -> None:
    """Keep numba out of this process: a replica steps ten times a second, and compiling would take its whole start."""
    if "simulator.engine.jit" not in sys.modules:
        sys.modules.setdefault("numba", None)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Emission:
    """New tokens of one request, `queue_s` after it was submitted first scheduled; `done`: there are no more."""

    request: int
    tokens: int
    done: bool
    queue_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """What the engine's gauges show."""

    running: int = 0
    waiting: int = 0
    kv_usage_fraction: float = 0.0


class WallEngine:
    """One engine; every method takes the time in seconds, which never goes back."""

    def __init__(self, profile: EngineProfile, seed: int, now_s: float) -> None:
        from simulator.dataplane.plane import DataPlane

        # The real router stands before us: here everything that arrives goes straight into the engine.
        self._plane: DataPlane = DataPlane(profile, max_ongoing_requests=1_000_000, request_timeout_s=None, seed=seed)
        self._plane.add_replica(_ONLY, now_s)
        self._emitted: dict[int, int] = {}
        self._preemptions = 0
        self._next = 0

    @property
    def busy(self) -> bool:
        return bool(self._emitted)

    def submit(self, prompt_tokens: int, output_tokens: int, now_s: float) -> int:
        """A request arrives; the number under which its tokens come."""
        self._next += 1
        self._plane.feed([now_s], [prompt_tokens], [output_tokens], ids=[self._next])
        self._emitted[self._next] = 0
        return self._next

    def poll(self, now_s: float) -> list[Emission]:
        """Everything that came out since the last look."""
        self._plane.advance(now_s)
        out: list[Emission] = []
        inside = self._plane.unfinished()
        for request, tokens in zip(inside.id.tolist(), inside.output_tokens.tolist(), strict=True):
            new = tokens - self._emitted.get(request, 0)
            if new > 0:
                self._emitted[request] = tokens
                out.append(Emission(request, new, done=False))
        ended = self._plane.completed()
        for request, tokens, queue_s in zip(
            ended.id.tolist(), ended.output_tokens.tolist(), ended.queue_s.tolist(), strict=True
        ):
            out.append(Emission(request, tokens - self._emitted.pop(request, 0), done=True, queue_s=queue_s))
        return out

    def load(self, now_s: float) -> Load:
        """Gauges at the time of the last look."""
        gauges = self._plane.gauges(now_s)
        return Load(int(gauges.running[0]), int(gauges.waiting[0]), float(gauges.kv_usage_fraction[0]))

    def new_preemptions(self) -> int:
        """Preemptions since the last call."""
        total = int(self._plane.counters().preemptions_total[_ONLY])
        new, self._preemptions = total - self._preemptions, total
        return new


class Sink(Protocol):
    """Where an engine's metrics go."""

    def show(self, running: int, waiting: int, kv_usage_fraction: float) -> None: ...
    def first_token(self, ttft_s: float, prompt_tokens: int) -> None: ...
    def tokens(self, number: int, gap_s: float | None) -> None: ...
    def preempted(self, number: int) -> None: ...
    def finished(self, e2e_s: float, queue_s: float, mean_itl_s: float | None) -> None: ...
    def aborted(self) -> None: ...


class EngineLoop:
    """Gives every caller of `stream` its tokens when they come out; looks at the engine only while it has work."""

    def __init__(self, engine: WallEngine, sink: Sink, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._sink = sink
        self._clock = clock
        self._queues: dict[int, asyncio.Queue[Emission]] = {}
        self._shown = Load()
        self._task: asyncio.Task[None] | None = None

    async def stream(self, prompt_tokens: int, output_tokens: int) -> AsyncIterator[int]:
        """The numbers of tokens that come out, as they do, until the request is done."""
        began_s = self._clock()
        request = self._engine.submit(prompt_tokens, output_tokens, began_s)
        queue = self._queues[request] = asyncio.Queue()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        first_s: float | None = None
        last_s, total, done = began_s, 0, False
        try:
            while not done:
                emission = await queue.get()
                now_s, done, total = self._clock(), emission.done, total + emission.tokens
                if emission.tokens:
                    if first_s is None:
                        first_s = now_s
                        self._sink.first_token(now_s - began_s, prompt_tokens)
                        self._sink.tokens(emission.tokens, None)
                    else:
                        self._sink.tokens(emission.tokens, now_s - last_s)
                    last_s = now_s
                    yield emission.tokens
            mean_s = (last_s - first_s) / (total - 1) if first_s is not None and total > 1 else None
            self._sink.finished(last_s - began_s, emission.queue_s, mean_s)
        finally:
            del self._queues[request]
            if not done:
                self._sink.aborted()

    async def _poll(self) -> None:
        while self._engine.busy:
            await asyncio.sleep(_LOOK_EVERY_S)
            now_s = self._clock()
            for emission in self._engine.poll(now_s):
                with contextlib.suppress(KeyError):  # its client has gone; the engine computes on
                    self._queues[emission.request].put_nowait(emission)
            load = self._engine.load(now_s)
            if load != self._shown:
                self._shown = load
                self._sink.show(load.running, load.waiting, load.kv_usage_fraction)
                if load.kv_usage_fraction > 0.9:
                    self._count_preemptions()
        self._sink.show(0, 0, 0.0)
        self._shown = Load()
        self._count_preemptions()

    def _count_preemptions(self) -> None:
        new = self._engine.new_preemptions()
        if new:
            self._sink.preempted(new)
