"""Runs on a Ray cluster that is there already: leadtime must be installed on its nodes, in this version.

A task whose worker dies is run again by Ray; where Ray gives up, or a node is lost, it is handed in again here. Nothing
is started and nothing is stopped but our own tasks. The one file of the simulator that knows ray.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any, TypeVar

from autoscaler.common.errors import LeadtimeError
from autoscaler.common.extras import missing

Task = TypeVar("Task")
Answer = TypeVar("Answer")

_RETRIES = 5
"""Of Ray's own, for each time that a task is handed in."""
_HANDED_IN = 3
_IN_FLIGHT_PER_CPU = 2
_CONNECT_S = 5.0


@contextmanager
def ray_workers(address: str) -> Iterator[RayWorkers]:
    """Connect (`auto`, HOST:PORT of a cluster's head, or ray://HOST:PORT), and disconnect. Errors: LeadtimeError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    options: dict[str, Any] = {}
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), _CONNECT_S).close()  # ray itself would try for five minutes
        except OSError as error:
            raise LeadtimeError(f"--ray {address}: no Ray cluster answers there: {error}") from error
        if host in ("127.0.0.1", "localhost") and not address.startswith("ray://"):
            # Ray's own switch for a cluster that lives on the loopback; read when ray is imported.
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
            options["_node_ip_address"] = "127.0.0.1"
    try:
        import ray
    except ImportError as error:
        raise LeadtimeError(f"--ray: {missing('ray', error)}") from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False, **options)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        said = str(error).strip().splitlines()
        raise LeadtimeError(f"--ray {address}: no Ray cluster answers there: {said[0] if said else error}") from error
    try:
        with redirect_stdout(sys.stderr):  # where Ray's threads tell of lost workers; stdout is the command's own
            yield RayWorkers(ray)
    finally:
        ray.shutdown()


class RayWorkers:
    """One task per CPU of the cluster; `count` is how many it has."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self.count = max(1, int(ray.cluster_resources().get("CPU", 1)))

    def each(self, function: Callable[[Task], Answer], tasks: Sequence[Task]) -> Iterator[tuple[int, Answer]]:
        """As `Workers.each`. Errors: the function's own, LeadtimeError for a task that kills whatever runs it."""
        ray = self._ray
        remote = ray.remote(num_cpus=1, max_retries=_RETRIES)(function)
        waiting = list(range(len(tasks)))[::-1]
        under_way: dict[Any, int] = {}
        lost = dict.fromkeys(range(len(tasks)), 0)
        while waiting or under_way:
            while waiting and len(under_way) < _IN_FLIGHT_PER_CPU * self.count:
                i = waiting.pop()
                under_way[remote.remote(tasks[i])] = i
            done, _ = ray.wait(list(under_way), num_returns=1)
            i = under_way.pop(done[0])
            try:
                answer = ray.get(done[0])
            except ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, Exception) else error) from None
            except ray.exceptions.RayError as error:
                lost[i] += 1
                if lost[i] >= _HANDED_IN:
                    said = str(error).strip().splitlines()[0]
                    raise LeadtimeError(
                        f"a run was lost {lost[i]} times with the worker that made it: {said}"
                    ) from None
                waiting.append(i)
                continue
            yield i, answer
