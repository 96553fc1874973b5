"""A Prometheus that is dead, hangs, refuses or talks nonsense: unknown with a reason, in time, and no secret told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoscaler.core.build import new_controller
from autoscaler.core.ports import Reading
from autoscaler.core.types import ControllerConfig, DeploymentSettings, DeploymentSignals, Signals
from autoscaler.runtime.history import HistoryAtStart
from autoscaler.sources.prometheus import PrometheusClient, PrometheusHistory, PrometheusSource
from policies.forecasting.service import ForecastingService
from tests.fakes.not_prometheus import Answering, answering, dead_url
from tests.prometheus.ray_pages import INVENTORY, KEY, START_S

LIMIT_S = 0.6
SECRET = "s3cr3t-t0ken"


@pytest.fixture
def server() -> Iterator[Answering]:
    with answering() as one:
        yield one


async def read(url: str, token_file: Path | None = None, limit_s: float = 20.0) -> Reading:
    client = PrometheusClient(url, token_file, timeout_s=limit_s)
    began = time.monotonic()
    reading = await PrometheusSource("prometheus", KEY.namespace, KEY.service, client).read(START_S)
    assert time.monotonic() - began < limit_s + 60.0, "retries are off and the deadline is one"
    assert (reading.up, reading.as_of_s, reading.data) == (False, None, None)
    assert "\n" not in reading.why
    return reading


async def test_a_dead_server_is_down_at_once() -> None:
    assert (await read(dead_url())).why.endswith("connection refused")


async def test_a_hanging_server_is_given_up_and_the_loop_goes_on(server: Answering) -> None:
    server.hang = True
    ticks = 0

    async def beat() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    beating = asyncio.create_task(beat())
    reading = await read(server.url, limit_s=LIMIT_S)
    beating.cancel()
    assert reading.why.endswith(f"no answer within {LIMIT_S:g} s")
    assert ticks > 2, "the event loop stood still"
    assert server.requests <= 1, "retries are off"


async def test_an_answer_that_never_ends_is_given_up(server: Answering) -> None:
    server.trickle = True
    assert (await read(server.url, limit_s=LIMIT_S)).why.endswith(f"no answer within {LIMIT_S:g} s")


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b"denied", "answered 401: it wants a token: set token_file"),
        (404, b"<html>\n nothing here", "answered 404: <html>"),
        (503, b"", "answered 503"),
        (200, b"<html>hello</html>", "the answer is not JSON: is that a Prometheus?"),
        (200, b"", "the answer is not JSON: is that a Prometheus?"),
        (200, b"[]", "another shape than Prometheus' API"),
        (200, b'{"status":"success","data":{}}', "another shape than Prometheus' API"),
        (200, b'{"status":"success","data":{"result":7}}', "another shape than Prometheus' API"),
        (200, b'{"status":"success","data":{"result":[{"metric":{},"values":[["x","y"]]}]}}', "another shape"),
        (200, b'{"status":"success","data":{"result":[]}}', "has no metrics of Ray Serve for llm/chat"),
    ],
)
async def test_a_refusal_or_nonsense_is_said_in_one_line(
    server: Answering, status: int, body: bytes, words: str
) -> None:
    server.status, server.body = status, body
    assert words in (await read(server.url)).why
    assert server.requests == 1


async def test_a_wrong_token_is_said_and_never_shown(server: Answering, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(SECRET)
    server.status, server.body = 401, f"{SECRET} is wrong".encode()
    why = (await read(server.url, token_file)).why
    assert "answered 401: the token in token_file was not accepted" in why
    assert SECRET not in why
    assert server.tokens == [f"Bearer {SECRET}"]


async def test_a_rotated_token_is_sent_at_the_next_request(server: Answering, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    for token in ("one", "two"):
        token_file.write_text(token)
        await read(server.url, token_file)
    assert server.tokens == ["Bearer one", "Bearer two"]


async def test_a_redirect_is_not_followed_with_the_token(server: Answering, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(SECRET)
    with answering() as elsewhere:
        server.status, server.location = 302, f"{elsewhere.url}/login"
        assert "redirects to somewhere else" in (await read(server.url, token_file)).why
        assert elsewhere.requests == 0


async def test_a_missing_token_file_is_a_reason_and_no_crash(server: Answering, tmp_path: Path) -> None:
    assert "token" in (await read(server.url, tmp_path / "none")).why
    assert server.requests == 0


@pytest.mark.parametrize("how", ["dead", "hanging", "garbage"])
async def test_without_history_the_controller_begins_all_the_same(server: Answering, how: str) -> None:
    server.hang, server.body = how == "hanging", b"garbage"
    url = dead_url() if how == "dead" else server.url
    controller = new_controller(ControllerConfig(deployments=(DeploymentSettings("chat/*", max_replicas=8),)))
    signals = Signals((DeploymentSignals(KEY, INVENTORY[KEY]),))
    history = HistoryAtStart(
        PrometheusHistory(PrometheusClient(url, timeout_s=LIMIT_S)), 3600.0, ForecastingService(), within_s=5 * LIMIT_S
    )
    await history.seed(controller, signals, START_S)
    asked = server.requests
    await history.seed(controller, signals, START_S + 5.0)
    assert server.requests == asked, "a deployment is asked for once"
    assert controller.step(signals, START_S + 5.0).deployment(KEY) is not None
