"""Faults in a scenario file: each kind has its keys, and a wrong one is a line that says which."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

import simulator.faults
from autoscaler.common.errors import ScenarioError
from autoscaler.common.registered import classes_in
from autoscaler.settings.settings import Journal
from simulator.faults.redeploy import Redeploy
from simulator.scenario.faults import KINDS
from simulator.scenario.load import load_scenario
from tests.simulator.scenarios import SMALL, write


def with_faults(folder: Path, *faults: str, text: str = SMALL) -> str:
    """A scenario with faults, as a path."""
    return write(folder, text + "faults:\n" + "".join(f"  - {{{fault}}}\n" for fault in faults))


@pytest.mark.parametrize(
    "fault",
    [
        "at_s: 5, kind: replica_crash, deployment: chat/llm",
        "at_s: 5, kind: replica_crash, deployment: chat/llm, replicas: 2",
        "at_s: 5, kind: source_down, source: node_metrics, duration_s: 60",
        "at_s: 5, kind: api_errors, duration_s: 60",
        "at_s: 5, kind: api_errors, duration_s: 60, api: kubernetes, fraction: 0.5",
        "at_s: 5, kind: controller_restart",
        "at_s: 5, kind: controller_restart, duration_s: 60, state: lost",
        "at_s: 5, kind: redeploy, deployment: chat/llm",
        "at_s: 5, kind: redeploy, deployment: chat/llm, replicas: 4, new_image: true, max_surge_fraction: 0.5",
        "at_s: 5, kind: redeploy, deployment: chat/llm, rolling_update_fraction: 0.5, replicas: null",
    ],
)
def test_every_kind_takes_its_keys(tmp_path: Path, fault: str) -> None:
    assert len(load_scenario(with_faults(tmp_path, fault)).file.faults) == 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            "kind: replica_crash, deployment: chat/llm",
            "faults[0].at_s: missing; replica_crash needs it; allowed: a number",
        ),
        ("at_s: -1, kind: controller_restart", "faults[0].at_s: -1; allowed: a number >= 0"),
        ("at_s: 5, kind: crash", "faults[0].kind: 'crash'; allowed: api_errors, controller_restart, redeploy"),
        ("at_s: 5, kind: replica_crsh", "allowed: api_errors, controller_restart"),
        ("at_s: 5, kind: replica_crsh", "did you mean 'replica_crash'?"),
        ("at_s: 5", "faults[0].kind: missing; allowed: api_errors, controller_restart"),
        ("at_s: 5, kind: replica_crash", "faults[0].deployment: missing; replica_crash needs it; allowed: text"),
        (
            "at_s: 5, kind: source_down, duration_s: 9",
            "faults[0].source: missing; source_down needs it; allowed: ray_dashboard",
        ),
        (
            "at_s: 5, kind: source_down, source: ray, duration_s: 9",
            "source: 'ray'; allowed: ray_dashboard, node_metrics",
        ),
        ("at_s: 5, kind: api_errors", "faults[0].duration_s: missing; api_errors needs it"),
        ("at_s: 5, kind: api_errors, duration_s: 9, fraction: 1.5", "fraction: 1.5; allowed: a number"),
        ("at_s: 5, kind: api_errors, duration_s: 0", "duration_s: 0; allowed: a number > 0"),
        (
            "at_s: 5, kind: redeploy, deployment: chat/llm, duration_s: 9",
            "faults[0].duration_s: unknown key of redeploy (allowed: at_s, kind, deployment, replicas",
        ),
        ("at_s: 5, kind: redeploy, deployment: chat/lm", "'chat/lm'; allowed: chat/llm; did you mean 'chat/llm'?"),
        ("at_s: 5, kind: redeploy, deployment: chat/llm, replicas: 5", "5; allowed: at most replicas.max of chat/llm"),
        ("at_s: 5, kind: redeploy, deployment: chat/llm, replicas: 0", "replicas: 0; allowed: a whole number >= 1"),
        ("at_s: 5, kind: redeploy, deployment: chat/llm, surge: 1", "faults[0].surge: unknown key of redeploy"),
        (
            "at_s: 5, kind: api_errors, duration_s: 9, api: kubernetes, deployment: chat/llm",
            "given with api: kubernetes, which writes node levels; allowed: leave it out",
        ),
    ],
)
def test_a_mistake_names_the_fault_the_key_and_what_is_allowed(tmp_path: Path, fault: str, said: str) -> None:
    with pytest.raises(ScenarioError) as error:
        load_scenario(with_faults(tmp_path, fault))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_controller_that_is_down_cannot_die(tmp_path: Path) -> None:
    faults = ("at_s: 50, kind: controller_restart", "at_s: 20, kind: controller_restart, duration_s: 40")
    with pytest.raises(ScenarioError, match=r"faults\[0\].at_s: 50; allowed: from 60 on"):
        load_scenario(with_faults(tmp_path, *faults))


def test_a_fault_that_is_no_mapping_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"faults\[0\]: 5; allowed: a mapping with kind"):
        load_scenario(write(tmp_path, SMALL + "faults: [5]\n"))


def test_a_kind_of_fault_is_a_file_that_bears_its_name() -> None:
    files = {path.stem for path in (Path(simulator.faults.__file__).parent).glob("*.py")} - {"__init__", "base"}
    assert set(KINDS) == files
    assert {kind.model_fields["kind"].annotation for kind in KINDS.values()} == {Literal[name] for name in files}


def test_a_file_of_kinds_with_no_class_is_the_developers_error() -> None:
    with pytest.raises(TypeError, match=r"simulator\.faults\.\w+: 0 classes that inherit Journal; allowed: one"):
        classes_in("simulator.faults", Journal)


def test_a_fault_can_be_changed_from_the_command_line(tmp_path: Path) -> None:
    path = with_faults(tmp_path, "at_s: 5, kind: redeploy, deployment: chat/llm")
    fault = load_scenario(path, ["faults.0.replicas=3"]).file.faults[0]
    assert isinstance(fault, Redeploy)
    assert fault.replicas == 3
