"""docs/scenario-reference.md holds every key of a scenario, as it is declared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from autoscaler.settings.reference import renewed
from simulator.scenario.load import preset_names, scenario_path
from simulator.scenario.reference import BEGIN, END, scenario_table

DOCS = Path(__file__).resolve().parents[3] / "docs"
ROWS = [line.strip("| ").split(" | ") for line in scenario_table().splitlines()[2:]]
FREE = ("policy.options", "gpu_budget")
"""Mappings whose keys are not the scenario's."""


def keys_of(value: Any, key: str = "") -> set[str]:
    """Dotted keys of a file as the table writes them; `{median, p99}` is a value."""
    if isinstance(value, list):
        return {k for one in value if isinstance(one, dict) for k in keys_of(one, f"{key}[]")}
    if not isinstance(value, dict) or key in FREE or set(value) == {"median", "p99"}:
        return set()
    found = set()
    for name, child in value.items():
        here = f"{key}.{name}" if key else name
        found |= {here} | keys_of(child, here)
    return found


def test_the_table_in_the_page_is_up_to_date() -> None:
    document = (DOCS / "scenario-reference.md").read_text(encoding="utf-8")
    renew = "run: python -m simulator.scenario.reference docs/scenario-reference.md"
    assert renewed(document, scenario_table(), BEGIN, END) == document, renew


def test_every_key_says_what_is_allowed_and_what_it_means() -> None:
    assert len(ROWS) > 100
    for key, allowed, _, meaning in ROWS:
        assert allowed not in ("", "another value"), key
        assert meaning.endswith("."), key


@pytest.mark.parametrize("preset", preset_names())
def test_every_key_that_a_preset_uses_is_in_the_table(preset: str) -> None:
    used = keys_of(yaml.safe_load(scenario_path(f"preset:{preset}").read_text(encoding="utf-8")))
    assert used - {row[0].strip("`") for row in ROWS} == set()


def test_the_example_in_the_page_on_scenarios_uses_keys_of_the_table_only() -> None:
    example = (DOCS / "scenarios.md").read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    used = keys_of(yaml.safe_load(example))
    assert len(used) > 60
    assert used - {row[0].strip("`") for row in ROWS} == set()


def test_a_time_by_default_is_written_as_a_file_would_have_it() -> None:
    defaults = {row[0].strip("`"): row[2] for row in ROWS}
    assert defaults["node_pools[].provision_s"] == "`{median: 150.0, p99: 420.0}`"
    assert not any("sigma" in cell for row in ROWS for cell in row)
