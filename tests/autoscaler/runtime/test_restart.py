"""Stopped and started again: the same plans from the next tick on, through the file; and what the file costs."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from autoscaler.common.errors import LeadtimeError
from autoscaler.core import journal
from autoscaler.core.build import new_controller
from autoscaler.core.checkpoint import from_rows, row_names, to_rows
from autoscaler.core.controller import Controller
from autoscaler.core.state import ControllerState
from autoscaler.core.types import (
    ControllerConfig,
    DeploymentMetrics,
    DeploymentSettings,
    DeploymentSignals,
    GuardSettings,
    Hint,
    Histogram,
    NodeSignal,
    Plan,
    PoolSettings,
    PoolSignals,
    ReplicaSignal,
    Signals,
)
from autoscaler.runtime.restore import restored_controller
from autoscaler.runtime.store import StateStore
from policies.base import DeploymentKey, ReplicaMetrics
from policies.capacity.load import load_profile
from policies.registry import create_policy
from tests.autoscaler.build import KEY, Says, config, inventory, metrics, signals

OTHER = DeploymentKey.parse("code/llm")
TICK_S, TICKS = 5.0, 220
PROFILE = load_profile("llama-3.1-8b/h100/tp1")


def policy_options(forecaster: str | None) -> dict[str, object]:
    return {"season_s": 300.0, "bin_s": 10.0} | ({"forecaster": forecaster} if forecaster else {})


def settings_of(forecaster: str | None) -> ControllerConfig:
    deployments = (
        DeploymentSettings("chat/llm", PROFILE, ("h100",), min_replicas=0, max_replicas=9),
        DeploymentSettings("code/llm", None, min_replicas=1, max_replicas=5),
    )
    return ControllerConfig(
        deployments=deployments,
        pools=(PoolSettings("h100", gpu=PROFILE.gpu, max_nodes=9, gpus_per_node=2),),
        policy_options=policy_options(forecaster),
        tick_s=TICK_S,
        dry_run=False,
        gpu_budget={PROFILE.gpu: 8},
        guards=GuardSettings(scale_down_stabilization_s=40.0),
    )


@dataclass
class Plant:
    """A small fleet that does what the plan says, slowly; waves of traffic with noise, failures and a hint."""

    rng: random.Random = field(default_factory=lambda: random.Random(4))
    running: dict[DeploymentKey, list[str]] = field(default_factory=lambda: {KEY: ["a0"], OTHER: ["b0"]})
    starting: dict[DeploymentKey, list[tuple[str, float]]] = field(default_factory=lambda: {KEY: [], OTHER: []})
    counters: dict[DeploymentKey, list[float]] = field(default_factory=lambda: {KEY: [0.0] * 5, OTHER: [0.0] * 5})
    named: int = 0

    def signals(self, now_s: float) -> Signals:
        hint = Hint("sale", KEY, 400.0, 700.0, None, 2.0, 0.6, asked_by="a test")
        nodes = tuple(
            NodeSignal(f"n{i}", "ready", 0.0, 60.0 + i, gpus=2, gpus_used=min(2, len(self.running[KEY])), workers=1)
            for i in range(3)
        )
        return Signals(
            deployments=tuple(self._deployment(key, now_s) for key in (KEY, OTHER)),
            pools=(PoolSignals("h100", now_s, (*nodes, NodeSignal("n9", "starting", 100.0, gpus=2))),),
            hints=(hint,) if now_s > 300.0 else (),
        )

    def _deployment(self, key: DeploymentKey, now_s: float) -> DeploymentSignals:
        self._serve(key, now_s)
        names = [ReplicaSignal(name, "RUNNING", 0.0) for name in self.running[key]]
        names += [ReplicaSignal(name, "STARTING", since_s) for name, since_s in self.starting[key]]
        found = inventory(now_s, target=len(names), replicas=tuple(names), max_ongoing_requests=10)
        if self.rng.random() < 0.05:
            return DeploymentSignals(key, found, None)
        arrivals, finished, errors, slow, tokens = self.counters[key]
        page = DeploymentMetrics(
            now_s,
            arrivals_total={"h": arrivals},
            prompt_tokens_total={"r": 500 * tokens},
            output_tokens_total={"r": 100 * tokens},
            finished_total={"r": finished},
            errors_total={"r": errors},
            ttft={"r": Histogram((1.0, 2.0, float("inf")), (finished - slow, finished - slow, finished))},
            queued_at_handles=0.0,
            ongoing=float(self.rng.randrange(6) * len(self.running[key])),
            replicas=tuple(ReplicaMetrics(name, 1.0, 1.0, 0.0, 0.8 * self.rng.random()) for name in self.running[key]),
        )
        return DeploymentSignals(key, found, page)

    def _serve(self, key: DeploymentKey, now_s: float) -> None:
        rate = 25.0 * (1.0 + 2.0 * (now_s % 300.0 > 150.0)) * (1.0 + 0.2 * self.rng.random())
        rate *= 0.05 if now_s > 620.0 else 1.0
        failing = 0.3 if 800.0 < now_s < 1000.0 else 0.0
        steps = (rate * TICK_S, rate * TICK_S, failing * rate * TICK_S, 0.0, rate * TICK_S)
        self.counters[key] = [total + step for total, step in zip(self.counters[key], steps, strict=True)]
        ready = [name for name, since_s in self.starting[key] if now_s - since_s >= 35.0]
        self.running[key] += ready
        self.starting[key] = [(name, since_s) for name, since_s in self.starting[key] if name not in ready]

    def apply(self, plan: Plan) -> None:
        for one in plan.deployments:
            if one.target is None:
                continue
            running, starting = self.running[one.key], self.starting[one.key]
            while len(running) + len(starting) < one.target:
                self.named += 1
                starting.append((f"r{self.named}", plan.now_s))
            while len(running) + len(starting) > one.target:
                starting.pop() if starting else running.pop()


@dataclass(frozen=True)
class Recorded:
    """A run that was never stopped: what it saw, what it decided, and its state after each tick."""

    config: ControllerConfig
    inputs: list[Signals]
    decisions: list[bytes]
    states: list[dict[str, bytes]]


@cache
def recorded(forecaster: str | None) -> Recorded:
    config = settings_of(forecaster)
    controller, plant = new_controller(config), Plant()
    run = Recorded(config, [], [], [])
    for tick in range(TICKS):
        given = plant.signals(TICK_S * tick)
        plan = controller.step(given, TICK_S * tick)
        plant.apply(plan)
        run.inputs.append(given)
        run.decisions.append(journal.encode(journal.decision_record(plan)))
        run.states.append(to_rows(controller.state))
    return run


def test_the_run_is_one_in_which_things_happen() -> None:
    run = recorded("seasonal")
    plans = {decision[decision.index(b'"plan"') :][:160] for decision in run.decisions}
    assert len(plans) >= 8
    words = b"".join(run.decisions)
    for guard in (b"stabilization", b"failing_is_not_idle", b"max_replicas"):
        assert guard in words
    assert b"hint sale" in words


@pytest.mark.parametrize("forecaster", ["seasonal", "mixture"])
@settings(max_examples=25, deadline=None)
@given(stopped=st.integers(0, TICKS - 2))
@example(stopped=118).via("the answer that was given just before is part of what is saved")
def test_stopped_at_any_tick_it_plans_the_same_from_the_next_tick_on(
    tmp_path_factory: pytest.TempPathFactory, forecaster: str | None, stopped: int
) -> None:
    run = recorded(forecaster)
    path = tmp_path_factory.mktemp("state") / "s.sqlite"
    store = StateStore(path)
    rows = run.states[stopped]
    store.save_controller(rows, rows)
    store.close()
    store = StateStore(path)
    controller = restored_controller(run.config, store)
    store.close()
    assert controller.notices == []
    for tick in range(stopped + 1, min(stopped + 41, TICKS)):
        plan = controller.step(run.inputs[tick], TICK_S * tick)
        assert journal.encode(journal.decision_record(plan)) == run.decisions[tick], f"tick {tick}"
    assert to_rows(controller.state) == run.states[min(stopped + 40, TICKS - 1)]


@settings(max_examples=15, deadline=None)
@given(killed=st.integers(1, TICKS - 30), parts=st.integers(1, 12))
def test_killed_at_any_tick_it_goes_on_with_what_was_saved_in_turn(
    tmp_path_factory: pytest.TempPathFactory, killed: int, parts: int
) -> None:
    run = recorded("seasonal")
    store = StateStore(tmp_path_factory.mktemp("state") / "s.sqlite")
    for tick in range(killed + 1):
        state = from_rows(run.states[tick])
        store.save_controller(to_rows(state, tick, parts), row_names(state))
    store.close()
    again = StateStore(store.path)
    controller = restored_controller(run.config, again)
    again.close()
    assert controller.state.tick == killed + 1
    assert controller.notices == []
    for tick in range(killed + 1, killed + 30):
        plan = controller.step(run.inputs[tick], TICK_S * tick)
        assert [d.target is not None for d in plan.deployments] == [True, True]
        for d in plan.deployments:
            if d.observed_target is not None and d.target is not None:
                assert d.target >= 0


# ---------------------------------------------------------------- what is written


def changes(store: StateStore) -> int:
    return store._connection.total_changes


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    run = recorded("seasonal")
    store = StateStore(tmp_path / "s.sqlite")
    first, second = run.states[100], run.states[101]
    store.save_controller(first, first)
    before = changes(store)
    store.save_controller(first, first)
    assert changes(store) == before
    store.save_controller(second, second)
    differing = sum(first.get(name) != value for name, value in second.items())
    assert changes(store) - before == differing
    again = StateStore(_closed(store))
    assert again.load_controller() == second
    before = changes(again)
    again.save_controller(second, second)
    assert changes(again) == before, "what it read is what is there"


def _closed(store: StateStore) -> Path:
    store.close()
    return store.path


def test_rows_of_what_is_gone_are_dropped(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "s.sqlite")
    store.save_controller({"head": b"1", "near/a": b"2"}, {"head", "near/a"})
    store.save_controller({"head": b"3"}, {"head"})
    assert store.load_controller() == {"head": b"3"}


def test_the_large_rows_are_told_in_turn_and_all_within_a_round() -> None:
    state = from_rows(recorded("seasonal").states[100])
    told = [set(to_rows(state, part, 3)) for part in range(3)]
    small = {"head", "book", "policy", f"near/{KEY.full}", f"near/{OTHER.full}"}
    assert all(names >= small for names in told)
    assert set.union(*told) == row_names(state) == set(to_rows(state))
    for names in told:
        for key in (KEY, OTHER):
            assert (f"demand/{key.full}" in names) == (f"forecaster/{key.full}" in names)
            assert (f"demand/{key.full}" in names) == (f"policy/{key.full}" in names)


def test_what_a_policy_remembers_of_each_deployment_is_as_before_it_had_rows_of_its_own() -> None:
    """As an older leadtime of this version wrote it."""
    state = from_rows(recorded("seasonal").states[100])
    rows = to_rows(state)
    own = {key: msgspec.json.decode(rows.pop(f"policy/{key}")) for key in (KEY.full, OTHER.full)}
    rows["policy"] = msgspec.json.encode(msgspec.json.decode(rows["policy"]) | {"deployments": own})
    assert from_rows(rows) == state


def test_the_state_of_an_older_leadtime_is_taken_over(tmp_path: Path) -> None:
    """Schema version 1 held it in one row."""
    import sqlite3

    run = recorded("seasonal")
    store = StateStore(tmp_path / "s.sqlite")
    blob = from_rows(run.states[100]).to_bytes()
    connection = sqlite3.connect(_closed(store))
    connection.execute("INSERT INTO saved VALUES ('controller', ?)", (blob,))
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    store = StateStore(tmp_path / "s.sqlite")
    controller = restored_controller(run.config, store)
    plan = controller.step(run.inputs[101], TICK_S * 101)
    assert journal.encode(journal.decision_record(plan)) == run.decisions[101]
    rows = to_rows(controller.state)
    store.save_controller(rows, row_names(controller.state))
    again = StateStore(_closed(store))
    assert again.load_controller() == rows


# ---------------------------------------------------------------- what does not fit any more


def begun_with(rows: Mapping[str, bytes], folder: Path, options: Mapping[str, Any]) -> Controller:
    """A controller with other options, over what one with those of `recorded` has saved."""
    store = StateStore(folder / "s.sqlite")
    store.save_controller(rows, rows)
    return restored_controller(replace(recorded("seasonal").config, policy_options=dict(options)), store)


def test_another_bin_width_costs_the_forecasters_memory_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = recorded("seasonal").states[200]
    controller = begun_with(rows, tmp_path, {**policy_options("seasonal"), "bin_s": 20.0})
    assert controller.state.tick == 201
    assert controller.state.book == from_rows(rows).book
    assert controller.state.forecasters == {}
    assert f"forecaster of {KEY.full}: its saved memory does not fit" in caplog.text
    assert "s.sqlite.unreadable-1" in caplog.text
    aside = StateStore(tmp_path / "s.sqlite.unreadable-1")
    assert aside.load_controller() == rows


def test_what_the_former_default_forecaster_had_learned_is_set_aside_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = recorded("seasonal").states[200]
    options = {k: v for k, v in policy_options("seasonal").items() if k != "forecaster"}
    controller = begun_with(rows, tmp_path, options)
    assert controller.state.forecasters == {}
    assert "forecaster state of 'seasonal' (bin 10 s, season 300 s) does not fit 'mixture'" in caplog.text
    assert controller.state.book == from_rows(rows).book
    assert StateStore(tmp_path / "s.sqlite.unreadable-1").load_controller() == rows


def test_a_damaged_forecaster_costs_only_its_own_memory(tmp_path: Path) -> None:
    run = recorded("seasonal")
    store = StateStore(tmp_path / "s.sqlite")
    name = f"forecaster/{KEY.full}"
    broken = run.states[200][name].replace(b'"values":"', b'"values":"AAAA')
    rows = {**run.states[200], name: broken}
    store.save_controller(rows, rows)
    controller = restored_controller(run.config, store)
    assert list(controller.state.forecasters) == [OTHER.full]
    assert len(controller.notices) == 1


@pytest.mark.parametrize(("window", "columns"), [("intervals", 4), ("attained_rows", 5)])
def test_a_window_that_was_cut_off_is_no_state(window: str, columns: int) -> None:
    rows = recorded("seasonal").states[200]
    name = f"demand/{KEY.full}"
    demand = json.loads(rows[name])
    packed = base64.b64decode(demand[window])
    assert packed
    assert len(packed) % (8 * columns) == 0
    cut = {**rows, name: json.dumps({**demand, window: base64.b64encode(packed[:-1]).decode()}).encode()}
    with pytest.raises(LeadtimeError, match=f"row '{name}': {window} holds {len(packed) - 1} bytes"):
        from_rows(cut)


# ---------------------------------------------------------------- size


def test_names_that_come_and_go_do_not_make_the_state_grow() -> None:
    controller = new_controller(
        config(DeploymentSettings("*/*", max_replicas=3)), policy=create_policy("predictive", {})
    )
    day_s = 86400.0
    for day in range(200):
        now_s = day * day_s
        key = DeploymentKey.parse(f"app{day}/llm")
        controller.step(signals(inventory(now_s), metrics(now_s), key=key), now_s)
    state = controller.state
    assert len(state.deployments) <= 32
    assert set(state.forecasters) <= set(state.deployments)
    assert len(state.policy_state.deployments) <= 32
    assert len(row_names(state)) <= 3 + 4 * 32


def test_a_deployment_that_is_away_for_an_hour_is_not_forgotten() -> None:
    controller = new_controller(config(), policy=Says(1))
    controller.step(signals(inventory(0.0), metrics(0.0)), 0.0)
    controller.step(Signals(), 3600.0)
    assert KEY.full in controller.state.deployments


def test_replicas_that_come_and_go_do_not_make_the_state_grow() -> None:
    controller = new_controller(config(), policy=Says(2))

    def size_after(ticks: int, start: int) -> int:
        for i in range(start, start + ticks):
            names = tuple(ReplicaSignal(f"replica-{i + j}", "RUNNING", 0.0) for j in range(3))
            series = {f'vllm{{ReplicaId="replica-{i + j}"}}': 10.0 * i for j in range(3)}
            page = metrics(
                60.0 * i, arrivals=10.0 * i, prompt_tokens_total=series, output_tokens_total=series,
                replicas=tuple(ReplicaMetrics(r.replica_id, 1.0) for r in names),
            )  # fmt: skip
            controller.step(signals(inventory(60.0 * i, running=3, replicas=names), page), 60.0 * i)
        return sum(len(value) for value in to_rows(controller.state).values())

    first, later = size_after(500, 0), size_after(2000, 500)
    assert later < 1.1 * first + 2000
    assert later < 200_000


def test_an_empty_state_comes_back() -> None:
    assert from_rows(to_rows(ControllerState())) == ControllerState()
