"""Policies by name, path and entry point; options with one clear line on every mistake."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import msgspec
import pytest

from policies import registry
from policies.base import PolicyError
from policies.registry import create_policy, policy_names
from tests.policies.build import fleet, view

OWN = """
from dataclasses import dataclass
from policies.base import FleetProposal, ReplicaProposal
from policies.options import option
from policies.plugin import PolicyPlugin

@dataclass(frozen=True, slots=True)
class MineOptions:
    extra: int = option(1, low=0, high=5, doc="more than now")

class Mine(PolicyPlugin):
    Options = MineOptions
    name = "mine"
    def propose(self, fleet, state, now_s):
        return FleetProposal({d.key: ReplicaProposal(d.target + self.options.extra) for d in fleet.deployments})
"""


NUMBERS: dict[str, dict[str, Any]] = {
    "static": {"replicas": 3},
    "static_mean": {"replicas": 3},
    "schedule": {"floors": {"0 0 * * *": 3}},
}
"""Options of those that cannot propose without: only the simulator can fill them in."""


COMPUTED = ("oracle", "oracle_lead", "hindsight")
"""They cannot propose at all but for a workload that only the simulator has."""


@pytest.mark.parametrize("name", COMPUTED)
def test_what_needs_the_future_says_so_and_is_marked(name: str) -> None:
    policy = create_policy(name, {})
    assert policy.clairvoyant
    with pytest.raises(PolicyError, match=f"policy {name}: "):
        policy.propose(fleet(view()), policy.new_state(), 0.0)


@pytest.mark.parametrize("name", [n for n in policy_names() if n not in COMPUTED])
def test_every_named_policy_is_made_with_its_defaults_and_proposes(name: str) -> None:
    policy = create_policy(name, NUMBERS.get(name, {}))
    assert policy.name == name
    assert policy.guards in ("full", "bounds")
    state = policy.new_state()
    proposal = policy.propose(fleet(view()), state, 1000.0)
    assert all(p.replicas >= 0 and p.terms for p in proposal.replicas.values())
    assert msgspec.json.decode(msgspec.json.encode(state), type=type(state)) == state


def test_only_the_flagship_is_under_all_guards() -> None:
    assert [n for n in policy_names() if create_policy(n, {}).guards == "full"] == ["predictive"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("predictiv", {}, "policy 'predictiv': unknown; did you mean 'predictive'?"),
        ("predictive", {"quantil": 0.9}, "policy predictive: unknown option 'quantil'; did you mean 'quantile'?"),
        ("predictive", {"quantile": 1.5}, "option quantile: 1.5; allowed: a number >= 0.5 and <= 0.999 or null"),
        ("predictive", {"quantile": "high"}, "option quantile: 'high'; allowed: a number"),
        ("predictive", {"drain_s": True}, "option drain_s: True; allowed: a number >= 1"),
        ("predictive", {"drain_s": float("nan")}, "option drain_s: nan"),
        ("predictive", {"forecaster": "oracle"}, "forecaster 'oracle': unknown"),
        ("predictive", {"bin_s": 60, "season_s": 30}, "bin_s 60, season_s 30"),
        ("predictive", {"holidays": ["2026-12-25", "Easter"]}, "holidays: 'Easter'; allowed: a date like 2026-12-25"),
        ("predictive", {"holidays": "2026-12-25"}, "option holidays: '2026-12-25'; allowed: a list, of"),
        ("predictive", {"holidays": [20261225]}, "option holidays: [20261225]; allowed: a list, of"),
        ("static", {"replicas": 2.5}, "option replicas: 2.5; allowed: a whole number >= 0 or null"),
        ("static", {"replicas": -1}, "option replicas: -1"),
        ("ray_serve", {"aggregation_function": "p99"}, "'p99'; allowed: mean, max, min"),
        ("hpa_ongoing", {"target": 0}, "option target: 0"),
        ("./nowhere.py:Mine", {}, "no such file"),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        create_policy(name, options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_whole_numbers_are_taken_for_numbers() -> None:
    assert create_policy("predictive", {"drain_s": 30}).options.drain_s == 30.0


def test_holidays_reach_the_forecasters() -> None:
    forecast = create_policy("predictive", {"holidays": ["2026-12-25", "2027-01-01"]}).forecast
    assert forecast is not None
    assert forecast.holidays == ("2026-12-25", "2027-01-01")
    assert forecast.forecaster == "mixture"


def test_a_policy_is_read_from_a_file_relative_to_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    policy = create_policy("mine.py:Mine", {"extra": 2}, tmp_path)
    assert policy.propose(fleet(view(target=4)), None, 0.0).replicas[view().key].replicas == 6
    with pytest.raises(PolicyError, match="option extra: 9; allowed: a whole number >= 0 and <= 5"):
        create_policy("mine.py:Mine", {"extra": 9}, tmp_path)
    with pytest.raises(PolicyError, match="no class 'Mien'; did you mean 'Mine'"):
        create_policy("mine.py:Mien", {}, tmp_path)


def test_a_file_that_fails_to_import_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_like_this")
    with pytest.raises(PolicyError, match=r"broken\.py cannot be imported: No module named 'nothing_like_this'"):
        create_policy("broken.py:Mine", {}, tmp_path)


def test_another_package_adds_a_policy_through_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("theirs", "policies.references.static:StaticPolicy", registry.ENTRY_POINTS),
        EntryPoint("gone", "no_such_module:Policy", registry.ENTRY_POINTS),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == registry.ENTRY_POINTS else [])
    assert "theirs" in policy_names()
    assert create_policy("theirs", {"replicas": 1}).options.replicas == 1
    with pytest.raises(PolicyError, match="its package cannot be loaded"):
        create_policy("gone", {})


def test_naming_policies_imports_none_of_them() -> None:
    code = "import sys, policies.registry as r; r.policy_names(); print([m for m in sys.modules if 'predictive' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_script_that_ends_the_process_is_no_policy(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(PolicyError, match=r"script\.py cannot be imported: 3"):
        create_policy("script.py:Mine", {}, tmp_path)
