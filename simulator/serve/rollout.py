"""How Ray Serve replaces the replicas of an old version: which stop now, how many of the new one start.

The rules of Ray 2.60's controller (`deployment_state.py`; read there, not run). Without surge old replicas stop first,
a batch at a time, and the next batch waits until the new ones run. With surge new ones start beside the old, and old
ones stop only as far as more run than are wanted. Pure; starting and stopping them is lifecycle.py's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar


class Versioned(Protocol):
    """What matters of a replica here."""

    @property
    def state(self) -> str: ...
    @property
    def version(self) -> int: ...


R = TypeVar("R", bound=Versioned)


@dataclass(frozen=True, slots=True)
class Update:
    """A new configuration of a deployment: its num_replicas, and how its replicas are replaced."""

    replicas: int
    new_image: bool = False
    rolling_update_fraction: float = 0.2
    max_surge_fraction: float = 0.0

    def batch(self, target: int) -> int:
        """Replicas that may be in transition at once."""
        return max(int(self.rolling_update_fraction * target), 1)


def outdated(replicas: Sequence[R], version: int) -> list[R]:
    """STARTING and RUNNING replicas of another version; STARTING ones first, else in Serve's order."""
    old = [r for r in replicas if r.version != version and r.state in ("STARTING", "RUNNING")]
    return sorted(old, key=lambda r: r.state != "STARTING")


def stopping_first(replicas: Sequence[R], version: int, target: int, update: Update) -> list[R]:
    """Without surge: the old replicas to stop now. What is missing then starts as in any scale-up."""
    old = outdated(replicas, version)
    still_stopping = sum(r.version != version and r.state == "STOPPING" for r in replicas)
    if target == 0 or target < len(old) + still_stopping:
        return []  # Serve lets a scale-down end before it updates
    running = sum(r.version == version and r.state == "RUNNING" for r in replicas)
    in_transition = target - running - len(old)
    return old[: max(update.batch(target) - in_transition, 0)]


def surging(replicas: Sequence[R], version: int, target: int, update: Update) -> tuple[list[R], int]:
    """With surge: the old replicas to stop now, and how many new ones to start."""
    old = outdated(replicas, version)
    new = sum(r.version == version and r.state in ("STARTING", "RUNNING") for r in replicas)
    room = math.ceil(update.max_surge_fraction * target - 1e-9) + target - len(old) - new
    start = max(0, min(target - new, room))
    surplus = max(sum(r.state == "RUNNING" for r in replicas) - target, 0)
    stop: list[R] = []
    for replica in old:
        runs = replica.state == "RUNNING"
        if len(stop) < update.batch(target) and runs <= surplus:
            stop.append(replica)
            surplus -= runs
    return stop, start
