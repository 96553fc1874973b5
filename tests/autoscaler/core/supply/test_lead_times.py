"""What is kept of lead times and of pools is made anew as soon as anything that it follows from changes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from autoscaler.core.build import new_controller
from autoscaler.core.supply.lead_times import LeadTimeEstimate, lead_time_estimate
from autoscaler.core.types import DeploymentSettings, NodeSignal, PoolSettings, PoolSignals
from policies.base.durations import Duration
from policies.capacity.lead_times import StageBook, StageRecord, lead_times, provision_key, replica_key
from tests.autoscaler.build import KEY, Says, config, inventory, metrics, signals

CONFIG = config(
    DeploymentSettings("chat/llm", node_pools=("l4",), max_replicas=8), pools=(PoolSettings("l4", gpus_per_node=1),)
)
LEARNED = StageRecord(2.0, 5.0, 0.1, 2.0, 100.0, 400.0, 100.0)


def believed() -> LeadTimeEstimate:
    return lead_time_estimate(CONFIG, CONFIG.deployments[0], "l4", KEY.full)


def book_of(**changes: float) -> StageBook:
    record = StageRecord(**({f.name: getattr(LEARNED, f.name) for f in fields(StageRecord)} | changes))
    return StageBook({replica_key(KEY.full): record})


@pytest.mark.parametrize("stage_key", [replica_key(KEY.full), provision_key("l4")])
def test_lead_times_that_were_kept_are_made_anew_when_a_start_was_learned(stage_key: str) -> None:
    book, kept = StageBook(), believed()
    before = kept.lead_times(book)
    assert kept.lead_times(book) is before
    book.observe(stage_key, 900.0, 10.0)
    assert kept.lead_times(book).new_node.median_s > before.new_node.median_s
    assert kept.lead_times(book) == lead_times(book, KEY.full, "l4", kept.priors)


@pytest.mark.parametrize("name", ["weight", "mean_log", "variance_log", "starts", "overdue_s"])
def test_any_number_that_was_learned_counts(name: str) -> None:
    kept = believed()
    before = kept.lead_times(book_of())
    changed = book_of(**{name: 3.0 * getattr(LEARNED, name)})
    assert kept.lead_times(changed) == lead_times(changed, KEY.full, "l4", kept.priors)
    assert kept.lead_times(changed) != before


def test_what_one_controller_learned_is_not_told_to_another_with_the_same_settings() -> None:
    learned, fresh = book_of(), StageBook()
    assert believed().lead_times(learned) != believed().lead_times(fresh)
    assert believed().lead_times(fresh) == lead_times(fresh, KEY.full, "l4", believed().priors)


def test_other_settings_are_other_beliefs() -> None:
    quick = config(CONFIG.deployments[0], pools=(PoolSettings("l4", gpus_per_node=1, provision_s=Duration(5.0, 0.1)),))
    before = believed().lead_times(StageBook())
    assert lead_time_estimate(quick, quick.deployments[0], "l4", KEY.full).lead_times(StageBook()) != before


def test_the_way_of_the_next_replica_follows_the_nodes_of_each_tick() -> None:
    policy = Says(1)
    controller = new_controller(CONFIG, policy=policy)

    def way(now_s: float, **changes: Any) -> str:
        node = NodeSignal("n0", "ready", 0.0, 1.0, **({"gpus": 1, "gpus_used": 0, "workers": 1} | changes))
        pool = PoolSignals("l4", now_s, (node,))
        controller.step(signals(inventory(now_s), metrics(now_s), pools=(pool,)), now_s)
        return policy.views[-1].deployments[0].next_path

    assert way(10.0) == "free_gpu"
    assert way(20.0, gpus_used=1) == "new_node"
    assert way(30.0, workers=0) == "warm_node"


def test_a_replica_that_takes_the_place_of_another_is_followed() -> None:
    """As many as before, and none is starting: the list of ids tells."""
    controller = new_controller(config(), policy=Says(2))
    controller.step(signals(inventory(0.0), metrics(0.0)), 0.0)
    assert controller.state.memory(KEY.full).supply.known == ["r0"]
    later = inventory(5.0, running=2)
    controller.step(signals(inventory(5.0, replicas=later.replicas[1:]), metrics(5.0)), 5.0)
    assert controller.state.memory(KEY.full).supply.known == ["r1"]
