"""A GPU budget across deployments: what must hold for any claims, and the order of rights."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.sharing import Claim, share

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
