"""The Dockerfile, as far as it can be judged without an engine that builds images: none is here, so it is unbuilt."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.chart.chart import ROOT, one, render

TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def instructions() -> list[tuple[str, str]]:
    """(NAME, arguments) of each, continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", "\n".join(line for line in TEXT.splitlines() if not line.startswith("#")))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]  # type: ignore[misc]


def arguments(name: str) -> list[str]:
    return [text for instruction, text in instructions() if instruction == name]


def test_hadolint_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [str(linter), "-f", "json", str(ROOT / "Dockerfile")], capture_output=True, text=True, timeout=120, check=False
    )
    assert json.loads(done.stdout or "[]") == []
    assert done.returncode == 0, done.stderr


def test_it_is_built_in_one_stage_and_run_from_another_without_tools() -> None:
    assert len(arguments("FROM")) == 2
    final = TEXT[TEXT.rindex("FROM ") :]
    assert "RUN" not in final
    assert "pip uninstall" in TEXT


def test_the_base_is_pinned_and_can_be_pinned_by_digest() -> None:
    (base,) = arguments("ARG")
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+\.\d+-slim-\w+", base)
    assert all(image.startswith("${PYTHON_IMAGE}") for image in arguments("FROM"))


def test_it_runs_as_the_numeric_user_of_the_chart() -> None:
    pod = one(render(), "Deployment")["spec"]["template"]["spec"]["securityContext"]
    assert arguments("USER") == [f"{pod['runAsUser']}:{pod['runAsGroup']}"]


def test_its_entry_point_is_the_console_script_and_takes_the_charts_arguments() -> None:
    (entry,) = [json.loads(text) for text in arguments("ENTRYPOINT")]
    assert entry[0] in PROJECT["project"]["scripts"]
    (container,) = one(render(), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert "command" not in container
    assert container["args"][0] == "run"


def test_what_it_copies_is_there_and_not_ignored_and_is_what_the_wheel_holds() -> None:
    sources = {
        word.rstrip("/") for text in arguments("COPY") if "--from" not in text for word in text.split()[:-1]
    }  # fmt: skip
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored or f"!{source}/" in ignored, source
    packages = {pattern.rstrip("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    modules = set(PROJECT["tool"]["setuptools"].get("py-modules", ()))
    on_a_laptop_only = {"leadtime"}
    assert packages - on_a_laptop_only | {f"{module}.py" for module in modules} <= sources


LOCKS = sorted(path.name for path in ROOT.glob("requirements-*.lock"))


def locked(name: str) -> dict[str, str]:
    """Version of each package of a lock file; a package without a hash is not there."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    return {
        found[1].lower().replace("_", "-"): found[2]
        for line in text.splitlines()
        if (found := re.match(r"([\w.-]+)==(\S+)(?: +;[^\\]*?)?(?: +--hash=sha256:[0-9a-f]{64})+ *$", line))
    }


def constrained() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {name.lower().replace("_", "-"): version for name, _, version in (line.partition("==") for line in lines)}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_pinned_packages_with_hashes_and_names_no_index(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    entries = [line for line in text.splitlines() if line and not line.startswith(("#", " "))]
    assert len(locked(name)) == len(entries) > 0
    assert not re.search(r"https?:|--(extra-)?index|--find-links|--trusted|file://", text)
    assert "make lock" in text


@pytest.mark.parametrize("name", [name for name in LOCKS if name != "requirements-build.lock"])
def test_a_lock_agrees_with_the_constraints(name: str) -> None:
    known = constrained()
    assert {
        package: version for package, version in locked(name).items() if known.get(package, version) != version
    } == {}


def test_the_image_is_installed_from_its_lock_with_hashes_and_lacks_nothing_it_declares() -> None:
    (run,) = arguments("RUN")
    installs = [part for part in run.split("&&") if "pip install" in part or "pip wheel" in part]
    assert all("--require-hashes" in part or "--no-index" in part for part in installs), installs
    known = PROJECT["project"]["optional-dependencies"]
    extras = re.search(r"^IMAGE_EXTRAS := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert extras is not None
    wanted = [*PROJECT["project"]["dependencies"], *(d for extra in extras[1].split() for d in known[extra])]
    have = locked("requirements-image.lock")
    for requirement in wanted:
        assert re.split(r"[\[=<>! ]", requirement)[0].lower().replace("_", "-") in have, requirement


def test_the_build_backend_is_pinned_and_is_the_locked_one() -> None:
    (backend,) = PROJECT["build-system"]["requires"]
    assert backend == f"setuptools=={locked('requirements-build.lock')['setuptools']}"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become another user")
def test_the_program_runs_as_that_user_without_a_home_and_in_a_folder_that_it_cannot_write() -> None:
    """The first call, as root, loads the modules: this machine's interpreter may belong to root alone."""
    program = (
        "import contextlib, io, os, sys; from autoscaler.cli.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()): main(['config', 'example'])\n"
        "os.setgroups([]); os.setgid(65532); os.setuid(65532)\n"
        "sys.exit(main(['config', 'example']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd="/", env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# Settings of the leadtime controller")


def test_the_demo_is_not_in_it() -> None:
    copied = " ".join(arguments("COPY"))
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    assert " leadtime/" not in copied
    assert "!leadtime/" not in ignored
