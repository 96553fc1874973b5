"""Two ways to act, one at a time: what blocks which, what the actuator posts, what doctor says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoscaler.actuators.ray_serve import RayServeActuator
from autoscaler.clients.ray_dashboard import DashboardClient
from autoscaler.common.errors import ConfigError
from autoscaler.core.build import new_controller
from autoscaler.core.types import (
    ControllerConfig,
    DeploymentInventory,
    DeploymentSettings,
    DeploymentSignals,
    ServeAutoscaling,
    Signals,
)
from autoscaler.core.write_access import blocked_because, on_its_way
from autoscaler.diagnosis.ray_service import deployment_findings
from autoscaler.settings import load_config
from autoscaler.sources.applications import parse_applications
from autoscaler.sources.kuberay.annotations import read_annotations
from policies.base import DeploymentKey
from tests.autoscaler.build import KEY, inventory, metrics
from tests.contract.actuator_contract import plan_of

OURS = ServeAutoscaling("leadtime_serve_policy:LeadtimePolicy", {"plan": "http://leadtime:8080"}, 1, 8, 0.0, 0.0)
SERVES = ServeAutoscaling("ray.serve.autoscaling_policy:default_autoscaling_policy", {}, 1, 8, 30.0, 600.0)


def seen(autoscaling: ServeAutoscaling | None, act: str, **changes: Any) -> DeploymentInventory:
    values = {"autoscaling": autoscaling, "autoscaled_by_serve": autoscaling is not None, "act": act}
    return inventory(0.0, running=2, **(values | changes))


@pytest.mark.parametrize(
    ("autoscaling", "act", "words"),
    [
        (OURS, "policy", None),
        (None, "external", None),
        (SERVES, "external", "autoscaling_config: null"),
        (OURS, "external", "set `act: policy`"),
        (SERVES, "policy", "scaled by another policy"),
        (None, "policy", "has no autoscaling_config"),
    ],
)
def test_what_serve_shows_must_agree_with_the_settings(
    autoscaling: ServeAutoscaling | None, act: str, words: str | None
) -> None:
    found = blocked_because(KEY, seen(autoscaling, act))
    assert found is None if words is None else words in (found or "")


@pytest.mark.parametrize(
    ("path", "ours"),
    [
        ("leadtime_serve_policy:LeadtimePolicy", True),
        ("leadtime_serve_policy.LeadtimePolicy", True),
        ("acme.scaling.leadtime_serve_policy:LeadtimePolicy", True),
        ("acme.not_leadtime_serve_policy:LeadtimePolicy", False),
        ("leadtime_serve_policy:ServeRule", False),
    ],
)
def test_our_policy_is_known_wherever_the_module_was_put(path: str, ours: bool) -> None:
    assert ServeAutoscaling(path).follows_plan is ours


def test_serves_answer_tells_which_policy_scales_a_deployment() -> None:
    config = {
        "max_ongoing_requests": 5,
        "autoscaling_config": {
            "min_replicas": 1, "max_replicas": 8, "upscale_delay_s": 0, "downscale_delay_s": 2.5,
            "policy": {"policy_function": "leadtime_serve_policy:LeadtimePolicy", "policy_kwargs": {"plan": "/plan"}},
        },
    }  # fmt: skip
    deployment = {"target_num_replicas": 2, "replicas": [], "deployment_config": config}
    answer = {"applications": {"chat": {"status": "RUNNING", "deployments": {"llm": deployment}}}}
    found = parse_applications(answer, "default", "local", 1.0, "policy")[KEY]
    assert found.autoscaling == replace(OURS, policy_kwargs={"plan": "/plan"}, downscale_delay_s=2.5)
    assert found.act == "policy"


@pytest.mark.parametrize("block", [7, [], {"policy": 3}, {"policy": {"policy_kwargs": "x"}}, {"min_replicas": "1"}])
def test_an_autoscaling_config_of_another_shape_is_read_as_far_as_it_goes(block: Any) -> None:
    deployment = {"target_num_replicas": 2, "replicas": [], "deployment_config": {"autoscaling_config": block}}
    answer = {"applications": {"chat": {"deployments": {"llm": deployment}}}}
    found = parse_applications(answer, "default", "local", 1.0)[KEY]
    assert found.autoscaling is None or not found.autoscaling.follows_plan


# ---------------------------------------------------------------- the actuator


def actuator() -> RayServeActuator:
    """At an address where nobody answers: a post would fail."""
    return RayServeActuator("ray_serve", "default", "local", DashboardClient("http://127.0.0.1:9", timeout_s=0.5))


async def test_in_policy_mode_nothing_is_posted_and_it_says_so() -> None:
    one = actuator()
    plan = plan_of((KEY, 3, 1))
    plan = replace(plan, deployments=(replace(plan.deployments[0], act="policy"),))
    outcome = await one.apply(plan, plan.now_s)
    (applied,) = outcome.applied
    assert (applied.outcome, applied.value) == ("published", 3)
    assert "nothing is posted" in applied.why
    assert outcome.failed == ()
    await one.close()


async def test_a_level_that_serve_does_not_take_up_for_long_is_a_failure_that_says_where_to_look() -> None:
    one, found = actuator(), []
    for tick in range(30):
        plan = plan_of((KEY, 3, 3 if tick == 15 else 1), tick=tick)
        plan = replace(plan, now_s=tick * 5.0, deployments=(replace(plan.deployments[0], act="policy"),))
        found.append((await one.apply(plan, plan.now_s)).applied[0])
    assert [a.outcome for a in found[:15]] == ["published"] * 13 + ["unavailable"] * 2
    assert "/api/v1/plan" in found[14].why
    assert [a.outcome for a in found[15:18]] == ["unchanged", "published", "published"]
    await one.close()


async def test_dry_run_and_followers_withhold_in_policy_mode_too() -> None:
    one = actuator()
    for changes in ({"dry_run": True}, {"leader": False}):
        plan = plan_of((KEY, 3, 1), **changes)
        plan = replace(plan, deployments=(replace(plan.deployments[0], act="policy"),))
        assert (await one.apply(plan, plan.now_s)).applied[0].outcome == "withheld"
    await one.close()


# ---------------------------------------------------------------- the level in force


@pytest.mark.parametrize(("shown", "expected"), [(2, True), (5, True), (4, True), (6, False), (1, False)])
def test_a_policy_on_its_way_to_the_level_is_nobody_elses_doing(shown: int, expected: bool) -> None:
    assert on_its_way(seen(OURS, "policy", target=shown), before=2, ours=5) is expected


def test_posted_levels_are_there_or_not() -> None:
    assert not on_its_way(seen(None, "external", target=4), before=2, ours=5)


def test_a_controller_plans_for_a_deployment_in_policy_mode_and_blocks_nothing() -> None:
    settings = DeploymentSettings("chat/llm", min_replicas=4, max_replicas=8)
    controller = new_controller(
        ControllerConfig((settings,), dry_run=False, policy_name="static", policy_options={"replicas": 4})
    )
    signals = Signals((DeploymentSignals(KEY, seen(OURS, "policy"), metrics(0.0)),))
    plan = controller.step(signals, 0.0).deployment(KEY)
    assert plan is not None
    assert (plan.target, plan.blocked, plan.act) == (4, None, "policy")


# ---------------------------------------------------------------- settings and doctor


def test_act_is_a_setting_of_a_service_and_an_annotation(tmp_path: Path) -> None:
    file = tmp_path / "leadtime.yaml"
    text = "version: 1\nservices: [{dashboard: 'http://127.0.0.1:8265', act: %s}]\n"
    file.write_text(text % "policy")
    assert load_config(file).services[0].act == "policy"
    file.write_text(text % "both")
    with pytest.raises(ConfigError, match=r"services\[0\].act.*external, policy"):
        load_config(file)
    assert read_annotations([("act", "policy")]).annotations.act == "policy"
    wrong = read_annotations([("act", "both")])
    assert (wrong.annotations.act, wrong.problems) == (
        None, ("leadtime.dev/act: 'both'; allowed: external or policy",),
    )  # fmt: skip


def findings(one: DeploymentInventory, key: DeploymentKey = KEY) -> list[str]:
    settings = DeploymentSettings("*/*", min_replicas=0, max_replicas=9)
    return [str(f) for f in deployment_findings("s", ControllerConfig((settings,), dry_run=False), {key: one})]


def test_doctor_says_what_bends_the_plan() -> None:
    found = "\n".join(findings(seen(replace(OURS, upscale_delay_s=30.0), "policy")))
    assert "warn  chat/llm: upscale_delay_s is 30" in found
    assert "warn  chat/llm: max_replicas 8 is below replicas.max 9" in found
    assert "warn  chat/llm: min_replicas 1 is above replicas.min 0" in found
    assert "ok    chat/llm: Serve's controller follows the plan; target 2, 2 running" in found


def test_doctor_fails_on_another_policy_on_wrong_arguments_and_on_another_service() -> None:
    assert findings(seen(SERVES, "policy"))[0].startswith("fail  chat/llm: chat/llm is scaled by another policy")
    assert findings(seen(OURS, "external"))[0].startswith("fail  chat/llm: leadtime's policy is in")
    wrong = findings(seen(replace(OURS, policy_kwargs={"plan": "leadtime:8080"}), "policy"))
    assert wrong[0].startswith(
        "fail  chat/llm: the plan is not followed: policy_kwargs.plan: 'leadtime:8080'; allowed:"
    )
    other = findings(seen(replace(OURS, policy_kwargs={"plan": "/plan", "service": "llm/chat"}), "policy"))
    assert any(line.startswith("fail  chat/llm: policy_kwargs.service is 'llm/chat'") for line in other)
