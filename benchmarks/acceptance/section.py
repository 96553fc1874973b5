"""What a line says of its runs: checks that are reached or not, and tables beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.acceptance.runs import Case, Found

Finder = Mapping[str, Found]
"""Runs by the name of their case."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was promised. `reached` None: nothing was there to judge it by."""

    what: str
    measured: str
    reached: bool | None

    @property
    def verdict(self) -> str:
        return "nothing to judge" if self.reached is None else "yes" if self.reached else "**no**"


@dataclass(frozen=True, slots=True)
class Section:
    """What came of a line."""

    checks: tuple[Check, ...]
    tables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """An acceptance line: what is run for it with a list of seeds, and how that is judged."""

    letter: str
    title: str
    about: str
    cases: Callable[[Sequence[int]], list[Case]]
    judge: Callable[[Finder, Sequence[int]], Section]


def table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def because(raised: Mapping[str, int]) -> str:
    """Replicas asked for, by the argument that won."""
    return ", ".join(f"{name} {count}" for name, count in sorted(raised.items(), key=lambda one: -one[1])) or "-"


def percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f} %"
