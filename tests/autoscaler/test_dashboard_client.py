"""Words for a dashboard that cannot be reached."""

from __future__ import annotations

import socket

import pytest
from aiohttp import web

from autoscaler.addresses import AllowList, ServiceHost
from autoscaler.dashboard_client import Answer, DashboardClient, NoAnswer


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
