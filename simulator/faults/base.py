"""What every fault of a scenario has: when it happens, its keys, and what it may do to a run.

A method that a kind does not write says that nothing is the matter. Not for when they are asked: control/faults.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from autoscaler.settings.document.blocks import Block
from autoscaler.settings.document.problems import Complaint, did_you_mean

if TYPE_CHECKING:
    from policies.base import DeploymentKey
    from simulator.kernel.draws import Draws
    from simulator.kernel.events import EventQueue
    from simulator.serve.lifecycle import Serve

Api = Literal["serve", "kubernetes"]


@dataclass(frozen=True, slots=True)
class World:
    """What a fault may reach. `inside_serve`: Serve's own autoscaler decides, and no controller beside it."""

    queue: EventQueue
    serves: Mapping[DeploymentKey, Serve]
    inside_serve: bool


@dataclass(frozen=True, slots=True)
class Restart:
    """The controller dies at `at_s` and decides again `down_s` later, with its saved state or without."""

    at_s: float
    down_s: float
    state_kept: bool


class Fault(Block):
    """One entry of `faults`. A kind names itself: `kind: Literal["its file's name"]`."""

    at_s: float = Field(ge=0, description="When.")
    kind: str = Field(description="What happens.")

    def check(self, most_replicas: Mapping[str, int]) -> Iterator[Complaint]:
        """What types and bounds cannot say. `most_replicas`: replicas.max of every deployment, by its name."""
        yield from ()

    def happen(self, world: World, draws: Draws) -> None:
        """What it does at `at_s`. Luck comes from `draws`, a stream of its own, so that every policy meets the same."""

    def source_trouble(self, source: str, now_s: float) -> str:
        """Why the controller cannot read a source now; empty where this fault does not keep it from that."""
        return ""

    def write_trouble(self, api: Api, deployment: DeploymentKey | None, now_s: float, draws: Draws) -> str:
        """Why this write of the controller fails; empty where this fault does not keep it from that."""
        return ""

    def restart(self) -> Restart | None:
        """The death of the controller that it is, if it is one."""
        return None


class LastingFault(Fault):
    """One that is over after a while."""

    duration_s: float = Field(gt=0, description="How long it lasts.")

    def lasts(self, now_s: float) -> bool:
        return self.at_s <= now_s < self.at_s + self.duration_s


def unknown_deployment(name: str | None, most_replicas: Mapping[str, int]) -> Iterator[Complaint]:
    """For the key `deployment`: a name that the scenario does not have."""
    if name is not None and name not in most_replicas:
        nearest = did_you_mean(name, most_replicas)
        yield "deployment", f"{name!r}; allowed: {', '.join(most_replicas)}{nearest}"
