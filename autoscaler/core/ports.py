"""The ports through which the runtime and the simulator meet the world; adapters: sources/ and actuators/."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from autoscaler.core.demand import TokenSums
from autoscaler.core.types import Outcome, Plan
from policies.base import DeploymentKey


@dataclass(frozen=True, slots=True)
class Reading:
    """Result of a read: `data` is of the source's own type, None with a reason when it could not be read."""

    source: str
    up: bool
    as_of_s: float | None
    data: Any = None
    why: str = ""


class Source(Protocol):
    """Reads one thing. It never raises through the loop and never invents a value: a failure is a Reading with
    up=False.

    Sources inherit this class; methods that they do not define do nothing.
    """

    name: str

    async def read(self, now_s: float) -> Reading: ...

    async def close(self) -> None:
        """Called at the end of a run. The default has nothing to close."""
        return


class Actuator(Protocol):
    """Applies levels, not deltas: idempotent, safe to repeat and to be late. Failures are outcomes, not exceptions.

    Actuators inherit this class; methods that they do not define do nothing.
    """

    name: str

    async def apply(self, plan: Plan, now_s: float) -> Outcome: ...

    async def release(self, now_s: float) -> Outcome:
        """Called at the end of a run and before an uninstall: give back capacity that is held for later. The default
        holds none.
        """
        return Outcome(self.name)

    async def close(self) -> None:
        """Called at the end of a run. The default has nothing to close."""
        return


class RateHistory(Protocol):
    """Source of past rates and token counts. Errors of both methods: LeadtimeError."""

    async def rates(
        self, key: DeploymentKey, bin_s: float, since_s: float, until_s: float
    ) -> list[tuple[float, float]]: ...

    async def token_sums(self, key: DeploymentKey, since_s: float, until_s: float) -> TokenSums | None:
        """Token totals of the requests that finished in that time; None when they were not counted."""
        ...
