"""A GPU budget across deployments: what must hold for any claims, and the order of rights."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.allocation import Claim, paced, share

CLAIMS = st.lists(
    st.builds(
        Claim,
        name=st.uuids().map(str),
        wants=st.integers(0, 12),
        gpus_per_replica=st.sampled_from([1, 2, 4, 8]),
        minimum=st.integers(0, 3),
        guaranteed_gpus=st.integers(0, 16),
        priority=st.integers(0, 2),
        weight=st.floats(0.1, 10.0),
    ),
    max_size=6,
)


@given(CLAIMS, st.integers(0, 64))
def test_nobody_gets_more_than_it_wants_and_the_budget_is_never_exceeded(claims: list[Claim], budget: int) -> None:
    granted = share(claims, budget)
    assert all(0 <= granted[c.name] <= c.wants for c in claims)
    assert sum(granted[c.name] * c.gpus_per_replica for c in claims) <= budget


@given(CLAIMS, st.integers(0, 64))
def test_nothing_is_left_over_that_somebody_could_use(claims: list[Claim], budget: int) -> None:
    granted = share(claims, budget)
    left = budget - sum(granted[c.name] * c.gpus_per_replica for c in claims)
    assert all(granted[c.name] == c.wants or c.gpus_per_replica > left for c in claims)


@given(CLAIMS, st.integers(0, 64))
def test_a_guarantee_is_honoured_whatever_others_want(claims: list[Claim], budget: int) -> None:
    if sum(c.guaranteed_gpus for c in claims) > budget:
        return
    granted = share(claims, budget)
    for claim in claims:
        assert granted[claim.name] >= min(claim.wants, claim.guaranteed_gpus // claim.gpus_per_replica)


def test_a_higher_priority_is_served_before_a_lower_one() -> None:
    granted = share([Claim("low", 5, 1, priority=0), Claim("high", 5, 1, priority=1)], 6)
    assert granted == {"low": 1, "high": 5}


def test_weights_divide_what_all_want() -> None:
    assert share([Claim("a", 10, 1, weight=2.0), Claim("b", 10, 1, weight=1.0)], 9) == {"a": 6, "b": 3}


def test_an_unused_guarantee_is_lent() -> None:
    assert share([Claim("idle", 1, 1, guaranteed_gpus=4), Claim("busy", 9, 1)], 8) == {"idle": 1, "busy": 7}


# ---------------------------------------------------------------- no faster than replicas drain


def test_what_was_lent_comes_back_only_as_replicas_drain() -> None:
    """The owner's two guaranteed replicas are lent; the borrower gives them up, and drains one after the other."""
    for draining, granted in ((2, 2), (1, 3), (0, 4)):
        owner = Claim("owner", 4, 1, guaranteed_gpus=4, holds=2)
        borrower = Claim("borrower", 6, 1, holds=2, draining=draining)
        wanted = share([owner, borrower], 6)
        assert wanted == {"owner": 4, "borrower": 2}
        assert paced([owner, borrower], wanted, 6)["owner"] == granted


def test_who_is_below_its_guarantee_grows_before_a_higher_priority() -> None:
    owner = Claim("owner", 2, 1, guaranteed_gpus=2, holds=1)
    urgent = Claim("urgent", 5, 1, priority=9, holds=3)
    assert paced([owner, urgent], {"owner": 2, "urgent": 4}, 5) == {"owner": 2, "urgent": 3}


held_claims = st.lists(
    st.builds(
        Claim,
        st.uuids().map(str),
        st.integers(0, 12),
        st.sampled_from([1, 2, 4]),
        guaranteed_gpus=st.integers(0, 8),
        priority=st.integers(-1, 1),
        holds=st.integers(0, 8),
        draining=st.integers(0, 4),
    ),
    max_size=5,
)


@given(held_claims, st.integers(0, 40))
def test_pacing_never_takes_what_is_held_and_never_grows_over_the_budget(claims: list[Claim], budget: int) -> None:
    granted = share(claims, budget)
    found = paced(claims, granted, budget)
    used = sum((c.holds + c.draining) * c.gpus_per_replica for c in claims)
    grown = sum(max(0, found[c.name] - c.holds) * c.gpus_per_replica for c in claims)
    assert grown <= max(0, budget - used)
    for c in claims:
        assert found[c.name] <= granted[c.name] or found[c.name] == c.holds
        assert found[c.name] >= min(granted[c.name], c.holds)
