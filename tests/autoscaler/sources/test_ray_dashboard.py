"""The inventory source: every way a dashboard can fail is one clear line, and never an empty fleet."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from autoscaler.clients.ray_dashboard import DashboardClient
from autoscaler.common.errors import ConfigError
from autoscaler.core.ports import Reading
from autoscaler.sources.ray_dashboard import RayDashboardSource
from autoscaler.sources.readings import Inventories
from policies.base import DeploymentKey
from tests.fakes.dashboard import FakeApplication, FakeDashboard, FakeDeployment


@pytest.fixture
async def dashboard() -> AsyncIterator[FakeDashboard]:
    async with FakeDashboard({"chat": FakeApplication({"llm": FakeDeployment(target=2)})}).serve() as fake:
        yield fake


async def read(
    url: str, token_file: Path | None = None, ca_file: Path | None = None, timeout_s: float = 60.0
) -> Reading:
    client = DashboardClient(url, token_file, ca_file, timeout_s=timeout_s)
    source = RayDashboardSource("ray/local", "default", "local", client)
    try:
        return await source.read(100.0)
    finally:
        await source.close()


async def why(url: str, token_file: Path | None = None, ca_file: Path | None = None, timeout_s: float = 60.0) -> str:
    """The reason of a reading that failed."""
    reading = await read(url, token_file, ca_file, timeout_s)
    assert (reading.up, reading.data, reading.as_of_s) == (False, None, None)
    assert "\n" not in reading.why
    assert url in reading.why
    return reading.why


async def test_a_good_answer_becomes_inventories_as_of_the_reading(dashboard: FakeDashboard) -> None:
    reading = await read(dashboard.url)
    assert (reading.up, reading.as_of_s, reading.why) == (True, 100.0, "")
    assert isinstance(reading.data, Inventories)
    assert reading.data.deployments[DeploymentKey.parse("chat/llm")].target == 2


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "set token_file"), (403, "forbidden"), (404, "Ray dashboard"), (500, "answered 500"),
        (502, "answered 502"), (503, "controller"), (302, "redirects"),
    ],
)  # fmt: skip
async def test_a_status_other_than_200_says_what_to_do(dashboard: FakeDashboard, status: int, words: str) -> None:
    dashboard.status = status
    assert words in await why(dashboard.url)


@pytest.mark.parametrize("body", ["", "<html>", "[[[[", "[" * 100_000, "null", "[]", '{"applications": 3}'])
async def test_garbage_is_unknown(dashboard: FakeDashboard, body: str) -> None:
    dashboard.status, dashboard.body = 200, body
    await why(dashboard.url)


async def test_a_dashboard_that_hangs_is_given_up(dashboard: FakeDashboard) -> None:
    dashboard.hang = True
    assert "no answer within 0.3 s" in await why(dashboard.url, timeout_s=0.3)


async def test_nobody_listening_is_unknown() -> None:
    assert "connect" in await why("http://127.0.0.1:1")


async def test_without_a_serve_controller_the_fleet_is_unknown(dashboard: FakeDashboard) -> None:
    dashboard.controller = False
    assert "Ray Serve is not running" in await why(dashboard.url)


async def test_the_right_token_is_accepted(dashboard: FakeDashboard, tmp_path: Path) -> None:
    dashboard.token = "s3cret"
    (tmp_path / "token").write_text("s3cret\n")
    assert (await read(dashboard.url, tmp_path / "token")).up


@pytest.mark.parametrize("content", ["s3cret-wrong", "", "s3cret\r\nX-Evil: 1", None])
async def test_a_bad_token_is_named_by_file_and_never_shown(
    dashboard: FakeDashboard, tmp_path: Path, content: str | None
) -> None:
    dashboard.token = "s3cret"
    if content is not None:
        (tmp_path / "token").write_text(content)
    found = await why(dashboard.url, tmp_path / "token")
    assert "token_file" in found
    assert "s3cret" not in found


async def test_a_missing_or_broken_ca_file_is_named(dashboard: FakeDashboard, tmp_path: Path) -> None:
    assert "ca_file" in await why(dashboard.url, ca_file=tmp_path / "none.pem")
    (tmp_path / "bad.pem").write_text("not a certificate")
    assert "ca_file" in await why(dashboard.url, ca_file=tmp_path / "bad.pem")


async def test_a_plain_http_server_behind_an_https_address_is_unknown(dashboard: FakeDashboard) -> None:
    await why(dashboard.url.replace("http:", "https:"))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
async def test_tls_is_verified_against_the_ca_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_certificate(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "one.pem", tmp_path / "one.key")
    async with FakeDashboard({"chat": FakeApplication({"llm": FakeDeployment()})}).serve(tls) as fake:
        assert (await read(fake.url, ca_file=tmp_path / "one.pem")).up
        assert "not trusted" in await why(fake.url, ca_file=tmp_path / "two.pem")
        assert "not trusted" in await why(fake.url)


def make_certificate(certificate: Path, key: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate), "-keyout", str(key)],
        check=True, capture_output=True,
    )  # fmt: skip


@pytest.mark.parametrize("url", ["dashboard:8265", "ftp://host", "http://", "", "http://[::1", "http://host:notaport"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigError, match="http://HOST:PORT"):
        DashboardClient(url)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        DashboardClient("http://me:s3cret@host:8265")
    assert "s3cret" not in str(caught.value)
    assert "token_file" in str(caught.value)
