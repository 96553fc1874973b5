"""A constant fleet."""

from __future__ import annotations

import pytest

from policies.base import DeploymentKey, PolicyError
from policies.registry import create_policy
from tests.policies.build import fleet, view


def test_it_wants_the_same_for_every_deployment_at_any_load() -> None:
    policy = create_policy("static", {"replicas": 3})
    other = DeploymentKey.parse("chat/other")
    proposal = policy.propose(fleet(view(rate_rps=100.0), view(key=other, rate_rps=None)), policy.new_state(), 0.0)
    assert {str(k): p.replicas for k, p in proposal.replicas.items()} == {"chat/llm": 3, "chat/other": 3}
    assert not policy.clairvoyant


def test_without_a_number_it_is_clairvoyant_and_cannot_propose() -> None:
    policy = create_policy("static", {})
    assert policy.clairvoyant
    with pytest.raises(PolicyError, match="option replicas: null"):
        policy.propose(fleet(), policy.new_state(), 0.0)
