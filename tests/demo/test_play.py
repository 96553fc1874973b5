"""The demo's own conduct, with everything outside replaced by a few lines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from autoscaler.api.telemetry import Telemetry, new_telemetry
from autoscaler.common.errors import ConfigError
from autoscaler.core.build import new_controller
from leadtime.demo import play
from leadtime.demo.local_ray import DemoError, LocalRay
from leadtime.demo.play import Demo
from leadtime.demo.screens import PlainScreen
from leadtime.demo.spec import Spec
from leadtime.demo.watch import key_of


class Out:
    """A place to write that keeps what was written."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...


class Decider:
    """A runtime that fails or ends as it is told."""

    def __init__(self, config: Any, error: Exception | None) -> None:
        self.controller = new_controller(config.controller)
        self.telemetry: Telemetry = new_telemetry(config.controller)
        self._error = error

    async def run(self) -> None:
        await asyncio.sleep(0.1)
        if self._error is not None:
            raise self._error

    def stop(self) -> None: ...


def made(folder: Path, error: Exception | None, kept: list[Decider]) -> Demo:
    def build(config: Any) -> Any:
        kept.append(Decider(config, error))
        return kept[-1]

    out: Any = Out()
    return Demo(Spec(seconds=20.0, bin_s=0.5, patience_s=0.1), build, PlainScreen(out, 2), folder)


RAY = LocalRay("http://127.0.0.1:1", 1, Path(), 0, "127.0.0.1:1")


async def test_a_controller_that_cannot_run_ends_the_demo_with_its_own_words(tmp_path: Path) -> None:
    demo = made(tmp_path, ConfigError("server.port: taken"), [])
    with pytest.raises(ConfigError, match="port: taken"):
        await demo._pass(RAY, act=True)


async def test_a_controller_that_ends_by_itself_is_not_played_on_without(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="the controller ended"):
        await made(tmp_path, None, [])._pass(RAY, act=True)


async def test_the_controller_is_shown_seven_days_and_how_long_requests_were(tmp_path: Path) -> None:
    kept: list[Decider] = []
    demo = made(tmp_path, None, kept)
    with pytest.raises(DemoError):
        await demo._pass(RAY, act=True)
    state = kept[0].controller.state
    forecaster = state.forecasters[key_of("chat").full]
    assert forecaster.calibrated
    assert forecaster.last_time_s == pytest.approx(time.time(), abs=120.0)
    prompt, output, cached, requests = state.memory(key_of("chat").full).demand.mix_sums
    assert (requests, cached) == (100.0, 0.0)
    assert 200 < prompt / requests < 300
    assert 28 <= output / requests <= 40


class Fake:
    """Serve's REST API as far as the demo asks it."""

    def __init__(self, *answers: Mapping[str, Any]) -> None:
        self._answers = list(answers)

    async def application(self, name: str) -> Mapping[str, Any]:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def shown(status: str, *states: str, message: str = "") -> Mapping[str, Any]:
    deployment = {"replicas": [{"state": state} for state in states], "message": message}
    return {"status": status, "message": "", "deployments": {"chat": deployment, "code": deployment}}


async def test_traffic_waits_until_each_deployment_has_exactly_one_running_replica(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play, "_LOOK_EVERY_S", 0.001)
    serve: Any = Fake(
        {}, shown("DEPLOYING", "STARTING"), shown("RUNNING", "RUNNING", "STOPPING"), shown("RUNNING", "RUNNING")
    )
    await made(tmp_path, None, [])._until_ready(serve)
    assert len(serve._answers) == 1


async def test_an_application_that_does_not_start_says_why(tmp_path: Path) -> None:
    serve: Any = Fake(shown("DEPLOY_FAILED", message="No module named\n 'nothing'"))
    with pytest.raises(DemoError, match="does not start: No module named 'nothing'"):
        await made(tmp_path, None, [])._until_ready(serve)
