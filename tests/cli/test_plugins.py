"""A user's own policy: the guide's example by file and by entry point, and what a mistake in one looks like."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.helpers import ROOT, leadtime, leadtime_process
from tests.cli.test_run import Place, place, ran_to_the_end
from tests.simulator.scenarios import SMALL, write

__all__ = ["place"]

GUIDE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
EXAMPLE = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)[0]
SETTINGS = """\
version: 1
tick_s: 0.5
services: [{{dashboard: "{dashboard}", token_file: token}}]
deployments: [{{match: chat/llm, replicas: {{min: 1, max: 4}}}}]
policy: {{name: "{policy}", options: {options}}}
server: {{port: 0, token_file: token}}
"""
CONSTANT = """
from policies.base import FleetProposal, ReplicaProposal
from policies.plugin import PolicyPlugin

class Constant(PolicyPlugin):
    name = "constant"
    def propose(self, fleet, state, now_s):
        return FleetProposal({d.key: ReplicaProposal(SAID) for d in fleet.deployments})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "headroom.py").write_text(EXAMPLE, encoding="utf-8")
    write(tmp_path, SMALL)
    return tmp_path


def test_the_example_is_about_thirty_lines() -> None:
    code = [line for line in EXAMPLE.splitlines() if line.strip()]
    assert 20 <= len(code) <= 36


def test_the_example_runs_in_simulate_by_file(folder: Path) -> None:
    ran = leadtime("simulate", str(folder / "scenario.yaml"), "--policy", f"{folder}/headroom.py:Headroom", "--json")
    assert ran.code == 0, ran.err
    result = json.loads(ran.out)
    assert (result["policy"], result["clairvoyant"]) == ("headroom", False)
    assert result["policy_options"] == {"headroom_fraction": 0.2, "window_s": 600.0}
    assert result["scale_ups"] > 0


def test_a_path_is_found_from_where_one_stands_or_from_the_scenario_that_names_it(folder: Path, tmp_path: Path) -> None:
    words = ("simulate", "scenario.yaml", "--json", "--set", "duration_s=20")
    ran = leadtime_process(*words, "--policy", "headroom.py:Headroom", cwd=folder)
    assert json.loads(ran.out)["policy"] == "headroom"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.py").write_text(EXAMPLE, encoding="utf-8")
    ran = leadtime_process(
        "simulate",
        "../scenario.yaml",
        "--json",
        "--set",
        "duration_s=20",
        "--policy",
        "mine.py:Headroom",
        cwd=elsewhere,
    )
    assert json.loads(ran.out)["policy"] == "headroom"
    write(folder, SMALL.replace("policy: {name: hpa_ongoing}", 'policy: {name: "headroom.py:Headroom"}'), "own.yaml")
    ran = leadtime_process("simulate", "../own.yaml", "--json", "--set", "duration_s=20", cwd=elsewhere)
    assert json.loads(ran.out)["policy"] == "headroom"


def test_the_example_runs_in_compare_also_in_other_processes(folder: Path) -> None:
    policies = f"static,{folder}/headroom.py:Headroom"
    ran = leadtime("compare", str(folder / "scenario.yaml"), "--policies", policies, "--jobs", "2", "--json")
    assert ran.code == 0, ran.err
    runs = json.loads(ran.out)["runs"]
    assert [r["policy"] for r in runs] == ["static", "headroom"]
    assert runs[0]["requests"] == runs[1]["requests"]


def test_the_example_is_tuned_and_what_is_found_runs(folder: Path) -> None:
    scenario, out = str(folder / "scenario.yaml"), folder / "out"
    words = ("--policy", f"{folder}/headroom.py:Headroom", "--trials", "3", "--jobs", "2", "--out", str(out))
    ran = leadtime("tune", scenario, *words)
    assert ran.code == 0, ran.err
    assert (out / "trials.csv").read_text(encoding="utf-8").startswith("trial,headroom_fraction,")
    text = SMALL.replace("policy: {name: hpa_ongoing}\n", (out / "best.yaml").read_text(encoding="utf-8"))
    ran = leadtime("simulate", str(write(folder, text, "tuned.yaml")), "--json", "--set", "duration_s=20")
    assert json.loads(ran.out)["policy"] == "headroom"


def test_a_wrong_answer_ends_a_search_with_one_line_and_exit_1(folder: Path) -> None:
    text = CONSTANT.replace("SAID", "-1").replace(
        "class Constant(PolicyPlugin):",
        "from dataclasses import dataclass\nfrom policies.options import between, option\n"
        "@dataclass(frozen=True)\nclass O:\n    a: float = option(1.0, doc='d', search=between(0, 2))\n"
        "class Constant(PolicyPlugin):\n    Options = O",
    )
    (folder / "constant.py").write_text(text, encoding="utf-8")
    scenario = str(folder / "scenario.yaml")
    ran = leadtime("tune", scenario, "--policy", f"{folder}/constant.py:Constant", "--jobs", "2", "--trials", "2")
    assert ran.code == 1
    assert ran.err.splitlines()[-1].startswith("policy constant: propose(): replicas: chat/llm: -1; allowed:")


def test_the_example_is_found_by_its_entry_point(folder: Path) -> None:
    """As an installed package has it: a module and the package's metadata."""
    metadata = folder / "headroom-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: headroom\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[leadtime.policies]\nheadroom = headroom:Headroom\n", encoding="utf-8")
    ran = leadtime_process(
        *("simulate", str(folder / "scenario.yaml"), "--policy", "headroom", "--json", "--set", "duration_s=20"),
        env={"PYTHONPATH": f"{folder}:{ROOT}"},
    )
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["policy"] == "headroom"


async def test_the_example_runs_in_the_live_controller(place: Place) -> None:
    (place.folder / "headroom.py").write_text(EXAMPLE, encoding="utf-8")
    path = place.folder / "lt.yaml"
    options = "{headroom_fraction: 0.3}"
    text = SETTINGS.format(dashboard=place.dashboard.url, policy="headroom.py:Headroom", options=options)
    path.write_text(text, encoding="utf-8")
    ran = await ran_to_the_end("run", "--once", "--config", str(path))
    assert "policy" in ran.err
    assert "headroom.py:Headroom" in ran.err
    assert "chat/llm" in ran.out
    assert ran.code == 0, ran.err
    path.write_text(text.replace("headroom_fraction", "headrom_fraction"), encoding="utf-8")
    ran = await ran_to_the_end("run", "--once", "--config", str(path))
    assert ran.code == 2
    assert "headrom_fraction: unknown option; did you mean 'headroom_fraction'?" in ran.err


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("-1", "policy constant: propose(): replicas: chat/llm: -1; allowed: a whole number >= 0"),
        ("None", "policy constant: propose(): replicas: chat/llm: None; allowed: a whole number >= 0"),
        ("1 / 0", "policy constant: propose() failed at constant.py:8: ZeroDivisionError: division by zero"),
    ],
)
def test_a_wrong_answer_is_one_line_and_exit_1(folder: Path, said: str, words: str) -> None:
    (folder / "constant.py").write_text(CONSTANT.replace("SAID", said), encoding="utf-8")
    name = f"{folder}/constant.py:Constant"
    for command in (
        ("simulate", str(folder / "scenario.yaml"), "--policy", name, "--out", str(folder / "out")),
        ("compare", str(folder / "scenario.yaml"), "--policies", f"static,{name}", "--jobs", "2"),
    ):
        ran = leadtime(*command)
        assert ran.code == 1
        assert ran.err.splitlines()[-1] == words
    assert not list((folder / "out").glob("*")), "nothing is half-written"


async def test_a_wrong_answer_does_not_end_the_live_controller_but_fails_a_single_round(place: Place) -> None:
    (place.folder / "constant.py").write_text(CONSTANT.replace("SAID", "-1"), encoding="utf-8")
    path = place.folder / "lt.yaml"
    text = SETTINGS.format(dashboard=place.dashboard.url, policy="constant.py:Constant", options="{}")
    path.write_text(text, encoding="utf-8")
    ran = await ran_to_the_end("run", "--once", "--config", str(path))
    assert ran.code == 1
    assert ran.err.count("policy constant: propose(): replicas: chat/llm: -1") == 1
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('name = "constant"', "name = None"), "name: None; allowed: a name"),
        (("def propose", "def proposes"), "propose: is missing; allowed: a method propose(self, fleet, state, now_s)"),
        (("(PolicyPlugin)", ""), "new_state: is missing; allowed: a method (inherit policies.plugin.PolicyPlugin)"),
        (('name = "constant"', 'name, guards = "constant", "none"'), "guards: 'none'; allowed: full, bounds"),
        (('name = "constant"', 'name, period_s = "constant", 0'), "period_s: 0; allowed: seconds > 0, or None"),
        (('name = "constant"', 'name, forecast = "constant", "arima"'), "forecast: 'arima'; allowed: a ForecastSpec"),
        (
            ('name = "constant"', 'name, telemetry = "constant", "graphite"'),
            "telemetry: 'graphite'; allowed: ray_serve",
        ),
        (('name = "constant"', 'name, Options = "constant", 3'), "its Options is 3; allowed: a dataclass"),
        (
            ("def propose", "def __init__(self): raise OSError('no disk')\n    def propose"),
            "it cannot be made: OSError",
        ),
    ],
)
def test_a_class_that_is_no_policy_is_told_what_it_lacks(folder: Path, change: tuple[str, str], words: str) -> None:
    (folder / "constant.py").write_text(CONSTANT.replace("SAID", "1").replace(*change), encoding="utf-8")
    ran = leadtime("simulate", str(folder / "scenario.yaml"), "--policy", f"{folder}/constant.py:Constant")
    assert ran.code in (1, 2)
    assert words in ran.err
    assert len(ran.err.splitlines()) == 1


def test_options_may_have_postponed_annotations(folder: Path) -> None:
    (folder / "headroom.py").write_text(f"from __future__ import annotations\n{EXAMPLE}", encoding="utf-8")
    ran = leadtime(
        *("simulate", str(folder / "scenario.yaml"), "--policy", f"{folder}/headroom.py:Headroom"),
        *("--json", "--set", "duration_s=20"),
    )
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("oracle_lead", "policy.name: 'oracle_lead' with these options needs to know the future"),
        ("hindsight", "policy.name: 'hindsight' with these options needs to know the future"),
        ("schedule", "policy.options: 'schedule' without numbers is derived from a scenario's history"),
        ("static_mean", "policy.options: 'static_mean' without numbers is derived"),
    ],
)
def test_what_only_the_simulator_can_complete_is_refused_for_a_live_controller(
    tmp_path: Path, name: str, words: str
) -> None:
    path = tmp_path / "lt.yaml"
    (tmp_path / "token").write_text("secret", encoding="utf-8")
    path.write_text(SETTINGS.format(dashboard="http://127.0.0.1:8265", policy=name, options="{}"), encoding="utf-8")
    ran = leadtime("config", "validate", str(path))
    assert ran.code == 2
    assert words in ran.err
