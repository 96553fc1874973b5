"""The ports through which the runtime and the simulator meet the world; adapters: sources/ and actuators/."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from autoscaler.core.demand import TokenSums
from autoscaler.core.types import Outcome, Plan
from policies.base import DeploymentKey


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source gave: `data` is the source's own noun, None with a reason when it could not be read."""

    source: str
    up: bool
    as_of_s: float | None
    data: Any = None
    why: str = ""


class Source(Protocol):
    """Reads one thing; never raises through the loop, never invents a value: a failure is a Reading with up=False.

    A source inherits it: then what it does not say is that it has nothing to do.
    """

    name: str

    async def read(self, now_s: float) -> Reading: ...

    async def close(self) -> None:
        """At the end of a run: nothing is open."""
        return


class Actuator(Protocol):
    """Applies levels, not deltas: idempotent, safe to repeat and to be late. Failures are outcomes, not exceptions.

    An actuator inherits it: then what it does not say is that it has nothing to do.
    """

    name: str

    async def apply(self, plan: Plan, now_s: float) -> Outcome: ...

    async def release(self, now_s: float) -> Outcome:
        """At the end of a run, and before an uninstall: give back what is held only for later. Nothing is."""
        return Outcome(self.name)

    async def close(self) -> None:
        """At the end of a run: nothing is open."""
        return


class RateHistory(Protocol):
    """Where past rates and token counts come from. Errors of both: LeadtimeError."""

    async def rates(
        self, key: DeploymentKey, bin_s: float, since_s: float, until_s: float
    ) -> list[tuple[float, float]]: ...

    async def token_sums(self, key: DeploymentKey, since_s: float, until_s: float) -> TokenSums | None:
        """What the requests that finished in that time had together; None when nobody counted."""
        ...
