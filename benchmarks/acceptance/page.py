"""docs/acceptance.md: what is between its two marks is made here, the words around them are written by hand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.acceptance.section import Line, Section, table

BEGIN = "<!-- measured: python -m benchmarks.acceptance writes what follows -->"
END = "<!-- measured: end -->"


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that is there; `sections` None: not every run of the line was played."""

    lines: Sequence[Line]
    sections: Sequence[Section | None]
    seeds: Sequence[int]
    runs: int
    cpu_s: float
    revisions: Sequence[str]

    def text(self) -> str:
        """The part between the marks."""
        done = [(line, s) for line, s in zip(self.lines, self.sections, strict=True) if s is not None]
        missing = [line.letter for line, s in zip(self.lines, self.sections, strict=True) if s is None]
        rows = [[line.letter, check.what, check.measured, check.verdict] for line, s in done for check in s.checks]
        parts = [
            f"Simulated, not measured on GPUs; `predictive` at its defaults. Seeds {', '.join(map(str, self.seeds))}; "
            f"{self.runs} runs took {self.cpu_s / 60.0:.0f} minutes of one core. Code: {', '.join(self.revisions)}.",
            *([f"**Not played**: {', '.join(missing)}."] if missing else []),
            table(["line", "promise", "measured", "reached"], rows),
        ]
        for line, section in done:
            parts += [f"## {line.letter}. {line.title}", line.about, *section.tables]
        return "\n\n".join(parts)


def around(path: Path) -> tuple[str, str]:
    """The page's words before and after its marks. Errors: ValueError naming the file that is no such page."""
    try:
        page = path.read_text("utf-8")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; allowed: a page with the marks {BEGIN!r} and {END!r}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: it is no text; allowed: a page with the marks {BEGIN!r} and {END!r}") from None
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path}: it lacks a line {BEGIN!r} or {END!r}; allowed: both, in this order")
    if not os.access(path, os.W_OK):
        raise ValueError(f"{path}: it cannot be written; allowed: a file of yours")
    return before, after


def publish(path: Path, measured: str) -> None:
    """Puts the measured part into the page. Errors: as of `around`."""
    before, after = around(path)
    path.write_text(f"{before}{BEGIN}\n\n{measured}\n\n{END}{after}", "utf-8")
