"""A tenant's word narrows what the admin allows, and costs no other tenant a GPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from autoscaler.core import guards
from autoscaler.core.allocation import Claim, paced, share
from autoscaler.core.build import new_controller
from autoscaler.core.controller import Controller
from autoscaler.core.invariants import BUDGET, over_budget
from autoscaler.core.tenants import LAST_PRIORITY, Asked, narrowed, unlisted
from autoscaler.core.types import DeploymentPlan, DeploymentSettings, DeploymentSignals, Follows, Signals, TenantRules
from autoscaler.sources.kuberay.annotations import read_annotations, settings_for_service
from policies.base import DeploymentKey, Slo
from policies.capacity.load import load_profile
from tests.autoscaler.build import Says, config, inventory, metrics
from tests.wanting import WantingPolicy

PROFILE = load_profile("llama-3.1-8b/h100/tp1")
ENTRY = DeploymentSettings("b/*/chat/*", profile=PROFILE, min_replicas=1, max_replicas=4, slo=Slo(2.0, 0.05, 0.99))
RULES = TenantRules()
OWNER, RIVAL = DeploymentKey.parse("a/own/chat/llm"), DeploymentKey.parse("b/evil/chat/llm")
OWNERS = DeploymentSettings("a/own/chat/llm", profile=PROFILE, min_replicas=0, max_replicas=8, guaranteed_gpus=4)


def made(entry: DeploymentSettings = ENTRY, **asked: Any) -> tuple[DeploymentSettings, list[str]]:
    settings, refusals = narrowed(entry, Asked(**asked), max_step_up=2)
    return settings, [refusal.what for refusal in refusals]


# ---------------------------------------------------------------- one entry


def test_a_range_inside_the_entrys_is_taken() -> None:
    settings, refused = made(min_replicas=2, max_replicas=3, slo_ttft_s=5.0, slo_itl_s=0.1, target_fraction=0.9)

    assert (settings.min_replicas, settings.max_replicas, settings.slo) == (2, 3, Slo(5.0, 0.1, 0.9))
    assert refused == []


@pytest.mark.parametrize(
    "asked",
    [
        {"min_replicas": 0},
        {"min_replicas": 5},
        {"max_replicas": 5},
        {"slo_ttft_s": 1.0},
        {"slo_itl_s": 0.01},
        {"target_fraction": 0.999},
    ],
)
def test_what_would_widen_the_entry_is_refused_and_stays_as_the_entry_has_it(asked: dict[str, Any]) -> None:
    settings, refused = made(**asked)

    assert refused == list(asked)
    assert (settings.min_replicas, settings.max_replicas, settings.slo) == (1, 4, ENTRY.slo)


def test_an_entry_lets_itself_be_widened_only_in_what_it_names() -> None:
    entry = replace(ENTRY, may_widen=("max_replicas",))
    settings, refused = made(entry, max_replicas=9, slo_ttft_s=1.0)

    assert (settings.max_replicas, settings.slo) == (9, ENTRY.slo)
    assert refused == ["slo_ttft_s"]


def test_a_promise_the_entry_does_not_make_is_no_tenants_to_add() -> None:
    settings, refused = made(replace(ENTRY, slo=Slo(None, 0.05, 0.99)), slo_ttft_s=600.0)

    assert settings.slo.ttft_s is None
    assert refused == ["slo_ttft_s"]


def test_a_service_without_an_entry_stands_last_in_the_one_budget_there_is() -> None:
    settings, refused = unlisted("b/evil/*/*", Asked(min_replicas=3, max_replicas=100), RULES, ["h100"])

    assert settings is not None
    assert (settings.min_replicas, settings.max_replicas, settings.gpu) == (3, RULES.max_replicas, "h100")
    assert (settings.priority, settings.insists_on, settings.unlisted) == (LAST_PRIORITY, 0, True)
    assert [refusal.why for refusal in refused] == ["100 is above the 8 of tenants.max_replicas"]


@pytest.mark.parametrize(
    ("rules", "budgets"), [(RULES, ["h100", "a100"]), (TenantRules(max_replicas=0), ["h100"]), (RULES, ["a", "b"])]
)
def test_a_service_without_an_entry_that_no_budget_would_hold_is_only_observed(
    rules: TenantRules, budgets: list[str]
) -> None:
    settings, refused = unlisted("b/evil/*/*", Asked(max_replicas=3), rules, budgets)

    assert settings is None
    assert "only observed" in refused[0].why


# ---------------------------------------------------------------- in the fleet


def signals(now_s: float, **held: int) -> Signals:
    """`held`: by owner and rival, replicas that their dashboards say are running; the rival's draining ones too."""
    ours, theirs = held.get("owner", 0), held.get("rival", 0)
    seen = (
        DeploymentSignals(OWNER, inventory(now_s, running=ours), metrics(now_s)),
        DeploymentSignals(
            RIVAL, inventory(now_s, running=theirs, stopping=held.get("draining", 0)), metrics(now_s, ongoing=1e6)
        ),
    )
    return Signals(deployments=seen)


def play(controller: Controller, ticks: int, entries: tuple[DeploymentSettings, ...] = (), **held: int) -> list[Any]:
    plans = []
    for tick in range(ticks):
        now_s = 5.0 * tick
        seen = Signals(deployments=signals(now_s, **held).deployments, settings=entries)
        plan = controller.step(seen, now_s)
        targets = {d.key: d.target for d in plan.deployments}
        held["owner"] = targets[OWNER] or 0
        plans.append(targets)
    return plans


def controller(*deployments: DeploymentSettings, budget: int = 6, **changes: Any) -> Controller:
    rules = TenantRules(drain_s=60.0)
    settings = config(*deployments, **({"gpu_budget": {PROFILE.gpu: budget}, "tenants": rules} | changes))
    return new_controller(settings, policy=Says(8))


def test_what_another_dashboard_claims_keeps_a_guarantee_waiting_for_a_drain_at_most() -> None:
    plans = play(controller(OWNERS, ENTRY), 16, rival=1000, draining=1000)

    assert plans[-1][OWNER] == 4


def test_who_was_lent_gpus_and_then_goes_dark_keeps_a_guarantee_waiting_for_a_drain_at_most() -> None:
    """The rival is lent four of six while the owner sleeps; then its head falls silent, and the owner wakes."""
    policy = WantingPolicy({RIVAL: 4, OWNER: 0})
    limits = config(OWNERS, ENTRY, gpu_budget={PROFILE.gpu: 6}, tenants=TenantRules(drain_s=60.0), full_guards=True)
    one = new_controller(limits, policy=policy)
    lent = owner = 0
    for tick in range(40):
        now_s, dark = 5.0 * tick, tick >= 10
        if tick == 10:
            assert lent == 4
            policy.wants = {OWNER: 4}  # of what it cannot see it says nothing
        seen = (
            DeploymentSignals(OWNER, inventory(now_s, running=owner), metrics(now_s)),
            DeploymentSignals(RIVAL, None if dark else inventory(now_s, running=lent), metrics(now_s)),
        )
        targets = {d.key: d.target for d in one.step(Signals(deployments=seen), now_s).deployments}
        owner = owner if targets[OWNER] is None else targets[OWNER]
        lent = lent if targets[RIVAL] is None else targets[RIVAL]

    assert owner == 4


def test_a_service_without_an_entry_is_seen_by_what_holds_of_every_decision() -> None:
    settings, _ = unlisted("b/evil/*/*", Asked(max_replicas=8), RULES, [PROFILE.gpu])
    assert settings is not None
    limited = config(settings, gpu_budget={PROFILE.gpu: 1})
    plan = DeploymentPlan(RIVAL, 3, 1, 3, (), (), None, "evil", "raised", "external")
    seen = Signals((DeploymentSignals(RIVAL, inventory(0.0), metrics(0.0)),))

    assert [one.invariant for one in over_budget(seen, [plan], limited)] == [BUDGET]


def test_a_claimed_draining_replica_counts_while_it_may_drain() -> None:
    plans = play(controller(OWNERS, ENTRY), 2, rival=2, draining=2)

    assert [plan[OWNER] for plan in plans] == [2, 2]


def test_a_dashboard_that_says_a_replica_needs_no_gpu_neither_escapes_the_budget_nor_stops_the_tick() -> None:
    entries, _ = settings_for_service((OWNERS,), "b", "evil", read_annotations([("max-replicas", "9")]).annotations)
    deployments = (
        DeploymentSignals(OWNER, inventory(0.0), metrics(0.0)),
        DeploymentSignals(RIVAL, inventory(0.0, gpus_per_replica=0), metrics(0.0)),
    )
    in_budget = tuple(unlisted(e.match, Asked(max_replicas=9), RULES, [PROFILE.gpu])[0] or e for e in entries)
    plan = controller(OWNERS, budget=3).step(Signals(deployments=deployments, settings=in_budget), 0.0)

    assert sum(d.target or 0 for d in plan.deployments) <= 3


def test_a_minimum_by_annotation_is_no_right_in_a_scarce_budget() -> None:
    entries, problems = settings_for_service(
        (OWNERS, ENTRY), "b", "evil", read_annotations([("min-replicas", "4")]).annotations
    )
    plans = play(controller(OWNERS, ENTRY, budget=5), 3, entries, rival=1)

    assert problems == ()
    assert [plan[RIVAL] for plan in plans] == [1, 1, 1]
    assert plans[-1][OWNER] == 4


def test_a_minimum_by_annotation_is_reached_step_by_step() -> None:
    entry = DeploymentSettings("b/*/chat/*", max_replicas=100)
    entries, _ = settings_for_service((entry,), "b", "evil", read_annotations([("min-replicas", "90")]).annotations)
    now = Signals(deployments=signals(0.0, rival=1).deployments, settings=entries)
    plan = new_controller(config(entry, full_guards=True), policy=Says(1)).step(now, 0.0)
    found = next(d for d in plan.deployments if d.key == RIVAL)

    assert found.target == 1 + RULES.max_step_up
    assert guards.STEP_UP in [record.name for record in found.guards]


def test_services_without_an_entry_share_what_their_namespace_may_have() -> None:
    keys = [DeploymentKey("b", f"evil-{i}", "chat", "llm") for i in range(20)]
    asked = read_annotations([("max-replicas", "8"), ("min-replicas", "8")]).annotations
    entries = tuple(e for key in keys for e in settings_for_service((), "b", key.service, asked)[0])
    seen = Signals(tuple(DeploymentSignals(k, inventory(0.0, running=0), metrics(0.0)) for k in keys), settings=entries)
    plan = new_controller(config(full_guards=True), policy=Says(8)).step(seen, 0.0)

    assert sum(d.target or 0 for d in plan.deployments) == RULES.max_gpus_per_namespace


def test_a_service_without_an_entry_that_is_larger_than_it_may_be_keeps_its_last_replica() -> None:
    asked = read_annotations([("max-replicas", "8")]).annotations
    entries, _ = settings_for_service((), "b", "evil", asked)
    one = new_controller(config(full_guards=True), policy=Says(8))
    running = 3
    for tick in range(5):
        large = inventory(5.0 * tick, running=running, gpus_per_replica=16)
        seen = (DeploymentSignals(RIVAL, large, metrics(5.0 * tick)),)
        running = one.step(Signals(deployments=seen, settings=entries), 5.0 * tick).deployments[0].target or 0

    assert running == 1


def test_deployments_of_one_entry_share_its_guarantee() -> None:
    siblings = [Claim(f"b/{name}", 4, 1, guaranteed_gpus=4, entry="b/*") for name in "123"]
    owner = Claim("c/own", 4, 1, guaranteed_gpus=4)

    assert share([*siblings, owner], 8)["c/own"] == 4


def test_a_namesake_in_another_namespace_is_not_followed() -> None:
    ingress = DeploymentKey.parse("b/own/chat/ingress")
    settings = (
        DeploymentSettings("chat/llm", max_replicas=8),
        DeploymentSettings("chat/ingress", max_replicas=8, follows=Follows("chat/llm")),
    )
    theirs = DeploymentKey.parse("a/evil/chat/llm")
    seen = tuple(DeploymentSignals(key, inventory(0.0), metrics(0.0)) for key in (ingress, theirs))
    plan = new_controller(config(*settings), policy=Says(8)).step(Signals(deployments=seen), 0.0)

    assert next(d for d in plan.deployments if d.key == ingress).target is None


# ---------------------------------------------------------------- whatever a tenant writes

TEXTS = st.one_of(
    st.integers(-2, 200).map(str), st.sampled_from(["0.5", "0.99", "0.9999", "600", "1e-9", "true", "x"]), st.text()
)
ANNOTATIONS = st.dictionaries(
    st.sampled_from(["enabled", "min-replicas", "max-replicas", "slo-ttft-s", "slo-itl-s", "target-fraction"]), TEXTS
)
ENTRIES = st.builds(
    lambda low, room, slo: DeploymentSettings(
        "b/*/chat/*", profile=PROFILE, min_replicas=low, max_replicas=low + room, slo=slo
    ),
    st.integers(0, 6),
    st.integers(1, 6),
    st.builds(Slo, st.sampled_from([None, 0.5, 2.0]), st.sampled_from([None, 0.05]), st.sampled_from([0.9, 0.99])),
)


def as_lax(asked: float | None, given: float | None) -> bool:
    return given is None if asked is None else given is None or given <= asked


@given(ENTRIES, ANNOTATIONS)
def test_no_annotations_lead_out_of_the_admins_entry(entry: DeploymentSettings, found: dict[str, str]) -> None:
    reading = read_annotations(found.items())
    for one in settings_for_service((entry,), "b", "evil", reading.annotations)[0]:
        assert entry.min_replicas <= one.min_replicas <= one.max_replicas <= entry.max_replicas
        assert as_lax(one.slo.ttft_s, entry.slo.ttft_s)
        assert as_lax(one.slo.itl_s, entry.slo.itl_s)
        assert one.slo.target_fraction <= entry.slo.target_fraction
        same = (one.weight, one.priority, one.guaranteed_gpus, one.gpus_per_replica, one.profile, one.node_pools)
        assert same == (
            entry.weight, entry.priority, entry.guaranteed_gpus, entry.gpus_per_replica, entry.profile,
            entry.node_pools,
        )  # fmt: skip


@given(ANNOTATIONS)
def test_no_annotations_lead_out_of_what_a_service_without_an_entry_may_have(found: dict[str, str]) -> None:
    reading = read_annotations(found.items())
    for one in settings_for_service((), "b", "evil", reading.annotations, RULES, ["h100"])[0]:
        assert one.match == "b/evil/*/*"
        assert 0 <= one.min_replicas <= one.max_replicas <= RULES.max_replicas
        assert (one.gpu, one.guaranteed_gpus, one.priority, one.weight) == ("h100", 0, LAST_PRIORITY, 1.0)


@given(
    listed=st.booleans(),
    found=ANNOTATIONS,
    claims=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3000)), min_size=20, max_size=20),
    gpus=st.one_of(st.none(), st.integers(0, 10**6)),
)
@hypothesis_settings(max_examples=25, deadline=None)
def test_a_guarantee_holds_whatever_another_tenant_writes_and_its_dashboard_says(
    listed: bool, found: dict[str, str], claims: list[tuple[int, int]], gpus: int | None
) -> None:
    """Replicas that others had before anything was guaranteed may drain first: after that nothing is in the way."""
    file = (OWNERS, ENTRY) if listed else (OWNERS,)
    rules = TenantRules(drain_s=60.0)
    reading = read_annotations(found.items())
    entries = settings_for_service(file, "b", "evil", reading.annotations, rules, [PROFILE.gpu])[0]
    one = controller(*file, full_guards=True)
    owner = 0
    for tick, (running, draining) in enumerate(claims):
        now_s = 5.0 * tick
        listed = {"running": min(running, 50), "stopping": min(draining, 50)}
        many = inventory(now_s, **listed, gpus_per_replica=gpus, target=running)
        seen = (
            DeploymentSignals(OWNER, inventory(now_s, running=owner), metrics(now_s)),
            DeploymentSignals(RIVAL, many, metrics(now_s, ongoing=float(running), waiting=float(draining))),
        )
        plan = one.step(Signals(deployments=seen, settings=entries), now_s)
        owner = next(d.target or 0 for d in plan.deployments if d.key == OWNER)

    assert owner >= 4


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 6)), max_size=4),
    st.sampled_from([1, 2, 4]),
)
def test_claims_beyond_every_grant_take_nothing_from_a_guarantee(
    others: list[tuple[int, int, int]], gpus_per_replica: int
) -> None:
    budget = 8 + sum(allowance for *_, allowance in others)
    owner = Claim("own", 8 // gpus_per_replica, gpus_per_replica, guaranteed_gpus=8)
    claims = [owner, *(Claim(f"o{i}", 9, 1, holds=h, draining=d, allowance=a) for i, (h, d, a) in enumerate(others))]

    assert paced(claims, share(claims, budget), budget)["own"] == 8 // gpus_per_replica
