"""The controller is killed and comes back."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simulator.faults.base import Fault, Restart


class ControllerRestart(Fault):
    """What it does without its memory is control/loop.py's."""

    kind: Literal["controller_restart"]
    duration_s: float = Field(default=10.0, gt=0, description="Nobody decides for so long.")
    state: Literal["saved", "lost"] = Field(default="saved", description="Whether its state file is still there.")

    def restart(self) -> Restart:
        return Restart(self.at_s, self.duration_s, self.state == "saved")
