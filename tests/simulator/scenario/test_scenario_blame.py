"""An error of a scenario names what was typed: the --set that is at fault, the number as it was written, the file."""
# ruff: noqa: E501 (whole messages, as people will read them)

from __future__ import annotations

from pathlib import Path

import pytest

from autoscaler.common.errors import InputError
from simulator.scenario.load import load_scenario, read_synthetic
from tests.simulator.scenarios import SMALL, write

BUDGET = SMALL.replace("tick_s: 5", "tick_s: 5\ngpu_budget: {nvidia-h100-80gb: 4}")


def refused(path: str, *overrides: str) -> str:
    with pytest.raises(InputError) as error:
        load_scenario(path, overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "deployments.0.guaranteed_gpus=20",
            "gpu_budget.nvidia-h100-80gb: 4; allowed: at least the guaranteed_gpus of its deployments together, which is 20",
        ),
        ("deployments.0.replicas.max=0", "deployments[0].replicas.max: 0; allowed: a whole number >= 1"),
        ("deployments.0.replicas.min=3", "replicas.initial: 1; allowed: at least replicas.min, which is 3"),
        (
            "node_pools.0.nodes.min=9999999",
            "node_pools[0].nodes.min: 9999999; allowed: a whole number from 0 to 100000",
        ),
        ("node_pools.0.nodes.min=99999", "node_pools[0].nodes.min: 99999; allowed: at most nodes.max, which is 4"),
        ("deployments.0.profile=llama-3.1-70b/h100/tp4", "a replica needs 4 GPUs; allowed: at most 1, gpus_per_node"),
        ("deployments.0.replicas.min=9999999", "replicas.min: 9999999; allowed: at most replicas.max, which is 4"),
        ("warmup_s=1234567.5", "warmup_s: 1234567.5; allowed: less than duration_s, 300"),
        ("duration_s=999999999", "duration_s: 999999999; allowed: a number > 0 and <= 320000000"),
        ("deployments.0.slo.target_fraction=99", "target_fraction: 99; allowed: "),
        ("deployments.0.slo.target_fraction=99%", "target_fraction: '99%'; allowed: "),
    ],
)
def test_the_override_that_was_typed_is_named_and_not_a_line_of_the_file(
    tmp_path: Path, override: str, said: str
) -> None:
    text = refused(str(write(tmp_path, BUDGET)), override)
    assert text.startswith(f"--set {override!r}: ")
    assert said in text
    assert text.endswith(" (0.99 means 99 %)") == ("target_fraction" in override)


def test_a_limit_that_was_typed_is_to_blame_for_what_stands_above_it_in_the_file(tmp_path: Path) -> None:
    path = str(write(tmp_path, SMALL.replace("min: 1, max: 4, initial: 1", "min: 2, max: 4")))
    said = refused(path, "deployments.0.replicas.max=1")
    assert said.startswith("--set 'deployments.0.replicas.max=1': deployments[0].replicas.min: 2; allowed: at most")


def test_only_a_missing_file_is_answered_with_what_is_shipped(tmp_path: Path) -> None:
    twice = refused(str(write(tmp_path, SMALL + "name: again\n")))
    assert twice.endswith("name: written twice (also in line 3); allowed: once")
    assert "shipped: preset:" in refused(str(tmp_path / "nothing.yaml"))
    with pytest.raises(InputError, match=r"no such file$"):
        read_synthetic(tmp_path / "nothing.yaml")


def test_the_controllers_settings_are_told_from_a_scenario(tmp_path: Path) -> None:
    settings = "version: 1\nservices: [{dashboard: 'http://127.0.0.1:8265'}]\n"
    settings += "deployments: [{match: chat/llm, replicas: {max: 4}}]\n"
    said = refused(str(write(tmp_path, settings)))
    assert said.startswith(f"{tmp_path / 'scenario.yaml'}: the controller's settings, not a scenario; allowed: ")


def test_rows_of_a_trace_out_of_order_are_shown_with_every_digit(tmp_path: Path) -> None:
    begin, end = SMALL.index("      synthetic:"), SMALL.index("node_pools:\n")
    (tmp_path / "t.csv").write_text("timestamp_s,prompt_tokens,output_tokens\n1790000000.5,1,1\n1790000000.25,1,1\n")
    said = refused(str(write(tmp_path, f"{SMALL[:begin]}      requests: t.csv\n{SMALL[end:]}")))
    assert "timestamp_s: 1790000000.25 after 1790000000.5; allowed: rows sorted by time" in said
