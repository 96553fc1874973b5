"""Who has a forecast where tenants decide how many deployments there are, and what a namespace at its limits costs."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from autoscaler.core.build import new_controller
from autoscaler.core.checkpoint import from_rows, to_rows
from autoscaler.core.controller import Controller
from autoscaler.core.state import ControllerState
from autoscaler.core.types import ControllerConfig, DeploymentSettings, DeploymentSignals, Plan, ReplicaSignal, Signals
from autoscaler.settings import load_config
from policies.base import DeploymentKey, ForecastSpec, ReplicaMetrics
from policies.capacity.load import load_profile
from tests.autoscaler.build import Says, config, inventory, metrics

TICK_S = 5.0
EVERY = DeploymentSettings("*/*", max_replicas=8)


def names(count: int, namespace: str = "llm") -> list[DeploymentKey]:
    return [DeploymentKey(namespace, "svc", f"app-{i:03}", "llm") for i in range(count)]


def limited(most: int | None, *entries: DeploymentSettings, remembered: int | None = None) -> ControllerConfig:
    chosen = config(*(entries or (EVERY,)))
    return replace(chosen, namespace_forecasters=most, namespace_deployments=remembered)


class World:
    """A controller and the traffic of its deployments (requests per second)."""

    def __init__(
        self, settings: ControllerConfig, state: ControllerState | None = None, predictive: bool = False
    ) -> None:
        policy = None if predictive else Says(1, forecast=ForecastSpec("last", bin_s=10.0))
        self.controller: Controller = new_controller(settings, state, policy)
        self.tick = 0

    def run(self, keys: Iterable[DeploymentKey], ticks: int = 1, **rates: float) -> Plan:
        plan = None
        for _ in range(ticks):
            self.tick += 1
            now_s = TICK_S * self.tick
            given = tuple(
                DeploymentSignals(key, inventory(now_s), metrics(now_s, rates.get(key.app[-3:], 0.0) * now_s))
                for key in keys
            )
            plan = self.controller.step(Signals(deployments=given), now_s)
        assert plan is not None
        return plan

    @property
    def have(self) -> set[str]:
        """Apps with a forecaster, by namespace."""
        return {"/".join(key.split("/")[0::2][:2]) for key in self.controller.state.forecasters}


def apps(keys: Sequence[DeploymentKey]) -> set[str]:
    return {f"{key.namespace}/{key.app}" for key in keys}


def busy(keys: Sequence[DeploymentKey], rps: float = 5.0) -> Mapping[str, float]:
    return {key.app[-3:]: rps for key in keys}


def test_without_a_budget_every_deployment_has_a_forecaster() -> None:
    world = World(limited(None))
    world.run(names(50))
    assert world.have == apps(names(50))


def test_a_namespace_within_its_budget_is_decided_as_without_one() -> None:
    keys = names(5)
    worlds = [World(limited(most), predictive=True) for most in (None, 5)]
    for _ in range(40):
        one, other = (world.run(keys, **busy(keys[:3])) for world in worlds)
        assert (one.deployments, one.forecasts) == (other.deployments, other.forecasts)


def test_the_busiest_have_forecasters_and_take_them_from_the_idle() -> None:
    keys = names(6)
    world = World(limited(2))
    world.run(keys)
    assert world.have == apps(keys[:2])
    world.run(keys, 20, **busy(keys[4:]))
    assert world.have == apps(keys[4:])


def test_who_is_a_little_busier_takes_no_forecaster_away() -> None:
    keys = names(3)
    world = World(limited(1))
    world.run(keys[:1], 20, **busy(keys[:1], 5.0))
    world.run(keys, 200, **busy(keys[:1], 5.0), **busy(keys[1:], 6.0))
    assert world.have == apps(keys[:1])


def test_a_namespace_that_is_full_takes_no_forecaster_of_another_one() -> None:
    own, others = names(2, "own"), names(30, "hostile")
    world = World(limited(2))
    world.run([*own, *others], 20, **busy(others, 100.0))
    assert apps(own) <= world.have
    assert len(world.have) == 4


def test_what_the_settings_name_in_full_has_a_forecaster_besides() -> None:
    keys = names(6)
    entries = [DeploymentSettings(key.full, max_replicas=4) for key in keys[3:5]]
    world = World(limited(1, *entries, EVERY))
    world.run(keys)
    assert world.have == apps([keys[0], *keys[3:5]])


def test_what_a_tenant_names_by_annotation_counts() -> None:
    keys = names(6)
    made = [DeploymentSettings(key.full, max_replicas=4, unlisted=True) for key in keys]
    world = World(limited(1, *made))
    world.run(keys)
    assert world.have == apps(keys[:1])


def test_who_has_none_is_decided_by_the_reactive_rule_which_says_why() -> None:
    keys = names(2)
    world = World(limited(1, replace(EVERY, profile=load_profile("llama-3.1-8b/h100/tp1"))), predictive=True)
    plan = world.run(keys, 20, **busy(keys, 20.0))
    words = {one.key: " ".join(term.why for term in one.terms) for one in plan.deployments}
    assert "reading.namespace_forecasters" in words[keys[1]]
    assert "reading.namespace_forecasters" not in words[keys[0]]
    assert plan.deployments[1].target is not None


def test_who_has_arrivals_and_no_forecast_is_a_condition_when_that_lasts() -> None:
    keys = names(3)
    world = World(limited(1))
    assert world.run(keys, 20, **busy(keys[:2])).conditions == ()
    told = world.run(keys, 120, **busy(keys[:2])).conditions
    assert [(one.name, one.deployment) for one in told] == [("without_forecast", keys[1])]


def test_a_saved_state_with_more_of_them_is_brought_within_the_budget_by_the_first_tick() -> None:
    keys = names(6)
    world = World(limited(None))
    world.run(keys, 20, **busy(keys[2:4]))
    again = World(limited(2), from_rows(to_rows(world.controller.state)))
    again.tick = world.tick
    assert len(again.have) == 6
    again.run(keys, **busy(keys[2:4]))
    assert len(again.have) == 2


def test_how_busy_one_was_is_remembered_over_a_restart() -> None:
    keys = names(4)
    world = World(limited(2))
    world.run(keys, 20, **busy(keys[2:]))
    again = World(limited(2), from_rows(to_rows(world.controller.state)))
    again.tick = world.tick
    again.run(keys)
    assert again.have == world.have == apps(keys[2:])


def test_a_head_that_names_other_deployments_at_every_look_fills_up_no_memory() -> None:
    own = names(3, "own")
    world = World(limited(2, remembered=10))
    for turn in range(50):
        fresh = [DeploymentKey("hostile", "svc", f"t{turn}-{i:03}", "llm") for i in range(10)]
        world.run([*own, *fresh], **busy(fresh))
    assert len([key for key in world.controller.state.deployments if key.startswith("hostile/")]) == 10
    assert len([key for key in world.controller.state.forecasters if key.startswith("hostile/")]) <= 2
    assert {key.full for key in own} <= world.controller.state.deployments.keys()


def test_a_namespace_at_all_its_limits_costs_less_than_64_mb() -> None:
    keys = [DeploymentKey("hostile", "s", f"a{i}-" + "x" * 240, "d" * 253) for i in range(500)]
    own = names(1, "own")
    world = World(limited(40, remembered=500), predictive=True)
    world.run(own, 3)

    def hostile(key: DeploymentKey, now_s: float) -> DeploymentSignals:
        replicas = tuple(ReplicaSignal(f"{key.app[:8]}-{k}-" + "z" * 200, "RUNNING", 0.0) for k in range(10))
        page = metrics(now_s, replicas=tuple(ReplicaMetrics(one.replica_id, ongoing=1.0) for one in replicas))
        totals = {f"h{k}-{key.app[:6]}-" + "q" * 200: now_s * k for k in range(10)}
        listed = replace(inventory(now_s, running=10), replicas=replicas)
        return DeploymentSignals(key, listed, replace(page, arrivals_total=totals))

    gc.collect()
    tracemalloc.start(1)
    try:
        for _ in range(3):
            world.tick += 1
            now_s = TICK_S * world.tick
            world.controller.step(Signals(deployments=tuple(hostile(key, now_s) for key in keys)), now_s)
        gc.collect()
        taken_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken_bytes < 64e6


@pytest.mark.parametrize(
    ("block", "expected"), [("", (None, None)), ("kubernetes: {watch_namespaces: [llm]}", (40, 500))]
)
def test_only_where_tenants_name_deployments_there_is_a_budget(
    tmp_path: Path, block: str, expected: tuple[int | None, int | None]
) -> None:
    (tmp_path / "leadtime.yaml").write_text(f"version: 1\nservices: [{{dashboard: 'http://127.0.0.1:1'}}]\n{block}\n")
    found = load_config(tmp_path / "leadtime.yaml").controller
    assert (found.namespace_forecasters, found.namespace_deployments) == expected
