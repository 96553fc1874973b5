"""Words for a dashboard that cannot be reached."""

from __future__ import annotations

import socket

import pytest
from aiohttp import web

from autoscaler.clients.addresses import AllowList, ServiceHost
from autoscaler.clients.ray_dashboard import Answer, DashboardClient, NoAnswer
from autoscaler.clients.reading_limits import ReadingLimits


async def test_a_port_on_which_nobody_listens_refuses_the_connection() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        client = DashboardClient(f"http://127.0.0.1:{port}")
        with pytest.raises(NoAnswer) as caught:
            await client.get("/")
        await client.close()
    assert str(caught.value) == f"http://127.0.0.1:{port}: connection refused"


@pytest.mark.parametrize("only", [None, ServiceHost("localhost", "x", AllowList.of(["127.0.0.0/8"]))])
async def test_no_connection_to_a_head_is_kept_for_what_it_might_send_meanwhile(only: ServiceHost | None) -> None:
    peers: set[object] = set()

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.json_response({})

    application = web.Application()
    application.add_routes([web.get("/", answer)])
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    client = DashboardClient(f"http://127.0.0.1:{runner.addresses[0][1]}", only=only)
    await client.get("/")
    await client.get("/")
    await client.close()
    await runner.cleanup()
    assert len(peers) == 2


@pytest.mark.parametrize("body", [rb'["\ud800"]', b'["\xed\xa0\x80"]'])
def test_a_name_that_utf8_has_no_bytes_for_becomes_one_that_can_be_written(body: bytes) -> None:
    (name,) = Answer(200, body).json()
    assert set(name) == {"\ufffd"}


def test_a_name_beyond_the_first_plane_is_a_name() -> None:
    assert Answer(200, rb'["\ud83d\ude00"]').json() == ["\U0001f600"]


@pytest.mark.parametrize("most", [None, 10_000])
async def test_a_long_answer_to_a_write_is_not_read(most: int | None) -> None:
    """Each would be made sense of on the event loop, for each deployment of the service."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"message": "x" * int(request.query["size"])})

    application = web.Application()
    application.router.add_route("*", "/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    limits = ReadingLimits() if most is None else ReadingLimits(answer_bytes=most)
    client = DashboardClient(f"http://127.0.0.1:{runner.addresses[0][1]}", timeout_s=60.0, limits=limits)
    shown = "65536 bytes" if most is None else "10000 bytes"
    for request in (client.post_json("/?size=70000", {}), client.delete("/?size=70000")):
        with pytest.raises(NoAnswer, match=f"the answer is longer than {shown}"):
            await request
    for request in (client.post_json("/?size=9000", {}), client.delete("/?size=9000")):
        assert len((await request).body) > 9000
    if most is None:
        assert len((await client.get("/?size=70000")).body) > 70_000
    await client.close()
    await runner.cleanup()


def test_of_a_long_error_the_beginning_is_shown_without_reading_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("json.loads", lambda _: pytest.fail("read"))
    assert Answer(500, b'{"error": "' + b"x" * 100_000 + b'"}').excerpt().startswith('{"error": "xxx')
