"""README.md of this folder has a row for each double, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")
NOT_DOUBLES = {"README.md", "__init__.py", "__pycache__", "test_page.py"}


def test_each_double_has_one_row() -> None:
    rows = re.findall(r"^\| `([\w/.]+)` \|", TEXT, flags=re.MULTILINE)
    here = [path.name + "/" * path.is_dir() for path in FOLDER.iterdir() if path.name not in NOT_DOUBLES]
    assert sorted(rows) == sorted(here)


def test_every_row_names_a_test() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| `")]
    assert [row for row in rows if not re.search(r"`tests/[\w/]*test_\w+\.py`", row)] == []


def test_what_the_page_names_is_there() -> None:
    named = re.findall(r"`((?:tests|docs)/[\w/.-]+)`", TEXT)
    assert [path for path in named if not (ROOT / path).exists()] == []
