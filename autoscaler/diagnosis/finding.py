"""One line of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, in words, and what to do about it."""

    level: Level
    subject: str
    words: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.level:<4}  {self.subject}: {self.words}" + (f"; {self.mend}" if self.mend else "")
