"""docs/acceptance.md: what is between its two marks is made here, the words around them are written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.acceptance.section import Line, Section, table
from benchmarks.pages import Marks

MARKS = Marks("python -m benchmarks.acceptance")


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
