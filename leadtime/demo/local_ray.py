"""A local Ray with Serve that belongs to the demo alone: own ports, own folder, loopback only, gone when we are gone.

It never runs `ray stop` (that would end other people's Rays too) and reports nothing to anybody. Talks to it through
the dashboard's REST API only; ray itself is not imported here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from autoscaler.common.errors import LeadtimeError
from leadtime.demo import processes
from leadtime.demo.nodes import HEAD_ADDRESS, Nodes, prepare

_SOCKET_ROOM = 40
"""Longest folder below which Ray's socket names still fit into the 104 bytes that the system allows."""
_TOKEN = "token"
_START_LIMIT_S = 90.0
_END_LIMIT_S = 15.0


class DemoError(LeadtimeError):
    """The demo cannot go on; the message says what to look at."""


@dataclass(frozen=True, slots=True)
class LocalRay:
    """A running head node: where its dashboard is, which port Serve's HTTP proxy will use, whose processes it is.

    `address` is what a driver connects to (`ray.init`). `token_file` holds what every request to it has to bear; None:
    nothing, since it listens on the loopback alone.
    """

    dashboard: str
    http_port: int
    folder: Path
    keeper_pid: int
    address: str
    token_file: Path | None = None

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def headers(self) -> dict[str, str]:
        """What a request to the dashboard has to bear."""
        if self.token_file is None:
            return {}
        return {"Authorization": f"Bearer {self.token_file.read_text(encoding='utf-8')}"}

    def memory_bytes(self) -> int:
        return processes.memory_bytes(self.keeper_pid)


@contextlib.asynccontextmanager
async def local_ray(
    gpus: int, report_interval_ms: int = 1000, nodes: Nodes | None = None, cpus: int = 2
) -> AsyncIterator[LocalRay]:
    """Start a head node with `gpus` pretended GPUs and `cpus` cores, yield it when its dashboard answers, end it all.

    With `nodes` Ray's own autoscaler runs too, and makes such nodes when they are wanted.
    Errors: DemoError when Ray is not installed or does not come up.
    """
    folder = _folder()
    ports = list(free_ports(8))
    owner: subprocess.Popen[bytes] | None = None
    try:
        token_file = None if nodes is None else _new_token(folder)
        owner = _start(folder, ports, gpus, report_interval_ms, nodes, cpus)
        gcs = f"{_head_address(nodes)}:{ports[0]}"
        ray = LocalRay(f"http://127.0.0.1:{ports[1]}", ports[6], folder, owner.pid, gcs, token_file)
        await _until_up(ray, owner)
        yield ray
    finally:
        if owner is not None:
            _end(owner)
        shutil.rmtree(folder, ignore_errors=True)


def _new_token(folder: Path) -> Path:
    """With several nodes Ray listens on every interface: nobody else may talk to it."""
    path = folder / _TOKEN
    path.touch(mode=0o600)
    path.write_text(secrets.token_urlsafe(32), encoding="utf-8")
    return path


def _head_address(nodes: Nodes | None) -> str:
    return "127.0.0.1" if nodes is None else HEAD_ADDRESS


def _start(
    folder: Path, ports: Sequence[int], gpus: int, report_interval_ms: int, nodes: Nodes | None, cpus: int
) -> subprocess.Popen[bytes]:
    gcs, dashboard, agent, grpc, metrics, runtime_env, _, client = ports
    system_config = {"metrics_report_interval_ms": report_interval_ms}
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats",
        f"--port={gcs}", f"--node-ip-address={_head_address(nodes)}", "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard}",
        f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={grpc}",
        f"--metrics-export-port={metrics}", f"--runtime-env-agent-port={runtime_env}",
        f"--ray-client-server-port={client}",
        f"--temp-dir={folder / 'ray'}", f"--num-cpus={cpus}", f"--num-gpus={gpus}", "--object-store-memory=100000000",
        "--include-log-monitor=false", f"--system-config={json.dumps(system_config)}",
    ]  # fmt: skip
    environment = _environment(folder)
    if nodes is not None:
        file, more = prepare(folder, f"{HEAD_ADDRESS}:{gcs}", nodes, os.environ.get("PYTHONPATH"))
        environment |= more | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / _TOKEN)}
        command.append(f"--autoscaling-config={file}")
    return subprocess.Popen(
        [sys.executable, "-m", "leadtime.demo.keeper", str(folder), *command],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=environment, start_new_session=True,
    )  # fmt: skip


def _environment(folder: Path) -> dict[str, str]:
    """Ours without what steers another Ray, and with a home of its own (Ray reads and writes there)."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    kept |= {
        # Jobs that come through the dashboard run `python`: the one that has Ray, as in Ray's images.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "HOME": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_enable_metrics_collection": "1",
        # Ray's own switch for "a single machine" (its default on macOS): every server listens on the loopback alone.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    return kept


def _folder() -> Path:
    """A new folder with a path short enough for Ray's sockets (macOS's own place for such things is too deep)."""
    folder = Path(tempfile.mkdtemp(prefix="lt"))
    if len(str(folder)) > _SOCKET_ROOM:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="lt", dir="/tmp"))
    return folder


def free_ports(count: int) -> Iterator[int]:
    """Ports that nobody listens on now, below the range that the system gives to outgoing connections."""
    candidate = 20000 + (os.getpid() * 37) % 8000
    while count:
        candidate += 1
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", candidate))
            count -= 1
            yield candidate


async def _until_up(ray: LocalRay, owner: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_LIMIT_S
    timeout = aiohttp.ClientTimeout(total=5.0)
    async with aiohttp.ClientSession(timeout=timeout, headers=ray.headers) as session:
        while time.monotonic() < deadline:
            if owner.poll() is not None:
                raise DemoError(f"leadtime demo: Ray did not start: {_last_words(ray.folder)}")
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with session.get(f"{ray.dashboard}/api/serve/applications/") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.1)
    raise DemoError(f"leadtime demo: Ray did not answer within {_START_LIMIT_S:.0f} s: {_last_words(ray.folder)}")


def _last_words(folder: Path) -> str:
    """The last line of what `ray start` wrote that says something."""
    with contextlib.suppress(OSError):
        lines = (folder / "start.log").read_text(errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip()]
        if said:
            return said[-1]
    return "it said nothing"


def _end(owner: subprocess.Popen[bytes]) -> None:
    """Close the pipe, which the keeper takes as the end; where even the keeper fails, end its tree from here."""
    assert owner.stdin is not None
    with contextlib.suppress(OSError):
        owner.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        owner.wait(_END_LIMIT_S)
    if owner.poll() is None:
        processes.end(lambda: [*processes.below(owner.pid), *_itself(owner)], reap=owner.poll)


def _itself(owner: subprocess.Popen[bytes]) -> list[processes.Process]:
    found = processes.table().get(owner.pid)
    return [found] if found is not None and owner.poll() is None else []


# ---------------------------------------------------------------- Serve's REST API


class Serve:
    """What the demo needs of Serve's REST API: deploy an application, see its replicas."""

    def __init__(self, ray: LocalRay) -> None:
        self._ray = ray
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30.0), headers=ray.headers)

    async def __aenter__(self) -> Serve:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def deploy(self, *applications: Mapping[str, Any]) -> None:
        """Make these the applications (others are removed). Errors: DemoError with Serve's answer."""
        config = {
            "proxy_location": "HeadOnly",
            "http_options": {"host": "127.0.0.1", "port": self._ray.http_port},
            "applications": list(applications),
        }
        url = f"{self._ray.dashboard}/api/serve/applications/"
        async with self._session.put(url, json=config) as answer:
            if answer.status != 200:
                raise DemoError(f"leadtime demo: Serve refused the application: {(await answer.text()).strip()[-500:]}")

    async def application(self, name: str) -> Mapping[str, Any]:
        """The application as Serve shows it; empty while it is not there."""
        async with self._session.get(f"{self._ray.dashboard}/api/serve/applications/") as answer:
            data = await answer.json()
        found: Mapping[str, Any] = data.get("applications", {}).get(name, {})
        return found

    async def scale(self, app: str, deployment: str, replicas: int) -> None:
        """Through the external scaler's door. Errors: DemoError with Serve's answer."""
        url = f"{self._ray.dashboard}/api/v1/applications/{app}/deployments/{deployment}/scale"
        async with self._session.post(url, json={"target_num_replicas": replicas}) as answer:
            if answer.status != 200:
                raise DemoError(f"leadtime demo: Serve refused to scale {deployment}: {await answer.text()}")
