"""Which versions of Ray and vLLM this version works with, in one table, and where a version lies in it.

`oldest` is the first that has what is needed; `newest` the last that was tried. Not for finding out what runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Place = Literal["too old", "known", "newer than any that was tried", "not understood"]


@dataclass(frozen=True, slots=True)
class Supported:
    """One thing beside us. Versions are compared by their first two numbers."""

    name: str
    oldest: tuple[int, int]
    newest: tuple[int, int]
    why: str
    """What the oldest one brings."""

    def place(self, version: str) -> Place:
        found = re.match(r"v?(\d+)\.(\d+)", version)
        if found is None:
            return "not understood"
        number = (int(found[1]), int(found[2]))
        if number < self.oldest:
            return "too old"
        return "known" if number <= self.newest else "newer than any that was tried"

    @property
    def span(self) -> str:
        return f"{dotted(self.oldest)} to {dotted(self.newest)}"


RAY = Supported("Ray", (2, 60), (2, 60), "the scale API that this version speaks")
VLLM = Supported("vLLM", (0, 20), (0, 32), "the metric names that this version reads")
TABLE = (RAY, VLLM)


def dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
