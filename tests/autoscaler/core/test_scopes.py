"""A request for one service, application or deployment: the entries that hold for it, and what of it is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from autoscaler.core.tenants import LAST_PRIORITY, Asked, Scope, entries_for
from autoscaler.core.types import DeploymentSettings, Follows, RecurringLoad, TenantRules
from policies.base import DeploymentKey, Slo
from policies.capacity.load import load_profile

PROFILE, OTHER = load_profile("llama-3.1-8b/h100/tp1"), load_profile("llama-3.1-8b/a100/tp1")
ENTRY = DeploymentSettings(
    "llm/*/chat/*",
    min_replicas=1,
    max_replicas=8,
    slo=Slo(2.0, 0.05, 0.99),
    node_pools=("h100", "spot"),
    weight=2.0,
    priority=5,
)
SERVICE = Scope("llm", "chat-llm")


def made(
    *settings: DeploymentSettings, scope: Scope = SERVICE, rules: TenantRules | None = None, **asked: Any
) -> tuple[list[DeploymentSettings], list[str]]:
    entries, refused = entries_for(settings, scope, Asked(**asked), rules or TenantRules())
    return list(entries), [f"{one.what}: {one.why}" for one in refused]


@pytest.mark.parametrize(
    ("match", "scope", "pattern"),
    [
        ("chat/llm", SERVICE, "llm/chat-llm/chat/llm"),
        ("llm/*/chat/*", SERVICE, "llm/chat-llm/chat/*"),
        ("*/*/*/*", Scope("llm", "chat-llm", "chat", "llm"), "llm/chat-llm/chat/llm"),
        ("*/*/chat/*", Scope("llm", "chat-llm", "rag"), None),
        ("*/*/chat/embed*", Scope("llm", "chat-llm", "*", "llm"), None),
        ("other/*/chat/*", SERVICE, None),
        ("llm/other/*/*", SERVICE, None),
        ("llm/chat", SERVICE, "llm/chat-llm/llm/chat"),
        ("a/b/c", SERVICE, None),
    ],
)
def test_an_entry_is_held_to_the_scope_or_is_for_others(match: str, scope: Scope, pattern: str | None) -> None:
    assert scope.within(match) == pattern


def test_every_entry_that_could_match_is_repeated_for_the_scope_alone() -> None:
    second = DeploymentSettings("llm/chat-llm/rag/*", max_replicas=3)

    entries, refused = made(ENTRY, second, DeploymentSettings("other/*/*/*"), max_replicas=2)

    assert [(one.match, one.max_replicas) for one in entries] == [("llm/chat-llm/chat/*", 2), ("llm/chat-llm/rag/*", 2)]
    assert refused == []
    assert not any(DeploymentKey("llm", "other", "chat", "llm").matches(one.match) for one in entries)


def test_who_asks_for_nothing_changes_nothing() -> None:
    assert made(ENTRY) == ([], [])


def test_an_entry_that_follows_another_keeps_its_own_numbers() -> None:
    follower = DeploymentSettings("llm/chat-llm/chat/router", follows=Follows("llm", 0.5))

    entries, refused = made(follower, max_replicas=1)

    assert [(one.match, one.max_replicas) for one in entries] == [(follower.match, follower.max_replicas)]
    assert refused == []


def test_rank_and_node_pools_only_ever_give_way_to_others() -> None:
    (entry,), refused = made(ENTRY, weight=0.5, priority=-3, node_pools=("spot",))

    assert (entry.weight, entry.priority, entry.node_pools, refused) == (0.5, -3, ("spot",), [])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"weight": 3.0}, "weight: 3 is above the 2 of 'llm/*/chat/*'"),
        ({"priority": 6}, "priority: 6 is above the 5 of 'llm/*/chat/*'"),
        ({"node_pools": ("spot", "a3")}, "node_pools: 'a3' is none of 'llm/*/chat/*'; allowed: h100, spot"),
        ({"max_replicas": 9}, "max_replicas: 9 is above the 8 of 'llm/*/chat/*'"),
        ({"slo_ttft_s": 1.0}, "slo_ttft_s: 1 s is stricter than the 2 s of 'llm/*/chat/*'"),
    ],
)
def test_what_would_take_from_others_is_refused_and_stays_as_it_was(asked: dict[str, Any], words: str) -> None:
    (entry,), refused = made(ENTRY, **asked)

    assert refused == [words]
    assert (entry.weight, entry.priority, entry.node_pools) == (2.0, 5, ("h100", "spot"))
    assert (entry.max_replicas, entry.slo) == (8, ENTRY.slo)


def test_a_schedule_comes_beside_the_entrys_own() -> None:
    own, theirs = (RecurringLoad(name, "0 9 * * *", "UTC", 3600.0, rps=9.0) for name in ("own", "theirs"))

    (entry,), refused = made(replace(ENTRY, schedule=(own,)), schedule=(theirs,))

    assert (entry.schedule, entry.max_replicas, refused) == ((own, theirs), 8, [])


def test_a_profile_is_taken_where_the_entry_has_none() -> None:
    (entry,), refused = made(ENTRY, profile=PROFILE)
    assert (entry.profile, entry.profile_by_tenant, refused) == (PROFILE, True, [])

    profiled = DeploymentSettings("llm/*/chat/*", profile=PROFILE)
    (entry,), refused = made(profiled, profile=OTHER)
    assert (entry.profile, entry.profile_by_tenant) == (PROFILE, False)
    assert refused == ["profile: 'llm/*/chat/*' has one already"]


def test_a_service_that_nobody_listed_has_the_last_rank_and_no_node_pools() -> None:
    rules = TenantRules(max_replicas=4, gpus_per_replica=2)

    (entry,), refused = made(rules=rules, max_replicas=3, weight=9.0, priority=9, node_pools=("h100",))

    assert (entry.match, entry.max_replicas, entry.priority) == ("llm/chat-llm/*/*", 3, LAST_PRIORITY)
    assert (entry.gpus_per_replica, entry.node_pools, entry.weight, entry.unlisted) == (2, (), 1.0, True)
    assert [words.partition(":")[0] for words in refused] == ["node_pools", "weight", "priority"]


def test_a_service_that_nobody_listed_is_only_observed_where_the_admin_allows_none() -> None:
    entries, refused = made(max_replicas=3, rules=TenantRules(max_replicas=0))

    assert entries == []
    assert refused == ["max_replicas: no entry of the settings matches this service; it is only observed"]
