"""Where independent runs are done: in this process, in processes of this machine, or on a Ray cluster (ray_workers.py).

A worker is given a function of a module and one argument, both of which can be pickled, and gives back an answer. Not
for deciding what to run.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Protocol, TypeVar

from autoscaler.common.errors import LeadtimeError

Task = TypeVar("Task")
Answer = TypeVar("Answer")


class Workers(Protocol):
    """`count` runs are made at the same time."""

    count: int

    def each(self, function: Callable[[Task], Answer], tasks: Sequence[Task]) -> Iterator[tuple[int, Answer]]:
        """(index of the task, its answer), whatever is done first. Errors: what the function raises ends all."""
        ...


@contextmanager
def workers(jobs: int, ray_address: str | None = None) -> Iterator[Workers]:
    """`jobs` processes (0 = one per core), or the Ray cluster at an address. Errors: LeadtimeError from Ray."""
    if ray_address is not None:
        from simulator.experiments.parallel.ray_workers import ray_workers

        with ray_workers(ray_address) as remote:
            yield remote
        return
    count = jobs or os.cpu_count() or 1
    if count == 1:
        yield InProcess()
        return
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        count, mp_context=multiprocessing.get_context("spawn"), initializer=_leave_interrupts_to_the_caller
    )
    try:
        yield Processes(pool, count)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()  # else the end of this process waits for runs that are no longer needed
        raise
    pool.shutdown()


def _leave_interrupts_to_the_caller() -> None:
    """Ctrl-C reaches every process of a terminal; one of them has something to say about it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class InProcess:
    """One after the other, here."""

    count = 1

    def each(self, function: Callable[[Task], Answer], tasks: Sequence[Task]) -> Iterator[tuple[int, Answer]]:
        for i, task in enumerate(tasks):
            yield i, function(task)


class Processes:
    """Processes of this machine, which live as long as the pool."""

    def __init__(self, pool: ProcessPoolExecutor, count: int) -> None:
        self.count = count
        self._pool = pool

    def each(self, function: Callable[[Task], Answer], tasks: Sequence[Task]) -> Iterator[tuple[int, Answer]]:
        futures = {self._pool.submit(function, task): i for i, task in enumerate(tasks)}
        for future in as_completed(futures):
            try:
                answer = future.result()
            except BrokenProcessPool:
                raise LeadtimeError(
                    "one of the processes that make the runs was ended: by the system for want of memory (fewer at a "
                    "time, --jobs, need less), by somebody, or by a policy's own code"
                ) from None
            yield futures[future], answer
