"""`predictive` on nodes that are taken away: a margin that follows from the target, and what it costs in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.base import PoolView, ReplicaProposal
from policies.predictive.preemptions import Exposed, Stake, exposed, losses_term, margin, margin_term
from tests.policies.build import KEY, fleet, view
from tests.policies.predictive import cheap_pool

SPOT = PoolView(
    "spot", 2, nodes_ready=4, nodes_starting=0, max_nodes=9, price_usd_per_hour=7.0, taken_per_node_hour=0.5
)
STAYS = PoolView("stays", 2, nodes_ready=0, nodes_starting=0, max_nodes=9, price_usd_per_hour=22.0)
D = view(gpus_per_replica=2, node_pools=("spot", "stays"))
STAKE = Stake(wants=4, effective=3.5, lead_s=360.0, stays_s=36.0, allowed_share=0.005)


def test_as_many_are_missing_as_are_taken_away_in_a_lead_time() -> None:
    found = exposed(D, [SPOT, STAYS], 4, 360.0)
    assert found is not None
    assert (found.replicas, found.at_once) == (4, 1.0)
    assert found.missing == pytest.approx(4 * 0.5 * 0.1)


def test_nobody_is_exposed_where_nothing_was_ever_taken_away() -> None:
    assert exposed(D, [replace(SPOT, taken_per_node_hour=0.0), STAYS], 4, 360.0) is None


def test_replicas_on_the_pool_that_stays_are_not_exposed() -> None:
    elsewhere = exposed(D, [replace(SPOT, nodes_ready=1, refused=True), replace(STAYS, nodes_ready=3)], 4, 360.0)
    assert elsewhere is not None
    assert elsewhere.replicas == 1


def test_what_is_to_come_goes_where_the_list_says_unless_that_pool_refuses() -> None:
    grows = exposed(D, [replace(SPOT, nodes_ready=1), STAYS], 4, 360.0)
    assert grows is not None
    assert grows.replicas == 4
    refusing = exposed(D, [replace(SPOT, nodes_ready=1, refused=True), STAYS], 4, 360.0)
    assert refusing is not None
    assert refusing.replicas == 1


def test_a_node_of_several_replicas_takes_them_all_at_once() -> None:
    big = exposed(D, [replace(SPOT, gpus_per_node=8), STAYS], 4, 360.0)
    assert big is not None
    assert big.at_once == 4.0


def test_a_gang_goes_with_any_node_that_a_member_is_on() -> None:
    """Four members of two GPUs each, on four nodes of two GPUs: one node takes all four, and any of the four does."""
    found = exposed(replace(D, gang_size=4), [SPOT, STAYS], 4, 360.0)
    assert found is not None
    assert (found.replicas, found.at_once) == (4, 4.0)
    assert found.missing == pytest.approx(4 * 4 * 0.5 * 0.1)
    whole_node = exposed(replace(D, gang_size=2), [replace(SPOT, gpus_per_node=8), STAYS], 4, 360.0)
    assert whole_node is not None
    assert (whole_node.at_once, whole_node.missing) == (4.0, pytest.approx(4 * 0.5 * 0.1))


@pytest.mark.parametrize(("share", "more"), [(0.2, 0), (0.18, 1), (0.02, 1), (0.015, 2), (0.001, 3)])
def test_the_margin_follows_from_the_share_that_may_miss(share: float, more: int) -> None:
    """With 0.2 missing on average: one or more for 18 % of the time, two or more for 1.8 %, three or more for 0.1 %."""
    assert margin(Exposed(4, 0.2, 1.0, (SPOT,)), 0.0, share) == more


def test_room_that_demand_leaves_is_counted_first() -> None:
    found = Exposed(4, 0.2, 1.0, (SPOT,))
    assert [margin(found, room, 0.015) for room in (0.0, 0.9, 1.0, 2.0)] == [2, 2, 1, 0]


def test_nodes_that_go_together_need_a_margin_of_as_many() -> None:
    assert margin(Exposed(8, 0.2, 4.0, (SPOT,)), 0.0, 0.015) == 4


def test_a_fleet_is_never_more_than_doubled() -> None:
    assert margin(Exposed(3, 30.0, 1.0, (SPOT,)), 0.0, 0.005) == 3


def test_the_margin_says_why() -> None:
    term = margin_term(D, [SPOT, STAYS], STAKE, 0)
    assert term is not None
    assert (term.name, term.wants) == ("losses", 6)
    assert term.why == (
        "2 more than the rule: a node of spot is taken away 0.5 times an hour; a replacement serves after 360 s, of 4 "
        "replicas 0.20 are missing on average"
    )


def test_a_margin_does_not_come_and_go_with_every_change_of_demand() -> None:
    def more(rate: float, before: int) -> int:
        term = margin_term(D, [replace(SPOT, taken_per_node_hour=rate), STAYS], STAKE, before)
        return 0 if term is None else term.wants - STAKE.wants

    assert (more(0.24, 0), more(0.26, 0)) == (1, 2)
    assert (more(0.24, 2), more(0.2, 2)) == (2, 1)


def test_no_margin_is_bought_while_the_pool_refuses_since_it_would_be_a_dear_one() -> None:
    refusing = [replace(SPOT, refused=True), STAYS]
    assert margin_term(D, refusing, STAKE, 0) is None
    held = margin_term(D, refusing, STAKE, 1)
    assert held is not None
    assert held.wants == STAKE.wants + 1


def test_what_a_replica_costs_with_its_margin_is_told_beside_the_next_pool() -> None:
    """Two more are carried for four, and a request stays for 0.4 % of an hour."""
    term = losses_term(D, [SPOT, STAYS], replace(STAKE, stays_s=14.4))
    assert term is not None
    assert term.wants == 4
    assert term.why == (
        "with its margin a replica of spot costs 10.50 USD an hour, one of stays 22.00; "
        "0.20% of the requests are lost with their nodes, 0.50% may miss"
    )


@pytest.mark.parametrize(
    ("changes", "stays_s"), [({"price_usd_per_hour": 15.0}, 14.4), ({}, 36.0)], ids=["dearer", "long requests"]
)
def test_a_pool_on_which_the_promise_costs_more_or_cannot_be_kept_is_said_to_be_no_first_choice(
    changes: dict[str, float], stays_s: float
) -> None:
    term = losses_term(D, [replace(SPOT, **changes), STAYS], replace(STAKE, stays_s=stays_s))  # type: ignore[arg-type]
    assert term is not None
    assert term.why.endswith(": name stays first")


@pytest.mark.parametrize(
    "pools",
    [
        (STAYS, SPOT),
        (SPOT,),
        (replace(SPOT, price_usd_per_hour=None), STAYS),
        (SPOT, replace(STAYS, price_usd_per_hour=None)),
    ],
    ids=["the first stays", "no other", "its price unknown", "the other's price unknown"],
)
def test_nothing_is_compared_where_there_is_nothing_to_compare(pools: tuple[PoolView, ...]) -> None:
    assert losses_term(D, pools, STAKE) is None


def proposals(missed: float, refused_at_s: float | None = None) -> list[ReplicaProposal]:
    """On a pool that is calm, one that takes nodes away, and a calm one again; of 1,000 served users `missed` some."""
    policy, state = cheap_pool.followed()
    book = state.deployments[KEY.full].shadow
    book.smooth = 14.0  # of the 16 that the rule wants: little room
    book.sizing.account.seen, book.sizing.account.missed = 1000.0, missed
    book.refused_at_s |= {} if refused_at_s is None else {"cheap": refused_at_s}
    d = replace(cheap_pool.D, bins=())
    calm, often = cheap_pool.CHEAP, replace(cheap_pool.CHEAP, taken_per_node_hour=3.0)
    asked = [fleet(d, pools=(one, cheap_pool.USUAL), now_s=4000.0) for one in (calm, often, calm)]
    return [policy.propose(one, state, 4000.0).replicas[KEY] for one in asked]


def test_a_fleet_on_nodes_that_are_taken_away_is_larger_and_says_so() -> None:
    usual, more, again = proposals(missed=10.0)
    assert more.terms[0].name == "losses"
    assert more.replicas > usual.replicas
    assert "a node of cheap is taken away 3 times an hour" in more.terms[0].why
    assert more.terms[-1].name == "risk"
    assert again == usual


def test_as_long_as_users_miss_much_less_than_they_may_no_margin_is_carried() -> None:
    usual, same, _ = proposals(missed=1.0)
    assert same.replicas == usual.replicas
    assert same.terms[-1].name == "risk"


def test_no_margin_is_carried_for_hours_after_the_pool_refused() -> None:
    usual, same, _ = proposals(missed=10.0, refused_at_s=4000.0 - 5 * 3600.0)
    assert same.replicas == usual.replicas
    usual, more, _ = proposals(missed=10.0, refused_at_s=4000.0 - 7 * 3600.0)
    assert more.replicas > usual.replicas
