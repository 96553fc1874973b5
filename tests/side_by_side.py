"""All tests but those of a cluster, two processes at a time: those with a real local Ray, and the others room by room.

    python -m tests.side_by_side [PYTEST OPTIONS]

A room is a folder of tests, run by a pytest of its own; two cores are enough. Only one real Ray runs at a time, and it
comes first: its tests mostly wait. What a room says is printed when it has ended. The exit status is 0 when all are
green, else that of the first that is not.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).parent
LONG = ("chart", "policies/forecasting", "faults", "benchmarks", "kube", "prometheus")
"""Rooms of minutes: they come first, so that both processes end at about the same time."""
NOTHING_SELECTED = 5
"""pytest's status where the marks leave no test, as in the room that has tests with Ray only."""


def rooms() -> dict[str, list[str]]:
    """The test files of each folder up to two below tests/, by its name; long ones and those with most text first."""
    files: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(TESTS.rglob("test_*.py")):
        files["/".join(file.relative_to(TESTS).parts[:-1][:2])].append(file)
    order = sorted(files, key=lambda name: (name not in LONG, -sum(file.stat().st_size for file in files[name])))
    return {name or "tests": [str(file) for file in files[name]] for name in order}


def main(options: list[str]) -> int:
    """Run all rooms and print each; pytest's status."""
    pytest = [sys.executable, "-m", "pytest", *options]
    waiting: queue.SimpleQueue[tuple[str, list[str]]] = queue.SimpleQueue()
    waiting.put(("with a real local Ray", [*pytest, "-m", "ray and not cluster", str(TESTS)]))
    for name, files in rooms().items():
        waiting.put((name, [*pytest, "-m", "not ray and not cluster", *files]))
    ended: list[int] = []
    printing = threading.Lock()

    def work() -> None:
        while True:
            try:
                name, command = waiting.get_nowait()
            except queue.Empty:
                return
            began_s = time.monotonic()
            room = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            with printing:
                print(f"== {name} ({time.monotonic() - began_s:.0f} s)", flush=True)
                print(room.stdout, flush=True)
                ended.append(room.returncode)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            worker.join()
    except KeyboardInterrupt:  # the rooms that run get it as well
        waiting = queue.SimpleQueue()
        raise
    if set(ended) == {NOTHING_SELECTED}:
        return NOTHING_SELECTED
    return next((status for status in ended if status not in (0, NOTHING_SELECTED)), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
