"""`python -m tests.docs_links`: every relative link and anchor in the Markdown files leads somewhere."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def markdown_files() -> list[Path]:
    """Every Markdown file of the project, virtual environments left out."""
    return sorted(p for p in ROOT.rglob("*.md") if not any(part.startswith(".v") for part in p.relative_to(ROOT).parts))


def anchors(text: str) -> set[str]:
    """GitHub's anchors of the headings in a Markdown text."""
    found = set()
    for line in _FENCE.sub("", text).splitlines():
        if line.startswith("#"):
            title = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", line.lstrip("#").strip()).lower()
            found.add(re.sub(r"[^\w\- ]", "", title).replace(" ", "-"))
    return found


def broken_links(path: Path) -> list[str]:
    """Links of one file that lead nowhere, as `file: link`."""
    text = path.read_text(encoding="utf-8")
    bad = []
    for link in _LINK.findall(_FENCE.sub("", text)):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        target, _, anchor = link.partition("#")
        there = (path.parent / target).resolve() if target else path
        if not there.exists():
            bad.append(f"{path.relative_to(ROOT)}: {link}: no such file")
        elif anchor and there.suffix == ".md" and anchor not in anchors(there.read_text(encoding="utf-8")):
            bad.append(f"{path.relative_to(ROOT)}: {link}: no such heading")
    return bad


if __name__ == "__main__":
    problems = [line for file in markdown_files() for line in broken_links(file)]
    print("\n".join(problems) or f"{len(markdown_files())} Markdown files: all links lead somewhere")
    sys.exit(bool(problems))
