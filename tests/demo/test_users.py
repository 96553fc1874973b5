"""The demo's users against a server of a few lines: open loop, honest clocks, and every way an answer can fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from leadtime.demo.openai_wire import CHAT_COMPLETIONS, COMPLETIONS, Answer, Question, parse
from leadtime.demo.traffic import DEMANDS, Request
from leadtime.demo.users import Served, Users, merged, write_requests

CHAT, CODE = DEMANDS
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes([web.post(COMPLETIONS, handler), web.post(CHAT_COMPLETIONS, handler)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def begin(request: web.Request) -> tuple[web.StreamResponse, Answer, Question]:
    asked = parse(request.path, await request.read(), 4096)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response, Answer("id", 1, asked), asked


async def whole(request: web.Request) -> web.StreamResponse:
    """Opens at once, its tokens a little later."""
    response, answer, asked = await begin(request)
    await response.write(answer.opening().encode())
    await asyncio.sleep(0.05)
    for _ in range(asked.output_tokens):
        await response.write(answer.chunk(" x", None).encode())
    await response.write(answer.closing().encode())
    return response


async def cut_off(request: web.Request) -> web.StreamResponse:
    response, answer, _ = await begin(request)
    await response.write(answer.chunk(" x", None).encode())
    return response


async def silent(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def broken(request: web.Request) -> web.StreamResponse:
    return web.Response(status=503)


async def play(url: str, *requests: Request, patience_s: float = 60.0) -> list[Served]:
    users = Users(url, model_of=lambda deployment: deployment)
    everybody = merged([(CHAT, requests), (CODE, requests)])
    await users.play(everybody, time.monotonic(), patience_s)
    return users.served


async def test_both_apis_are_used_and_every_token_is_counted() -> None:
    async with server(whole) as url:
        served = await play(url, Request(0.0, 50, 7))
    assert [one.deployment for one in served] == ["chat", "code"]
    assert [(one.status, one.tokens) for one in served] == [("ok", 7), ("ok", 7)]


async def test_the_first_token_counts_not_the_empty_opening_of_a_chat() -> None:
    async with server(whole) as url:
        served = await play(url, Request(0.0, 5, 3))
    assert all(one.ttft_s is not None and one.ttft_s >= 0.05 for one in served)


async def test_a_slow_answer_holds_up_nobody_else() -> None:
    answered = 0

    async def first_is_slow(request: web.Request) -> web.StreamResponse:
        nonlocal answered
        answered += 1
        return await (silent if answered == 1 else whole)(request)

    async with server(first_is_slow) as url:
        served = await play(url, Request(0.0, 5, 3), Request(0.05, 5, 3), patience_s=3.0)
    assert sorted(one.status for one in served) == ["ok", "ok", "ok", "unfinished"]


async def test_the_clock_starts_when_a_request_is_due_not_when_it_is_sent() -> None:
    users = Users("http://127.0.0.1:1", model_of=lambda deployment: deployment)
    async with server(whole) as url:
        users = Users(url, model_of=lambda deployment: deployment)
        await users.play([(CHAT, Request(0.0, 5, 3))], time.monotonic() - 2.0, 60.0)
    (one,) = users.served
    assert one.ttft_s is not None
    assert one.ttft_s >= 2.0
    assert one.missed(1.0)


@pytest.mark.parametrize(("handler", "why"), [(broken, "HTTP 503"), (cut_off, "")])
async def test_a_bad_answer_is_a_failure_with_its_reason(handler: Handler, why: str) -> None:
    async with server(handler) as url:
        served = await play(url, Request(0.0, 5, 3))
    assert {one.status for one in served} == {"failed"}
    assert why in served[0].why


async def test_nobody_at_home_is_a_failure_not_an_exception() -> None:
    served = await play("http://127.0.0.1:1", Request(0.0, 5, 3))
    assert {one.status for one in served} == {"failed"}
    assert all(one.missed(1.0) for one in served)


async def test_being_cancelled_leaves_no_request_under_way() -> None:
    async with server(silent) as url:
        task = asyncio.create_task(play(url, Request(0.0, 5, 3)))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        left = [t for t in asyncio.all_tasks() if "_ask" in repr(t.get_coro())]
    assert left == []


def test_everybodys_requests_come_in_order_of_time() -> None:
    played = merged([(CHAT, (Request(1.0, 1, 1), Request(3.0, 1, 1))), (CODE, (Request(2.0, 1, 1),))])
    assert [(d.deployment, r.at_s) for d, r in played] == [("chat", 1.0), ("code", 2.0), ("chat", 3.0)]


def test_what_users_got_is_kept_as_csv_with_nothing_for_the_unknown(tmp_path: Path) -> None:
    write_requests(tmp_path / "r.csv", [Served("chat", 1.5, "ok", 0.25, 2.25, 11), Served("code", 2.0)])
    assert (tmp_path / "r.csv").read_text().splitlines() == [
        "arrival_s,deployment,output_tokens,ttft_s,e2e_s,mean_itl_s,status",
        "1.5000,chat,11,0.2500,2.2500,0.2000,ok",
        "2.0000,code,0,,,,unfinished",
    ]
