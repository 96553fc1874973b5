"""`predictive` at and near zero: nobody comes, and nobody is kept for those who are gone."""

from __future__ import annotations

from dataclasses import replace

from policies.base import DeploymentView, Forecast
from policies.predictive import PredictiveOptions, PredictivePolicy
from policies.predictive.rules.family import LEVELS
from policies.predictive.state import PredictiveState
from policies.predictive.terms import nobody_is_there
from tests.policies.build import KEY, fleet, view

BIN_S = 10.0
CHAT = view(min_replicas=0, capacity_batch=500.0)
"""Requests stay for 200 s at capacity: what is felt of them fades for as long."""


def said(rps: float) -> Forecast:
    row = (rps,) * len(LEVELS)
    return Forecast("mixture", 0.0, (10.0, 2560.0), LEVELS, (row, row), True, "a test")


def levels(d: DeploymentView, rates: list[float]) -> list[int]:
    """What is wanted after each bin; the fleet is what was asked for at the look before."""
    policy, state, found = PredictivePolicy(PredictiveOptions(bin_s=BIN_S)), PredictiveState(), []
    for i, rps in enumerate(rates):
        now_s = (i + 1) * BIN_S
        seen = replace(d, rate_rps=rps, ongoing=200.0 * rps, bins=((now_s, rps),), forecast=said(rps))
        found.append(policy.propose(fleet(seen, now_s=now_s), state, now_s).replicas[KEY].replicas)
        d = replace(d, target=found[-1], running=found[-1])
    return found


def test_a_fleet_that_nobody_asks_any_more_goes_to_zero_and_stays_there() -> None:
    after = levels(CHAT, [8.0] * 400 + [0.0] * 120)[400:]
    first = after.index(0)
    assert first * BIN_S <= 600.0
    assert set(after[first:]) == {0}


def test_what_is_not_known_to_be_gone_counts_as_there() -> None:
    gone = view(rate_rps=0.0, ongoing=0.0, waiting=0.0)
    assert nobody_is_there(gone)
    for unknown in ({"rate_rps": None}, {"ongoing": None}, {"waiting": None}, {"ongoing": 1.0}):
        assert not nobody_is_there(replace(gone, **unknown))
