"""Reads journals for commands: a file, or a controller's folder, oldest record first. Not for what records mean."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoscaler.errors import JournalError


@dataclass(frozen=True, slots=True)
class JournalLine:
    """One record and where it stands: `FILE:LINE`."""

    where: str
    record: Mapping[str, Any]


def read_journal(path: Path) -> Iterator[JournalLine]:
    """Every record, one at a time. A last line that a killed writer left unfinished is passed over.

    Errors: JournalError naming the file and line.
    """
    for file in journal_files(path):
        with file.open("rb") as lines:
            for i, raw in enumerate(lines, start=1):
                where = f"{file}:{i}"
                try:
                    record = json.loads(raw)
                except (ValueError, RecursionError):
                    if not raw.endswith(b"\n"):
                        break  # its writer was killed in the middle of a line
                    raise JournalError(f"{where}: not a journal line; allowed: one JSON object") from None
                if not isinstance(record, dict):
                    raise JournalError(f"{where}: not a journal line; allowed: one JSON object")
                yield JournalLine(where, record)


def journal_files(path: Path) -> list[Path]:
    """The files of a journal, oldest first. Errors: JournalError."""
    if not path.exists():
        raise JournalError(f"{path}: no such journal; allowed: a journal file, or the folder that journal.path names")
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.jsonl"))
    if not files:
        raise JournalError(f"{path}: no journal in this folder (no *.jsonl)")
    return files
