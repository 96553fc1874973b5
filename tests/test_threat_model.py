"""Every promise of docs/threat-model.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_ROW = re.compile(r"^\| (?!---|promise |who )(.+) \| (.+) \| (.+) \|$", re.MULTILINE)
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def promises() -> list[tuple[str, str]]:
    """Of each row of the table: the promise, and its cell of tests."""
    text = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    table = text.split("## What is promised", 1)[1].split("\n## ", 1)[0]
    return [(row[0], row[2]) for row in _ROW.findall(table)]


def test_every_promise_names_a_test_that_exists() -> None:
    rows = promises()
    problems = []
    for promise, cell in rows:
        named = _TEST.findall(cell)
        if not named:
            problems.append(f"{promise}: names no test")
        problems += [f"{promise}: {file}::{name}" for file, name in named if name not in _tests_of(ROOT / file)]
    assert rows
    assert not problems, problems


def _tests_of(path: Path) -> set[str]:
    if not path.exists():
        return set()
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }
