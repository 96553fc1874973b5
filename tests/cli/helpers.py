"""Run `leadtime` in a test: in this process (quick), or as a program of its own (exit codes, pipes, imports)."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from autoscaler.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command left: its exit code and what it wrote."""

    code: int
    out: str
    err: str


def leadtime(*words: str) -> Ran:
    """`leadtime WORDS...` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(words))
    return Ran(code, out.getvalue(), err.getvalue())


def leadtime_process(
    *words: str, cwd: Path | None = None, env: dict[str, str] | None = None, timeout_s: float = 300
) -> Ran:
    """`leadtime WORDS...` as a program of its own."""
    return process([sys.executable, "-m", "autoscaler.cli.main", *words], cwd, env, timeout_s)


def python(code: str, timeout_s: float = 300) -> Ran:
    """A few lines of Python in an interpreter of their own."""
    return process([sys.executable, "-c", code], None, None, timeout_s)


def process(
    words: Sequence[str], cwd: Path | None = None, env: dict[str, str] | None = None, timeout_s: float = 300
) -> Ran:
    """Any program, with this checkout importable."""
    environment = {k: v for k, v in os.environ.items() if k != "LEADTIME_DEBUG"}
    environment |= {"PYTHONPATH": str(ROOT), **(env or {})}
    ran = subprocess.run(
        words, cwd=cwd or ROOT, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)
