"""Nothing readable, nothing writable: told by status, metric and log, while the pages stay reachable."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from autoscaler.cli.status import status_lines
from tests.autoscaler.api.test_server import Pages
from tests.fakes.shell import FleetActuator


@pytest.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Pages]:
    found = Pages(tmp_path)
    await found.server.start()
    yield found
    await found.server.stop()


async def kinds(pages: Pages) -> list[str]:
    return [one["kind"] for one in (await pages.json("/api/v1/status"))["outages"]]


async def metric(pages: Pages, kind: str) -> bool:
    return f'leadtime_outage{{kind="{kind}"}} 1.0' in (await pages.get("/metrics"))[1]


async def test_nothing_readable_is_told_and_the_pages_and_the_plan_stay(
    pages: Pages, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "leadtime")
    await pages.tick(4)
    assert await kinds(pages) == []
    for source in pages.sources:
        source.broken = "connection refused"
    await pages.tick(30)
    status = await pages.json("/api/v1/status")
    assert await kinds(pages) == ["reading"]
    assert await metric(pages, "reading")
    assert not await metric(pages, "writing")
    assert any(line.startswith("OUTAGE since") for line in status_lines(status))
    for path in ("/readyz", "/healthz", "/api/v1/plan", "/api/v1/decisions"):
        assert (await pages.get(path))[0] == 200
    for source in pages.sources:
        source.broken = ""
    await pages.tick(6)
    assert await kinds(pages) == []
    told = [record.getMessage() for record in caplog.records if "reading as a whole" in record.getMessage()]
    assert told == ["reading as a whole: well again"]
    assert sum("nothing can be read: source inventory" in record.getMessage() for record in caplog.records) == 1


async def test_one_source_that_is_down_is_no_outage(pages: Pages) -> None:
    await pages.tick(4)
    pages.sources[2].broken = "connection refused"
    await pages.tick(4)
    assert await kinds(pages) == []


async def test_nothing_writable_is_told_until_a_write_goes_through(pages: Pages) -> None:
    (actuator,) = pages.runtime._actuators
    assert isinstance(actuator, FleetActuator)
    actuator.raises = ValueError("403")
    await pages.tick(5)
    assert await kinds(pages) == ["writing"]
    assert await metric(pages, "writing")
    assert (await pages.get("/readyz"))[0] == 200
    actuator.raises = None
    await pages.tick(2)
    assert await kinds(pages) == []


async def test_a_decision_that_fails_from_the_start_is_seen_on_pages_that_are_reachable(pages: Pages) -> None:
    assert (await pages.get("/readyz"))[0] == 503
    pages.runtime.controller.step = _fails  # type: ignore[method-assign, assignment]
    await pages.tick()
    assert (await pages.get("/readyz"))[0] == 200
    assert (await pages.json("/api/v1/status"))["tick"] is None
    assert "leadtime_failed_steps_total 1.0" in (await pages.get("/metrics"))[1]


def _fails(signals: object, now_s: float) -> None:
    raise ValueError("a policy's bug")
