"""The default policy uses nothing that a stranger's package cannot use: copied under another name it plans the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import policies.predictive
from policies.registry import create_policy
from simulator.experiments.simulation import simulate
from simulator.run import Outputs
from simulator.scenario.load import load_scenario
from tests.simulator.scenarios import SMALL, write

PAST = "".join(f"{10 * i},{40 + i % 7}\n" for i in range(720))


def plans(scenario: str, policy: str) -> list[Any]:
    """Levels, proposals and reasons of every tick."""
    lines: list[bytes] = []
    simulate(load_scenario(scenario), create_policy(policy, {}), Outputs(journal=lines.append))
    ticks = [json.loads(line) for line in lines]
    return [(t["plan"], t["proposals"], t["reasons"]) for t in ticks if "plan" in t]


def test_a_copy_under_another_name_plans_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(policies.predictive.__file__).parent
    copy = tmp_path / "strangers_policy"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.rglob("*.py"):
        path.write_text(path.read_text().replace("policies.predictive", "strangers_policy"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "past.csv").write_text(f"timestamp_s,rps\n{PAST}")
    with_past = "    history: {rates: past.csv, rate_scale: 1}\n    workload:\n      start_s: 7200\n"
    text = SMALL.replace("    workload:\n", with_past).replace("at_s: 60,", "at_s: 7260,")
    scenario = write(tmp_path, text.replace("duration_s: 300\n        base", "duration_s: 7500\n        base"))

    ours = plans(scenario, "predictive")
    theirs = plans(scenario, f"{copy / 'policy.py'}:PredictivePolicy")

    assert len(ours) == 60
    assert theirs == ours
