"""`leadtime calibrate ENDPOINT`: an engine is found again from outside, politely, and after an interruption."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from autoscaler.common.errors import InputError, LeadtimeError
from policies.capacity import Limits
from policies.capacity.load import load_profile
from simulator.dataplane.plane import DataPlane
from simulator.experiments.calibration.batches import fit_batches
from simulator.experiments.calibration.client import HttpEndpoint, retry_after_s
from simulator.experiments.calibration.endpoint import (
    Batch,
    BatchFailed,
    EndpointRefused,
    Measured,
    Patience,
    Progress,
    Throttled,
    Timing,
    measure,
    plan,
)
from simulator.experiments.observed import ClosedBatches, simulate_batches
from tests.cli.helpers import Ran, leadtime
from tests.simulator.calibration.test_calibrate_command import LIMITS, TRUE


class Virtual:
    """An endpoint in virtual time: the engine TRUE, with troubles to come first."""

    def __init__(self, troubles: Sequence[Exception] = ()) -> None:
        self.now_s, self.troubles = 0.0, list(troubles)
        self.asked: list[Batch] = []
        self.slept_s: list[float] = []

    async def measure(self, batch: Batch) -> Timing:
        self.asked.append(batch)
        if self.troubles:
            raise self.troubles.pop(0)
        one = [np.array([n]) for n in (batch.concurrency, batch.prompt_tokens, batch.output_tokens)]
        ttft_s, total_s = simulate_batches(TRUE, ClosedBatches("", one[0], one[1], one[2], np.ones(1), np.ones(1)))
        self.now_s += float(total_s[0])
        return Timing(float(ttft_s[0]), float(total_s[0]))

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds

    def run(self, path: Path, until_s: float = 1e9, batches: Sequence[Batch] = ()) -> Measured:
        patience = Patience(until_s, lambda: self.now_s, self.sleep)
        return asyncio.run(measure(self, batches or plan(LIMITS, 64), Progress(path, "m"), patience))


def test_the_plan_is_bounded_by_what_the_engine_holds_and_any_beginning_covers_it() -> None:
    batches = plan(LIMITS, 64)
    assert 20 <= len(batches) == len(set(batches)) <= 100
    assert max(b.concurrency for b in batches) == LIMITS.max_num_seqs
    assert all(b.concurrency * (b.prompt_tokens + b.output_tokens) <= LIMITS.kv_tokens for b in batches)
    assert all(b.prompt_tokens + b.output_tokens <= LIMITS.max_model_len for b in batches)
    beginning = batches[: len(batches) // 3]
    assert {b.output_tokens for b in beginning} == {b.output_tokens for b in batches}
    assert max(b.concurrency for b in beginning) > 2 * min(b.concurrency for b in beginning)
    assert max(b.concurrency for b in plan(LIMITS, 3)) == 3


def test_an_engine_is_found_again_from_its_batches(tmp_path: Path) -> None:
    Virtual().run(tmp_path / "p.csv")
    measured = Progress(tmp_path / "p.csv", "m").batches()
    assert measured is not None
    draft = replace(TRUE, step=replace(TRUE.step, a_s=0.03, b_s=0.0, c_s=0.0, d_s=1e-3, h_s=0.0), api_s=0.001)
    found = fit_batches(draft, measured)
    assert found.error_fraction < 0.02
    assert found.held_out_fraction < 0.03
    assert found.law.a_s == pytest.approx(TRUE.step.a_s, rel=0.05)
    assert found.law.d_s == pytest.approx(TRUE.step.d_s, rel=0.05)
    assert found.law.b_s == pytest.approx(TRUE.step.b_s, rel=0.15)


def test_too_few_batches_are_refused(tmp_path: Path) -> None:
    Virtual().run(tmp_path / "p.csv", batches=plan(LIMITS, 64)[:5])
    measured = Progress(tmp_path / "p.csv", "m").batches()
    assert measured is not None
    with pytest.raises(LeadtimeError, match="5 batches are too few"):
        fit_batches(TRUE, measured)


def test_it_stops_in_time_and_goes_on_where_it_was(tmp_path: Path) -> None:
    path, first = tmp_path / "p.csv", Virtual()
    early = first.run(path, until_s=20.0)
    assert early.stopped == "the time is up (--max-minutes)"
    assert 0 < early.done < early.planned
    with path.open("a") as file:
        file.write("4,128,24,0.1")  # the machine went down in the middle of a line
    second = Virtual()
    late = second.run(path)
    assert (late.resumed, late.done, late.stopped) == (early.done, late.planned, None)
    assert set(first.asked).isdisjoint(second.asked)


def test_a_progress_file_of_another_model_is_refused(tmp_path: Path) -> None:
    Virtual().run(tmp_path / "p.csv", batches=[Batch(1, 32, 8)])
    with pytest.raises(InputError, match="measured 'm', not 'other'"):
        Progress(tmp_path / "p.csv", "other")


def test_throttling_is_waited_out_as_long_as_the_endpoint_says(tmp_path: Path) -> None:
    endpoint = Virtual([Throttled(7.0), Throttled(None)])
    result = endpoint.run(tmp_path / "p.csv", batches=[Batch(4, 32, 8), Batch(2, 32, 8)])
    assert result.done == 2
    assert endpoint.slept_s[:2] == [7.0, 2.0]


def test_a_size_that_is_throttled_again_and_again_is_not_asked_for_again(tmp_path: Path) -> None:
    endpoint = Virtual([Throttled(None)] * 3)
    result = endpoint.run(tmp_path / "p.csv", batches=[Batch(8, 32, 8), Batch(2, 32, 8), Batch(16, 32, 8)])
    assert endpoint.asked == [Batch(8, 32, 8)] * 3 + [Batch(2, 32, 8)]
    assert result.done == 1
    assert "not asked for again" in result.notes[0]


def test_endless_throttling_ends_the_campaign(tmp_path: Path) -> None:
    endpoint = Virtual([Throttled(None)] * 100)
    result = endpoint.run(tmp_path / "p.csv", batches=[Batch(1, 32, 8)])
    assert result.stopped == "the endpoint throttled 6 times in a row"
    assert endpoint.slept_s == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0]
    endpoint = Virtual([Throttled(3600.0)])
    assert endpoint.run(tmp_path / "p.csv").stopped == "the endpoint asks to wait 3600 s"
    assert endpoint.slept_s == []


def test_failures_are_tried_again_three_times_and_no_more(tmp_path: Path) -> None:
    endpoint = Virtual([BatchFailed("HTTP 500")] * 2)
    assert endpoint.run(tmp_path / "p.csv", batches=[Batch(1, 32, 8)]).done == 1
    endpoint = Virtual([BatchFailed("the endpoint streamed nothing")] * 9)
    result = endpoint.run(tmp_path / "q.csv")
    assert result.stopped == "3 failures in a row; the last: the endpoint streamed nothing"
    assert len(endpoint.asked) == 3


def test_retry_after_is_a_number_or_a_date() -> None:
    now = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
    assert retry_after_s("12", now) == 12.0
    assert retry_after_s("Thu, 01 Jan 2026 12:00:30 GMT", now) == 30.0
    assert retry_after_s("soon", now) is None
    assert retry_after_s(None, now) is None


# ---------------------------------------------------------------- over HTTP


class FakeServer:
    """An OpenAI-compatible server whose engine is the simulator's data plane, at 30 times wall speed."""

    def __init__(self) -> None:
        self.plane = DataPlane(TRUE, max_ongoing_requests=10**6, request_timeout_s=None, seed=1)
        self.plane.add_replica(0, 0.0)
        self.begun_s, self.count = time.monotonic(), 0
        self.trouble: str | None = None
        self.keys: list[str | None] = []
        self.app = web.Application()
        self.app.add_routes(
            [
                web.get("/v1/models", self.models),
                web.get("/metrics", self.metrics),
                web.post("/v1/completions", self.complete),
            ]
        )

    def now_s(self) -> float:
        return 30.0 * (time.monotonic() - self.begun_s)

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "fake"}]})

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(text='vllm:cache_config_info{block_size="32",num_gpu_blocks="160"} 1.0\n')

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.keys.append(request.headers.get("Authorization"))
        if self.trouble == "busy":
            return web.Response(status=429, headers={"Retry-After": "9"})
        if self.trouble == "unknown":
            return web.Response(status=404, text="no such model")
        if self.trouble == "broken":
            return web.Response(status=500, text="out of order")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if self.trouble == "silent":
            await asyncio.sleep(3600)
        wanted = body["max_tokens"] - (self.trouble == "short")
        async for _ in self.tokens(len(body["prompt"]), wanted):
            await response.write(b'data: {"choices": [{"text": "x"}]}\n\n')
        usage = {"choices": [], "usage": {"completion_tokens": wanted}}
        await response.write(f"data: {json.dumps(usage)}\n\ndata: [DONE]\n\n".encode())
        return response

    async def tokens(self, prompt: int, output: int) -> AsyncIterator[int]:
        number, self.count = self.count, self.count + 1
        self.plane.advance(self.now_s())
        self.plane.feed([self.now_s()], [prompt], [output], ids=[number])
        given = 0
        while given < output:
            await asyncio.sleep(0.002)
            self.plane.advance(self.now_s())
            inside = self.plane.progress(number)
            while given < (output if inside is None else inside):
                given += 1
                yield given


async def calibrate(server: FakeServer, *words: str) -> Ran:
    async with TestServer(server.app) as running:
        url = str(running.make_url("/v1"))
        return await asyncio.to_thread(leadtime, "calibrate", url, "--max-concurrency", "1", *words)


ENGINE = "max_num_seqs=16,max_num_batched_tokens=512,block_size=32,max_model_len=1200,asynchronous=false"


async def test_over_http_a_profile_comes_out_and_is_not_measured_twice(tmp_path: Path) -> None:
    out, server = tmp_path / "mine.yaml", FakeServer()
    (tmp_path / "key").write_text("sesame\n")
    ran = await calibrate(server, "--engine", ENGINE, "--out", str(out), "--api-key-file", str(tmp_path / "key"))
    assert ran.code == 0, ran.err
    made = load_profile(str(out))
    assert made.limits == Limits(16, 512, 32, 5088, 1200)
    assert (made.fit["batches"], server.count) == (8, 1 + 2 * 8)
    assert set(server.keys) == {"Bearer sesame"}
    assert "sesame" not in ran.out + ran.err + out.read_text()
    assert "extrapolates above 1 decoding sequences (the engine allows 16)" in ran.out
    again = await calibrate(FakeServer(), "--engine", ENGINE, "--out", str(out))
    assert again.code == 0
    assert "8 of 8 batches, 8 of them from" in again.err


@pytest.mark.parametrize(
    ("trouble", "kind", "said"),
    [
        ("busy", Throttled, "throttles"),
        ("unknown", EndpointRefused, "HTTP 404: no such model"),
        ("broken", BatchFailed, "HTTP 500: out of order"),
        ("silent", BatchFailed, "silence"),
        ("short", EndpointRefused, "gave 3 tokens where 4 were asked for"),
    ],
)
async def test_what_a_server_may_do_is_told_apart(trouble: str, kind: type[Exception], said: str) -> None:
    server = FakeServer()
    server.trouble = trouble
    async with TestServer(server.app) as running, aiohttp.ClientSession() as session:
        endpoint = HttpEndpoint(session, str(running.make_url("")).rstrip("/"), "fake", silent_s=0.2)
        with pytest.raises(kind, match=said) as raised:
            await endpoint.measure(Batch(3, 20, 4))
        if isinstance(raised.value, Throttled):
            assert raised.value.wait_s == 9.0


async def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    words = ("http://127.0.0.1:9", "--engine", "kv_tokens=5088", "--out", str(tmp_path / "o.yaml"))
    ran = await asyncio.to_thread(leadtime, "calibrate", *words)
    assert ran.code == 1
    assert ran.err.startswith("http://127.0.0.1:9: ClientConnectorError")
    assert ran.err.count("\n") == 1
