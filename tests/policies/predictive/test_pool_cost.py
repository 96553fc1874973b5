"""`predictive` while the pool that it prefers refuses nodes, and the next one costs more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.base import PoolView
from policies.predictive.pool_cost import PoolCost, cap_by_cost, marginal_cost
from policies.predictive.rule_selection import followed_term
from policies.predictive.rules.fleet import SHORT
from policies.predictive.state import RuleState
from tests.policies.build import KEY, fleet
from tests.policies.predictive.cheap_pool import BIN_S, CHEAP, USUAL, D, followed

REFUSING = replace(CHEAP, refused=True)


def seen(*pools: PoolView) -> dict[str, PoolView]:
    return {pool.name: pool for pool in pools}


def test_while_the_first_pool_refuses_one_more_costs_what_the_next_one_asks() -> None:
    assert marginal_cost(D, seen(REFUSING, USUAL), RuleState(), 1000.0) == PoolCost(3, 2.0, "cheap", "usual")


def test_a_pool_that_refused_is_not_believed_at_the_moment_at_which_it_may_be_asked_again() -> None:
    book = RuleState()
    assert marginal_cost(D, seen(REFUSING, USUAL), book, 1000.0) is not None
    assert marginal_cost(D, seen(CHEAP, USUAL), book, 1330.0) is not None
    assert marginal_cost(D, seen(CHEAP, USUAL), book, 1930.0) is None


@pytest.mark.parametrize(
    "pools",
    [
        (CHEAP, USUAL),
        (REFUSING, replace(USUAL, refused=True)),
        (REFUSING, replace(USUAL, price_usd_per_hour=None)),
        (replace(REFUSING, price_usd_per_hour=None), USUAL),
        (replace(REFUSING, price_usd_per_hour=30.0), USUAL),
        (REFUSING,),
    ],
    ids=["none refuses", "all refuse", "price unknown", "usual price unknown", "cheaper", "no other"],
)
def test_nothing_is_spared_where_one_more_costs_no_more_or_nobody_knows(pools: tuple[PoolView, ...]) -> None:
    assert marginal_cost(D, seen(*pools), RuleState(), 1000.0) is None


def test_beyond_what_the_refusing_pool_holds_a_miss_is_worth_fewer_of_the_dear_replicas() -> None:
    policy, state = followed()
    d = replace(D, bins=())
    usual = policy.propose(fleet(d, pools=(CHEAP, USUAL), now_s=4000.0), state, 4000.0).replicas[KEY]
    spare = policy.propose(fleet(d, pools=(REFUSING, USUAL), now_s=4010.0), state, 4010.0).replicas[KEY]
    assert "hold 0.99" in usual.terms[0].why
    assert CHEAP.nodes_ready is not None
    assert CHEAP.nodes_ready <= spare.replicas < usual.replicas
    assert "rule 'hold 0.5' is the cheapest at 15.0" in spare.terms[0].why
    assert "cheap refuses nodes and one of usual costs 2.0 times as much" in spare.terms[0].why


def test_what_the_refusing_pool_holds_is_used_as_ever() -> None:
    policy, state = followed()
    many = replace(REFUSING, nodes_ready=8)
    d = replace(D, bins=())
    usual = policy.propose(fleet(d, pools=(CHEAP, USUAL), now_s=4000.0), state, 4000.0).replicas[KEY]
    spare = policy.propose(fleet(d, pools=(many, USUAL), now_s=4010.0), state, 4010.0).replicas[KEY]
    assert (spare.replicas, spare.terms[0].why) == (usual.replicas, usual.terms[0].why)


def test_no_rule_is_thrifty_that_misses_more_than_may_be_missed() -> None:
    policy, state = followed()
    state.deployments[KEY.full].shadow.sizing.shadow.demand_sums[SHORT] = 1000.0
    d = replace(D, bins=())
    usual = policy.propose(fleet(d, pools=(CHEAP, USUAL), now_s=4000.0), state, 4000.0).replicas[KEY]
    assert policy.propose(fleet(d, pools=(REFUSING, USUAL), now_s=4010.0), state, 4010.0).replicas[KEY] == usual


def test_hours_of_record_are_too_few_to_be_thrifty_by() -> None:
    policy, state = followed()
    state.deployments[KEY.full].shadow.sizing.shadow.weights[SHORT] = 3 * 3600.0 / BIN_S
    d = replace(D, bins=())
    usual = policy.propose(fleet(d, pools=(CHEAP, USUAL), now_s=4000.0), state, 4000.0).replicas[KEY]
    assert policy.propose(fleet(d, pools=(REFUSING, USUAL), now_s=4010.0), state, 4010.0).replicas[KEY] == usual


def test_a_rule_that_wants_no_less_changes_nothing() -> None:
    policy, state = followed()
    situation = policy._situation(replace(D, bins=()), state.deployments[KEY.full], 4000.0, 5.0)
    book = state.deployments[KEY.full].shadow
    term = followed_term(policy.sizing, book, situation, 60.0)
    assert term is not None
    assert cap_by_cost(policy.sizing, book, term, PoolCost(0, 1.2, "cheap", "usual"), 10.0, BIN_S, 0.01) == term
