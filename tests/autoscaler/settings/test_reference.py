"""What is printed and written about the settings agrees with the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from autoscaler.settings import load_config, settings_schema
from autoscaler.settings.document.problems import resolve
from autoscaler.settings.reference import example, reference_table, renewed

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"


def test_the_example_validates_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "leadtime.yaml"
    path.write_text(example(settings_schema()), encoding="utf-8")
    config = load_config(path)
    assert config.controller.dry_run
    assert config.controller.deployments[0].node_pools == (config.controller.pools[0].name,)


def test_the_example_names_every_setting() -> None:
    schema = settings_schema()
    data = yaml.safe_load(example(schema))

    def missing(node: dict[str, Any], given: Any, where: str) -> list[str]:
        found = []
        for name, raw in node.get("properties", {}).items():
            child = dict(resolve(raw, schema))
            if name not in given:
                found.append(f"{where}{name}")
            elif isinstance(given[name], dict):
                found += missing(child, given[name], f"{where}{name}.")
            elif isinstance(given[name], list) and isinstance(given[name][0], dict):
                found += missing(dict(resolve(child["items"], schema)), given[name][0], f"{where}{name}[].")
        return found

    assert missing(dict(resolve(schema, schema)), data, "") == []


def test_the_reference_in_the_docs_is_up_to_date() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    renew = "run: python -m autoscaler.settings.reference docs/configuration.md"
    assert renewed(document, reference_table(settings_schema())) == document, renew


def test_every_setting_has_a_meaning_and_says_what_is_allowed() -> None:
    rows = reference_table(settings_schema()).splitlines()[2:]
    assert len(rows) > 60
    for row in rows:
        key, allowed, _, meaning = (cell.strip() for cell in row.strip("|").replace("\\|", "/").split("|"))
        assert allowed not in ("", "another value"), key
        assert meaning.endswith("."), key


def test_numbers_that_are_times_say_their_unit() -> None:
    for row in reference_table(settings_schema()).splitlines()[2:]:
        key, _, _, meaning = (cell.strip() for cell in row.strip("|").replace("\\|", "/").split("|"))
        if key.endswith("_s`"):
            assert "econds" in meaning, key


def test_a_document_without_the_markers_is_not_touched() -> None:
    with pytest.raises(ValueError, match="the document has no"):
        renewed("# Settings\n", "table")
