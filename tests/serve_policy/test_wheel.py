"""What the wheel holds at its top: three packages and the one module for Ray's image."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import setuptools

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "leadtime_serve_policy.py"


def test_setuptools_is_told_of_the_packages_and_the_module_and_nothing_else() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = setuptools.find_packages(str(ROOT), include=told["packages"]["find"]["include"])
    assert {name.split(".")[0] for name in found} == {"autoscaler", "policies", "simulator", "leadtime"}
    assert told["py-modules"] == ["leadtime_serve_policy"]


@pytest.mark.skipif(int(setuptools.__version__.split(".")[0]) < 77, reason="setuptools 77 or newer builds it")
def test_the_wheel_holds_the_packages_and_the_module_and_nothing_else(tmp_path: Path) -> None:
    """Built with what is installed here: nothing is fetched."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and path.suffix != ".egg-info" and path.name not in ("build", "dist"):
            (tree / path.name).symlink_to(path)
    script = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {top for name in names if not (top := name.split("/")[0]).endswith(".dist-info")}
    assert tops == {"autoscaler", "policies", "simulator", "leadtime", "leadtime_serve_policy.py"}


def test_the_module_imports_the_standard_library_only() -> None:
    tree = ast.parse(MODULE.read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names} | {
        node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    }
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names


def test_the_module_can_be_read_by_the_oldest_python_that_ray_runs_on() -> None:
    ast.parse(MODULE.read_text(encoding="utf-8"), feature_version=(3, 10))
