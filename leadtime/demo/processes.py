"""Trees of processes: what lives below one that we started, and how to end exactly that.

A process is named by its id and the moment it was born, so that an id that the system gave away again is never mistaken
for ours. Standard library only (the keeper starts with this).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_KILL_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Process:
    """One process: `born` is the system's own mark of its start, `dead` a zombie that nobody has waited for yet."""

    pid: int
    parent: int
    born: str
    dead: bool = False
    memory_bytes: int = 0


def table() -> dict[int, Process]:
    """Every process of this machine by its id."""
    return dict(_from_proc() if (_PROC / "self" / "stat").exists() else _from_ps())


def below(root: int, processes: dict[int, Process] | None = None) -> list[Process]:
    """The living descendants of `root`, itself not included."""
    processes = table() if processes is None else processes
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: list[Process] = []
    waiting = list(children.get(root, ()))
    while waiting:
        pid = waiting.pop()
        if not processes[pid].dead:
            found.append(processes[pid])
        waiting += children.get(pid, ())
    return found


def end(
    targets: Callable[[], Iterable[Process]], patience_s: float = 1.5, reap: Callable[[], object] = lambda: None
) -> bool:
    """SIGTERM to `targets()`, then SIGKILL to what is left; looked up again each time, for processes that start others.

    `reap` is called in between (to wait for children that died). False when something outlived even that.
    """
    for kind, limit_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, _KILL_LIMIT_S)):
        deadline = time.monotonic() + limit_s
        told: set[tuple[int, str]] = set()
        while time.monotonic() < deadline:
            reap()
            left = list(targets())
            if not left:
                return True
            for process in left:
                if (process.pid, process.born) not in told:
                    told.add((process.pid, process.born))
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(process.pid, kind)
            time.sleep(0.05)
    return False


def memory_bytes(root: int) -> int:
    """Memory that `root` and everything below it hold (proportional share where Linux tells it, else resident)."""
    processes = table()
    own = [processes[root]] if root in processes else []
    return sum(_proportional_bytes(p) for p in (*own, *below(root, processes)))


def _proportional_bytes(process: Process) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (_PROC / str(process.pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return process.memory_bytes


def _from_proc() -> Iterable[tuple[int, Process]]:
    page = os.sysconf("SC_PAGE_SIZE")
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            pid = int(entry.name)
            yield pid, Process(pid, int(fields[1]), fields[19], fields[0] in "ZX", int(fields[21]) * page)


def _from_ps() -> Iterable[tuple[int, Process]]:
    """For systems without /proc (macOS): pid, parent, state, resident kB, and the five words of its start."""
    words = ["ps", "-axo", "pid=,ppid=,stat=,rss=,lstart="]
    answer = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False)
    for line in answer.stdout.splitlines():
        parts = line.split(None, 4)
        if len(parts) == 5:
            pid = int(parts[0])
            yield pid, Process(pid, int(parts[1]), parts[4], parts[2].startswith("Z"), int(parts[3]) * 1024)
