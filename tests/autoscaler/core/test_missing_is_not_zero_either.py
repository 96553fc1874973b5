"""More worlds that lied: found by playing the faults with other values, each believed before."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from autoscaler.core.build import new_controller
from tests.fakes.small_world import (
    NODES,
    PROMPT,
    SETTINGS,
    TICK_S,
    Bend,
    World,
    busy_world,
    carries_rps,
    valued,
    without,
)

MINUTE = 12
WIDE = replace(SETTINGS, max_replicas=30)


def busy(replicas: int = 9, engines: bool = True) -> World:
    """Half an hour of steady load that needs most of the replicas."""
    world = World(replicas=replicas, rps=(replicas - 2.5) * carries_rps(), settings=(WIDE,), engines=engines)
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
    world = busy(engines=False)  # the world's engines would go on counting what that handle does not
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
    world.controller = new_controller(world.controller.config, state)
    world.pages.clear()
    world.rps *= 2.0
    for _ in range(10 * MINUTE):
        world.step()
    assert world.target > before


# ---------------------------------------------------------------- counters of engines


@pytest.mark.parametrize("nodes", [{0, 1, 2}, {1}], ids=["everywhere", "on one node"])
@pytest.mark.parametrize(
    "gone",
    ["(prompt|generation)_tokens", "prompt_tokens", "generation_tokens", "request_success", "time_to_first_token"],
)
def test_counters_of_engines_that_are_gone_for_a_while_change_no_mix(gone: str, nodes: set[int]) -> None:
    """Requests without their tokens, or tokens without their requests, are no mix: 9 replicas became 5, or 30."""
    world = busy()
    before = world.target
    hidden = without(f"ray_vllm_{gone}")
    world.bend = lambda text, node: hidden(text, node) if node in nodes else text
    assert {*world.runs(12.0)} == {before}
    world.bend = lambda text, node: text
    assert {*world.runs(15.0)} == {before}


def test_prompt_counters_that_are_no_number_for_a_while_change_no_mix() -> None:
    world = busy()
    before = world.target
    world.bend = valued("ray_vllm_prompt_tokens", lambda value: "NaN")
    assert {*world.runs(12.0)} == {before}
    world.bend = lambda text, node: text
    assert {*world.runs(15.0)} == {before}


# ---------------------------------------------------------------- counters that were there before us


@pytest.mark.parametrize("nodes", [{0, 1, 2}, {1}], ids=["everywhere", "on one node"])
@pytest.mark.parametrize("hidden", [".", "ray_serve", "ray_serve_num_router", "ray_vllm"])
def test_counters_that_come_to_light_after_our_start_are_no_burst(hidden: str, nodes: set[int]) -> None:
    """They counted for half an hour before we looked: what they hold is of then."""
    world = World(replicas=4, rps=3.0 * carries_rps())
    for _ in range(30 * MINUTE):
        world.now_s += TICK_S
        world.arrived = [count + world.rps * TICK_S / NODES for count in world.arrived]
        world.served = {name: count + world.rps * TICK_S / 4 for name, count in world.served.items()}
    bent = without(hidden)
    world.bend = lambda text, node: bent(text, node) if node in nodes else text
    world.runs(2.0)
    world.bend = lambda text, node: text
    assert max(world.runs(15.0)) <= 5


def test_the_first_requests_to_a_fleet_of_none_count_at_once() -> None:
    """Ray creates the series of a handle with the first request: that there was none before is a count of zero."""
    settings = (replace(SETTINGS, min_replicas=0),)
    world = World(replicas=0, ask_nothing=True, settings=settings)
    world.runs(2.0)
    world.ask_nothing, world.rps = False, 3.0 * carries_rps()
    world.step()
    assert world.plan.observations[0].rate_rps == pytest.approx(world.rps, rel=0.01)


# ---------------------------------------------------------------- true zero, beside something odd


class HandlesApart(World):
    """The third node has a handle and no replica."""

    def _page(self, node: int) -> str:
        pages = [super(HandlesApart, self)._page(at).splitlines() for at in range(NODES)]
        moved = [line for line in pages[2] if "handle=" not in line]
        pages[0] += moved
        pages[2] = [line for line in pages[2] if line not in moved]
        return "\n".join(pages[node]) + "\n"


def apart(replicas: int = 6) -> World:
    world = HandlesApart(replicas=replicas, rps=(replicas - 2.5) * carries_rps(), settings=(WIDE,))
    world.runs(30.0)
    return world


@pytest.mark.parametrize("before_zero", [True, False], ids=["silent before", "silent after"])
def test_true_zero_falls_in_its_time_although_a_node_with_nothing_but_a_handle_is_silent(before_zero: bool) -> None:
    """Every replica says that it has no request: whom that handle lets in would be at one of them."""
    world = apart()
    if not before_zero:
        world.rps = 0.0
        world.runs(1.0)
    world.bend = lambda text, node: None if node == 2 else text
    world.rps = 0.0
    assert world.runs(9.0)[-1] == 1


def test_requests_through_a_silent_node_with_nothing_but_a_handle_are_still_served_by_someone() -> None:
    """A little traffic comes through the handle that is not seen, and nothing through the others."""
    world = apart()
    before = world.target
    world.bend = lambda text, node: None if node == 2 else text
    world.rps *= 0.2
    stand = list(world.arrived)
    world.runs(1.0)

    def quiet(text: str, node: int) -> str | None:
        if node == 2:
            return None
        text = re.sub(r"(num_router_requests_total\{[^}]*\}) \S+", rf"\1 {stand[node]}", text)
        return re.sub(r"(num_ongoing_requests_at_replicas\{[^}]*\}) \S+", r"\1 0.0", text)

    world.bend = quiet
    assert lowest(world, 14) >= before


def once_in(looks: int, pattern: str, factor: float) -> Bend:
    """One look of so many shows the second node's counters changed by a factor."""
    changed, seen = valued(pattern, lambda value: factor * value), [0]

    def bend(text: str, node: int) -> str | None:
        seen[0] += node == 0
        return changed(text, node) if node == 1 and seen[0] % looks == looks - 1 else text

    return bend


@pytest.mark.parametrize("factor", [0.99, 0.9, 0.4, 0.0])
@pytest.mark.parametrize("pattern", ["ray_serve_num_router", ".*_total"])
def test_true_zero_falls_although_a_counter_is_lower_at_one_look_in_two_minutes(pattern: str, factor: float) -> None:
    """The level stayed for ever, and where the counter was zero for one look it rose from 7 to 24."""
    world = busy(6)
    before = world.target
    world.bend, world.rps = once_in(2 * MINUTE, pattern, factor), 0.0
    levels = world.runs(10.0)
    assert max(levels) == before
    assert levels[-1] == 1


@pytest.mark.parametrize("factor", [0.99, 0.9, 0.4, 0.0])
@pytest.mark.parametrize("pattern", ["ray_serve_num_router", ".*_total"])
def test_under_load_a_counter_that_is_lower_at_one_look_in_two_minutes_changes_nothing(
    pattern: str, factor: float
) -> None:
    world = busy()
    before = world.target
    world.bend = once_in(2 * MINUTE, pattern, factor)
    assert {*world.runs(12.0)} == {before}


# ---------------------------------------------------------------- odd values here and there

ODD: tuple[Callable[[float], object], ...] = (
    lambda value: 0.0, lambda value: -value, lambda value: "NaN", lambda value: "+Inf", lambda value: "many",
    lambda value: 1e9, lambda value: 2.0 * value, lambda value: 0.5 * value, lambda value: 1.3 * value,
    lambda value: value + 1000.0, lambda value: value + 50.0,
)  # fmt: skip


def here_and_there(share: float, pattern: str, seed: int) -> Bend:
    """Pages of which a share of the matching lines holds another value, drawn anew at each look."""
    dice = random.Random(seed)

    def bend(text: str, node: int) -> str:
        lines = []
        for line in text.splitlines():
            name, _, number = line.rpartition(" ")
            odd = re.match(pattern, line) and dice.random() < share
            lines.append(f"{name} {dice.choice(ODD)(float(number))}" if odd else line)
        return "\n".join(lines) + "\n"

    return bend


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("pattern", ["ray_vllm_(prompt|generation|request_success)", "ray_vllm_time"])
@pytest.mark.parametrize("share", [0.02, 0.2])
def test_counters_of_engines_that_jump_here_and_there_take_nothing_away(share: float, pattern: str, seed: int) -> None:
    """What jumped was learned as the mix of tokens: five replicas became twelve, and one when all was well again."""
    world = World(replicas=6, rps=3.5 * carries_rps())
    world.runs(30.0)
    before = world.target
    world.bend = here_and_there(share, pattern, seed)
    during = world.runs(20.0)
    assert min(during) >= before
    assert share > 0.02 or max(during) <= before + 1
    world.bend = lambda text, node: text
    assert min(world.runs(15.0)) >= before


def random_values(pattern: str, seed: int) -> Bend:
    """Pages whose matching lines hold numbers that have nothing to do with anything."""
    dice = random.Random(seed)
    return valued(pattern, lambda value: dice.uniform(0.0, 1e6))


ODD_ENGINES: dict[str, Callable[[int], Bend]] = {
    "random counters of engines": lambda seed: random_values("ray_vllm", seed),
    "a fifth of the engines' counters odd": lambda seed: here_and_there(0.2, "ray_vllm", seed),
    "a fiftieth of the engines' counters odd": lambda seed: here_and_there(0.02, "ray_vllm", seed),
    "random pages": lambda seed: random_values(".", seed),
    "a fifth of every page odd": lambda seed: here_and_there(0.2, ".", seed),
    "a fiftieth of every page odd": lambda seed: here_and_there(0.02, ".", seed),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", list(ODD_ENGINES))
def test_what_is_counted_while_counters_are_odd_is_no_mix_of_tokens(name: str, seed: int) -> None:
    """The mix had learned nonsense: well again, a deployment that needs five replicas fell to one."""
    world = busy_world()
    mix = world.plan.observations[0].mix
    assert mix is not None
    world.bend = ODD_ENGINES[name](seed)
    world.runs(20.0)
    world.bend = lambda text, node: text
    after = world.runs(30.0)
    seen = world.plan.observations[0].mix
    assert seen is not None
    assert seen.prompt_tokens == pytest.approx(mix.prompt_tokens, rel=0.05)
    assert seen.output_tokens == pytest.approx(mix.output_tokens, rel=0.05)
    assert min(after) >= 5


class LongerPrompts:
    """From the first look on engines count twice the prompt tokens."""

    def __init__(self) -> None:
        self.first: dict[str, float] = {}

    def __call__(self, text: str, node: int) -> str:
        lines = []
        for line in text.splitlines():
            name, _, number = line.rpartition(" ")
            if line.startswith("ray_vllm_prompt_tokens"):
                value = float(number)
                line = f"{name} {2.0 * value - self.first.setdefault(name, value)}"
            lines.append(line)
        return "\n".join(lines) + "\n"


def test_the_mix_is_learned_again_once_the_counters_are_well() -> None:
    """What was known holds while counters are odd; afterwards longer requests are seen as ever."""
    world = busy_world()
    world.bend = random_values("ray_vllm", 0)
    world.runs(10.0)
    world.bend = lambda text, node: text
    world.runs(5.0)
    world.bend = LongerPrompts()
    world.runs(30.0)
    mix = world.plan.observations[0].mix
    assert mix is not None
    assert mix.prompt_tokens > 1.5 * PROMPT
