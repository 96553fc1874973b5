"""The dead man's switch beside a real Ray Serve: the controller is killed under rising load, and comes back."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import LLM, ask
from tests.live.local_serve import LocalServe, free_ports

pytestmark = [pytest.mark.ray, pytest.mark.slow]
AFTER_S = 5.0
LEADTIME = str(Path(sys.executable).with_name("leadtime"))


@dataclass
class Pair:
    """A controller and its standby, with one settings file."""

    serve: LocalServe
    folder: Path
    controller_port: int
    standby_port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def settings(self, minimum: int) -> None:
        (self.folder / "leadtime.yaml").write_text(f"""\
version: 1
dry_run: false
tick_s: 0.5
services: [{{dashboard: "{self.serve.dashboard}"}}]
deployments:
  - match: "chat/LLMServer:*"
    replicas: {{min: {minimum}, max: 4}}
state: {{path: ./state.sqlite}}
journal: {{path: ./journal}}
server: {{port: {self.controller_port}}}
""")

    def start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [LEADTIME, *arguments, "--config", "leadtime.yaml"]
            self.processes[name] = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT)

    def start_controller(self) -> None:
        self.start("controller", "run")
        self.serve.wait("controller ready", lambda: self.get(self.controller_port, "/readyz") is not None)

    def start_standby(self) -> None:
        plan = f"http://127.0.0.1:{self.controller_port}"
        self.start("standby", "standby", "--plan", plan, "--after-s", f"{AFTER_S:g}", "--port", str(self.standby_port))
        self.serve.wait("standby ready", lambda: self.get(self.standby_port, "/readyz") is not None)

    def kill(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def get(self, port: int, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
                text = answer.read().decode()
        except OSError:
            return None
        return json.loads(text) if text.startswith("{") else text

    def planned_by_standby(self) -> int | None:
        found: int | None = self.get(self.standby_port, "/api/v1/plan")["targets"].get(str(LLM))
        return found

    def target(self) -> int:
        found: int = self.serve.deployment(LLM.app, LLM.deployment)["target_num_replicas"]
        return found


@pytest.fixture
def pair(serve: LocalServe, tmp_path: Path) -> Iterator[Pair]:
    one = Pair(serve, tmp_path, *free_ports(2))
    yield one
    for process in one.processes.values():
        process.kill()
        process.wait()


async def test_a_killed_controller_is_stood_in_for_and_gets_its_work_back(pair: Pair) -> None:
    pair.settings(minimum=1)
    await asyncio.to_thread(pair.start_controller)
    await asyncio.to_thread(pair.start_standby)
    assert await asyncio.to_thread(pair.planned_by_standby) is None, "while the controller acts the standby has no plan"

    await asyncio.to_thread(pair.kill, "controller")
    before = await asyncio.to_thread(pair.target)
    asks = [asyncio.create_task(ask(pair.serve, "/chat?seconds=20")) for _ in range(8)]
    took_s = await asyncio.to_thread(pair.serve.wait, "raised", lambda: pair.target() == 4)
    print(
        f"\n  [live] killed at {before}; the standby raised the level to 4: {took_s:.1f} s (acts after {AFTER_S:g} s)"
    )
    assert await asyncio.gather(*asks) == [200] * 8

    # A controller that crashes at start (a bad release) is still a silent one, and nothing is lowered.
    broken = await asyncio.to_thread(
        subprocess.run, [LEADTIME, "run", "--config", "missing.yaml"], cwd=pair.folder, capture_output=True, check=False
    )
    assert broken.returncode != 0
    assert await asyncio.to_thread(pair.target) == 4

    await asyncio.to_thread(pair.start_controller)
    await asyncio.to_thread(pair.serve.wait, "the standby lets go", lambda: pair.planned_by_standby() is None)
    status = await asyncio.to_thread(pair.get, pair.controller_port, "/api/v1/status")
    assert status["deployments"][str(LLM)]["replicas"]["planned"] is not None, "the controller looks after it again"
