"""The share that users were promised has one range: what a scenario takes, a controller takes too."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoscaler.common.errors import InputError
from autoscaler.settings import load_config
from simulator.scenario.load import load_scenario
from tests.simulator.scenarios import SMALL, write

CONTROLLER = """
version: 1
services: [{dashboard: "http://127.0.0.1:8265"}]
deployments:
  - match: chat/llm
    replicas: {min: 1, max: 4}
    slo: {target_fraction: SHARE}
"""


def both(folder: Path, share: str) -> list[str]:
    """What a scenario and a controller say of it; empty: nothing."""
    scenario = write(folder, SMALL.replace("    graceful", f"    slo: {{target_fraction: {share}}}\n    graceful"))
    settings = write(folder, CONTROLLER.replace("SHARE", share), "leadtime.yaml")
    said = []
    for read in (lambda: load_scenario(scenario), lambda: load_config(Path(settings))):
        try:
            read()
        except InputError as error:
            said.append(str(error).partition("deployments[0].")[2])
    return said


@pytest.mark.parametrize("share", ["0.5", "0.95", "0.9999"])
def test_a_share_that_one_side_takes_the_other_takes_too(tmp_path: Path, share: str) -> None:
    assert both(tmp_path, share) == []


@pytest.mark.parametrize("share", ["1", "1.5", "0.3", "0", "-1"])
def test_a_share_that_one_side_refuses_the_other_refuses_in_the_same_words(tmp_path: Path, share: str) -> None:
    said = both(tmp_path, share)
    assert len(said) == 2
    assert said[0] == said[1]
    assert said[0].startswith(f"slo.target_fraction: {share}; allowed: a number >= 0.5 and < 1")
