"""What must hold of every decision: played with whatever signals there may be, and what happens when it does not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.core import guards, invariants
from autoscaler.core.build import new_controller
from autoscaler.core.types import (
    ControllerConfig,
    DeploymentInventory,
    DeploymentMetrics,
    DeploymentSettings,
    DeploymentSignals,
    GuardSettings,
    Histogram,
    PauseState,
    ReplicaSignal,
    Signals,
)
from policies.base import DeploymentKey, ReplicaMetrics
from policies.capacity.load import load_profile
from tests.autoscaler.build import KEY, Says, config, inventory, metrics, signals

OTHER = DeploymentKey.parse("code/llm")
PROFILE = load_profile("llama-3.1-8b/h100/tp1")
FLEET = (
    DeploymentSettings("chat/llm", profile=PROFILE, min_replicas=0, max_replicas=6, guaranteed_gpus=2),
    DeploymentSettings("code/llm", profile=PROFILE, min_replicas=1, max_replicas=8),
)
NUMBERS = st.sampled_from([0.0, 1.0, 7.0, 40.0, 1e4, 1e9, 1e300, 1e308, -1.0, -1e9, math.nan, math.inf, -math.inf])
GAUGES = st.one_of(st.none(), st.sampled_from([0.0, 0.4, 1.0, 7.0, 120.0, 1e9]))
"""Others do not get through the join (test_join.py)."""
COUNTERS = st.dictionaries(st.sampled_from(["a", "b", "c"]), NUMBERS, max_size=3)
STATES = st.sampled_from(["RUNNING", "STARTING", "STOPPING", "RECOVERING", "NEVER_HEARD_OF"])
STATUSES = st.sampled_from(["RUNNING", "HEALTHY", "UNHEALTHY", "DEPLOY_FAILED", "DEPLOYING", ""])


@st.composite
def inventories(draw: st.DrawFn) -> DeploymentInventory | None:
    if draw(st.integers(0, 9)) == 0:
        return None
    states = draw(st.lists(STATES, max_size=8))
    return DeploymentInventory(
        as_of_s=0.0,
        target=draw(st.sampled_from([0, 1, 2, 3, 5, 6, 7, 30, 10**30])),
        replicas=tuple(ReplicaSignal(f"r{i}", state, 0.0) for i, state in enumerate(states)),
        app_status=draw(STATUSES),
        status=draw(STATUSES),
        configured_replicas=draw(st.sampled_from([None, 1, 3])),
        max_ongoing_requests=draw(st.sampled_from([None, 10, 10**9])),
    )


@st.composite
def pages(draw: st.DrawFn) -> DeploymentMetrics | None:
    if draw(st.integers(0, 9)) == 0:
        return None
    replicas = tuple(ReplicaMetrics(f"r{i}", *(draw(GAUGES) for _ in range(4))) for i in range(draw(st.integers(0, 3))))
    histograms = {"a": Histogram((1.0, math.inf), (draw(NUMBERS), draw(NUMBERS)))} if draw(st.booleans()) else {}
    return DeploymentMetrics(
        as_of_s=0.0,
        arrivals_total=draw(COUNTERS),
        prompt_tokens_total=draw(COUNTERS),
        output_tokens_total=draw(COUNTERS),
        finished_total=draw(COUNTERS),
        errors_total=draw(COUNTERS),
        rejected_total=draw(COUNTERS),
        ttft=histograms,
        itl=histograms,
        queued_at_handles=draw(GAUGES),
        ongoing=draw(GAUGES),
        replicas=replicas,
        silent_pages=draw(st.integers(0, 2)),
    )


@st.composite
def courses(draw: st.DrawFn) -> list[tuple[float, list[tuple[Any, Any]], bool]]:
    """Some ticks: seconds since the last, what is seen of both deployments, whether one is paused."""
    ticks = draw(st.integers(1, 12))
    return [
        (
            draw(st.sampled_from([5.0, 5.0, 5.0, 61.0, 700.0])),
            [(draw(inventories()), draw(pages())) for _ in range(2)],
            draw(st.booleans()),
        )
        for _ in range(ticks)
    ]


def at(now_s: float, seen: DeploymentInventory | DeploymentMetrics | None) -> Any:
    return None if seen is None else replace(seen, as_of_s=now_s)


@given(courses(), st.sampled_from(["predictive", "static"]))
@settings(max_examples=30, deadline=None)
def test_whatever_is_seen_every_promise_is_kept(
    course: list[tuple[float, list[tuple[Any, Any]], bool]], policy: str
) -> None:
    limits = {"gpu_budget": {PROFILE.gpu: 9}, "dry_run": False, "guards": GuardSettings(60.0, 0.0, None, 1)}
    options = {"replicas": 4} if policy == "static" else {}
    fleet = ControllerConfig(FLEET, policy_name=policy, policy_options=options, full_guards=True, **limits)  # type: ignore[arg-type]
    controller, now_s = new_controller(fleet), 0.0
    for seconds, seen, paused in course:
        now_s += seconds
        both = tuple(
            DeploymentSignals(key, at(now_s, one), at(now_s, page))
            for key, (one, page) in zip((KEY, OTHER), seen, strict=True)
        )
        given_now = Signals(both, pause=PauseState(deployments=frozenset({KEY} if paused else ())))
        plan = controller.step(given_now, now_s)
        # What Serve was told to start and does not list yet is in no share: there the check itself is the guard.
        assert {one.invariant for one in plan.breaches} <= {invariants.BUDGET}
        # Beyond what was granted while replicas drain, a level is what a dashboard says, and keeps nobody waiting.
        granted = {key: controller.state.memory(key.full).supply.most_granted for key in (KEY, OTHER)}
        allowances = {key: most for key, most in granted.items() if most is not None}
        assert invariants.breaches(given_now, plan, fleet, allowances=allowances) == ()


def test_a_decision_that_must_not_be_leaves_its_deployment_as_it_is_and_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Were there a bug in the guards."""
    monkeypatch.setattr(guards, "guard", lambda context, proposed: (99, ()))
    plan = new_controller(config(), policy=Says(3)).step(signals(inventory(0.0), metrics(0.0)), 0.0)
    [decision] = plan.deployments
    assert (decision.target, [one.invariant for one in plan.breaches]) == (None, [invariants.BOUNDS])
    assert decision.guards[-1].name == guards.INVARIANT
    assert decision.sentence.startswith("left alone: a bug: ")


SEEN = signals(inventory(0.0, running=4), metrics(0.0))
PLAN = new_controller(config(), policy=Says(4)).step(SEEN, 0.0)


@pytest.mark.parametrize(
    ("changes", "seen", "name"),
    [
        ({"target": 9}, {}, invariants.BOUNDS),
        ({"target": 0}, {}, invariants.BOUNDS),
        ({"target": 3}, {"fresh": False, "why_stale": "old"}, invariants.UNKNOWN),
        ({}, {"rate_rps": math.nan}, invariants.FINITE),
        ({}, {"ongoing": -1.0}, invariants.FINITE),
        ({"sentence": ""}, {}, invariants.EXPLAINED),
        ({"terms": (), "guards": ()}, {}, invariants.EXPLAINED),
    ],
)
def test_each_promise_that_is_broken_is_seen(changes: dict[str, Any], seen: dict[str, Any], name: str) -> None:
    assert invariants.breaches(SEEN, PLAN, config()) == ()
    broken = replace(
        PLAN,
        deployments=(replace(PLAN.deployments[0], **changes),),
        observations=(replace(PLAN.observations[0], **seen),),
    )
    assert [one.invariant for one in invariants.breaches(SEEN, broken, config())] == [name]


def test_a_level_that_is_raised_beyond_the_budget_is_seen() -> None:
    fleet = config(*FLEET, gpu_budget={PROFILE.gpu: 5})
    both = Signals(
        (
            DeploymentSignals(KEY, inventory(0.0, running=2), metrics(0.0)),
            DeploymentSignals(OTHER, inventory(0.0, running=3), metrics(0.0)),
        )
    )
    plan = new_controller(fleet, policy=Says(3)).step(both, 0.0)
    chat, code = plan.deployments
    assert invariants.breaches(both, plan, fleet) == ()
    broken = replace(plan, deployments=(replace(chat, target=3), replace(code, target=3)))
    assert [one.invariant for one in invariants.breaches(both, broken, fleet)] == [invariants.BUDGET]
