"""The real helm on the real API: the chart as a release of one namespace."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tests.chart.chart import CHART, NAME
from tests.cluster import parts
from tests.cluster.control_plane import ControlPlane


class Helm:
    """Commands as a user types them; each fails the test with what helm said when it fails."""

    def __init__(self, plane: ControlPlane, home: Path, namespace: str, name: str = NAME) -> None:
        self.namespace, self.name = namespace, name
        self._binary = parts.require("helm")
        self._home = home
        self._environment = {"HOME": str(home), "PATH": os.environ["PATH"], "KUBECONFIG": str(plane.admin)}

    def __call__(self, *words: str) -> str:
        done = self.started(*words)
        out, _ = done.communicate(timeout=300)
        assert done.returncode == 0, f"helm {' '.join(words)}\n{out}"
        return out

    def started(self, *words: str) -> subprocess.Popen[str]:
        """A command that is not waited for; its words come on stdout."""
        command = [str(self._binary), "-n", self.namespace, *words]
        return subprocess.Popen(
            command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def _values(self, values: Mapping[str, Any]) -> str:
        file = self._home / "values.yaml"
        file.write_text(yaml.safe_dump(dict(values)))
        return str(file)

    def install(self, values: Mapping[str, Any], *words: str, chart: Path = CHART) -> str:
        return self("install", self.name, str(chart), "-f", self._values(values), *words)

    def upgrade(self, values: Mapping[str, Any], *words: str) -> str:
        return self("upgrade", self.name, str(CHART), "-f", self._values(values), *words)

    def rollback(self, revision: int, *words: str) -> str:
        return self("rollback", self.name, str(revision), *words)

    def uninstall(self, *words: str) -> str:
        return self("uninstall", self.name, *words)

    def history(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = msgspec.json.decode(self("history", self.name, "-o", "json"))
        return found
