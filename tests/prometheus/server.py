"""A real Prometheus on loopback with recorded data, for tests. Bounded waits; ended by whoever started it."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.real import require

_PACKAGE = "prometheus (Debian: apt-get install --no-install-recommends prometheus)"


def promtool() -> str:
    return require("promtool", _PACKAGE)


class Prometheus:
    """A running server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expr: str, at_s: float) -> list[dict[str, Any]]:
        return self._ask("query", {"query": expr, "time": at_s})

    def query_range(self, expr: str, start_s: float, end_s: float, step_s: float) -> list[dict[str, Any]]:
        return self._ask("query_range", {"query": expr, "start": start_s, "end": end_s, "step": step_s})

    def _ask(self, path: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                body = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters['query']}: {error.read().decode()}") from None
        assert body["status"] == "success", body
        found: list[dict[str, Any]] = body["data"]["result"]
        return found


@contextmanager
def serving(openmetrics: str, folder: Path) -> Iterator[Prometheus]:
    """A server whose database holds `openmetrics` (with timestamps)."""
    binary, tool = require("prometheus", _PACKAGE), promtool()
    data, config, page = folder / "data", folder / "prometheus.yml", folder / "page.om"
    page.write_text(openmetrics, encoding="utf-8")
    config.write_text("global: {scrape_interval: 1h}\n", encoding="utf-8")
    command = [tool, "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(page), str(data)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert made.returncode == 0, made.stderr
    port = _free_port()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                binary, f"--config.file={config}", f"--storage.tsdb.path={data}",
                f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn", "--storage.tsdb.retention.time=10y",
            ],
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        _wait(f"http://127.0.0.1:{port}/-/ready", process, folder / "log")
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    ends_at = time.monotonic() + 120
    while time.monotonic() < ends_at:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=20):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"prometheus is not ready after 30 s: {log.read_text()}")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
