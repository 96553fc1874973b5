"""The simulated comparison: the demo as an ordinary scenario, the same requests whoever scales."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from autoscaler.settings import load_config
from leadtime.demo.baseline import Simulated, simulate, write_scenario
from leadtime.demo.local_ray import DemoError
from leadtime.demo.play import PROFILE
from leadtime.demo.spec import Spec, application, settings
from leadtime.demo.traffic import arrivals, history
from policies.base import DeploymentKey
from simulator.scenario.load import load_scenario

SPEC = Spec(seconds=60.0)


def scenario(folder: Path, spec: Spec = SPEC) -> Path:
    before = {d.deployment: history(d, spec.seed, spec.day_s, spec.history_days) for d in spec.demands}
    today = {d.deployment: arrivals(d, spec.seed, spec.day_s, spec.seconds) for d in spec.demands}
    return write_scenario(spec, folder, PROFILE, before, today)


def test_the_demo_is_a_scenario_that_the_simulator_reads(tmp_path: Path) -> None:
    read = load_scenario(str(scenario(tmp_path / "s")))
    assert [str(d.key) for d in read.deployments] == ["demo/chat", "demo/code"]
    assert read.duration_s == 60.0
    assert read.file.guards.scale_down_stabilization_s == 10.0


async def test_every_policy_meets_the_requests_that_the_live_users_send(tmp_path: Path) -> None:
    path = scenario(tmp_path)
    runs = [await simulate(path, policy) for policy in ("ray_serve", "predictive")]
    expected = sorted((d.deployment, r.at_s) for d in SPEC.demands for r in arrivals(d, SPEC.seed, SPEC.day_s, 60.0))
    for run in runs:
        assert [(s.deployment, s.at_s) for s in by_time(run)] == [
            (name, pytest.approx(at_s, abs=1e-5)) for name, at_s in expected
        ]
        assert run.replica_seconds >= 2 * 60.0
    assert runs[0].served != runs[1].served


def by_time(run: Simulated) -> list:  # type: ignore[type-arg]
    return sorted(run.served, key=lambda s: (s.deployment, s.at_s))


async def test_the_same_seed_gives_the_same_simulated_pass(tmp_path: Path) -> None:
    path = scenario(tmp_path, replace(SPEC, seconds=20.0))
    assert await simulate(path, "ray_serve") == await simulate(path, "ray_serve")


async def test_a_simulation_that_fails_says_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="no_such_policy"):
        await simulate(scenario(tmp_path, replace(SPEC, seconds=20.0)), "no_such_policy")


@pytest.mark.parametrize("act", [True, False])
def test_the_settings_file_is_one_that_leadtime_run_takes(tmp_path: Path, act: bool) -> None:
    path = tmp_path / "leadtime.yaml"
    path.write_text(settings(SPEC, "http://127.0.0.1:8265", tmp_path, 8080, act, PROFILE))
    config = load_config(path)
    assert config.controller.dry_run is not act
    assert config.controller.policy_name == "predictive"
    chat = config.controller.settings_for(DeploymentKey.parse("demo/chat"))
    assert chat is not None
    assert chat.profile is not None
    assert (chat.profile.name, chat.max_replicas) == ("demo/emulated/tp1", 6)


def test_live_and_simulated_get_the_same_limits_policy_and_promise(tmp_path: Path) -> None:
    simulated = yaml.safe_load(scenario(tmp_path).read_text())
    live = yaml.safe_load(settings(SPEC, "http://127.0.0.1:1", tmp_path, 8080, True, PROFILE))
    assert simulated["policy"] == live["policy"]
    assert simulated["guards"] == live["guards"]
    assert simulated["tick_s"] == live["tick_s"]
    for ours, theirs in zip(live["deployments"], simulated["deployments"], strict=True):
        assert ours["slo"] == theirs["slo"]
        assert ours["profile"] == theirs["profile"]
        assert {**ours["replicas"], "initial": 1} == theirs["replicas"]


def test_serves_autoscaler_gets_its_defaults_and_the_same_limits() -> None:
    ours, theirs = application(SPEC, act=True), application(SPEC, act=False)
    assert (ours["external_scaler_enabled"], theirs["external_scaler_enabled"]) == (True, False)
    assert theirs["deployments"] == [
        {"name": "chat", "max_ongoing_requests": 8, "autoscaling_config": {"min_replicas": 1, "max_replicas": 6}},
        {"name": "code", "max_ongoing_requests": 8, "autoscaling_config": {"min_replicas": 1, "max_replicas": 2}},
    ]
