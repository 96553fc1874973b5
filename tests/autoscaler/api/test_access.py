"""Who may read which page, by which name and token, and how many connections and seconds a peer may take."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from autoscaler.api.access import Readers
from autoscaler.api.listener import Certificate, ConnectionLimits
from autoscaler.api.server import Server
from autoscaler.common.errors import ConfigError
from autoscaler.core.conditions import CERTIFICATE_NOT_RENEWED
from leadtime_serve_policy import PlanReader, PolicySettings
from policies.base import DeploymentKey
from tests.autoscaler.api.test_server import Pages
from tests.fakes.kubernetes.tls import loopback_certificate
from tests.fakes.shell import Fleet
from tests.wanting import WantingPolicy

READ, CHANGE, TEAM_A, TEAM_B = (f"{who}-{'0123456789' * 2}" for who in ("read", "change", "team-a", "team-b"))
A = DeploymentKey("team-a", "chat", "app", "llm")
B = DeploymentKey("team-b", "chat", "app", "llm")
QUICK = ConnectionLimits(header_s=0.2, answer_s=30.0, look_every_s=0.02)


class Guarded(Pages):
    """The pages of two teams, with tokens."""

    def serve(self, limits: ConnectionLimits | None = None, cert: Path | None = None, **readers: Any) -> Server:
        for name, token in (("read", READ), ("change", CHANGE), ("team-a", TEAM_A), ("team-b", TEAM_B)):
            (self.folder / name).write_text(token + "\n")
        files = {name: self.folder / name for name in ("team-a", "team-b")}
        given = Readers(**{"token_file": self.folder / "read", "namespace_token_files": files, **readers})
        self.server = Server(
            self.runtime.telemetry, self.runtime.pause, "127.0.0.1", 0, self.folder / "change", self.clock.now_s,
            self.clock.monotonic_s, readers=given, limits=limits, cert_file=cert,
        )  # fmt: skip
        return self.server

    async def ask(self, path: str, token: str | None = None, **headers: str) -> tuple[int, Any]:
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        status, text = await self.get(path, **headers)
        with contextlib.suppress(ValueError):
            return status, json.loads(text)
        return status, text

    async def raw(self, text: bytes) -> bytes:
        """What comes back for these bytes until the connection is closed."""
        reader, writer = await self.open()
        writer.write(text)
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
        return answer

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.server.port)


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    fleet = Fleet({A: 1, B: 2}, nodes=2)
    found = Guarded(tmp_path, fleet=fleet, policy=WantingPolicy({A: 3, B: 4}))
    await found.server.stop()
    yield found
    await found.server.stop()


READ_PAGES = ("/metrics", "/api/v1/status", "/api/v1/plan", "/api/v1/decisions", "/api/v1/events")


# ---------------------------------------------------------------- tokens


async def test_without_the_read_token_only_the_probes_are_answered(guarded: Guarded) -> None:
    await guarded.serve().start()
    await guarded.tick()
    for path in READ_PAGES:
        assert (await guarded.ask(path))[0] == 401
        assert (await guarded.ask(path, "wrong"))[0] == 401
    for path in ("/healthz", "/readyz"):
        assert (await guarded.ask(path))[0] == 200


async def test_the_read_token_reads_and_does_not_pause(guarded: Guarded) -> None:
    await guarded.serve().start()
    await guarded.tick()
    for path in READ_PAGES[:-1]:
        assert (await guarded.ask(path, READ))[0] == 200
        assert (await guarded.ask(path, CHANGE))[0] == 200
    assert (await guarded.post("/api/v1/pause", token=READ))[0] == 401
    assert (await guarded.post("/api/v1/pause", token=TEAM_A))[0] == 401
    assert (await guarded.post("/api/v1/pause", token=CHANGE))[0] == 200


async def test_metrics_can_be_opened_for_a_scraper_without_a_token(guarded: Guarded) -> None:
    await guarded.serve(metrics_open=True).start()
    await guarded.tick()
    assert (await guarded.ask("/metrics"))[0] == 200
    assert (await guarded.ask("/api/v1/status"))[0] == 401


async def test_a_namespaces_token_reads_the_plan_of_its_namespace_and_nothing_else(guarded: Guarded) -> None:
    await guarded.serve().start()
    await guarded.tick(3)
    for path in ("/api/v1/plan", "/api/v1/plan?namespace=team-a"):
        status, plan = await guarded.ask(path, TEAM_A)
        named = {*plan["targets"], *plan["withheld"], *plan["held"], *plan["paused"]}
        assert (status, named) == (200, {str(A)})
    assert (await guarded.ask("/api/v1/plan?namespace=team-b", TEAM_A))[0] == 403
    for path in ("/metrics", "/api/v1/status", "/api/v1/decisions", "/api/v1/events"):
        assert (await guarded.ask(path, TEAM_A))[0] == 403


async def test_who_reads_everything_may_ask_for_one_namespace(guarded: Guarded) -> None:
    await guarded.serve().start()
    await guarded.tick(3)
    _, whole = await guarded.ask("/api/v1/plan", READ)
    _, part = await guarded.ask("/api/v1/plan?namespace=team-b", READ)
    _, none = await guarded.ask("/api/v1/plan?namespace=nobody", READ)
    assert set(whole["targets"]) == {str(A), str(B)}
    assert set(part["targets"]) == {str(B)}
    assert none["targets"] == {}


async def test_the_policy_inside_serve_reads_its_namespaces_plan_with_its_own_token(guarded: Guarded) -> None:
    await guarded.serve().start()
    await guarded.tick(3)
    url = f"http://127.0.0.1:{guarded.server.port}"
    reader = PlanReader(
        PolicySettings(plan=url, service="team-a/chat", token_file=str(guarded.folder / "team-a")),
        wall_s=guarded.clock.now_s,
    )
    await asyncio.to_thread(reader.read_once)
    assert reader.why == ""
    assert reader.seen is not None
    assert set(reader.seen.plan.targets) == {str(A)}


async def test_a_rotated_read_token_counts_at_once(guarded: Guarded) -> None:
    await guarded.serve().start()
    await guarded.tick()
    (guarded.folder / "read").write_text("another-token-of-another-length\n")
    assert (await guarded.ask("/api/v1/status", READ))[0] == 401
    assert (await guarded.ask("/api/v1/status", "another-token-of-another-length"))[0] == 200
    (guarded.folder / "read").unlink()
    assert (await guarded.ask("/api/v1/status", "another-token-of-another-length"))[0] == 401


@pytest.mark.parametrize("value", [b"Bearer \xc3\xa9\xff\xfe", b"\xff", b"Bearer", b"Basic eDp5", b""])
@pytest.mark.parametrize("line", [b"GET /api/v1/status", b"POST /api/v1/pause"])
async def test_an_authorization_of_any_bytes_is_401(guarded: Guarded, line: bytes, value: bytes) -> None:
    await guarded.serve().start()
    await guarded.tick()
    answer = await guarded.raw(
        line + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: " + value + b"\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 401 ")


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200),
        ("127.0.0.1", 200),
        ("10.1.2.3:8080", 200),
        ("[::1]:8080", 200),
        ("leadtime.llm", 200),
        ("LEADTIME.llm.:8080", 200),
        ("evil.example:8080", 421),
        ("leadtime.llm.evil.example", 421),
        ("localhost.evil.example", 421),
        ("10.1.2.3.evil.example", 421),
        ("", 421),
    ],
)
async def test_a_page_is_not_read_by_a_name_that_somebody_made_lead_here(
    guarded: Guarded, host: str, status: int
) -> None:
    await guarded.serve(hosts=("leadtime.llm",)).start()
    await guarded.tick()
    for path in ("/api/v1/status", "/metrics"):
        assert (await guarded.ask(path, READ, Host=host))[0] == status
    assert (await guarded.ask("/healthz", Host=host))[0] == 200


async def test_two_host_headers_are_refused_and_any_name_can_be_allowed(guarded: Guarded) -> None:
    await guarded.serve(hosts=("leadtime.llm",)).start()
    await guarded.tick()
    two = b"GET /api/v1/plan HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert (await guarded.raw(two)).split(b" ")[1] in (b"400", b"421")
    await guarded.server.stop()
    await guarded.serve(hosts=("*",)).start()
    assert (await guarded.ask("/api/v1/status", READ, Host="any.example"))[0] == 200


async def test_every_answer_forbids_sniffing_storing_and_framing(guarded: Guarded) -> None:
    await guarded.serve().start()
    await guarded.tick()
    url = f"http://127.0.0.1:{guarded.server.port}"
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {READ}"}) as session:
        for path in (*READ_PAGES, "/healthz", "/nothing", "/api/v1/pause"):
            async with session.get(url + path) as answer:
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Cache-Control"] == "no-store"
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                assert answer.headers["Server"] == "leadtime"


# ---------------------------------------------------------------- connections


async def closed(reader: asyncio.StreamReader) -> bool:
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(20):
            return await reader.read() == b""
    return True


@pytest.mark.parametrize("begun", [b"", b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
async def test_a_connection_without_a_whole_request_is_closed(guarded: Guarded, begun: bytes) -> None:
    await guarded.serve(QUICK).start()
    opened = [await guarded.open() for _ in range(60)]
    for _, writer in opened:
        writer.write(begun)
    assert all([await closed(reader) for reader, _ in opened])
    assert guarded.server.connections == 0


async def test_a_connection_that_is_kept_alive_is_closed_when_it_asks_no_more(guarded: Guarded) -> None:
    await guarded.serve(QUICK).start()
    reader, writer = await guarded.open()
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\n")
    async with asyncio.timeout(20):
        assert (await reader.read()).count(b"HTTP/1.1") == 1


async def test_a_body_that_never_comes_ends_the_connection(guarded: Guarded) -> None:
    await guarded.serve(ConnectionLimits(header_s=30.0, answer_s=0.2, look_every_s=0.02)).start()
    reader, writer = await guarded.open()
    writer.write(
        f"POST /api/v1/pause HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {CHANGE}\r\n"
        "Content-Length: 10\r\n\r\n{".encode()
    )
    assert await closed(reader)


async def test_headers_without_an_end_take_bounded_memory(guarded: Guarded) -> None:
    await guarded.serve(ConnectionLimits(received_bytes=20_000)).start()
    reader, writer = await guarded.open()
    with contextlib.suppress(ConnectionError):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        for i in range(1000):
            writer.write(b"X-%d: %s\r\n" % (i, b"x" * 100))
            await writer.drain()
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(20):
            await reader.read()
    assert guarded.server.connections == 0


async def test_one_peer_cannot_take_all_connections(guarded: Guarded) -> None:
    await guarded.serve(ConnectionLimits(total=100, per_peer=8)).start()
    opened = [await guarded.open() for _ in range(9)]
    assert await closed(opened[8][0])
    assert guarded.server.connections == 8
    opened[0][1].close()
    await opened[0][1].wait_closed()
    status = 0
    async with asyncio.timeout(20):
        while not status:  # until the one that was closed here is seen to be gone there
            with contextlib.suppress(aiohttp.ClientError):
                status = (await guarded.ask("/healthz"))[0]
    assert status == 503


async def test_when_all_places_are_taken_the_one_that_waits_longest_makes_room(guarded: Guarded) -> None:
    await guarded.serve(ConnectionLimits(total=5, per_peer=100)).start()
    opened = [await guarded.open() for _ in range(5)]
    assert (await guarded.ask("/healthz"))[0] in (200, 503)
    assert await closed(opened[0][0])


async def test_one_peers_event_streams_leave_room_for_others(guarded: Guarded) -> None:
    await guarded.serve().start()
    await guarded.tick()
    url, held = f"http://127.0.0.1:{guarded.server.port}/api/v1/events", contextlib.AsyncExitStack()
    async with held, aiohttp.ClientSession(headers={"Authorization": f"Bearer {READ}"}) as session:
        for _ in range(8):
            assert (await held.enter_async_context(session.get(url))).status == 200
        assert (await held.enter_async_context(session.get(url))).status == 503


# ---------------------------------------------------------------- TLS


def made(file: Path) -> None:
    """A fresh certificate with its key."""
    authority, _ = loopback_certificate(file.parent)
    file.write_bytes(authority.read_bytes() + (file.parent / "server.key").read_bytes())


async def test_pages_have_tls_and_a_renewed_certificate_is_taken_up(guarded: Guarded, tmp_path: Path) -> None:
    first, second = tmp_path / "one.pem", tmp_path / "two.pem"
    made(first)
    made(second)
    live = tmp_path / "live.pem"
    live.write_bytes(first.read_bytes())
    await guarded.serve(QUICK, cert=live).start()
    assert await tls_status(guarded, first) == 503
    live.write_bytes(b"no certificate")
    assert guarded.server._listener is not None
    assert guarded.server._listener._certificate is not None
    guarded.server._listener._certificate.renew()
    assert await tls_status(guarded, first) == 503  # the one before goes on
    guarded.runtime.telemetry.take_conditions(None, 100.0)
    guarded.runtime.telemetry.take_conditions(None, 130.0)
    (told,) = guarded.runtime.telemetry.conditions
    assert (told.name, told.deployment) == (CERTIFICATE_NOT_RENEWED, None)
    assert told.why.endswith("live.pem: they do not fit; allowed: a certificate (PEM) and its private key; "
                             "the certificate before it goes on")  # fmt: skip
    live.write_bytes(second.read_bytes())
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                assert await tls_status(guarded, second) == 503
                break
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await tls_status(guarded, first)
    guarded.runtime.telemetry.take_conditions(None, 200.0)
    assert guarded.runtime.telemetry.conditions == ()


async def test_a_handshake_that_does_not_end_is_closed(guarded: Guarded, tmp_path: Path) -> None:
    made(tmp_path / "one.pem")
    await guarded.serve(QUICK, cert=tmp_path / "one.pem").start()
    opened = [await guarded.open() for _ in range(20)]
    assert all([await closed(reader) for reader, _ in opened])
    assert guarded.server.connections == 0


async def tls_status(guarded: Guarded, trusted: Path) -> int:
    context = ssl.create_default_context(cafile=str(trusted))
    url = f"https://127.0.0.1:{guarded.server.port}/readyz"
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as answer:
        return answer.status


def test_a_certificate_without_its_key_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nothing")
    with pytest.raises(ConfigError, match=r"server.cert_file .*cert.pem: they do not fit; allowed: a certificate"):
        Certificate(tmp_path / "cert.pem", None)
    with pytest.raises(ConfigError, match="No such file"):
        Certificate(tmp_path / "missing.pem", None)
