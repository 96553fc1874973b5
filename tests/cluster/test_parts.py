"""How parts are had: a key of what they are made from, one line for what is missing. Nothing is built here."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import parts
from tests.cluster.parts.__main__ import CANNOT, CannotBuild, Deadline, _why

REFUSED = """\
go: downloading k8s.io/endpointslice v0.37.2
../../go/pkg/mod/k8s.io/kubernetes@v1.37.2/pkg/x.go:20:2: k8s.io/endpointslice@v0.37.2: reading \
https://proxy.example/k8s.io/endpointslice/@v/v0.37.2.zip: 403 Forbidden
"""


def build(home: Path, path: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": path, "LEADTIME_PARTS": str(home)}
    for tool in parts.TOOLS:
        file = home / parts.where(tool).relative_to(parts.cache())
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    command = [sys.executable, "-m", "tests.cluster.parts"]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2]
    )


def test_without_go_one_line_a_part_says_what_is_missing(tmp_path: Path) -> None:
    done = build(tmp_path, "/nowhere")

    assert done.returncode == CANNOT
    assert done.stderr == ""
    assert "etcd: no Go is here: put `go`, 1.26 or newer, on the path" in done.stdout.splitlines()


def test_a_module_that_is_not_served_is_named() -> None:
    failure = _why("kube-apiserver", REFUSED)
    said = str(failure)

    assert isinstance(failure, CannotBuild)
    assert said.startswith("kube-apiserver: the module k8s.io/endpointslice@v0.37.2 was refused: ")
    assert said.endswith("403 Forbidden")


@pytest.mark.parametrize(
    ("said", "lacking"),
    [
        ("go: go.mod requires go >= 1.26 (running go 1.19.8; GOTOOLCHAIN=local)", True),
        ("go: download go1.26 for linux/amd64: toolchain not available", True),
        ('Get "https://proxy.example/x": dial tcp: lookup proxy.example: no such host', True),
        ("x.go:20:2: module lookup disabled by GOPROXY=off", True),
        ("k8s.io/kubernetes/pkg/x: /usr/local/go/pkg/tool/compile: signal: killed", True),
        ("go: k8s.io/api@v0.37.2: missing go.sum entry for go.mod file", False),
        ("verifying k8s.io/api@v0.37.2: checksum mismatch", False),
        ("go: updates to go.mod needed", False),
        ("pkg/x.go:7:2: undefined: y", False),
    ],
)
def test_what_the_machine_lacks_is_told_from_what_the_build_gets_wrong(said: str, lacking: bool) -> None:
    failure = _why("kube-apiserver", f"go: downloading a v1\n{said}\n")

    assert said in str(failure) or isinstance(failure, CannotBuild)
    assert isinstance(failure, CannotBuild) == lacking


def test_a_build_ends_with_the_time_that_it_is_given() -> None:
    with pytest.raises(CannotBuild, match="not done within 0 s"):
        Deadline(0.0).run(["sh", "-c", "sleep 600; true"])


def test_a_part_lies_under_a_key_of_what_it_is_made_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = parts.MODULES[0]
    other = dataclasses.replace(module, ldflags="-s")

    monkeypatch.setenv("LEADTIME_PARTS", str(tmp_path))
    assert parts.where("etcd") == tmp_path / module.key / "bin" / "etcd"
    assert other.key != module.key


def test_a_missing_part_is_a_skip_with_its_name_and_a_failure_where_it_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEADTIME_PARTS", str(tmp_path))
    for required, raised in (("0", pytest.skip.Exception), ("1", pytest.fail.Exception)):
        monkeypatch.setenv("LEADTIME_REQUIRE_REAL", required)
        with pytest.raises(raised, match="etcd is not here"):
            parts.require("etcd")


def test_every_module_is_pinned_by_its_sums() -> None:
    for module in parts.MODULES:
        assert (module.folder / "go.sum").stat().st_size > 0
        assert "require" in (module.folder / "go.mod").read_text()
