"""Nodes for Ray's own autoscaler on this machine: raylets on loopback addresses, with GPUs that are only a number.

Ray's monitor imports it (provider type `external`); it starts `ray start` processes and ends them. A node takes
`provision_s` to begin, like a machine that is being made. Not for anything but tests.
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
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

_START = 'sleep "$1"; shift; exec "$@"'


def cluster_config(gcs_port: int, folder: Path, gpus_per_node: int, max_nodes: int, provision_s: float) -> str:
    """What `ray start --autoscaling-config` takes; the many empty keys are what `ray up` would fill in."""
    return f"""\
cluster_name: local
max_workers: {max_nodes}
upscaling_speed: 100
idle_timeout_minutes: 0.1
provider:
  type: external
  module: local_nodes.LocalNodes
  gcs: "127.0.0.1:{gcs_port}"
  folder: "{folder}"
  provision_s: {provision_s:g}
  disable_node_updaters: true
  disable_launch_config_check: true
  foreground_node_launch: true
auth: {{}}
file_mounts: {{}}
cluster_synced_files: []
file_mounts_sync_continuously: false
rsync_exclude: []
rsync_filter: []
initialization_commands: []
setup_commands: []
head_setup_commands: []
worker_setup_commands: []
head_start_ray_commands: []
worker_start_ray_commands: []
head_node_type: head
available_node_types:
  head: {{resources: {{CPU: 4}}, node_config: {{}}, min_workers: 0, max_workers: 0}}
  gpu: {{resources: {{CPU: 4, GPU: {gpus_per_node}}}, node_config: {{}}, min_workers: 0, max_workers: {max_nodes}}}
"""


class LocalNodes(NodeProvider):  # type: ignore[misc]
    """`provider_config`: gcs, folder (of the nodes' output), provision_s."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._lock = threading.RLock()
        self._last = 1
        head = {
            TAG_RAY_NODE_KIND: NODE_KIND_HEAD,
            TAG_RAY_USER_NODE_TYPE: "head",
            TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE,
        }
        self._tags: dict[str, dict[str, str]] = {"127.0.0.1": head}
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
                    TAG_RAY_NODE_KIND: NODE_KIND_WORKER, **tags, TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE,
                }  # fmt: skip

    def _started(self, name: str, resources: dict[str, float]) -> subprocess.Popen[bytes]:
        ray = str(Path(sys.executable).with_name("ray"))
        command = [
            "sh", "-c", _START, "sh", str(self.provider_config["provision_s"]), ray, "start", "--block",
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
