"""Tokens that upstreams repeat in their errors, looked for in everything that leaves the process.

Each upstream here answers with an error that holds the headers it got. What is looked through: log lines (text, JSON,
with tracebacks), journal, state file, pages, metrics, Events, and what the commands print.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import logging
import sys
import threading
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from autoscaler.cli import main as cli
from autoscaler.cli.logs import set_up_logs
from autoscaler.clients.mqtt import MqttBroker, ReconnectingClient, words_of
from autoscaler.clients.ray_dashboard import Answer
from autoscaler.common.errors import Forbidden, Unavailable
from autoscaler.common.redaction import MARK, blank, remember
from autoscaler.core.types import Applied, Outcome
from autoscaler.kubernetes.events import EventWriter, Notice, ObjectRef
from autoscaler.kubernetes.wire import Call, refusal, wrapped
from autoscaler.settings import load_config
from autoscaler.wiring.controller import build

RAY, PROMETHEUS, PAGES, MQTT, KUBERNETES, GOOGLE = (
    f"{hashlib.sha256(of.encode()).hexdigest()[:20]}/+{of}="
    for of in ("ray", "prometheus", "pages", "mqtt", "kubernetes", "google")
)
CANARIES = (RAY, PROMETHEUS, PAGES, MQTT, KUBERNETES, GOOGLE)
SETTINGS = """\
version: 1
tick_s: 0.5
services: [{{dashboard: "{url}", token_file: ray}}]
deployments: [{{match: chat/llm, replicas: {{min: 1, max: 4}}}}]
policy: {{name: static, options: {{replicas: 3}}}}
prometheus: {{url: "{url}/{how}", token_file: prometheus, signals: true}}
server: {{port: 0, token_file: pages}}
"""
HOW = ("plain", "json", "base64", "percent")


def repeated(how: str, headers: str) -> str:
    """What an upstream makes of the headers that it got."""
    return {
        "plain": f"no: {headers}",
        "json": json.dumps({"error": headers}),
        "base64": base64.b64encode(headers.encode()).decode(),
        "percent": urllib.parse.quote(headers, safe=""),
    }[how]


@contextlib.asynccontextmanager
async def echo(how: str) -> AsyncIterator[str]:
    """A server that answers 500 with the request's Authorization, far into the text and again at its beginning."""

    async def answer(request: web.Request) -> web.Response:
        words = repeated(how, str(request.headers.get("Authorization")))
        return web.Response(status=500, text=words if how == "json" else f"{words} {'.' * 100} {words}")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def settings_of(folder: Path, url: str, how: str) -> Path:
    for name, value in (("ray", RAY), ("prometheus", PROMETHEUS), ("pages", PAGES)):
        (folder / name).write_text(value + "\n")
    path = folder / "leadtime.yaml"
    path.write_text(SETTINGS.format(url=url, how=how))
    return path


def leaks(text: str | bytes) -> list[str]:
    """The canaries of which a piece of twelve characters is in the text, in any of the ways of `repeated`."""
    text = text if isinstance(text, str) else text.decode("utf-8", "replace")
    found = []
    for canary in CANARIES:
        for how in HOW:
            form = repeated(how, canary)[2:-4] if how == "base64" else urllib.parse.quote(canary, safe="")
            form = canary if how in ("plain", "json") else form
            found += [canary for i in range(len(form) - 11) if form[i : i + 12] in text]
    return found


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Everything that is logged, at debug level, as `leadtime run` writes it."""
    out, root = io.StringIO(), logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, threading.excepthook
    monkeypatch.setattr(sys, "stderr", out)
    set_up_logs(as_json=False)
    root.setLevel(logging.DEBUG)
    yield out
    root.handlers[:], threading.excepthook = handlers, hook
    root.setLevel(level)


@pytest.mark.parametrize("how", HOW)
async def test_tokens_that_ray_and_prometheus_repeat_leave_by_no_way(
    how: str, tmp_path: Path, logged: io.StringIO
) -> None:
    async with echo(how) as url:
        config = load_config(settings_of(tmp_path, url, how))
        runtime = build(config, serve_pages=True)
        assert runtime._server is not None
        await runtime._server.start()
        try:
            for _ in range(3):
                await runtime.tick()
            base = f"http://127.0.0.1:{runtime._server.port}"
            pages = [await page(base + path) for path in ("/metrics", "/api/v1/status", "/api/v1/plan", "/readyz")]
            pages.append(await page(base + "/api/v1/pause", "wrong"))
            pages.append(await page(base + "/api/v1/pause", PAGES, body=PAGES))
        finally:
            await runtime._close()
    assert "answered 500" in pages[1]
    assert "source prometheus is down" in logged.getvalue()
    if how != "base64":
        assert MARK in pages[1]
    for text in (*pages, logged.getvalue(), *(file.read_bytes() for file in files(tmp_path))):
        assert not leaks(text)


def files(folder: Path) -> list[Path]:
    """The journal and the state."""
    found = [*folder.glob("journal/*"), *folder.glob("leadtime.sqlite*")]
    assert found
    return found


async def page(url: str, token: str | None = None, body: str | None = None) -> str:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    method = "GET" if token is None else "POST"
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers, data=body) as answer:
        return await answer.text()


@pytest.mark.parametrize("how", HOW)
def test_an_excerpt_of_an_answer_is_cut_after_secrets_are_blanked(how: str) -> None:
    remember(RAY)
    for before in range(150, 201, 7):
        body = repeated(how, f"{'x' * before} Bearer {RAY} {RAY} {'y' * 900}").encode()
        assert not leaks(Answer(500, body).excerpt())


@pytest.mark.parametrize("words", [["run", "--once", "--config"], ["doctor", "--config"]])
async def test_commands_print_no_token(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEADTIME_DEBUG", "1")
    async with echo("plain") as url:
        file = settings_of(tmp_path, url, "plain")
        assert await asyncio.to_thread(cli.main, [*words, str(file)]) == 1
    out = capsys.readouterr()
    assert "500" in out.out
    assert not leaks(out.out + out.err)


async def test_the_status_command_prints_no_token_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEADTIME_DEBUG", "1")
    (tmp_path / "pages").write_text(PAGES)
    async with echo("json") as url:
        code = await asyncio.to_thread(cli.main, ["pause", "--url", url, "--token-file", str(tmp_path / "pages")])
    out = capsys.readouterr()
    assert code == 1
    assert "answered 500" in out.err
    assert not leaks(out.out + out.err)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_traceback_shows_no_secret(as_json: bool, logged: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", logged)
    set_up_logs(as_json)
    remember(RAY)
    try:
        try:
            raise ValueError(f"Invalid header value b'Bearer {RAY}'")
        except ValueError as error:
            raise RuntimeError("above") from error
    except RuntimeError:
        logging.getLogger("leadtime").exception("it failed with %s", RAY)
    assert "Traceback" in logged.getvalue()
    assert "ValueError" in logged.getvalue()
    assert not leaks(logged.getvalue())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_by_a_bug_shows_no_secret(logged: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", logged)
    set_up_logs(as_json=False)
    remember(RAY)

    def fails() -> None:
        raise ValueError(f"Bearer {RAY}")

    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()
    assert "a thread ended by a bug" in logged.getvalue()
    assert not leaks(logged.getvalue())


def test_a_refused_header_of_prometheus_shows_no_token() -> None:
    import requests

    from autoscaler.sources.prometheus import _problem

    remember(PROMETHEUS)
    error = requests.exceptions.InvalidHeader(f"Invalid return character in header value: 'Bearer {PROMETHEUS}'")
    assert not leaks(_problem(error))


async def test_a_broker_that_repeats_the_password_shows_it_nowhere(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(MQTT)
    broker = MqttBroker("127.0.0.1", 1, "leadtime", tls=False, username="me", password_file=tmp_path / "password")
    broker.connection("hints")
    assert not leaks(words_of(OSError(f"bad packet: me:{MQTT}")))

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[None]:
        raise TypeError(f"unexpected {MQTT}")
        yield

    link = ReconnectingClient(broker, connect, lambda client: asyncio.sleep(0), (OSError,))
    with pytest.raises(TypeError):
        await link.run()
    assert "bug in the MQTT connection" in link.why
    assert not leaks(link.why)


def test_errors_of_the_kubernetes_api_show_no_token() -> None:
    remember(KUBERNETES)
    call = Call("get", "GET", "pods llm/x", "/x")
    body = json.dumps({"kind": "Status", "message": f"{'x' * 280} rejected Bearer {KUBERNETES}"}).encode()
    assert not leaks(str(refusal(call, 500, body, None)))
    with pytest.raises(Unavailable) as raised, wrapped(call):
        raise ValueError(f"Invalid header value b'Bearer {KUBERNETES}'")
    assert not leaks(str(raised.value))


def test_the_token_of_the_service_account_is_known_before_it_is_sent() -> None:
    pytest.importorskip("kubernetes", reason="the extra `kubernetes` is not installed")
    from kubernetes.client import Configuration

    from autoscaler.kubernetes.api import KubernetesApi

    configuration = Configuration()
    configuration.api_key = {"authorization": f"Bearer {KUBERNETES}"}
    headers = KubernetesApi(configuration)._headers(Call("get", "GET", "x", "/x"))
    assert KUBERNETES in str(headers)
    assert blank(KUBERNETES) == MARK


async def test_googles_access_token_is_known_before_it_is_sent_and_its_errors_show_none() -> None:
    pytest.importorskip("google.cloud.container_v1", reason="the extra `gke` is not installed")
    import google.api_core.exceptions
    from google.oauth2.credentials import Credentials

    from autoscaler.actuators.ways.node_pool import RememberedCredentials, _wrapped

    headers: dict[str, str] = {}
    RememberedCredentials(Credentials(GOOGLE)).before_request(None, "POST", "https://x", headers)
    assert headers["authorization"] == f"Bearer {GOOGLE}"
    with pytest.raises(Forbidden) as raised:
        async with _wrapped("pool h100"):
            raise google.api_core.exceptions.PermissionDenied(f"{'x' * 280} token {GOOGLE} is bad")
    assert not leaks(str(raised.value))


class _FakeEvents:
    def __init__(self) -> None:
        self.written: list[Any] = []

    async def create(self, resource: Any, namespace: Any, body: Any, *, timeout_s: float | None = None) -> Any:
        self.written.append(body)
        return body


async def test_an_event_shows_no_secret() -> None:
    remember(RAY)
    api = _FakeEvents()
    writer = EventWriter(api, "leadtime-0", now_s=lambda: 1.0)  # type: ignore[arg-type]
    writer.tell([Notice(ObjectRef("RayService", "llm", "x", "u"), "Blocked", f"{'x' * 1000} {RAY}", "x")])
    await writer.flush()
    assert MARK in str(api.written)
    assert not leaks(str(api.written))


class _Repeats:
    """An actuator, third-party perhaps, whose words hold what it was sent."""

    name = "repeats"

    def __init__(self, raises: bool) -> None:
        self.raises = raises

    async def apply(self, plan: Any, now_s: float) -> Outcome:
        if self.raises:
            raise ValueError(f"bad {RAY}")
        return Outcome(self.name, (Applied(self.name, "chat/llm", "rejected", 1, f"bad {RAY}"),))


@pytest.mark.parametrize("raises", [False, True])
async def test_what_any_actuator_says_holds_no_secret(raises: bool, tmp_path: Path) -> None:
    from autoscaler.core.build import new_controller
    from autoscaler.runtime.loop import Runtime
    from tests.fakes.shell import LLM, Fleet, FleetSource, settings
    from tests.wanting import WantingPolicy

    remember(RAY)
    config = settings(dry_run=False)
    source = FleetSource(Fleet({LLM: 1}), "inventory")
    runtime = Runtime(config, new_controller(config, None, WantingPolicy({LLM: 3})), [source], [_Repeats(raises)])
    await runtime.tick()
    assert not leaks(str(runtime.telemetry.applied))
