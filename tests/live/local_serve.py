"""A real local Ray with its own ports and folder, for live tests; run as a script it shows the thinnest real path.

It never runs `ray stop`: only the process tree that it started itself is ended. It listens on the loopback alone.
Which Ray: this environment's, or that of the virtual environment that LEADTIME_RAY names (`make test-old-ray`).
Not a test itself, and not for anything but tests.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OTHER_RAY = "LEADTIME_RAY"
"""Environment variable: the folder of a virtual environment with another Ray than the one installed beside us."""


def ray_python() -> Path:
    """The Python whose Ray is started. Errors: AssertionError when the environment named has no Ray."""
    folder = os.environ.get(OTHER_RAY)
    python = Path(sys.executable) if folder is None else Path(folder).absolute() / "bin" / "python"
    assert python.with_name("ray").exists(), f"no ray beside {python}"
    return python


_candidates = itertools.count(20000 + (os.getpid() * 37) % 8000)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now on any address, below the kernel's range for outgoing connections."""
    ports: list[int] = []
    while len(ports) < count:
        candidate = next(_candidates)
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind(("", candidate))
            ports.append(candidate)
    return ports


@dataclass(frozen=True)
class LocalServe:
    """A running head node: where its dashboard, Serve's HTTP proxy and its metrics page are."""

    dashboard: str
    http: str
    http_port: int
    metrics: str
    folder: Path
    root_pid: int
    token: str | None = None

    def request(self, method: str, path: str, body: object = None, timeout_s: float = 60.0) -> tuple[int, str]:
        """One plain HTTP request to the dashboard; (status, text)."""
        headers = {"Content-Type": "application/json"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.dashboard + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def applications(self) -> dict[str, Any]:
        status, text = self.request("GET", "/api/serve/applications/")
        assert status == 200, text
        found: dict[str, Any] = json.loads(text)["applications"]
        return found

    def deployment(self, app: str, name: str) -> dict[str, Any]:
        """One deployment as Serve's API shows it; empty while it is not there (a rebuild)."""
        found: dict[str, Any] = self.applications().get(app, {}).get("deployments", {}).get(name, {})
        return found

    def running(self, app: str, name: str) -> int:
        return sum(r["state"] == "RUNNING" for r in self.deployment(app, name).get("replicas", []))

    def deploy(self, *applications: Mapping[str, Any]) -> None:
        """PUT a serve config with these applications (the whole config: others are removed)."""
        config = {"http_options": {"host": "127.0.0.1", "port": self.http_port}, "applications": list(applications)}
        status, text = self.request("PUT", "/api/serve/applications/", config, timeout_s=120.0)
        assert status == 200, text

    def kill(self, title: str) -> None:
        """SIGKILL to the one process of this cluster whose command line begins so (`ray::ServeController`)."""
        found = [pid for pid in own_processes(self.root_pid) if _command_line(pid).startswith(title)]
        assert len(found) == 1, (title, found)
        os.kill(found[0], signal.SIGKILL)

    def wait(self, what: str, condition: Callable[[], bool], timeout_s: float = 120.0) -> float:
        """Seconds until `condition` held; AssertionError with `what` when it never did."""
        started = time.monotonic()
        while time.monotonic() - started < timeout_s:
            if condition():
                return time.monotonic() - started
            time.sleep(0.05)
        raise AssertionError(f"not within {timeout_s:g} s: {what}")


@contextlib.contextmanager
def local_serve(token: str | None = None, cpus: int = 8, report_interval_ms: int = 1000) -> Iterator[LocalServe]:
    """Start a head node, yield it, end every process of it."""
    folder = Path(tempfile.mkdtemp(prefix="ltr"))
    gcs, dashboard, agent, grpc, metrics, http, runtime_env, client = free_ports(8)
    environment = environment_of(folder, token)
    command = [
        str(ray_python().with_name("ray")), "start", "--head", "--block", "--disable-usage-stats",
        f"--port={gcs}", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
        f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={grpc}",
        f"--runtime-env-agent-port={runtime_env}", f"--metrics-export-port={metrics}",
        f"--ray-client-server-port={client}", f"--temp-dir={folder / 'ray'}", f"--num-cpus={cpus}", "--num-gpus=0",
        "--object-store-memory=100000000", "--include-log-monitor=false",
        f"--system-config={json.dumps({'metrics_report_interval_ms': report_interval_ms})}",
    ]  # fmt: skip
    log = (folder / "start.log").open("wb")
    process = subprocess.Popen(
        command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True
    )
    serve = LocalServe(
        dashboard=f"http://127.0.0.1:{dashboard}", http=f"http://127.0.0.1:{http}", http_port=http,
        metrics=f"http://127.0.0.1:{metrics}/metrics", folder=folder, root_pid=process.pid, token=token,
    )  # fmt: skip
    try:
        serve.wait(f"dashboard up ({folder / 'start.log'})", lambda: is_up(serve, process), 90.0)
        yield serve
    finally:
        end_processes(process)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def environment_of(folder: Path, token: str | None) -> dict[str, str]:
    """The environment of a test's Ray: none of the RAY_ settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    kept |= {
        "PATH": f"{ray_python().parent}{os.pathsep}{os.environ['PATH']}",  # a job's `python` is Ray's, as in its images
        # Applications, and leadtime's policy inside Serve, which a Ray image holds as that one file.
        "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parents[1]}",
        "HOME": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled" if token is None else "token",
        "RAY_enable_metrics_collection": "1",
        # Ray's own switch for "a single machine" (its default on macOS): every server listens on the loopback alone.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    if token is not None:
        kept["RAY_AUTH_TOKEN"] = token
    return kept


def is_up(serve: LocalServe, process: subprocess.Popen[bytes]) -> bool:
    """Whether the dashboard answers for Serve. Errors: AssertionError when the head ended."""
    if process.poll() is not None:
        raise AssertionError(f"ray start ended: {(serve.folder / 'start.log').read_text()[-2000:]}")
    try:
        status, _ = serve.request("GET", "/api/serve/applications/", timeout_s=5.0)
    except OSError:
        return False
    return status == 200


def own_processes(root: int) -> dict[int, str]:
    """The process `root` and everything below it: id -> start time (so that a reused id is never mistaken for ours)."""
    children: dict[int, list[int]] = {}
    born: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
                born[int(entry.name)] = fields[19]
    found, waiting = {}, [root]
    while waiting:
        pid = waiting.pop()
        if pid in born:
            found[pid] = born[pid]
        waiting += children.get(pid, [])
    return found


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _alive(pid: int, born: str) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[19] == born and fields[0] != "Z"


def end_processes(root: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL, to the tree below `root` as it was seen while it lived."""
    tree = own_processes(root.pid)
    for kind, patience_s in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience_s
        for pid, born in tree.items():
            if _alive(pid, born):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, kind)
        while any(_alive(*process) for process in tree.items()) and time.monotonic() < deadline:
            root.poll()
            time.sleep(0.1)
    root.wait()


def main() -> None:
    """The thinnest real path: start Serve, read it, post one scale, see it happen."""
    started = time.monotonic()
    with local_serve() as serve:
        print(f"head up after {time.monotonic() - started:.1f} s at {serve.dashboard}")
        serve.deploy({"name": "chat", "route_prefix": "/chat", "import_path": "serve_app:build_chat",
                      "args": {"init_s": 0.5}, "external_scaler_enabled": True})  # fmt: skip
        print(f"running after {serve.wait('running', lambda: serve.running('chat', 'LLMServer:tiny') == 1):.1f} s")
        for target in (3, 0, 1):
            path = "/api/v1/applications/chat/deployments/LLMServer:tiny/scale"
            print("scale", target, *serve.request("POST", path, {"target_num_replicas": target}))
            seconds = serve.wait(f"{target} running", lambda n=target: serve.running("chat", "LLMServer:tiny") == n)
            print(f"  {target} running after {seconds:.2f} s")
        print(serve.request("GET", "/api/prometheus/sd"))


if __name__ == "__main__":
    main()
