"""Words for a dashboard that cannot be reached."""

from __future__ import annotations

import socket

import pytest

from autoscaler.dashboard_client import DashboardClient, NoAnswer


async def test_a_port_on_which_nobody_listens_refuses_the_connection() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        client = DashboardClient(f"http://127.0.0.1:{port}")
        with pytest.raises(NoAnswer) as caught:
            await client.get("/")
        await client.close()
    assert str(caught.value) == f"http://127.0.0.1:{port}: connection refused"
