"""The demo's local Ray: what it is started with, and what happens when it does not start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from leadtime.demo import local_ray as room
from leadtime.demo.local_ray import DemoError, free_ports, local_ray


async def test_a_ray_that_does_not_start_is_one_line_and_leaves_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Path] = []

    def start(
        folder: Path, ports: Sequence[int], gpus: int, every_ms: int, nodes: object, cpus: int
    ) -> subprocess.Popen[bytes]:
        folders.append(folder)
        command = [sys.executable, "-c", "print('no room on this machine'); raise SystemExit(1)"]
        return subprocess.Popen(
            [sys.executable, "-m", "leadtime.demo.keeper", str(folder), *command], stdin=subprocess.PIPE
        )

    monkeypatch.setattr(room, "_start", start)
    with pytest.raises(DemoError, match="Ray did not start: no room on this machine"):
        async with local_ray(8):
            pass
    assert not folders[0].exists()


def test_what_steers_another_ray_does_not_reach_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:6379")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    monkeypatch.setenv("KEPT", "yes")
    environment = room._environment(tmp_path)
    assert "RAY_ADDRESS" not in environment
    assert "RAY_AUTH_TOKEN" not in environment
    assert environment["KEPT"] == "yes"
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert environment["HOME"] == str(tmp_path)


def test_its_folder_is_short_enough_for_rays_sockets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    folder = room._folder()
    try:
        assert len(str(folder)) <= 40
    finally:
        folder.rmdir()
    assert os.listdir(deep) == []


def test_ports_are_free_and_all_different() -> None:
    assert len(set(free_ports(8))) == 8
