"""The journal on disk: JSON Lines files of bounded size, each of which can be replayed from its first line.

What the lines hold is `journal`'s business. A journal that cannot be written stops nobody: `problem` says why, and the
next tick tries again, with a new file (a file with a hole in it could not be replayed).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from autoscaler.common.errors import JournalError
from autoscaler.common.safe_files import create_private, make_private_folder, tighten

PREFIX, SUFFIX = "journal-", ".jsonl"
_FILES = 8
_LONGEST_PAUSE = 60
"""Ticks between attempts to begin a file where none can be written."""
_KINDS = ("checkpoint", "tick", "audit")
_A_JOURNAL = (
    "allowed: the JSON Lines that a controller writes (journal.path in its settings) or `leadtime simulate --out DIR` "
    "(DIR/journal.jsonl), or the folder of a controller's"
)


class JournalWriter:
    """Writes into `folder`, which never holds more than `max_bytes` of journal files (the oldest go first).

    With `max_age_s` a file goes so long after its last line was written, when a new one begins; one begins in any case
    after an eighth of that time, so that no line grows much older.

    Each tick: when `due`, take a checkpoint before the controller's step and `begin` a new file with it once the step
    worked; then `append`. None raises for a disk's sake; `problem` is "" or one line. For one thread at a time. A
    journal that failed again and again is `due` more and more rarely, since a checkpoint is work.
    """

    def __init__(self, folder: Path, max_bytes: int = 100_000_000, max_age_s: float | None = None) -> None:
        self.folder = folder
        self.problem = ""
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._began_at_s = self._now_s = 0.0
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self._size = 0
        self._rotate_at = 0
        self._failures = self._pause = 0
        """Attempts in a row that failed, and how many ticks the next one waits for."""
        self._older: list[tuple[Path, int]] = []
        """Closed files, oldest first, with their sizes."""

    @property
    def due(self) -> bool:
        """Whether the next line must go to a new file."""
        if self._file is None:
            return not self._pause
        old = self._max_age_s is not None and self._now_s - self._began_at_s >= self._max_age_s / _FILES
        return old or self._size >= self._rotate_at

    @property
    def open(self) -> bool:
        """Whether `append` has a file to write to."""
        return self._file is not None

    @property
    def checkpoint_bytes(self) -> int:
        """The longest checkpoint that leaves room for the ticks before and after it."""
        return self._max_bytes // 3

    def begin(self, now_s: float, checkpoint: bytes) -> None:
        """Start a new file with this line: the state before the step whose record is appended next."""
        self.close()
        try:
            self._start_file(now_s, checkpoint)
        except OSError as error:
            self._fail(error)
        else:
            self.problem = ""

    def append(self, line: bytes, now_s: float | None = None) -> None:
        """Add one line (with its line break) and hand it to the operating system. `now_s`: the time of it."""
        self._now_s = self._now_s if now_s is None else now_s
        if self._file is None:
            self._pause = max(0, self._pause - 1)
            return
        try:
            self._write_all(line)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
            self._fail(error)
        else:
            self._size += len(line)
            self._failures = 0
            self._prune()

    def close(self) -> None:
        """Close the current file; a later `begin` starts another."""
        if self._file is not None and self._path is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._older.append((self._path, self._size))
            self._file = None

    # ------------------------------------------------------------ files

    def _start_file(self, now_s: float, line: bytes) -> None:
        if len(line) > self.checkpoint_bytes:
            raise OSError(0, f"journal.max_bytes {self._max_bytes} is too small for a checkpoint of {len(line)} bytes")
        make_private_folder(self.folder)
        self._older = [(file, file.stat().st_size) for file in journal_files(self.folder)]
        for old, _ in self._older:
            tighten(old)
        self._drop_old(now_s)
        self._prune(len(line))
        partial = self.folder / f"{PREFIX}partial"
        file = create_private(partial)
        try:
            self._file, self._size = file, 0
            self._write_all(line)
            path = self._free_name(now_s)
            partial.rename(path)
        except BaseException:
            self._file = None
            file.close()
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
        self._path, self._size = path, len(line)
        self._began_at_s = self._now_s = now_s
        # Checkpoints should be a small part of the journal, yet a file before this one must fit.
        self._rotate_at = max(self._max_bytes // _FILES, min(4 * len(line), self._max_bytes // 2))

    def _write_all(self, line: bytes) -> None:
        assert self._file is not None
        rest = memoryview(line)
        while rest:
            rest = rest[self._file.write(rest) :]

    def _free_name(self, now_s: float) -> Path:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
        number = 1
        while (path := self.folder / f"{PREFIX}{stamp}-{number:03}{SUFFIX}").exists():
            number += 1
        return path

    def _prune(self, coming_bytes: int = 0) -> None:
        total = sum(size for _, size in self._older) + coming_bytes + (self._size if self._file else 0)
        while self._older and total > self._max_bytes:
            path, size = self._older.pop(0)
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size

    def _drop_old(self, now_s: float) -> None:
        """By the time of each file's last line, which is when the file was written last."""
        if self._max_age_s is None:
            return
        kept = []
        for path, size in self._older:
            if path.stat().st_mtime < now_s - self._max_age_s:
                os.unlink(path)
            else:
                kept.append((path, size))
        self._older = kept

    def _fail(self, error: OSError) -> None:
        self.close()
        self._failures += 1
        self._pause = min(2 ** min(self._failures, 10) - 2, _LONGEST_PAUSE)
        what = error.strerror or type(error).__name__
        self.problem = f"journal folder {self.folder}: {what[:1].lower()}{what[1:]}; decisions go on without a journal"


# ---------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a journal."""

    file: Path
    line: int
    data: dict[str, Any]


def journal_files(path: Path) -> list[Path]:
    """The journal files of a folder, oldest first."""
    return sorted(path.glob(f"{PREFIX}*{SUFFIX}"))


def read_journal(path: Path) -> Iterator[Record]:
    """The records of one file, or of all files of a folder in order.

    A file begins with a checkpoint; another one in the middle is a controller that restarted (in simulations). A last
    line without a line break was cut off by a crash and is left out. Errors: JournalError naming file and line.
    """
    files = journal_files(path) if path.is_dir() else [path]
    if not files:
        raise JournalError(f"{path}: no journal files ({PREFIX}*{SUFFIX}) in that folder; {_A_JOURNAL}")
    for file in files:
        yield from _read_file(file)


def _read_file(file: Path) -> Iterator[Record]:
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.endswith(b"\n"):
                    yield Record(file, number, _record(file, number, line))
                elif number == 1:
                    raise JournalError(
                        f"{file}: line 1: cut off: no journal, or one that was never begun; {_A_JOURNAL}"
                    )
    except OSError as error:
        raise JournalError(f"{file}: {(error.strerror or type(error).__name__).lower()}") from None
    else:
        if not file.stat().st_size:
            raise JournalError(f"{file}: empty; a journal begins with a checkpoint")


def _record(file: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        data = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_journal(file, number, "not JSON" if number == 1 else f"not JSON: {error}") from None
    kind = data.get("kind") if isinstance(data, dict) else None
    if kind not in _KINDS:
        raise _no_journal(file, number, f"kind {kind!r}; allowed: {', '.join(_KINDS)}")
    if number == 1 and kind != "checkpoint":
        raise JournalError(f"{file}: line 1: {kind!r} here; a file begins with a checkpoint")
    return dict(data)


def _no_journal(file: Path, number: int, wrong: str) -> JournalError:
    """A first line that is nothing of ours: then the file is something else."""
    if number == 1:
        return JournalError(f"{file}: no journal (line 1: {wrong}); {_A_JOURNAL}")
    return JournalError(f"{file}: line {number}: {wrong}")
