"""`leadtime demo` itself, for real but shortened: a whole run, and Ctrl-C while it starts and while traffic flows."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from autoscaler.demo import processes
from tests.cli.helpers import leadtime

SHORT = ("--seconds", "20", "--day-seconds", "20", "--start-seconds", "2", "3")


class Demo:
    """A demo as a program of its own, with its lines as they come and every process that was ever seen below it."""

    def __init__(self, out: Path, *words: str) -> None:
        self.out = out
        command = [sys.executable, "-m", "autoscaler.cli.main", "demo", "--plain", "--out", str(out), *words]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0, start_new_session=True
        )
        self.text = ""
        self.seen: dict[tuple[int, str], processes.Process] = {}

    def read_until(self, pattern: str, timeout_s: float) -> None:
        """Read lines until one matches (or, with an empty pattern, until it ends)."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as watched:
            watched.register(self.process.stdout, selectors.EVENT_READ)
            while not (pattern and re.search(pattern, self.text)):
                assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {pattern!r} in:\n{self.text}"
                self.look()
                if watched.select(0.2):
                    piece = os.read(self.process.stdout.fileno(), 65536)
                    self.text += piece.decode()
                    if not piece:
                        assert not pattern, f"it ended without {pattern!r}:\n{self.text}"
                        return

    def look(self) -> None:
        for process in processes.below(self.process.pid):
            self.seen[process.pid, process.born] = process

    def left(self) -> list[processes.Process]:
        """Those that were seen below it and still live."""
        now = processes.table()
        return [p for p in self.seen.values() if p.pid in now and now[p.pid].born == p.born and not now[p.pid].dead]

    def interrupt(self) -> int:
        self.look()
        self.process.send_signal(signal.SIGINT)
        self.read_until("", 40.0)
        return self.process.wait(40)


@contextlib.contextmanager
def demo(out: Path, *words: str) -> Iterator[Demo]:
    if find_spec("ray") is None:
        pytest.skip("ray is not installed (the extra `ray`)")
    started = Demo(out, *words)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.process.wait(30)
            started.process.kill()


@pytest.mark.ray
@pytest.mark.slow
def test_a_short_demo_runs_to_its_summary_and_leaves_no_process_and_a_journal(tmp_path: Path) -> None:
    with demo(tmp_path / "out", *SHORT) as run:
        run.read_until("", 240.0)
        assert run.process.wait(30) == 0, run.text
        assert run.left() == []
        assert re.search(r"requests +(\d+) +\1 +\1\n", run.text), run.text
        assert re.search(r"first token, p50 +\d+\.\d\d s", run.text)
        assert "replica-seconds held" in run.text
        assert re.search(r"^leadtime(:| did| lost)", run.text, re.MULTILINE)
        assert len(run.seen) > 10
        journal = tmp_path / "out" / "leadtime" / "journal"
        assert f"leadtime explain {journal}" in run.text
        explained = leadtime("explain", str(journal))
        assert explained.code == 0
        assert "demo/chat" in explained.out
        replayed = leadtime("replay", str(journal), "--strict")
        assert replayed.code == 0, replayed.out + replayed.err
        rows = (tmp_path / "out" / "requests-leadtime.csv").read_text().splitlines()
        assert sum(row.endswith(",ok") for row in rows) > 5


@pytest.mark.ray
def test_ctrl_c_while_ray_starts_leaves_no_process_and_exits_130(tmp_path: Path) -> None:
    with demo(tmp_path / "out", *SHORT) as run:
        run.read_until("a local Ray of its own", 60.0)
        while len(run.seen) < 4:  # the keeper, `ray start`, and the first that it starts
            run.look()
            time.sleep(0.05)
            assert run.process.poll() is None, run.text
        assert run.interrupt() == 130
        assert run.left() == []
        assert "no process is left behind" in run.text


@pytest.mark.ray
@pytest.mark.slow
def test_ctrl_c_while_traffic_flows_leaves_no_process_and_exits_130(tmp_path: Path) -> None:
    with demo(tmp_path / "out", "--seconds", "60", *SHORT[2:]) as run:
        run.read_until(r"so far  [1-9]\d* requests", 200.0)
        assert run.interrupt() == 130
        assert run.left() == []
        assert len(run.seen) > 10
        assert "Traceback" not in run.text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--nodes",), "--nodes: not built yet"),
        (("--seconds", "5"), "--seconds: 5; allowed: 10 to 3600"),
        (("--seconds", "nan"), "--seconds: nan; allowed"),
        (("--baseline", "none"), "--baseline"),
        (("--second", "20"), "did you mean '--seconds'"),
    ],
)
def test_what_cannot_be_played_is_refused_in_one_line(words: tuple[str, ...], said: str) -> None:
    ran = leadtime("demo", *words)
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_a_place_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = leadtime("demo", "--out", str(tmp_path / "file" / "out"))
    assert (ran.code, ran.err.count("\n")) == (2, 1)


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if name == "ray" else real(name, *a))
    ran = leadtime("demo")
    assert ran.code == 2
    assert "pip install 'leadtime[ray]'" in ran.err
