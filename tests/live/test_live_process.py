"""`leadtime run` as a process beside a real Ray Serve: its pages, the kill switch, SIGTERM, and starting again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from autoscaler.runtime.journal_file import read_journal
from tests.live.conftest import LLM
from tests.live.local_serve import LocalServe, free_ports

pytestmark = pytest.mark.ray
TOKEN = "s3cret-token"


@dataclass
class Process:
    """A running `leadtime run` and its pages."""

    folder: Path
    port: int
    process: subprocess.Popen[str]

    def request(self, method: str, path: str, token: str | None = None, body: object = None) -> tuple[int, str]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def status(self) -> dict[str, Any]:
        code, text = self.request("GET", "/api/v1/status")
        assert code == 200, text
        found: dict[str, Any] = json.loads(text)
        return found

    def end(self) -> tuple[int, str]:
        """SIGTERM; its exit status and what it wrote."""
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=300)
        return self.process.returncode, output


class Starter:
    def __init__(self, serve: LocalServe, folder: Path) -> None:
        self.serve = serve
        self.folder = folder
        self.started: list[Process] = []

    def __call__(self, minimum: int, maximum: int, dry_run: bool = False) -> Process:
        (port,) = free_ports(1)
        (self.folder / "token").write_text(TOKEN)
        (self.folder / "leadtime.yaml").write_text(f"""\
version: 1
dry_run: {str(dry_run).lower()}
tick_s: 0.5
services: [{{dashboard: "{self.serve.dashboard}"}}]
deployments:
  - match: "chat/LLMServer:*"
    replicas: {{min: {minimum}, max: {maximum}}}
state: {{path: ./state.sqlite}}
journal: {{path: ./journal}}
server: {{port: {port}, token_file: ./token}}
""")
        command = [str(Path(sys.executable).with_name("leadtime")), "run", "--config", "leadtime.yaml"]
        process = Process(
            self.folder, port,
            subprocess.Popen(
                command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ),
        )  # fmt: skip
        self.started.append(process)
        self.serve.wait("ready", lambda: process.request("GET", "/readyz")[0] == 200)
        return process


@pytest.fixture
def start(serve: LocalServe, tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(serve, tmp_path)
    yield starter
    for process in starter.started:
        if process.process.poll() is None:
            process.process.kill()
        process.process.communicate()


def test_it_scales_shows_pauses_ends_and_goes_on_where_it_was(serve: LocalServe, start: Starter) -> None:
    first = start(2, 3)
    serve.wait("the minimum", lambda: serve.running(LLM.app, LLM.deployment) == 2)
    serve.wait("seen", lambda: first.status()["deployments"][str(LLM)]["replicas"]["running"] == 2)
    shown = first.status()
    assert all(source["up"] for source in shown["sources"].values()), shown["sources"]
    assert shown["deployments"][str(LLM)]["replicas"]["planned"] == 2
    _, page = first.request("GET", "/metrics")
    states = {
        sample.labels["state"]: sample.value
        for family in parse_text(page) for sample in family.samples
        if sample.name == "leadtime_replicas" and sample.labels["deployment"] == LLM.deployment
    }  # fmt: skip
    assert (states["target"], states["running"], states["planned"]) == (2.0, 2.0, 2.0)

    assert first.request("POST", "/api/v1/pause")[0] == 401
    assert first.request("POST", "/api/v1/pause", TOKEN, {"key": str(LLM)})[0] == 200
    status, output = first.end()
    assert status == 0, output
    assert TOKEN not in output

    second = start(3, 3)
    records = [record.data for record in read_journal(second.folder / "journal")]
    before = max(data["tick"] for data in records if data["kind"] == "tick")
    serve.wait("some ticks", lambda: second.status()["tick"] >= before + 3)
    assert second.status()["deployments"][str(LLM)]["paused"]
    assert serve.running(LLM.app, LLM.deployment) == 2  # paused: the new minimum has to wait
    assert second.request("POST", "/api/v1/resume", TOKEN)[0] == 200
    serve.wait("the new minimum", lambda: serve.running(LLM.app, LLM.deployment) == 3)
    status, output = second.end()
    assert status == 0, output
    replayed = leadtime(start.folder, "replay", "journal", "--strict")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def leadtime(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("leadtime")), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_a_second_controller_on_the_same_state_is_refused(serve: LocalServe, start: Starter) -> None:
    start(1, 3)
    second = leadtime(start.folder, "run", "--config", "leadtime.yaml")
    assert second.returncode == 1
    assert "in use by another leadtime" in second.stderr


def test_a_dry_run_beside_serve_changes_nothing(serve: LocalServe, start: Starter) -> None:
    process = start(3, 3, dry_run=True)
    started_s = time.monotonic()
    serve.wait("some ticks", lambda: process.status()["tick"] >= 4)
    assert time.monotonic() - started_s < 60
    shown = process.status()["deployments"][str(LLM)]
    assert (shown["replicas"]["target"], shown["replicas"]["planned"]) == (1, 3)
    assert serve.deployment(LLM.app, LLM.deployment)["target_num_replicas"] == 1
    plan = json.loads(process.request("GET", "/api/v1/plan")[1])
    assert (plan["targets"], plan["withheld"][str(LLM)]) == ({}, 3)
