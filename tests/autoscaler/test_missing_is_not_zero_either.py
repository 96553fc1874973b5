"""More worlds that lied: found by playing the faults with other values, each believed before."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from autoscaler.controller import Controller
from tests.autoscaler.small_world import SETTINGS, World, carries_rps

MINUTE = 12
WIDE = replace(SETTINGS, max_replicas=30)


def busy(replicas: int = 9) -> World:
    """Half an hour of steady load that needs most of the replicas."""
    world = World(replicas=replicas, rps=(replicas - 2.5) * carries_rps(), settings=(WIDE,))
    for _ in range(30 * MINUTE):
        world.step()
    return world


def lowest(world: World, minutes: int) -> int:
    found = world.target
    for _ in range(minutes * MINUTE):
        world.step()
        found = min(found, world.target)
    return found


def only(node: int, bend: Callable[[str], str]) -> Callable[[str, int], str | None]:
    return lambda text, at: bend(text) if at == node else text


def arrivals_as(value: str) -> Callable[[str], str]:
    return lambda text: re.sub(r"(ray_serve_num_router_requests_total\{[^}]*\}) \S+", rf"\1 {value}", text)


class Frozen:
    """Arrivals of a page as they were at the first look."""

    def __init__(self) -> None:
        self.kept: str | None = None

    def __call__(self, text: str) -> str:
        found = re.search(r"ray_serve_num_router_requests_total\{[^}]*\} (\S+)", text)
        assert found is not None
        self.kept = self.kept or found[1]
        return arrivals_as(self.kept)(text)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_one_node_s_arrivals_that_are_no_number_are_not_fewer_arrivals(value: str) -> None:
    world = busy()
    before = world.target
    world.bend = only(1, arrivals_as(value))
    assert lowest(world, 15) >= before


def test_one_node_s_arrivals_that_stand_still_are_not_fewer_arrivals_and_no_burst_when_they_move_again() -> None:
    world = busy()
    before = world.target
    world.bend = only(1, Frozen())
    assert lowest(world, 12) >= before
    world.bend = lambda text, node: text
    for _ in range(10 * MINUTE):
        world.step()
        assert world.target <= before + 1


def test_a_handle_that_is_no_longer_used_and_stays_on_its_page_is_forgotten_after_15_minutes() -> None:
    """Nobody asks it any more, and the other handles are asked less."""
    world = busy()
    before = world.target
    world.bend = only(1, Frozen())
    world.rps *= 0.3
    assert lowest(world, 14) >= before
    assert lowest(world, 3) == 2
    assert lowest(world, 30) == 2


def test_a_counter_that_jumps_and_stands_still_is_not_idle() -> None:
    world = busy()
    before = world.target
    jumped: dict[int, float] = {}

    def bend(text: str, node: int) -> str:
        found = re.search(r"ray_serve_num_router_requests_total\{[^}]*\} (\S+)", text)
        assert found is not None
        jumped.setdefault(node, float(found[1]) + 30_000.0)
        return arrivals_as(str(jumped[node]))(text)

    world.bend = bend
    assert lowest(world, 15) >= before


@pytest.mark.parametrize("value", ["1e8", "1e9", "1e14"])
def test_one_absurd_reading_of_requests_in_flight_changes_no_capacity(value: str) -> None:
    world = busy()
    before = world.target
    world.bend = only(1, lambda text: re.sub(r"(num_ongoing_requests_at_replicas\{[^}]*\}) \S+", rf"\1 {value}", text))
    world.step()
    world.bend = lambda text, node: text
    assert lowest(world, 15) >= before


def test_true_zero_falls_although_the_handles_series_are_gone() -> None:
    world = busy(6)
    world.rps = 0.0
    for _ in range(MINUTE):
        world.step()
    world.bend = lambda text, node: "\n".join(
        line for line in text.splitlines() if "handle=" not in line or "router_requests" in line
    )
    assert lowest(world, 14) == 1


def test_true_zero_falls_although_a_handle_has_lost_count_of_one_request() -> None:
    world = busy(6)
    world.rps = 0.0
    world.bend = only(1, lambda text: re.sub(r"(num_ongoing_requests_at_replicas\{[^}]*\}) \S+", r"\1 1.0", text))
    assert lowest(world, 25) == 1


def test_a_state_saved_by_a_clock_that_was_ahead_blinds_nothing() -> None:
    world = busy(5)
    before = world.target
    state = world.controller.state
    world.now_s -= 3600.0
    world.controller = Controller(world.controller.config, state)
    world.pages.clear()
    world.rps *= 2.0
    for _ in range(10 * MINUTE):
        world.step()
    assert world.target > before
