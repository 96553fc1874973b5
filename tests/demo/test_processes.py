"""Nothing is left behind: whatever a command started ends with its owner, however the owner ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from leadtime.demo import processes

KEEPER = (sys.executable, "-m", "leadtime.demo.keeper")

DAEMON = """
import os, sys, time, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
time.sleep(600)
"""
"""Starts a daemon that has left its parent and its session, and does not care for SIGTERM."""


def wait(what: str, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def alive(pid: int) -> bool:
    found = processes.table().get(pid)
    return found is not None and not found.dead


def start_kept(folder: Path, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*KEEPER, str(folder), *command],
        stdin=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def daemon_pid(file: Path) -> int:
    wait("the daemon is up", lambda: file.exists() and file.read_text() != "")
    return int(file.read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "kept"
    made.mkdir()
    return made


needs_subreaper = pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to us")


@needs_subreaper
def test_closing_the_pipe_ends_even_a_daemon_that_left_its_parent(folder: Path, tmp_path: Path) -> None:
    owner = start_kept(folder, sys.executable, "-c", DAEMON, str(tmp_path / "pid"))
    daemon = daemon_pid(tmp_path / "pid")
    assert owner.stdin is not None
    owner.stdin.close()
    assert owner.wait(20) == 0
    assert not alive(daemon)
    assert not folder.exists()


@needs_subreaper
def test_an_owner_that_is_killed_outright_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, time;"
        "p = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True);"
        "print(p.pid, flush=True); time.sleep(600)"
    )
    kept = [*KEEPER, str(folder), sys.executable, "-c", DAEMON, str(tmp_path / "pid")]
    owner = subprocess.Popen([sys.executable, "-c", program, *kept], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    keeper_pid = int(owner.stdout.readline())
    daemon = daemon_pid(tmp_path / "pid")
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    wait("keeper and daemon are gone", lambda: not alive(keeper_pid) and not alive(daemon))


def test_a_command_that_fails_leaves_its_words_to_be_read(folder: Path) -> None:
    kept = start_kept(folder, sys.executable, "-c", "print('no such luck'); raise SystemExit(3)")
    assert kept.wait(20) == 3
    assert (folder / "start.log").read_text() == "no such luck\n"


def test_a_process_is_asked_once_before_it_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, kind: told.append((pid, kind)))
    stubborn = processes.Process(7, 1, "100")
    looks = iter([[stubborn]] * 5 + [[]])
    assert processes.end(lambda: next(looks, []), patience_s=0.12)
    assert told[0] == (7, signal.SIGTERM)
    assert told.count((7, signal.SIGTERM)) == 1
    assert told.count((7, signal.SIGKILL)) <= 1


def test_what_outlives_everything_is_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "kill", lambda pid, kind: None)
    monkeypatch.setattr(processes, "_KILL_LIMIT_S", 0.1)
    assert not processes.end(lambda: [processes.Process(7, 1, "100")], patience_s=0.1)


def test_the_tree_holds_descendants_only() -> None:
    tree = {
        p.pid: p
        for p in (
            processes.Process(1, 0, "a"), processes.Process(2, 1, "b"), processes.Process(3, 2, "c"),
            processes.Process(4, 1, "d"), processes.Process(5, 3, "e", dead=True), processes.Process(6, 5, "f"),
        )
    }  # fmt: skip
    assert {p.pid for p in processes.below(2, tree)} == {3, 6}


def test_this_process_is_in_the_table_with_its_parent() -> None:
    own = processes.table()[os.getpid()]
    assert own.parent == os.getppid()
    assert processes.memory_bytes(os.getpid()) > 1_000_000


def test_ps_and_proc_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/bin/ps").exists() and not Path("/usr/bin/ps").exists():
        pytest.skip("ps is not here: install procps")
    listed = dict(processes._from_ps())[os.getpid()]
    assert listed.parent == os.getppid()
    assert listed.memory_bytes > 1_000_000
