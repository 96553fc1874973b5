"""`leadtime config`: validate, schema, example."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.cli.helpers import leadtime

GOOD = """\
version: 1
services: [{dashboard: "http://127.0.0.1:8265"}]
deployments: [{match: chat/llm, replicas: {max: 2}}]
policy: {name: static, options: {replicas: 2}}
"""


def test_a_good_file_is_summed_up_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "lt.yaml"
    path.write_text(GOOD, encoding="utf-8")
    ran = leadtime("config", "validate", str(path))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"{path}: good: 1 service, 1 deployment entry, 0 node pools; policy static; dry run\n"


def test_validate_lists_every_problem_one_a_line_in_the_files_order(tmp_path: Path) -> None:
    path = tmp_path / "lt.yaml"
    path.write_text(GOOD.replace("max: 2", "max: 0") + "tick_s: 0\n", encoding="utf-8")
    ran = leadtime("config", "validate", str(path))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        f"{path}:3: deployments[0].replicas.max: 0; allowed: a whole number >= 1\n"
        f"{path}:5: tick_s: 0; allowed: a number from 0.5 to 300\n"
    )


def test_files_of_another_machine_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "lt.yaml"
    path.write_text(GOOD + "server: {token_file: /nowhere/token}\n", encoding="utf-8")
    assert leadtime("config", "validate", str(path)).code == 2
    assert leadtime("config", "validate", str(path), "--no-files").code == 0


def test_a_missing_file_is_bad_input() -> None:
    ran = leadtime("config", "validate", "none.yaml")
    assert (ran.code, ran.err) == (2, "none.yaml: no such file; `leadtime config example` prints one to begin with\n")


def test_the_schema_is_json_and_closed() -> None:
    schema = json.loads(leadtime("config", "schema").out)
    assert schema["additionalProperties"] is False
    assert "deployments" in schema["properties"]


def test_the_printed_example_is_yaml() -> None:
    assert yaml.safe_load(leadtime("config", "example").out)["version"] == 1
