"""How Ray Serve replaces the replicas of an old version: which stop now, how many of the new one start.

The rules of Ray 2.60's controller (`deployment_state.py`; read there, not run). Without surge old replicas stop first,
a batch at a time, and the next batch waits until the new ones run. With surge new ones start beside the old, and old
ones stop only as far as more run than are wanted. Pure; starting and stopping them is lifecycle.py's.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from policies.base import whole_down, whole_up


class Versioned(Protocol):
    """What matters of a replica here."""

    @property
    def state(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def gang(self) -> int: ...


R = TypeVar("R", bound=Versioned)


@dataclass(frozen=True, slots=True)
class Update:
    """A new configuration of a deployment: its num_replicas, and how its replicas are replaced."""

    replicas: int
    new_image: bool = False
    rolling_update_fraction: float = 0.2
    max_surge_fraction: float = 0.0

    def batch(self, target: int, gang_size: int = 1) -> int:
        """Replicas that may be in transition at once, in whole gangs."""
        return whole_up(max(int(self.rolling_update_fraction * target), 1), gang_size)


def outdated(replicas: Sequence[R], version: int) -> list[R]:
    """STARTING and RUNNING replicas of another version; STARTING ones first, else in Serve's order."""
    old = [r for r in replicas if r.version != version and r.state in ("STARTING", "RUNNING")]
    return sorted(old, key=lambda r: r.state != "STARTING")


def first_gangs(replicas: Sequence[R], count: int, gang_size: int) -> list[R]:
    """The first `count` of them, in whole gangs: a gang is where its first member is, and no part of one is taken."""
    if gang_size == 1:
        return list(replicas[:count])
    chosen = list(dict.fromkeys(r.gang for r in replicas))[: count // gang_size]
    return [r for r in replicas if r.gang in chosen]


def stopping_first(replicas: Sequence[R], version: int, target: int, update: Update, gang_size: int = 1) -> list[R]:
    """Without surge: the old replicas to stop now. What is missing then starts as in any scale-up."""
    old = outdated(replicas, version)
    still_stopping = sum(r.version != version and r.state == "STOPPING" for r in replicas)
    if target == 0 or target < len(old) + still_stopping:
        return []  # Serve lets a scale-down end before it updates
    running = sum(r.version == version and r.state == "RUNNING" for r in replicas)
    in_transition = target - running - len(old)
    return first_gangs(old, max(update.batch(target, gang_size) - in_transition, 0), gang_size)


def surging(
    replicas: Sequence[R], version: int, target: int, update: Update, gang_size: int = 1
) -> tuple[list[R], int]:
    """With surge: the old replicas to stop now, and how many new ones to start."""
    old = outdated(replicas, version)
    new = sum(r.version == version and r.state in ("STARTING", "RUNNING") for r in replicas)
    surge = whole_up(math.ceil(update.max_surge_fraction * target - 1e-9), gang_size)
    start = whole_down(max(0, min(target - new, surge + target - len(old) - new)), gang_size)
    surplus = max(sum(r.state == "RUNNING" for r in replicas) - target, 0)
    stop: list[R] = []
    for replica in old:
        runs = replica.state == "RUNNING"
        if len(stop) < update.batch(target, gang_size) and runs <= surplus:
            stop.append(replica)
            surplus -= runs
    if gang_size > 1:
        members = Counter(r.gang for r in stop)
        stop = [r for r in stop if members[r.gang] == gang_size]
    return stop, start
