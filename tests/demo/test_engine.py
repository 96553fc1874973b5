"""The emulated engine: the simulator's replica model, in whatever time it is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from leadtime.demo.engine import EngineLoop, Load, WallEngine, demo_profile, start_s
from policies.base import Slo, TokenMix
from policies.capacity import capacity
from simulator.dataplane.plane import DataPlane


def run(engine: WallEngine, until_s: float, from_s: float = 0.0, step_s: float = 0.01) -> list[tuple[float, int, int]]:
    """(time, request, tokens) of everything that comes out while time goes on."""
    out = []
    ticks = round((until_s - from_s) / step_s)
    for i in range(1, ticks + 1):
        now_s = from_s + i * step_s
        out += [(now_s, e.request, e.tokens) for e in engine.poll(now_s) if e.tokens]
    return out


def test_a_request_gets_exactly_the_tokens_it_asked_for() -> None:
    engine = WallEngine(demo_profile(), 1, 0.0)
    request = engine.submit(200, 30, 0.0)
    out = run(engine, 10.0)
    assert sum(tokens for _, _, tokens in out) == 30
    assert {number for _, number, _ in out} == {request}
    assert not engine.busy


def test_tokens_come_when_the_simulators_own_model_says() -> None:
    plane = DataPlane(demo_profile(), max_ongoing_requests=10**6, request_timeout_s=None, seed=1)
    plane.add_replica(0, 0.0)
    plane.feed([0.0, 0.5], [200, 400], [30, 20])
    plane.advance(20.0)
    ended = plane.completed()
    engine = WallEngine(demo_profile(), 1, 0.0)
    first, before = engine.submit(200, 30, 0.0), run(engine, 0.5)
    second = engine.submit(400, 20, 0.5)
    out = before + run(engine, 12.0, from_s=0.5)
    api_s = demo_profile().api_s
    for request, number in ((first, 0), (second, 1)):
        at = int((ended.id == number).nonzero()[0][0])
        mine = [now_s for now_s, who, _ in out if who == request]
        arrival_s = float(ended.arrival_s[at])
        assert mine[0] - arrival_s == pytest.approx(float(ended.ttft_s[at]) - api_s, abs=0.011)
        assert mine[-1] - arrival_s == pytest.approx(float(ended.e2e_s[at]) - api_s, abs=0.011)


def test_how_often_one_looks_changes_nothing_but_when_one_sees_it() -> None:
    often, seldom = WallEngine(demo_profile(), 1, 0.0), WallEngine(demo_profile(), 1, 0.0)
    for engine in (often, seldom):
        engine.submit(100, 20, 0.0)
    assert sum(t for *_, t in run(often, 4.0, step_s=0.005)) == sum(t for *_, t in run(seldom, 4.0, step_s=1.0)) == 20


def test_gauges_show_what_runs_and_what_waits() -> None:
    engine = WallEngine(demo_profile(), 1, 0.0)
    assert engine.load(0.0) == Load(0, 0, 0.0)
    for _ in range(10):
        engine.submit(300, 40, 0.0)
    engine.poll(2.0)
    load = engine.load(2.0)
    assert load.running == demo_profile().limits.max_num_seqs
    assert load.waiting == 2
    assert 0.3 < load.kv_usage_fraction <= 1.0


def test_one_replica_carries_about_what_the_demo_needs() -> None:
    for mix in (TokenMix(234, 34), TokenMix(404, 27)):
        assert 1.0 <= capacity(demo_profile(), mix, Slo(1.0, None, 0.98)).rps <= 1.5


def test_a_start_takes_between_its_bounds_the_same_for_the_same_replica() -> None:
    taken = [start_s(1, f"replica{i}", 20.0, 25.0) for i in range(200)]
    assert 20.0 <= min(taken) < 20.5
    assert 24.5 < max(taken) <= 25.0
    assert start_s(1, "replica7", 20.0, 25.0) == taken[7]
    assert start_s(2, "replica7", 20.0, 25.0) != taken[7]


@dataclass
class Seen:
    """A sink that keeps what it is told."""

    first: list[tuple[float, int]] = field(default_factory=list)
    generated: int = 0
    gaps: list[float | None] = field(default_factory=list)
    ended: list[tuple[float, float, float | None]] = field(default_factory=list)
    gone: int = 0
    loads: list[tuple[int, int, float]] = field(default_factory=list)

    def show(self, running: int, waiting: int, kv_usage_fraction: float) -> None:
        self.loads.append((running, waiting, kv_usage_fraction))

    def first_token(self, ttft_s: float, prompt_tokens: int) -> None:
        self.first.append((ttft_s, prompt_tokens))

    def tokens(self, number: int, gap_s: float | None) -> None:
        self.generated += number
        self.gaps.append(gap_s)

    def preempted(self, number: int) -> None: ...

    def finished(self, e2e_s: float, queue_s: float, mean_itl_s: float | None) -> None:
        self.ended.append((e2e_s, queue_s, mean_itl_s))

    def aborted(self) -> None:
        self.gone += 1


class FastClock:
    """Runs five times as fast as the loop's."""

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() * 5.0


async def stream(loop: EngineLoop, prompt: int, output: int) -> int:
    return sum([tokens async for tokens in loop.stream(prompt, output)])


async def test_every_caller_gets_its_own_tokens_and_metrics_count_them_all() -> None:
    seen, clock = Seen(), FastClock()
    loop = EngineLoop(WallEngine(demo_profile(), 1, clock()), seen, clock)
    assert await asyncio.gather(stream(loop, 100, 10), stream(loop, 200, 25), stream(loop, 50, 1)) == [10, 25, 1]
    assert seen.generated == 36
    assert sorted(prompt for _, prompt in seen.first) == [50, 100, 200]
    assert len(seen.ended) == 3
    assert seen.gaps.count(None) == 3
    await asyncio.sleep(0.1)
    assert seen.loads[-1] == (0, 0, 0.0)


async def test_a_client_that_leaves_is_counted_and_disturbs_nobody() -> None:
    seen, clock = Seen(), FastClock()
    loop = EngineLoop(WallEngine(demo_profile(), 1, clock()), seen, clock)
    other = asyncio.create_task(stream(loop, 100, 20))
    leaving = loop.stream(100, 30)
    assert await anext(leaving) >= 1
    await leaving.aclose()  # type: ignore[attr-defined]
    assert await other == 20
    assert seen.gone == 1
