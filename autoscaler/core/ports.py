"""The two ports through which the runtime and the simulator meet the world; adapters: sources/ and actuators/."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from autoscaler.core.types import Outcome, Plan


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source gave: `data` is the source's own noun, None with a reason when it could not be read."""

    source: str
    up: bool
    as_of_s: float | None
    data: Any = None
    why: str = ""


class Source(Protocol):
    """Reads one thing; never raises through the loop, never invents a value: a failure is a Reading with up=False."""

    name: str

    async def read(self, now_s: float) -> Reading: ...


class Actuator(Protocol):
    """Applies levels, not deltas: idempotent, safe to repeat and to be late. Failures are outcomes, not exceptions."""

    name: str

    async def apply(self, plan: Plan, now_s: float) -> Outcome: ...

    async def close(self) -> None: ...


class Prewarm(Actuator, Protocol):
    """An actuator that holds capacity, and can give all of it back: at the end of a run, and before an uninstall."""

    async def release(self, now_s: float) -> Outcome: ...
