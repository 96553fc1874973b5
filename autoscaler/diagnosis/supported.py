"""Which versions of Ray and vLLM this version works with, in one table, and where a version lies in it.

`oldest` is the first that has what is needed; `newest` the last that was tried. Not for finding out what runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Number = tuple[int, int]
"""The first two numbers of a version."""
Place = Literal["too old", "known", "newer than any that was tried", "not understood"]


@dataclass(frozen=True, slots=True)
class Supported:
    """One thing beside us. Versions are compared by their first two numbers."""

    name: str
    oldest: Number
    newest: Number
    why: str
    """What the oldest one brings."""
    earlier: tuple[tuple[Number, str], ...] = ()
    """What versions before the oldest one brought already, oldest first: for words on one that has not even that."""

    def place(self, version: str) -> Place:
        number = _number(version)
        if number is None:
            return "not understood"
        if number < self.oldest:
            return "too old"
        return "known" if number <= self.newest else "newer than any that was tried"

    def lacks(self, version: str) -> str:
        """What a version that is too old has not."""
        number = _number(version)
        missing = [what for since, what in self.earlier if number is None or number < since]
        return ", and ".join([*missing, self.why])

    @property
    def span(self) -> str:
        return f"{dotted(self.oldest)} to {dotted(self.newest)}"


RAY = Supported(
    "Ray", (2, 57), (2, 60),
    "metrics pages that cannot lock up for good while they are read, and gauges that outlast one read",
    earlier=(((2, 53), "the external scaler"),),
)  # fmt: skip
VLLM = Supported("vLLM", (0, 21), (0, 32), "under Ray, how a request ended is counted under its own reason")
TABLE = (RAY, VLLM)


def dotted(version: Number) -> str:
    return f"{version[0]}.{version[1]}"


def _number(version: str) -> Number | None:
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return None if found is None else (int(found[1]), int(found[2]))
