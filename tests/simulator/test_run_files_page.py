"""docs/run-files.md speaks of every field of a result and of every column of a timeline."""

from __future__ import annotations

import re

import pytest

from simulator.timeline import COLUMNS
from tests.cli.helpers import ROOT
from tests.simulator.test_cli import RESULT_KEYS

RESULT, TIMELINE = (ROOT / "docs" / "run-files.md").read_text("utf-8").split("\n## timeline.csv\n")


def named(page: str) -> set[str]:
    """What the first cells of its tables name; `_exposed` after `cold_starts_hidden` is short for the whole name."""
    cells = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `")]
    return {f"cold_starts{n}" if n.startswith("_") else n for cell in cells for n in re.findall(r"`(\w+)`", cell)}


@pytest.mark.parametrize("column", COLUMNS)
def test_every_column_of_a_timeline_has_a_row(column: str) -> None:
    assert column in named(TIMELINE)


def test_every_field_of_a_result_has_a_row_and_no_row_is_of_a_field_that_is_not_there() -> None:
    beside = {"target_fraction", "reaches_target", "notes"}
    assert named(RESULT) == (RESULT_KEYS - {"deployments"}) | beside
