"""Progress of long commands on a terminal (stderr), unless `--quiet` says otherwise; nothing at all elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from autoscaler.cli.text import console, loudness


@contextmanager
def share_done(verb: str, what: str) -> Iterator[Callable[[float], None] | None]:
    """A bar that takes the share done (0..1); None where nobody is watching."""
    if not _is_watched():
        yield None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{verb} {what}", total=1.0)
        yield lambda share: bar.update(task, completed=share)


@contextmanager
def at_work(verb: str, what: str) -> Iterator[None]:
    """A moving bar with the time taken, for work that cannot say how much of it is done."""
    if not _is_watched():
        yield
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        bar.add_task(f"{verb} {what}", total=None)
        yield


def _is_watched() -> bool:
    return sys.stderr.isatty() and not loudness.is_quiet()
