"""The README's commands exist, parse, and its figures' command runs."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from autoscaler.cli.registry import find_command
from tests.cli.helpers import leadtime

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"(?:^    |`)(?:\.venv/bin/)?leadtime ([^`\n#]+)", README, re.MULTILINE)))


def test_the_readme_shows_commands() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("words", COMMANDS)
def test_each_command_of_the_readme_exists_with_its_options(words: str) -> None:
    name, *rest = shlex.split(words)
    assert find_command(name) is not None
    shown = leadtime(name, "--help").out
    if name in ("config", "trace", "chart"):
        shown += leadtime(name, rest[0], "--help").out
    for option in (w.partition("=")[0] for w in rest if w.startswith("--")):
        assert option in shown, f"leadtime {name} has no {option}"


@pytest.mark.parametrize("target", re.findall(r"^    make ([a-z-]+)", README, re.MULTILINE))
def test_each_make_target_of_the_readme_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_readmes_first_scenario_gives_the_readmes_figures() -> None:
    """Same seed, same bytes: the HPA that is tuned on the quickstart costs what the README says."""
    stated = re.search(r"--policy hpa_ongoing --set policy.options.target=30` keeps ([\d.]+) % for \$([\d.]+)", README)
    assert stated is not None
    ran = leadtime(
        "simulate", "preset:quickstart", "--policy", "hpa_ongoing", "--set", "policy.options.target=30", "--json"
    )
    result = json.loads(ran.out)
    assert f"{100 * result['slo_attainment_fraction']:.1f}" == stated[1]
    assert f"{result['cost_usd']:.3g}" == stated[2]
