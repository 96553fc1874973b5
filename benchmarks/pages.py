"""Pages of docs/ of which a command makes one part: that between two marks; the words around it are written by hand."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Marks:
    """`command`: the one that writes what is between them."""

    command: str

    @property
    def begin(self) -> str:
        return f"<!-- measured: {self.command} writes what follows -->"

    @property
    def end(self) -> str:
        return "<!-- measured: end -->"

    def around(self, path: Path) -> tuple[str, str]:
        """The page's words before and after its marks. Errors: ValueError naming the file that is no such page."""
        both = f"{self.begin!r} and {self.end!r}"
        try:
            page = path.read_text("utf-8")
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}; allowed: a page with the marks {both}") from None
        except UnicodeDecodeError:
            raise ValueError(f"{path}: it is no text; allowed: a page with the marks {both}") from None
        before, begin, rest = page.partition(self.begin)
        _, end, after = rest.partition(self.end)
        if not begin or not end:
            raise ValueError(f"{path}: it lacks a line {self.begin!r} or {self.end!r}; allowed: both, in this order")
        if not os.access(path, os.W_OK):
            raise ValueError(f"{path}: it cannot be written; allowed: a file of yours")
        return before, after

    def publish(self, path: Path, measured: str) -> None:
        """Puts the measured part into the page. Errors: as of `around`."""
        before, after = self.around(path)
        path.write_text(f"{before}{self.begin}\n\n{measured}\n\n{self.end}{after}", "utf-8")

    def typed(self, text: str) -> Path:
        """For argparse: looked at before hours of runs, not after them."""
        try:
            self.around(Path(text))
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return Path(text)
