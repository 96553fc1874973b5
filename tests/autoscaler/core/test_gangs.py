"""Deployments whose replicas start and stop in gangs: every level is a whole number of gangs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.core import conditions, guards, invariants
from autoscaler.core.build import new_controller
from autoscaler.core.supply.placement import of_gang
from autoscaler.core.types import (
    ControllerConfig,
    DeploymentInventory,
    DeploymentSettings,
    DeploymentSignals,
    Follows,
    GuardSettings,
    Plan,
    ReplicaSignal,
    Signals,
    TenantRules,
)
from policies.base import DeploymentKey
from policies.capacity.load import load_profile
from tests.autoscaler.build import KEY, Says, config, inventory, metrics, signals
from tests.autoscaler.core.test_invariants import at, inventories, pages

PROFILE = load_profile("llama-3.1-8b/h100/tp1")
OTHER = DeploymentKey.parse("code/llm")
BOTH = (KEY, OTHER)


def one(**changes: Any) -> DeploymentSettings:
    values: dict[str, Any] = {"match": "chat/llm", "profile": PROFILE, "min_replicas": 4, "max_replicas": 16}
    return DeploymentSettings(**(values | changes))


def decided(
    wants: int, seen: DeploymentInventory, entry: DeploymentSettings | None = None, busy: float = 0.0, **changes: Any
) -> Plan:
    controller = new_controller(config(entry or one(), **changes), policy=Says(wants))
    return controller.step(signals(seen, metrics(0.0, ongoing=busy)), 0.0)


def gang(running: int, size: int = 4, **changes: Any) -> DeploymentInventory:
    return inventory(0.0, running=running, gang_size=size, **changes)


@pytest.mark.parametrize(
    ("wants", "target"), [(0, 4), (1, 4), (4, 4), (5, 8), (8, 8), (9, 12), (15, 16), (16, 16), (40, 16)]
)
def test_what_the_policy_wants_is_rounded_up_to_whole_gangs(wants: int, target: int) -> None:
    assert decided(wants, gang(4)).deployments[0].target == target


def test_the_rounding_is_a_reason() -> None:
    [plan] = decided(5, gang(4)).deployments
    [record] = plan.guards
    assert (record.name, record.before, record.after) == (guards.WHOLE_GANGS, 5, 8)
    assert plan.sentence.startswith("4 → 8: replicas come in gangs of 4: 5 wanted")


@pytest.mark.parametrize(("least", "most", "wants", "target"), [(5, 30, 0, 8), (1, 11, 30, 8), (0, 7, 0, 0)])
def test_the_minimum_is_rounded_up_and_the_maximum_down(least: int, most: int, wants: int, target: int) -> None:
    entry = one(min_replicas=least, max_replicas=most)
    assert decided(wants, gang(4), entry).deployments[0].target == target


@pytest.mark.parametrize(
    ("least", "most", "words"),
    [
        (1, 3, "replicas.max 3 is less than one gang of 4 replicas"),
        (0, 1, "replicas.max 1 is less than one gang of 4 replicas"),
        (5, 7, "no whole number of gangs of 4 replicas lies between replicas.min 5 and replicas.max 7"),
    ],
)
@pytest.mark.parametrize("policy", ["predictive", "says"])
def test_bounds_without_a_whole_gang_leave_the_level_alone_and_are_told(
    least: int, most: int, words: str, policy: str
) -> None:
    entry = one(min_replicas=least, max_replicas=most)
    controller = new_controller(config(entry), policy=None if policy == "predictive" else Says(9))
    plan = controller.step(signals(gang(4), metrics(0.0, ongoing=30.0)), 0.0)
    assert plan.deployments[0].target is None
    assert plan.deployments[0].sentence == f"left alone: {words}"
    assert [(told.name, told.why) for told in plan.conditions] == [(conditions.NO_WHOLE_GANG, words)]


def test_one_gang_at_a_time_goes_where_fewer_replicas_may() -> None:
    limits = GuardSettings(scale_down_stabilization_s=0.0, max_step_up=2, max_step_down=1)
    assert decided(4, gang(12), guards=limits).deployments[0].target == 8
    assert decided(16, gang(4), guards=limits).deployments[0].target == 8
    six = replace(limits, max_step_up=11, max_step_down=6)
    assert decided(4, gang(16), guards=six).deployments[0].target == 12
    assert decided(16, gang(4), guards=six).deployments[0].target == 12


def test_where_nothing_may_be_lowered_no_gang_is() -> None:
    """As in a standby."""
    nothing = GuardSettings(scale_down_stabilization_s=0.0, max_step_down=0)
    assert decided(4, gang(12), guards=nothing).deployments[0].target == 12
    settings = (one(), one(match="code/llm", min_replicas=2, max_replicas=2, guaranteed_gpus=2))
    controller = new_controller(config(*settings, guards=nothing, gpu_budget={PROFILE.gpu: 6}), policy=Says(4))
    two = DeploymentSignals(OTHER, inventory(0.0, running=2), metrics(0.0))
    plan = controller.step(Signals((DeploymentSignals(KEY, gang(4, target=5), metrics(0.0)), two)), 0.0)
    assert plan.deployments[0].target is None


def test_the_gangs_that_stay_carry_what_is_in_flight() -> None:
    plan = decided(4, gang(12), busy=55.0)  # 10 requests fit a replica
    assert plan.deployments[0].target == 8


def test_the_last_gang_stays_while_a_request_is_in_flight() -> None:
    entry = one(min_replicas=0)
    assert decided(0, gang(4), entry, busy=1.0).deployments[0].target == 4
    assert decided(0, gang(4), entry).deployments[0].target == 0


@pytest.mark.parametrize(("budget", "target"), [(16, 12), (11, 8), (8, 8), (7, 4), (4, 4)])
def test_a_budget_grants_whole_gangs(budget: int, target: int) -> None:
    plan = decided(12, gang(4), gpu_budget={PROFILE.gpu: budget})
    assert plan.deployments[0].target == target


def test_what_a_gang_cannot_use_of_a_budget_goes_to_others() -> None:
    settings = (one(min_replicas=0), one(match="code/llm", min_replicas=0))
    controller = new_controller(config(*settings, gpu_budget={PROFILE.gpu: 11}), policy=Says(12))
    seen = Signals(
        (
            DeploymentSignals(KEY, gang(0, target=0), metrics(0.0)),
            DeploymentSignals(OTHER, inventory(0.0, running=0), metrics(0.0)),
        )
    )
    chat, code = controller.step(seen, 0.0).deployments
    assert (chat.target, code.target) == (4, 7)


def test_a_guarantee_counts_in_whole_gangs() -> None:
    settings = (one(min_replicas=0, guaranteed_gpus=7), one(match="code/llm", min_replicas=0, priority=5))
    controller = new_controller(config(*settings, gpu_budget={PROFILE.gpu: 10}), policy=Says(10))
    seen = Signals(
        (
            DeploymentSignals(KEY, gang(0, target=0), metrics(0.0)),
            DeploymentSignals(OTHER, inventory(0.0, running=0), metrics(0.0)),
        )
    )
    chat, code = controller.step(seen, 0.0).deployments
    assert (chat.target, code.target) == (4, 6)


def test_a_namespace_without_entries_shares_its_gpus_in_whole_gangs() -> None:
    """8 GPUs: two gangs of three for one tenant's deployment, what is left for another one."""
    rules = TenantRules(max_gpus_per_namespace=8, max_replicas=9)
    settings = tuple(
        DeploymentSettings(match, min_replicas=0, max_replicas=9, unlisted=True, gpus_per_replica=1)
        for match in ("chat/llm", "code/llm")
    )
    controller = new_controller(config(*settings, tenants=rules), policy=Says(9))
    seen = Signals(
        (
            DeploymentSignals(KEY, gang(0, 3, target=0), metrics(0.0)),
            DeploymentSignals(OTHER, inventory(0.0, running=0), metrics(0.0)),
        )
    )
    chat, code = controller.step(seen, 0.0).deployments
    assert chat.target is not None
    assert code.target is not None
    assert chat.target % 3 == 0
    assert (chat.target, code.target) == (3, 5)


def test_what_a_tenant_widened_is_used_a_gang_at_a_time() -> None:
    entry = one(max_step_up=2)
    assert decided(16, gang(4), entry).deployments[0].target == 8


def test_a_deployment_whose_gang_cannot_be_read_keeps_its_level() -> None:
    """It is unknown by itself (applications.py): nothing is planned, and the condition says what was read."""
    controller = new_controller(config(one()), policy=Says(4))
    controller.step(signals(gang(8), metrics(0.0)), 0.0)
    why = "chat/llm.gang_scheduling_config.gang_size is 0"
    seen = Signals((DeploymentSignals(KEY, None, metrics(60.0), unreadable=why),))
    plan = controller.step(seen, 60.0)
    assert plan.deployments[0].target is None
    assert [(told.name, told.why) for told in plan.conditions] == [(conditions.UNREADABLE, why)]


def test_gangs_of_another_size_after_a_redeploy_are_taken_at_once() -> None:
    controller = new_controller(config(one(max_replicas=30)), policy=Says(8))
    controller.step(signals(gang(8), metrics(0.0)), 0.0)
    seen = replace(gang(8, 3), as_of_s=5.0)
    assert controller.step(signals(seen, metrics(5.0)), 5.0).deployments[0].target == 9


def test_a_size_that_a_tenant_claims_takes_nothing_from_others() -> None:
    """The size is what a Ray head says. A gang of eight is no right to eight GPUs where the minimum is one replica."""
    settings = (one(min_replicas=1, max_replicas=8, priority=0), one(match="code/llm", min_replicas=1, max_replicas=8))
    controller = new_controller(config(*settings, gpu_budget={PROFILE.gpu: 8}), policy=Says(6))
    seen = Signals(
        (
            DeploymentSignals(KEY, gang(0, 8, target=0), metrics(0.0)),
            DeploymentSignals(OTHER, inventory(0.0, running=4), metrics(0.0)),
        )
    )
    chat, code = controller.step(seen, 0.0).deployments
    assert (chat.target, code.target) == (0, 6)


def test_the_last_gang_is_nobodys_to_take() -> None:
    settings = (one(min_replicas=1), one(match="code/llm", min_replicas=1, max_replicas=8, priority=5))
    controller = new_controller(config(*settings, gpu_budget={PROFILE.gpu: 8}), policy=Says(8))
    seen = Signals(
        (
            DeploymentSignals(KEY, gang(4), metrics(0.0)),
            DeploymentSignals(OTHER, inventory(0.0, running=4), metrics(0.0)),
        )
    )
    assert controller.step(seen, 0.0).deployments[0].target == 4


def test_a_follower_of_gangs_follows_in_whole_gangs() -> None:
    follower = DeploymentSettings("code/llm", max_replicas=9, follows=Follows("chat/llm", 0.5))
    controller = new_controller(config(one(), follower), policy=Says(12))
    seen = Signals(
        (
            DeploymentSignals(KEY, inventory(0.0, running=12), metrics(0.0)),
            DeploymentSignals(OTHER, gang(2, 2), metrics(0.0)),
        )
    )
    assert controller.step(seen, 0.0).deployments[1].target == 6
    odd = Signals((seen.deployments[0], DeploymentSignals(OTHER, gang(4, 4, target=5), metrics(0.0))))
    assert controller.step(odd, 0.0).deployments[1].target == 8


# ------------------------------------------------------------ levels that others set


def test_a_remainder_that_others_set_is_raised_to_the_whole_gang_and_told_once() -> None:
    controller = new_controller(config(one()), policy=Says(4))
    controller.step(signals(gang(4), metrics(0.0)), 0.0)
    busy = {"ongoing": 45.0}
    seen = replace(gang(8, target=5), as_of_s=60.0)  # Serve lets both gangs go on
    plan = controller.step(signals(seen, metrics(60.0, **busy)), 60.0).deployments[0]
    assert plan.target == 8
    assert [(r.name, r.before, r.after) for r in plan.guards][:2] == [
        (guards.MANUAL, 4, 5),
        (guards.WHOLE_GANGS, 5, 8),
    ]
    after = replace(gang(8), as_of_s=65.0)
    later = controller.step(signals(after, metrics(65.0, **busy)), 65.0).deployments[0]
    assert guards.WHOLE_GANGS not in {record.name for record in later.guards}


def test_a_remainder_above_what_may_be_goes_down_to_the_whole_gang_that_carries_it() -> None:
    plan = decided(4, gang(4, target=6), one(max_replicas=7)).deployments[0]
    assert plan.target == 4
    assert "the level was 6, above the most it may be (4)" in plan.sentence


def test_a_remainder_is_left_alone_where_no_whole_gang_carries_what_is_in_flight() -> None:
    plan = decided(4, gang(8, target=6), one(max_replicas=7), busy=70.0)
    assert plan.deployments[0].target is None
    assert [told.name for told in plan.conditions] == [conditions.ABOVE_MAXIMUM]


def test_a_remainder_that_the_budget_cannot_fill_goes_down_only_where_that_carries() -> None:
    budget = {"gpu_budget": {PROFILE.gpu: 6}}
    settings = (one(), one(match="code/llm", min_replicas=2, max_replicas=2, guaranteed_gpus=2))
    controller = new_controller(config(*settings, **budget), policy=Says(4))
    two = DeploymentSignals(OTHER, inventory(0.0, running=2), metrics(0.0))
    idle = Signals((DeploymentSignals(KEY, gang(4, target=5), metrics(0.0)), two))
    assert controller.step(idle, 0.0).deployments[0].target == 4
    busy = Signals((DeploymentSignals(KEY, gang(8, target=5), metrics(5.0, ongoing=75.0)), two))
    plan = controller.step(busy, 5.0)
    assert plan.deployments[0].target is None
    assert plan.breaches == ()
    assert "left alone" in plan.deployments[0].sentence


def test_a_remainder_never_goes_down_on_what_is_not_known() -> None:
    controller = new_controller(config(one(max_replicas=7)), policy=Says(4))
    plan = controller.step(signals(gang(4, target=6), None), 0.0)
    assert plan.deployments[0].target is None


# ------------------------------------------------------------ what is seen of it


def test_the_policy_is_shown_whole_gangs() -> None:
    policy = Says(4)
    new_controller(config(one(min_replicas=5, max_replicas=15)), policy=policy).step(
        signals(gang(4, target=5), metrics(0.0)), 0.0
    )
    [view] = policy.views[0].deployments
    assert (view.gang_size, view.min_replicas, view.max_replicas, view.target) == (4, 8, 12, 8)


@pytest.mark.parametrize(
    ("room", "path", "fits"),
    [
        ([4, 0], "free_gpu", [4, 0]),
        ([3, 1], "warm_node", [0, 4]),
        ([5, 3], "free_gpu", [4, 4]),
        ([3, 0], "new_node", [0, 0]),
    ],
)
def test_a_gang_takes_the_path_of_its_last_member(room: list[int], path: str, fits: list[int]) -> None:
    assert of_gang(room, 4) == (path, fits)


def test_a_gang_that_fails_to_start_once_is_no_crash_loop_and_three_times_is() -> None:
    controller = new_controller(config(one()), policy=Says(8))
    told = []
    for tick in range(14):
        now_s = 5.0 * tick
        new = tuple(ReplicaSignal(f"n{tick // 4}-{i}", "STARTING", now_s) for i in range(4))
        seen = gang(4, target=8)
        seen = replace(seen, as_of_s=now_s, replicas=(*seen.replicas, *new))
        plan = controller.step(signals(seen, metrics(now_s)), now_s)
        told.append({condition.name for condition in plan.conditions})
    assert all(conditions.CRASH_LOOP not in names for names in told[:12])
    assert conditions.CRASH_LOOP in told[12]


# ------------------------------------------------------------ for any signals


@st.composite
def courses(draw: st.DrawFn) -> list[tuple[float, list[tuple[Any, int, Any]]]]:
    """Some ticks: seconds since the last, and what is seen of both deployments, with the sizes of their gangs."""
    sizes = [draw(st.integers(1, 9)) for _ in BOTH]
    ticks: list[tuple[float, list[tuple[Any, int, Any]]]] = []
    for _ in range(draw(st.integers(1, 10))):
        if draw(st.integers(0, 9)) == 0:  # redeployed with gangs of another size
            sizes = [draw(st.integers(1, 9)) for _ in BOTH]
        seconds = draw(st.sampled_from([5.0, 5.0, 61.0, 700.0]))
        ticks.append((seconds, [(draw(inventories()), size, draw(pages())) for size in sizes]))
    return ticks


@st.composite
def entries(draw: st.DrawFn) -> tuple[DeploymentSettings, ...]:
    found = []
    for key in BOTH:
        least, most = sorted((draw(st.integers(0, 12)), draw(st.integers(1, 40))))
        found.append(
            DeploymentSettings(
                str(key),
                profile=PROFILE,
                min_replicas=least,
                max_replicas=most,
                guaranteed_gpus=draw(st.sampled_from([0, 3, 8])),
                priority=draw(st.sampled_from([0, 1])),
                insists_on=draw(st.sampled_from([None, 1])),
                max_step_up=draw(st.sampled_from([None, 2])),
            )
        )
    return tuple(found)


@given(
    courses(),
    entries(),
    st.sampled_from([None, 3, 9, 20]),
    st.sampled_from(["predictive", "static", 1, 7, 30]),
    st.sampled_from([None, 1, 3]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_seen_every_level_is_a_whole_number_of_gangs_within_bounds_and_budget(
    course: list[tuple[float, list[tuple[Any, int, Any]]]],
    bounds: tuple[DeploymentSettings, ...],
    budget: int | None,
    policy: str | int,
    step: int | None,
    full: bool,
) -> None:
    fleet = ControllerConfig(
        bounds,
        policy_name=policy if isinstance(policy, str) else "predictive",
        policy_options={"replicas": 5} if policy == "static" else {},
        dry_run=False,
        gpu_budget={} if budget is None else {PROFILE.gpu: budget},
        guards=GuardSettings(60.0, 0.0, step, step),
        full_guards=full,
    )
    controller, now_s = new_controller(fleet, policy=Says(policy) if isinstance(policy, int) else None), 0.0
    for seconds, seen in course:
        now_s += seconds
        shown = [
            DeploymentSignals(key, _of(at(now_s, there), size), at(now_s, page))
            for key, (there, size, page) in zip(BOTH, seen, strict=True)
        ]
        given_now = Signals(tuple(shown))
        plan = controller.step(given_now, now_s)
        assert {breach.invariant for breach in plan.breaches} <= {invariants.BUDGET}
        for made, signal, entry in zip(plan.deployments, shown, bounds, strict=True):
            if made.target is None or signal.inventory is None:
                continue
            assert made.target % signal.inventory.gang_size == 0
            assert made.target <= entry.max_replicas
            assert made.gang_size == signal.inventory.gang_size
        granted = {key: controller.state.memory(key.full).supply.most_granted for key in BOTH}
        allowances = {key: most for key, most in granted.items() if most is not None}
        assert invariants.breaches(given_now, plan, fleet, full, allowances) == ()


def _of(seen: DeploymentInventory | None, size: int) -> DeploymentInventory | None:
    return None if seen is None else replace(seen, gang_size=size)
