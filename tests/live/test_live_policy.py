"""leadtime's policy inside a real Serve controller: the plan is followed, its author killed, Serve's rule, and back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from leadtime_serve_policy import PERIODS_UNTIL_STALE
from tests.live.conftest import AUTOSCALED, CHAT, ask, skip_without_ray
from tests.live.local_serve import LocalServe, free_ports

pytestmark = [pytest.mark.ray, pytest.mark.slow]
PERIOD_S = 1.0


@dataclass
class Watched:
    """The deployment as Serve has it, sampled all the time: (seconds, target, running)."""

    serve: LocalServe
    samples: list[tuple[float, int, int]] = field(default_factory=list)
    stopped: bool = False

    def watch(self) -> None:
        while not self.stopped:
            with contextlib.suppress(OSError, AssertionError, ValueError):
                shown = self.serve.deployment("followed", "Model")
                if shown:
                    running = sum(r["state"] == "RUNNING" for r in shown["replicas"])
                    self.samples.append((time.monotonic(), shown["target_num_replicas"], running))
            time.sleep(0.1)

    def wait_for(self, target: int, timeout_s: float = 120.0) -> float:
        """Seconds until the target was seen, from now on."""
        seen = len(self.samples)
        return self.serve.wait(f"target {target}", lambda: any(s[1] == target for s in self.samples[seen:]), timeout_s)

    def targets_since(self, monotonic_s: float) -> list[int]:
        """The levels in order, repetitions left out."""
        found = [target for at_s, target, _ in self.samples if at_s >= monotonic_s]
        return [b for a, b in zip([None, *found], found, strict=False) if a != b]


@dataclass
class Process:
    """`leadtime run` in policy mode, which wants a constant number of replicas."""

    serve: LocalServe
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self, replicas: int) -> None:
        (self.folder / "leadtime.yaml").write_text(f"""\
version: 1
dry_run: false
tick_s: {PERIOD_S:g}
services: [{{dashboard: "{self.serve.dashboard}", act: policy}}]
deployments:
  - {{match: "followed/Model", replicas: {{min: {replicas}, max: {replicas}}}}}
state: {{path: ./state.sqlite}}
journal: {{path: ./journal}}
server: {{port: {self.port}}}
""")
        command = [str(Path(sys.executable).with_name("leadtime")), "run", "--config", "leadtime.yaml"]
        with (self.folder / "leadtime.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT)
        self.serve.wait("ready", lambda: self.get("/readyz") is not None)

    def get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
                text = answer.read().decode()
        except OSError:
            return None
        return json.loads(text) if text.startswith("{") else text

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def doctor(self) -> str:
        command = [str(Path(sys.executable).with_name("leadtime")), "doctor", "--config", "leadtime.yaml"]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=300, check=False).stdout


def followed_app(port: int, max_replicas: int = 6, **kwargs: Any) -> dict[str, Any]:
    arguments = {
        "plan": f"http://127.0.0.1:{port}", "service": "default/local", "upscale_delay_s": 2, "downscale_delay_s": 600,
    }  # fmt: skip
    return {
        "name": "followed", "route_prefix": "/followed", "import_path": "followed_app:build",
        "deployments": [{
            "name": "Model",
            "autoscaling_config": {
                "min_replicas": 1, "max_replicas": max_replicas, "upscale_delay_s": 0, "downscale_delay_s": 0,
                "target_ongoing_requests": 1, "metrics_interval_s": 1, "look_back_period_s": 4,
                "policy": {
                    "policy_function": "leadtime_serve_policy:LeadtimePolicy", "policy_kwargs": arguments | kwargs,
                },
            },
        }],
    }  # fmt: skip


@pytest.fixture
def leadtime(ray_serve: LocalServe, tmp_path: Path) -> Iterator[Process]:
    skip_without_ray()
    (port,) = free_ports(1)
    process = Process(ray_serve, tmp_path, port)
    ray_serve.deploy(CHAT, AUTOSCALED, followed_app(port))
    ray_serve.wait("running", lambda: ray_serve.running("followed", "Model") == 1)
    yield process
    process.kill()
    ray_serve.deploy(CHAT, AUTOSCALED)
    ray_serve.wait("gone", lambda: "followed" not in ray_serve.applications())


@pytest.fixture
def watched(ray_serve: LocalServe) -> Iterator[Watched]:
    one = Watched(ray_serve)
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(one.watch)
        yield one
        one.stopped = True
        watching.result()


async def test_followed_then_killed_then_serves_rule_then_followed_again_without_a_flap(
    leadtime: Process, watched: Watched
) -> None:
    await asyncio.to_thread(leadtime.start, 3)
    print(f"\n  [live] plan of 3 -> Serve's target: {await asyncio.to_thread(watched.wait_for, 3):.1f} s")
    await asyncio.to_thread(leadtime.serve.wait, "3 running", lambda: watched.samples[-1][2] == 3)
    status = await asyncio.to_thread(leadtime.get, "/api/v1/status")
    applied = status["deployments"]["followed/Model"]["last_decision"]["applied"]
    assert applied["outcome"] in ("published", "unchanged")
    found = await asyncio.to_thread(leadtime.doctor)
    assert "followed/Model: Serve's controller follows the plan; target 3" in found

    # The author of the plan is killed while more requests are in flight than its level was made for.
    asks = [asyncio.create_task(ask(leadtime.serve, "/followed?seconds=25")) for _ in range(5)]
    await asyncio.sleep(4 * PERIOD_S)  # real time: Serve's handles report once a second, and the plan still holds
    assert watched.samples[-1][1] == 3, "the plan is in force, whatever is in flight"
    await asyncio.to_thread(leadtime.kill)
    killed_s = time.monotonic()
    await asyncio.to_thread(watched.wait_for, 5)
    took_s = time.monotonic() - killed_s
    print(f"  [live] killed -> Serve's own rule (delay 2 s) raised the level: {took_s:.1f} s")
    first = next(at_s for at_s, target, _ in watched.samples if at_s > killed_s and target == 5)
    assert first - killed_s > (PERIODS_UNTIL_STALE - 1) * PERIOD_S, "not while the plan was young enough"
    assert await asyncio.gather(*asks) == [200] * 5

    # It returns with a lower level than Serve's rule chose: lowered once, after a while, and never raised again.
    returned_s = time.monotonic()
    await asyncio.to_thread(leadtime.start, 3)
    await asyncio.to_thread(watched.wait_for, 3)
    print(f"  [live] returned -> back at the plan's level: {time.monotonic() - returned_s:.1f} s")
    await asyncio.sleep(6 * PERIOD_S)  # real time, in which a flap would show
    assert watched.targets_since(returned_s) in ([5, 3], [5, 4, 3])


async def test_a_killed_serve_controller_follows_again_by_itself(leadtime: Process, watched: Watched) -> None:
    await asyncio.to_thread(leadtime.start, 2)
    await asyncio.to_thread(watched.wait_for, 2)
    await asyncio.to_thread(leadtime.serve.kill, "ray::ServeController")
    killed_s = time.monotonic()
    await asyncio.to_thread(leadtime.kill)
    await asyncio.to_thread(leadtime.start, 4)
    await asyncio.to_thread(watched.wait_for, 4)
    took_s = time.monotonic() - killed_s
    print(f"\n  [live] Serve's controller and leadtime killed -> the new plan followed: {took_s:.1f} s")
    assert watched.targets_since(killed_s) == [2, 4]


async def test_wrong_arguments_leave_serve_alive_and_are_named_by_doctor(leadtime: Process) -> None:
    wrong = followed_app(leadtime.port, planet="earth")
    await asyncio.to_thread(leadtime.serve.deploy, CHAT, AUTOSCALED, wrong)
    await asyncio.to_thread(leadtime.start, 3)
    await asyncio.to_thread(
        leadtime.serve.wait, "still there", lambda: leadtime.serve.running("followed", "Model") >= 1
    )
    assert await ask(leadtime.serve, "/followed?seconds=0") == 200
    found = await asyncio.to_thread(leadtime.doctor)
    assert "fail  followed/Model: the plan is not followed: policy_kwargs.planet: unknown" in found
