"""One process at a time in a folder of results: two would write the same studies and the same files."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autoscaler.common.errors import LeadtimeError


@contextmanager
def alone(lock: Path, command: str) -> Iterator[None]:
    """Holds the lock file; the system lets go of it whatever ends the process. Errors: LeadtimeError: it is held."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LeadtimeError(f"{lock}: another `{command}` is at work there") from None
        yield
