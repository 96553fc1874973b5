"""The controller cannot read a source."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simulator.faults.base import LastingFault


class SourceDown(LastingFault):
    """What the controller still knows of the source meanwhile is control/observation.py's."""

    kind: Literal["source_down"]
    source: Literal["ray_dashboard", "node_metrics", "kubernetes"] = Field(description="What cannot be read.")

    def source_trouble(self, source: str, now_s: float) -> str:
        return "no answer (a fault of the scenario)" if source == self.source and self.lasts(now_s) else ""
