"""Nodes for Ray's own autoscaler on this machine: raylets on loopback addresses, with GPUs that are only a number.

Ray's monitor imports it (provider type `external`); it starts `ray start` processes and ends them. A node takes
`provision_s` to begin, like a machine that is being made. Not for the demo's own process, which imports no ray: the
file is copied to where the monitor finds it, and imports nothing of ours (the monitor runs in a folder of Ray's that
has another `autoscaler`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    NODE_KIND_WORKER,
    STATUS_SETTING_UP,
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

_START = 'sleep "$1"; shift; exec "$@"'


class LoopbackNodes(NodeProvider):
    """`provider_config`: gcs and head (addresses), folder (of the nodes' output), provision_s."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._lock = threading.RLock()
        self._last = 1
        head = {
            TAG_RAY_NODE_KIND: NODE_KIND_HEAD,
            TAG_RAY_USER_NODE_TYPE: "head",
            TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE,
        }
        self._tags: dict[str, dict[str, str]] = {provider_config["head"]: head}
        """By address, which is a node's name too."""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        with self._lock:
            for name, process in list(self._processes.items()):
                if process.poll() is not None:
                    del self._processes[name], self._tags[name]
            return [n for n, tags in self._tags.items() if all(tags.get(k) == v for k, v in tag_filters.items())]

    def is_running(self, node_id: str) -> bool:
        return node_id in self._tags

    def is_terminated(self, node_id: str) -> bool:
        return node_id not in self._tags

    def node_tags(self, node_id: str) -> dict[str, str]:
        with self._lock:
            return dict(self._tags[node_id])

    def set_node_tags(self, node_id: str, tags: dict[str, str]) -> None:
        with self._lock:
            if node_id in self._tags:
                self._tags[node_id].update(tags)

    def external_ip(self, node_id: str) -> str:
        return node_id

    def internal_ip(self, node_id: str) -> str:
        return node_id

    def create_node_with_resources_and_labels(
        self, node_config: Any, tags: dict[str, str], count: int, resources: dict[str, float], labels: Any
    ) -> None:
        for _ in range(count):
            with self._lock:
                self._last += 1
                name = f"127.0.0.{self._last}"
                self._processes[name] = self._started(name, resources)
                self._tags[name] = {
                    TAG_RAY_NODE_KIND: NODE_KIND_WORKER,
                    **tags,
                    TAG_RAY_NODE_STATUS: STATUS_SETTING_UP,
                }
                # Ray counts it as pending until it hears from its raylet.

    def _started(self, name: str, resources: dict[str, float]) -> subprocess.Popen[bytes]:
        command = [
            "sh", "-c", _START, "sh", str(self.provider_config["provision_s"]),
            sys.executable, "-m", "ray.scripts.scripts", "start", "--block",
            f"--address={self.provider_config['gcs']}", f"--node-ip-address={name}",
            f"--num-gpus={int(resources.get('GPU', 0))}", f"--num-cpus={int(resources.get('CPU', 1))}",
            "--object-store-memory=80000000", "--disable-usage-stats", "--include-log-monitor=false",
        ]  # fmt: skip
        with (Path(self.provider_config["folder"]) / f"node-{name}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def terminate_node(self, node_id: str) -> None:
        with self._lock:
            self._tags.pop(node_id, None)
            process = self._processes.pop(node_id, None)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        return cluster_config
