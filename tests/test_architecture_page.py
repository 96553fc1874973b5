"""docs/architecture.md draws the rooms as they are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def drawn() -> list[str]:
    """Paths of the drawing: two spaces of indentation are one folder down."""
    tree = TEXT.split("```text\n")[1].split("```")[0]
    above: list[str] = []
    paths = []
    for line in tree.splitlines():
        name, depth = line.split()[0], (len(line) - len(line.lstrip())) // 2
        above = [*above[:depth], name.rstrip("/")]
        paths.append("/".join(above))
    return paths


def test_what_is_drawn_is_there() -> None:
    assert [path for path in drawn() if not (ROOT / path).exists()] == []


def test_every_package_is_drawn() -> None:
    packages = [
        p.parent
        for root in ("autoscaler", "policies", "simulator", "leadtime")
        for p in (ROOT / root).rglob("__init__.py")
    ]
    assert {str(package.relative_to(ROOT)) for package in packages} - set(drawn()) == set()


def test_every_file_that_the_page_names_is_there() -> None:
    named = re.findall(r"`((?:autoscaler|policies|simulator)/[\w/.]+)`", TEXT)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
