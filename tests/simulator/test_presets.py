"""Every shipped scenario can be read and run, and says what its documentation says that it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.run import Choice, make_policy, simulate
from simulator.scenario_file import load_scenario, preset_names, scenario_path

DOCUMENTED = Path(__file__).parents[2] / "docs" / "scenarios.md"


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_runs_under_its_policy_and_serves_requests(name: str) -> None:
    quiet_s = 3900 if name == "scale-from-zero-chat" else 300
    scenario = load_scenario(f"preset:{name}", [f"duration_s={quiet_s}"])
    found = simulate(scenario, make_policy(scenario, Choice()))
    assert sum(d.outcomes.requests for d in found.deployments) > 0


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_explains_itself_and_is_documented(name: str) -> None:
    path = scenario_path(f"preset:{name}")
    assert path.read_text().startswith("# ")
    assert load_scenario(f"preset:{name}").name == name
    assert f"`preset:{name}`" in DOCUMENTED.read_text()


def test_nobody_pays_for_replicas_before_the_first_question() -> None:
    scenario = load_scenario("preset:scale-from-zero-chat", ["duration_s=1200"])
    found = simulate(scenario, make_policy(scenario, Choice()))
    assert sum(d.outcomes.requests for d in found.deployments) == 0
