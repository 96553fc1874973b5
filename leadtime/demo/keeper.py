"""Starts a command and outlives whoever asked for it by just long enough to end everything that the command started.

Run as a program: `python -m leadtime.demo.keeper FOLDER COMMAND...`. It holds one end of a pipe (its standard input):
when the other end closes, because its owner said so or died in whatever way, it ends all processes below itself,
removes FOLDER and exits. Standard library only, so that it is up at once. For nothing but the demo's local Ray.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from leadtime.demo import processes

_SUBREAPER = 36
"""prctl's PR_SET_CHILD_SUBREAPER: whoever loses its parent below us becomes our child, and stays within reach."""
_LOOK_EVERY_S = 0.2


def main(words: list[str]) -> int:
    """Exit code: the command's, or 0 when the owner closed the pipe."""
    folder, command = Path(words[0]), words[1:]
    for kind in (signal.SIGINT, signal.SIGHUP):
        signal.signal(kind, signal.SIG_IGN)  # the owner gets these too, and decides
    signal.signal(signal.SIGTERM, lambda *_: os._exit(_finish(folder)))
    _adopt_orphans()
    with (folder / "start.log").open("wb") as log:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=folder, restore_signals=True
        )
    code = _wait(child)
    _finish(folder, keep=code != 0)
    return code


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Until the pipe closes (0) or the command ends (its code)."""
    with selectors.DefaultSelector() as watched:
        watched.register(sys.stdin, selectors.EVENT_READ)
        while child.poll() is None:
            if watched.select(_LOOK_EVERY_S) and not os.read(sys.stdin.fileno(), 1024):
                return 0
    return child.returncode or 0


def _finish(folder: Path, keep: bool = False) -> int:
    ended = processes.end(lambda: processes.below(os.getpid()), reap=_reap)
    if not keep:  # the owner wants to read the log of a command that failed
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if ended else 1


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _adopt_orphans() -> None:
    with contextlib.suppress(OSError, AttributeError):  # Linux only; elsewhere the tree below us has to do
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
