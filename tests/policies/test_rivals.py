"""What holds for every rival, whatever it is shown: a usable answer, and a memory that survives a restart."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.core.policy_host import checked
from policies.base import DeploymentView, ReplicaMetrics, TokenMix, Totals
from policies.capacity.load import load_profile
from policies.registry import create_policy, policy_names
from tests.policies.build import KEY, fleet, view

PROFILE = load_profile("llama-3.1-8b/h100/tp1")
OPTIONS: dict[str, dict[str, Any]] = {
    "static": {"replicas": 3},
    "static_mean": {"replicas": 3},
    "schedule": {"floors": {"0 * * * *": 3, "30 * * * *": 1}},
    "hindsight": {"target_fraction": 0.8},
}
RIVALS = [n for n in policy_names() if n not in ("predictive", "oracle", "oracle_lead")]

amounts = st.none() | st.floats(0, 500)
moments = st.fixed_dictionaries(
    {
        "rate_rps": amounts,
        "waiting": amounts,
        "ongoing": amounts,
        "running": st.none() | st.integers(0, 6),
        "target": st.none() | st.integers(0, 8),
        "low": st.integers(0, 2),
        "gauge": amounts,
        "usage": st.none() | st.floats(0, 1),
        "profile": st.booleans(),
        "mix": st.booleans(),
        "arrivals": st.none() | st.integers(0, 2000),
        "after_s": st.sampled_from([5.0, 15.0, 60.0, 180.0, 4000.0]),
    }
)


def shown(m: dict[str, Any], totals: Totals | None) -> DeploymentView:
    gauges = tuple(
        ReplicaMetrics(
            f"r{i}", ongoing=m["gauge"], running=m["gauge"], waiting=m["gauge"], kv_usage_fraction=m["usage"]
        )
        for i in range(m["running"] or 0)
    )
    return view(
        rate_rps=m["rate_rps"],
        waiting=m["waiting"],
        ongoing=m["ongoing"],
        running=m["running"],
        target=m["target"],
        min_replicas=m["low"],
        max_replicas=9,
        replica_metrics=gauges,
        profile=PROFILE if m["profile"] else None,
        capacity_batch=80.0 if m["profile"] else None,
        mix=TokenMix(900.0, 150.0) if m["mix"] else None,
        totals=totals,
    )


def grown(totals: Totals, requests: int) -> Totals:
    n = float(requests)
    return Totals(
        totals.arrivals + n, totals.finished + n, totals.prompt_tokens + 900 * n, totals.output_tokens + 150 * n, 0.0,
        totals.ttft_s + 0.3 * n, totals.first_tokens + n, totals.itl_s + 2.0 * n, totals.gaps + 149 * n,
    )  # fmt: skip


@pytest.mark.parametrize("name", RIVALS)
@settings(max_examples=25, deadline=None)
@given(st.lists(moments, min_size=1, max_size=8))
def test_any_fleet_gets_a_usable_answer_and_a_restart_changes_nothing(
    name: str, sequence: list[dict[str, Any]]
) -> None:
    policy = create_policy(name, OPTIONS.get(name, {}))
    kept, restarted = policy.new_state(), policy.new_state()
    now_s, totals = 0.0, Totals()
    for m in sequence:
        now_s += m["after_s"]
        if m["arrivals"] is not None:
            totals = grown(totals, m["arrivals"])
        seen = fleet(shown(m, totals if m["arrivals"] is not None else None), now_s=now_s)
        proposal = checked(policy.propose(seen, kept, now_s), seen)
        again = checked(policy.propose(seen, restarted, now_s), seen)
        assert proposal == again
        assert proposal.pools == {}, "nobody but the flagship asks for nodes"
        if KEY in proposal.replicas and proposal.replicas[KEY].terms[0].name not in ("unknown", "static", "schedule"):
            assert 0 <= proposal.replicas[KEY].replicas <= max(9, m["target"] or 0)
        restarted = msgspec.json.decode(msgspec.json.encode(restarted), type=type(restarted))
