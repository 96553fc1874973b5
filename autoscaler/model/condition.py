"""Something that is wrong and lasts. What each one means and what to do: autoscaler/conditions.py."""

from __future__ import annotations

from dataclasses import dataclass

from policies.base import DeploymentKey


@dataclass(frozen=True, slots=True)
class Condition:
    """`name` is one of autoscaler.conditions.KINDS; `deployment` None: of the controller as a whole.

    `since_s`: seconds since the epoch when it was first seen, which is earlier than when it was first told.
    """

    name: str
    deployment: DeploymentKey | None
    since_s: float
    why: str
