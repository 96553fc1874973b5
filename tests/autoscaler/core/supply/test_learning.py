"""Nodes that are taken away are told from those that were given up, by what is seen of them alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import msgspec
import pytest

from autoscaler.core.state import ControllerState
from autoscaler.core.supply.learning import learn_losses, taken_at_once, taken_per_node_hour
from autoscaler.core.types import NodeSignal, PoolSettings, PoolSignals
from autoscaler.sources.kubernetes.nodes import NodeView, PodView, pools_of

STEP_S = 15.0


def node(name: str, used: int | None = 2, state: Literal["starting", "ready", "deleting"] = "ready") -> NodeSignal:
    return NodeSignal(name, state, 0.0, 100.0, 2, used, workers=1)


def looks(
    state: ControllerState, *shown: Sequence[NodeSignal], since_s: float = 0.0, step_s: float = STEP_S
) -> list[str]:
    """One look after the other; what was learned, in words."""
    words = []
    for i, nodes in enumerate(shown, 1):
        words += learn_losses(state, PoolSignals("spot", since_s + i * step_s, tuple(nodes)))
    return words


def rate(state: ControllerState) -> float:
    return taken_per_node_hour(state.pools["spot"].losses)


def test_a_node_that_goes_with_replicas_on_it_was_taken_away() -> None:
    state = ControllerState()
    words = looks(state, [node("a"), node("b")], [node("a")])
    assert words == ["node b of pool spot was taken away with replicas on it"]
    assert rate(state) > 0.0


@pytest.mark.parametrize(
    "shown",
    [
        ([node("a"), node("b")], [node("a"), node("b", used=0)], [node("a")]),
        ([node("a"), node("b", used=None)], [node("a")]),
        ([node("a"), node("b", used=0, state="starting")], [node("a")]),
        ([node("a"), node("b", used=0)], [node("a"), node("b", used=0, state="deleting")], [node("a")]),
        ([node("a")], [node("a"), node("b")], [node("a"), node("b")]),
    ],
    ids=["emptied first", "use unknown", "never came", "scaled down", "a new one"],
)
def test_a_node_that_was_given_up_or_never_used_was_not(shown: tuple[Sequence[NodeSignal], ...]) -> None:
    state = ControllerState()
    assert looks(state, *shown) == []
    assert rate(state) == 0.0


def test_a_node_that_is_told_to_go_is_taken_away_once() -> None:
    """GKE gives a spot node half a minute: first it is on its way out, its pods end, then it is gone."""
    state = ControllerState()
    leaves = [node("b", state="deleting")], [node("b", used=0, state="deleting")], []
    assert len(looks(state, [node("b")], *leaves)) == 1


def test_a_node_with_a_known_end_is_not_taken_away_at_that_end() -> None:
    state = ControllerState()
    ends = NodeSignal("a", "ready", 0.0, 100.0, 2, 2, ends_at_s=60.0)
    assert looks(state, [ends], []) == []


def test_after_a_silence_nobody_knows_how_a_node_went() -> None:
    state = ControllerState()
    looks(state, [node("a")])
    assert looks(state, [], since_s=600.0) == []
    assert rate(state) == 0.0


def test_the_same_signals_told_again_say_nothing_new() -> None:
    state = ControllerState()
    shown = PoolSignals("spot", 10.0, (node("a"),))
    learn_losses(state, shown)
    learn_losses(state, shown)
    assert state.pools["spot"].losses.node_hours == 0.0


def watch(state: ControllerState, hours: float, nodes: int, taken_every_h: float, at_once: int = 1) -> None:
    """So many nodes, of which some are replaced every so often."""
    steps, every, names = int(hours * 120), int(taken_every_h * 120), [f"n{i}" for i in range(nodes)]
    for i in range(steps):
        if i % every == every - 1:
            names = [*names[at_once:], *(f"{i}-{j}" for j in range(at_once))]
        learn_losses(state, PoolSignals("spot", i * 30.0, tuple(node(name) for name in names)))


def test_the_rate_is_learned_within_a_day() -> None:
    """Five nodes, one of them taken every two hours: 0.1 a node and hour."""
    state = ControllerState()
    watch(state, 24.0, 5, 2.0)
    assert rate(state) == pytest.approx(0.1, rel=0.15)
    assert taken_at_once(state.pools["spot"].losses) == pytest.approx(1.0)


def test_nodes_that_go_together_are_one_event() -> None:
    state = ControllerState()
    watch(state, 48.0, 6, 4.0, at_once=3)
    assert rate(state) == pytest.approx(0.125, rel=0.15)
    assert taken_at_once(state.pools["spot"].losses) == pytest.approx(3.0, rel=0.2)


def test_one_loss_in_the_first_hour_is_no_rate_of_one_an_hour() -> None:
    state = ControllerState()
    watch(state, 1.0, 1, 0.9)
    assert 0.0 < rate(state) < 0.15


def test_what_was_long_ago_counts_for_less() -> None:
    state = ControllerState()
    watch(state, 24.0, 2, 1.0)
    taken = state.pools["spot"].losses.taken
    before = rate(state)
    names = [node("x"), node("y")]
    for i in range(6 * 1440):
        learn_losses(state, PoolSignals("spot", 86400.0 + i * 60.0, tuple(names)))
    assert state.pools["spot"].losses.taken == pytest.approx(taken / 4.0, rel=0.1)
    assert rate(state) < before / 3.0


def test_what_was_learned_survives_a_restart_and_an_older_state_has_learned_nothing() -> None:
    state = ControllerState()
    looks(state, [node("a"), node("b")], [node("a")])
    saved = state.to_bytes()
    again = ControllerState.from_bytes(saved)
    assert again.pools["spot"].losses == state.pools["spot"].losses
    plain = msgspec.json.decode(saved)
    del plain["pools"]["spot"]["losses"]
    older = ControllerState.from_bytes(msgspec.json.encode(plain))
    assert taken_per_node_hour(older.pools["spot"].losses) == 0.0


def kubernetes(at_s: float, *nodes: NodeView, pods: Sequence[PodView] = ()) -> PoolSignals:
    [found] = pools_of([PoolSettings("spot", gpus_per_node=2)], nodes, pods, at_s)
    return found


def test_a_spot_node_of_gke_that_is_told_to_go_is_seen_as_taken_away() -> None:
    """As Kubernetes shows it: a taint (the node is leaving), its worker pod ends, the node is gone."""
    state = ControllerState()
    stays = NodeView("n", ("spot",), 2, 0.0, 60.0)
    worker = PodView("llm", "w", "n", 2.0, 0.0, worker=True)
    learn_losses(state, kubernetes(10.0, stays, pods=[worker]))
    told = learn_losses(state, kubernetes(20.0, replace(stays, leaving=True), pods=[worker]))
    later = learn_losses(state, kubernetes(30.0, replace(stays, leaving=True))) + learn_losses(state, kubernetes(40.0))
    assert (told, later) == (["node n of pool spot was taken away with replicas on it"], [])


def test_a_node_that_kubernetes_scales_down_is_not() -> None:
    """Ray ends the idle worker, the node stands empty, the cluster autoscaler taints and deletes it."""
    state = ControllerState()
    node_ = NodeView("n", ("spot",), 2, 0.0, 60.0)
    worker = PodView("llm", "w", "n", 2.0, 0.0, worker=True)
    learn_losses(state, kubernetes(10.0, node_, pods=[worker]))
    for at_s, shown in ((20.0, [node_]), (30.0, [replace(node_, leaving=True)]), (40.0, [])):
        assert learn_losses(state, kubernetes(at_s, *shown)) == []
