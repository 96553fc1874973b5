"""docs/cli.md speaks of every command that is there, and of no option that is not."""

from __future__ import annotations

import re

import pytest

from autoscaler.cli.registry import COMMANDS
from autoscaler.diagnosis.supported import TABLE, dotted
from tests.cli.helpers import ROOT, leadtime

TEXT = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", [c.name for c in COMMANDS])
def test_the_page_names_every_command(command: str) -> None:
    assert re.search(rf"`(leadtime )?{command}\b", TEXT), f"docs/cli.md does not name {command}"


def test_options_in_headings_are_options_of_the_command() -> None:
    headings = re.findall(r"^### (.*)", TEXT, re.MULTILINE)
    assert headings
    for heading in headings:
        for usage in re.findall(r"`leadtime (\S+)([^`]*)`", heading):
            shown = leadtime(usage[0], "--help").out
            for option in re.findall(r"--[a-z-]+", usage[1]):
                assert option in shown, f"{option} of `leadtime {usage[0]}`"


def test_the_table_of_versions_is_that_of_the_program() -> None:
    page = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8")
    for one in TABLE:
        assert f"| {one.name} | {dotted(one.oldest)} | {dotted(one.newest)} | {one.why} |" in page


def test_the_page_on_calibration_names_every_option() -> None:
    page = (ROOT / "docs" / "calibration.md").read_text(encoding="utf-8")
    of_every_command = {"--help", "--quiet", "--verbose"}
    options = set(re.findall(r"(?<!-)--[a-z-]+", leadtime("calibrate", "--help").out)) - of_every_command
    assert len(options) > 10
    assert {option for option in options if not re.search(rf"{option}\b(?!-)", page)} == set()
