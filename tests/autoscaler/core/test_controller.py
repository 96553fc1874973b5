"""The controller's step as a whole: what goes in, what comes out, what is remembered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaler.core import guards, journal
from autoscaler.core.build import new_controller
from autoscaler.core.state import ControllerState
from autoscaler.core.types import (
    DeploymentSettings,
    DeploymentSignals,
    Follows,
    GuardSettings,
    PauseState,
    Plan,
    Signals,
)
from policies.base import DeploymentKey, ForecastSpec
from policies.base.durations import Duration
from tests.autoscaler.build import KEY, Says, config, inventory, metrics, signals


def guards_of(plan: Plan) -> list[str]:
    return [g.name for d in plan.deployments for g in d.guards]


def test_the_policys_number_becomes_the_plan() -> None:
    controller = new_controller(config(), policy=Says(3))
    plan = controller.step(signals(inventory(0.0), metrics(0.0)), 0.0)
    decision = plan.deployments[0]
    assert (decision.key, decision.target, decision.observed_target, decision.proposed) == (KEY, 3, 1, 3)
    assert decision.sentence == "1 → 3: I was told so"
    assert plan.tick == 1
    assert not plan.dry_run


def test_a_deployment_that_no_setting_covers_is_observed_only() -> None:
    controller = new_controller(config(DeploymentSettings("other/*")), policy=Says(3))
    plan = controller.step(signals(inventory(0.0), metrics(0.0)), 0.0)
    assert plan.deployments[0].target is None
    assert guards_of(plan) == [guards.OBSERVED_ONLY]
    assert plan.observations[0].running == 1


def test_without_the_dashboard_the_deployment_is_left_alone() -> None:
    plan = new_controller(config(), policy=Says(0)).step(signals(None, metrics(0.0)), 0.0)
    assert plan.deployments[0].target is None
    assert "dashboard" in plan.deployments[0].sentence


def test_a_stale_source_never_scales_down_but_may_scale_up() -> None:
    policy = Says(1)
    controller = new_controller(config(), policy=policy)
    controller.step(signals(inventory(0.0, running=4), metrics(0.0)), 0.0)
    policy.replicas = 2
    plan = controller.step(signals(inventory(100.0, running=4), metrics(0.0)), 100.0)
    assert plan.deployments[0].target == 4
    assert guards_of(plan) == [guards.UNKNOWN]
    policy.replicas = 6
    plan = controller.step(signals(inventory(105.0, running=4), None), 105.0)
    assert plan.deployments[0].target == 6


def test_a_pause_leaves_a_deployment_alone_and_its_end_resumes() -> None:
    controller = new_controller(config(), policy=Says(3))
    paused = signals(inventory(0.0), metrics(0.0), pause=PauseState(deployments=frozenset({KEY})))
    plan = controller.step(paused, 0.0)
    assert plan.deployments[0].target is None
    assert guards_of(plan) == [guards.PAUSED]
    everything = signals(inventory(5.0), metrics(5.0), pause=PauseState(everything=True))
    assert controller.step(everything, 5.0).deployments[0].target is None
    assert controller.step(signals(inventory(10.0), metrics(10.0)), 10.0).deployments[0].target == 3


def test_serves_own_autoscaler_blocks_with_the_exact_mend() -> None:
    controller = new_controller(config(), policy=Says(3))
    plan = controller.step(signals(inventory(0.0, autoscaled_by_serve=True), metrics(0.0)), 0.0)
    decision = plan.deployments[0]
    assert decision.blocked is not None
    assert "`autoscaling_config: null`" in decision.blocked
    assert decision.target == 3


def test_switched_off_external_scaling_blocks_with_the_exact_mend() -> None:
    plan = new_controller(config(), policy=Says(3)).step(
        signals(inventory(0.0, external_scaler_enabled=False), metrics(0.0)), 0.0
    )
    assert (
        plan.deployments[0].blocked == "set `external_scaler_enabled: true` on application 'chat' in the Serve config"
    )


def test_a_target_lost_by_a_redeploy_is_put_back() -> None:
    policy = Says(5)
    controller = new_controller(config(), policy=policy)
    controller.step(signals(inventory(0.0, running=1), metrics(0.0)), 0.0)
    controller.step(signals(inventory(5.0, running=5), metrics(5.0)), 5.0)
    plan = controller.step(signals(inventory(10.0, running=5, target=1), metrics(10.0)), 10.0)
    assert plan.deployments[0].target == 5
    assert guards.TARGET_RESET in guards_of(plan)


def test_a_persons_target_is_adopted_as_the_level_in_force() -> None:
    policy = Says(2)
    cautious = config(guards=GuardSettings(scale_down_stabilization_s=0.0, max_step_down=1))
    controller = new_controller(cautious, policy=policy)
    controller.step(signals(inventory(0.0, running=2), metrics(0.0)), 0.0)
    plan = controller.step(signals(inventory(5.0, running=6), metrics(5.0)), 5.0)
    assert guards.MANUAL in guards_of(plan)
    assert plan.deployments[0].target == 5, "one step down from the person's 6, not a jump to 2"


def test_a_target_that_serve_has_not_taken_yet_is_no_manual_scaling() -> None:
    controller = new_controller(config(), policy=Says(4))
    for now_s in (0.0, 5.0, 10.0):
        plan = controller.step(signals(inventory(now_s, running=1), metrics(now_s)), now_s)
        assert guards.MANUAL not in guards_of(plan)
        assert plan.deployments[0].target == 4


def test_the_policys_own_period_holds_its_last_word() -> None:
    policy = Says(3, period_s=15.0)
    controller = new_controller(config(), policy=policy)
    targets = []
    for tick in range(5):
        policy.replicas = 3 + tick
        now_s = 5.0 * tick
        targets.append(controller.step(signals(inventory(now_s), metrics(now_s)), now_s).deployments[0].target)
    assert targets == [3, 3, 3, 6, 6]


def test_a_cpu_only_ingress_follows_and_never_goes_to_zero() -> None:
    ingress = DeploymentKey.parse("chat/ingress")
    settings = (
        DeploymentSettings("chat/llm", min_replicas=0, max_replicas=8),
        DeploymentSettings("chat/ingress", max_replicas=8, follows=Follows("chat/llm", ratio=0.5, min_replicas=1)),
    )
    policy = Says(5)
    controller = new_controller(config(*settings), policy=policy)
    both = Signals(
        deployments=(
            DeploymentSignals(KEY, inventory(0.0), metrics(0.0)),
            DeploymentSignals(ingress, inventory(0.0), metrics(0.0)),
        )
    )
    plan = controller.step(both, 0.0)
    assert {d.key: d.target for d in plan.deployments} == {KEY: 5, ingress: 3}
    policy.replicas = 0
    plan = controller.step(both, 5.0)
    assert {d.key: d.target for d in plan.deployments} == {KEY: 0, ingress: 1}


def test_who_follows_a_paused_deployment_is_left_alone_like_it() -> None:
    ingress = DeploymentKey.parse("chat/ingress")
    settings = (
        DeploymentSettings("chat/llm", max_replicas=8),
        DeploymentSettings("chat/ingress", max_replicas=8, follows=Follows("chat/llm")),
    )
    controller = new_controller(config(*settings), policy=Says(5))
    paused = PauseState(deployments=frozenset({KEY}))
    both = tuple(DeploymentSignals(key, inventory(0.0), metrics(0.0)) for key in (KEY, ingress))
    follower = controller.step(Signals(deployments=both, pause=paused), 0.0).deployments[0]
    assert (follower.key, follower.target) == (ingress, None)
    assert follower.sentence == "left alone, like chat/llm which it follows"
    alone = controller.step(Signals(deployments=both[1:]), 5.0).deployments[0]
    assert alone.sentence == "left alone: chat/llm, which it follows, is not there"


def test_the_gpu_budget_is_shared_and_named() -> None:
    from policies.capacity.load import load_profile

    profile = load_profile("llama-3.1-8b/h100/tp1")
    other = DeploymentKey.parse("code/llm")
    settings = (
        DeploymentSettings("chat/llm", profile=profile, max_replicas=8, guaranteed_gpus=3),
        DeploymentSettings("code/llm", profile=profile, max_replicas=8),
    )
    controller = new_controller(config(*settings, gpu_budget={profile.gpu: 4}), policy=Says(8))
    plan = controller.step(
        Signals(
            deployments=(
                DeploymentSignals(KEY, inventory(0.0), metrics(0.0)),
                DeploymentSignals(other, inventory(0.0), metrics(0.0)),
            )
        ),
        0.0,
    )
    targets = {d.key: d.target for d in plan.deployments}
    assert targets == {KEY: 3, other: 1}
    assert guards_of(plan).count(guards.BUDGET) == 2


def test_a_guarantee_comes_back_from_a_borrower_that_is_full() -> None:
    """The owner wakes up to four guaranteed replicas; the borrower has five of the six, and needs them all."""
    from policies.capacity.load import load_profile

    profile = load_profile("llama-3.1-8b/h100/tp1")
    other = DeploymentKey.parse("code/llm")
    settings = (
        DeploymentSettings("chat/llm", profile=profile, max_replicas=8, guaranteed_gpus=4),
        DeploymentSettings("code/llm", profile=profile, max_replicas=8),
    )
    limits = {"gpu_budget": {profile.gpu: 6}, "guards": GuardSettings()}
    controller = new_controller(config(*settings, **limits), policy=Says(6))
    owner, borrower, targets = 1, 5, []
    for tick in range(6):
        now_s = 5.0 * tick
        busy = metrics(now_s, arrivals=500.0 * tick, ongoing=900.0)
        seen = (
            DeploymentSignals(KEY, inventory(now_s, running=owner), metrics(now_s)),
            DeploymentSignals(other, inventory(now_s, running=borrower), busy),
        )
        plan = controller.step(Signals(deployments=seen), now_s)
        found = {d.key: d.target or 0 for d in plan.deployments}
        owner, borrower = found[KEY], found[other]
        targets.append((owner, borrower))
    assert targets[:3] == [(1, 4), (2, 3), (3, 2)], "one more as soon as one is free"
    assert targets[-1] == (4, 2)


def test_a_lead_time_is_learned_from_the_raise_to_the_running_replica() -> None:
    policy = Says(2)
    controller = new_controller(config(), policy=policy)
    controller.step(signals(inventory(0.0, running=1), metrics(0.0)), 0.0)
    controller.step(signals(inventory(5.0, running=1, starting=1), metrics(5.0)), 5.0)
    plan = controller.step(signals(inventory(25.0, running=2), metrics(25.0)), 25.0)
    assert plan.learned == ("chat/llm: a replica was RUNNING 25.0 s after it was asked for (free gpu)",)
    before = Duration.total([Duration(60.0, 0.5), Duration(30.0, 0.3)]).quantile(0.5)
    for start in range(1, 6):
        now_s = 100.0 * start
        policy.replicas = 1
        controller.step(signals(inventory(now_s, running=1), metrics(now_s)), now_s)
        policy.replicas = 2
        controller.step(signals(inventory(now_s + 5, running=1), metrics(now_s + 5)), now_s + 5)
        named = replace(inventory(now_s + 6, running=1, starting=1), replicas=_replicas(f"n{start}", "STARTING"))
        controller.step(signals(named, metrics(now_s + 6)), now_s + 6)
        named = replace(inventory(now_s + 25, running=2), replicas=_replicas(f"n{start}", "RUNNING"))
        plan = controller.step(signals(named, metrics(now_s + 25)), now_s + 25)
    learned = plan.lead_times[KEY].free_gpu.quantile(0.5)
    assert learned < 0.6 * before
    assert 15 < learned < 45


def _replicas(name: str, state: str) -> tuple:  # type: ignore[type-arg]
    from autoscaler.core.types import ReplicaSignal

    return (ReplicaSignal("r0", "RUNNING", 0.0), ReplicaSignal(name, state, None))


def test_the_forecaster_sees_arrivals_whatever_the_replicas_do() -> None:
    policy = Says(0, forecast=ForecastSpec(forecaster="last", bin_s=10.0))
    controller = new_controller(config(DeploymentSettings("chat/llm", min_replicas=0, max_replicas=8)), policy=policy)
    for tick in range(20):
        now_s = 5.0 * tick
        plan = controller.step(
            signals(inventory(now_s, running=0, target=0), metrics(now_s, arrivals=2.0 * now_s)), now_s
        )
    assert plan.observations[0].rate_rps == pytest.approx(2.0)
    assert plan.forecasts[KEY].quantile(30.0, 0.5) == pytest.approx(2.0, rel=0.2)


def test_capacity_is_learned_from_requests_in_flight_without_a_profile() -> None:
    controller = new_controller(config(), policy=Says(1))
    for tick in range(30):
        now_s = 5.0 * tick
        # 2 req/s with 4 in flight: each takes 2 s; 10 slots at 70 % carry 3.5 req/s.
        plan = controller.step(signals(inventory(now_s), metrics(now_s, arrivals=2.0 * now_s, ongoing=4.0)), now_s)
    assert plan.capacities_rps[KEY] == pytest.approx(3.5, rel=0.01)


def test_a_restarted_controller_decides_as_the_one_that_went_on() -> None:
    spec = ForecastSpec(forecaster="seasonal", bin_s=10.0, season_s=300.0)
    going_on, policy = new_controller(config(), policy=Says(2, forecast=spec)), Says(2, forecast=spec)
    inputs = [
        (signals(inventory(5.0 * t, running=2), metrics(5.0 * t, arrivals=3.0 * 5.0 * t, ongoing=4.0)), 5.0 * t)
        for t in range(200)
    ]
    for given, now_s in inputs[:120]:
        going_on.step(given, now_s)
    restarted = new_controller(config(), ControllerState.from_bytes(going_on.state.to_bytes()), policy)
    for given, now_s in inputs[120:]:
        first, second = going_on.step(given, now_s), restarted.step(given, now_s)
        assert journal.encode(journal.decision_record(first)) == journal.encode(journal.decision_record(second))
    assert going_on.state.to_bytes() == restarted.state.to_bytes()


@pytest.mark.parametrize(("full", "target"), [(False, 1), (True, 4)])
def test_in_a_live_cluster_the_full_guards_hold_for_a_rival_too(full: bool, target: int) -> None:
    """It wants 1 of 4 replicas while metrics are a minute and a half old."""
    controller = new_controller(config(full_guards=full), policy=Says(1, guards="bounds"))
    plan = controller.step(signals(inventory(100.0, running=4), metrics(10.0)), 100.0)
    assert plan.deployments[0].target == target
    assert (guards.UNKNOWN in guards_of(plan)) == full
