"""Nodes that come and go in `leadtime demo --nodes`: how many, how large, how slow, and Ray's settings for them.

The provider that makes them for Ray's autoscaler is `ray_nodes`.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_PROVIDER = "leadtime_demo_nodes"
"""What the copy of `ray_nodes` is imported as by Ray's monitor."""
POOL = "gpu"
"""Ray's node type, and the pool of the controller's settings."""
HEAD_ADDRESS = "127.0.1.1"
"""Of the head: Ray turns 127.0.0.1 into the machine's own address as soon as there may be other nodes."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """The pool of the demo."""

    gpus_per_node: int = 4
    most: int = 2
    provision_s: float = 8.0
    """Until a node's raylet is started: what a machine takes to be made."""
    raylet_s: float = 10.0
    """What the raylet then takes to join, as seen on two cores; a prior and the simulator's figure."""
    idle_timeout_s: float = 6.0
    """A node without a replica goes after this (Ray's own autoscaler does it)."""


def prepare(folder: Path, gcs: str, nodes: Nodes, python_path: str | None) -> tuple[Path, dict[str, str]]:
    """Write Ray's settings and the provider below `folder`; the file for `--autoscaling-config`, and what to add to
    the environment of `ray start`. `gcs` is the head's address, `python_path` the PYTHONPATH so far."""
    settings, modules = folder / "cluster.yaml", folder / "modules"
    settings.write_text(cluster_config(gcs, folder, nodes), encoding="utf-8")
    modules.mkdir()  # with nothing else in it: Ray imports from there
    shutil.copyfile(Path(__file__).with_name("ray_nodes.py"), modules / f"{_PROVIDER}.py")
    return settings, {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(modules), python_path])),
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_enable_autoscaler_v2": "0",  # version 2 knows no external provider
        # Else Ray refuses to have more than one node.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
    }


def cluster_config(gcs: str, folder: Path, nodes: Nodes) -> str:
    """What `ray start --autoscaling-config` takes; the many empty keys are what `ray up` would fill in."""
    empty: dict[str, Any] = {name: [] for name in _EMPTY_LISTS} | {"auth": {}, "file_mounts": {}}
    document = empty | {
        "cluster_name": "demo",
        "max_workers": nodes.most,
        "upscaling_speed": 100,
        "idle_timeout_minutes": nodes.idle_timeout_s / 60.0,
        "file_mounts_sync_continuously": False,
        "provider": {
            "type": "external",
            "module": f"{_PROVIDER}.LoopbackNodes",
            "head": gcs.rpartition(":")[0],
            "gcs": gcs,
            "folder": str(folder),
            "provision_s": nodes.provision_s,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "foreground_node_launch": True,
        },
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 2}, "node_config": {}, "min_workers": 0, "max_workers": 0},
            POOL: {
                "resources": {"CPU": 1, "GPU": nodes.gpus_per_node},
                "node_config": {},
                "min_workers": 0,
                "max_workers": nodes.most,
            },
        },
    }
    return yaml.safe_dump(document)


_EMPTY_LISTS = (
    "cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands", "setup_commands",
    "head_setup_commands", "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands",
)  # fmt: skip
