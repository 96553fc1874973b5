"""Missing is not zero: what is absent, frozen, contradicted or went back takes nothing away; true zero still does."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from autoscaler.core import guards
from autoscaler.core.types import DeploymentInventory
from tests.fakes.small_world import NODES, Bend, World, busy_world, carries_rps, valued, without

OTHER_EXPORTER = "# TYPE node_load1 gauge\nnode_load1 0.4\nup 1\n"
ARRIVALS = "ray_serve_num_router_requests|ray_serve_handle_request_counter"


class Frozen:
    """Pages whose matching lines stay as they are when this is first asked."""

    def __init__(self, pattern: str = ".") -> None:
        self.kept: dict[str, str] = {}
        self.pattern = pattern

    def __call__(self, text: str, node: int) -> str:
        import re

        lines = []
        for line in text.splitlines():
            name = line.rpartition(" ")[0]
            matches = re.match(self.pattern, line)
            lines.append(self.kept.setdefault(f"{node}/{name}", line) if matches else line)
        return "\n".join(lines) + "\n"


class Now:
    """Changes what is shown by the number of the look."""

    def __init__(self, pattern: str, factors: tuple[float, ...]) -> None:
        self.pattern, self.factors, self.looks = pattern, factors, 0

    def __call__(self, text: str, node: int) -> str:
        factor = self.factors[self.looks // NODES % len(self.factors)]
        self.looks += 1
        return str(valued(self.pattern, lambda value: factor * value)(text, node))


BENDS: dict[str, Bend] = {
    "empty pages": lambda text, node: "",
    "another exporter's pages": lambda text, node: OTHER_EXPORTER,
    "this deployment's series gone": without("ray_"),
    "every value NaN": valued(".", lambda value: "NaN"),
    "every value infinite": valued(".", lambda value: "+Inf"),
    "every value text": valued(".", lambda value: "many"),
    "negative counters": valued(".*_total|.*_bucket|.*_sum", lambda value: -value),
    "negative arrivals": valued(ARRIVALS, lambda value: -value),
    "frozen pages": Frozen(),
    "frozen counters, moving gauges": Frozen(".*_total|.*_bucket|.*_sum"),
    "frozen arrivals, busy engines": Frozen(ARRIVALS),
    "arrivals gone, busy engines": without(ARRIVALS),
    "arrivals and gauges of handles gone": without("ray_serve_(num_router|deployment_queued|num_ongoing)"),
    "arrivals that are NaN": valued(ARRIVALS, lambda value: "NaN"),
    "engines gone": without("ray_vllm"),
    "all of Serve's gone": without("ray_serve"),
    "a histogram that falls and rises": Now(".*_bucket", (1.0, 0.9)),
    "arrivals that fall and rise": Now(ARRIVALS, (1.0, 0.99, 0.97)),
    "no node answers": lambda text, node: None,
}


@pytest.mark.parametrize("engines", [True, False], ids=["engines", "no engine metrics"])
@pytest.mark.parametrize("name", list(BENDS))
def test_under_steady_load_nothing_is_given_up_and_all_is_well_again_soon(name: str, engines: bool) -> None:
    world = busy_world(engines=engines)
    before = world.target
    world.bend = BENDS[name]
    during = world.runs(12.0)
    assert min(during) >= before, name
    assert max(during) <= before, "nor is it made of nothing"
    world.bend = lambda text, node: text
    world.runs(3.0)
    seen = world.plan.observations[0]
    assert (seen.fresh, seen.why_stale) == (True, "")
    assert seen.rate_rps == pytest.approx(world.rps, rel=0.05)
    assert {*world.runs(5.0)} == {before}


@pytest.mark.parametrize("engines", [True, False], ids=["engines", "no engine metrics"])
def test_true_zero_scales_down_within_its_normal_time(engines: bool) -> None:
    world = busy_world(engines=engines)
    world.rps = 0.0
    assert world.runs(9.0)[-1] == 1


@pytest.mark.parametrize("engines", [True, False], ids=["engines", "no engine metrics"])
@pytest.mark.parametrize("least", [0, 1])
def test_a_deployment_that_nobody_ever_asked_goes_down(engines: bool, least: int) -> None:
    """Ray creates the handles' series with the first request: the replicas' own gauge says that none is there."""
    from tests.fakes.small_world import SETTINGS

    world = World(replicas=3, engines=engines, ask_nothing=True, settings=(replace(SETTINGS, min_replicas=least),))
    assert world.runs(12.0)[-1] == least


def test_a_deployment_of_which_nothing_is_told_at_all_stays() -> None:
    world = World(replicas=3, ask_nothing=True, bend=lambda text, node: "")
    assert set(world.runs(12.0)) == {3}
    assert "no page counts its arrivals" in world.plan.observations[0].why_stale


def test_the_replica_list_that_is_empty_for_a_while_takes_nothing_away() -> None:
    world = busy_world()
    before = world.target

    def empty(inventory: DeploymentInventory) -> DeploymentInventory:
        return replace(inventory, replicas=())

    world.bend_inventory = empty
    assert set(world.runs(5.0)) == {before}
    assert "Serve lists no replica" in world.plan.observations[0].why_stale
    world.bend_inventory = lambda inventory: inventory
    assert set(world.runs(5.0)) == {before}
    assert world.plan.observations[0].fresh


def test_requests_that_wait_in_engines_raise_the_level_although_arrivals_are_unknown() -> None:
    world = busy_world()
    before = world.target
    world.rps *= 2.0
    hidden = without(ARRIVALS)
    waiting = valued("ray_vllm_num_requests_waiting", lambda value: 60.0)
    world.bend = lambda text, node: waiting(hidden(text, node) or "", node)
    assert world.runs(10.0)[-1] > before


def test_requests_in_flight_raise_the_level_although_arrivals_are_unknown() -> None:
    world = busy_world()
    before = world.target
    world.rps *= 2.5
    world.bend = without(ARRIVALS)
    assert world.runs(10.0)[-1] > before


# ---------------------------------------------------------------- some of the pages


@pytest.mark.parametrize("shown", [None, "", OTHER_EXPORTER], ids=["silent", "empty", "another exporter's"])
def test_one_node_of_three_hides_no_doubled_demand(shown: str | None) -> None:
    world = busy_world()
    world.bend = lambda text, node: shown if node == 1 else text
    world.runs(2.0)
    seen = world.plan.observations[0]
    assert seen.rate_rps == pytest.approx(world.rps, rel=0.05), "neither halved nor blind"
    assert seen.unseen_fraction == pytest.approx(1.0 / 3.0, rel=0.05)
    assert not seen.fresh
    before = world.target
    world.rps *= 2.0
    assert world.runs(3.0)[-1] > 1.5 * before
    world.rps /= 4.0
    high = world.target
    assert set(world.runs(10.0)) == {high}, "an estimate takes nothing away"
    world.bend = lambda text, node: text
    assert world.runs(15.0)[-1] < high


def test_a_silent_node_that_counts_none_of_the_arrivals_raises_nothing() -> None:
    """All requests come through the handle of the first node; the third is silent."""
    world = World(rps=4.2 * carries_rps())
    take = valued(ARRIVALS, lambda value: NODES * value)
    drop = without(ARRIVALS)
    world.bend = lambda text, node: take(text, node) if node == 0 else drop(text, node)
    world.runs(30.0)
    before = world.target
    world.bend = lambda text, node: take(text, node) if node == 0 else (drop(text, node) if node == 1 else None)
    world.runs(5.0)
    assert world.plan.observations[0].rate_rps == pytest.approx(world.rps, rel=0.05)
    assert world.target == before


# ---------------------------------------------------------------- counters


def test_a_counter_that_falls_by_one_per_cent_is_no_burst() -> None:
    world = busy_world()
    world.bend = Now(ARRIVALS, (0.99, *[1.0] * 100))
    rates = []
    for _ in range(60):
        world.step()
        rates.append(world.plan.observations[0].rate_rps)
    assert max(rate for rate in rates if rate is not None) <= 1.1 * world.rps


def test_counters_that_are_a_tenth_lower_for_good_are_believed_after_a_while() -> None:
    world = busy_world()
    before = world.target
    world.bend = valued(".*_total|.*_bucket|.*_sum", lambda value: 0.9 * value)
    world.step()
    assert "went back" in world.plan.observations[0].why_stale
    assert set(world.runs(12.0)) == {before}
    seen = world.plan.observations[0]
    assert seen.fresh
    assert seen.rate_rps == pytest.approx(0.9 * world.rps, rel=0.05)


def test_a_replica_that_begins_anew_counts_from_zero() -> None:
    """Its worker is another one, so are its series: what they count is added to what the old ones did."""
    world = busy_world()
    world.names[2] = "reborn"
    world.served["reborn"] = 0.0
    rates = []
    for _ in range(36):
        world.step()
        rates.append(world.plan.observations[0].rate_rps)
    assert all(rate == pytest.approx(world.rps, rel=0.05) for rate in rates)
    assert world.target == 6


def test_a_handles_counter_that_is_renamed_is_no_burst() -> None:
    world = busy_world()
    world.bend = lambda text, node: text.replace(
        f'num_router_requests_total{{application="chat",deployment="llm",handle="h{node}"',
        f'handle_request_counter_total{{application="chat",deployment="llm",handle="chat#llm#h{node}"',
    )
    rates = []
    for _ in range(24):
        world.step()
        rates.append(world.plan.observations[0].rate_rps)
    assert max(rate for rate in rates if rate is not None) <= 1.1 * world.rps


# ---------------------------------------------------------------- failing is not idle


def unwell(inventory: DeploymentInventory) -> DeploymentInventory:
    return replace(inventory, status="UNHEALTHY", app_status="UNHEALTHY", message="replicas fail their health check")


def test_a_service_that_is_unhealthy_and_whose_users_stay_away_is_not_idle() -> None:
    world = busy_world()
    before = world.target
    world.failing, world.bend_inventory = True, unwell
    world.runs(3.0)
    world.rps = 0.0
    assert set(world.runs(30.0)) == {before}
    assert [g.name for g in world.plan.deployments[0].guards if g.name == guards.FAILING]
    world.failing, world.bend_inventory = False, lambda inventory: inventory
    assert set(world.runs(4.0)) == {before}, "users need not be back at once"
    assert world.runs(40.0)[-1] == 1, "but it does not last for ever"


def test_users_who_stay_away_after_all_requests_failed_are_waited_for() -> None:
    """Serve calls it healthy; it only fails."""
    world = busy_world()
    before = world.target
    world.failing = True
    world.runs(3.0)
    world.rps = 0.0
    assert set(world.runs(20.0)) == {before}
    assert "most requests failed" in world.plan.observations[0].failing


def test_requests_that_succeed_again_end_the_waiting() -> None:
    world = busy_world()
    world.failing = True
    world.runs(3.0)
    world.failing = False
    world.runs(12.0)
    world.rps = 0.0
    assert world.runs(9.0)[-1] == 1


@pytest.mark.parametrize("status", ["DEPLOYING", "DEPLOY_FAILED", "DELETING"])
def test_an_application_that_does_not_run_gives_nothing_up(status: str) -> None:
    world = busy_world()
    before = world.target
    world.bend_inventory = lambda inventory: replace(inventory, app_status=status)
    world.rps = 0.0
    assert set(world.runs(10.0)) == {before}


def test_what_is_known_is_said_of_each_quantity() -> None:
    world = busy_world()
    known = world.plan.observations[0].knowledge
    assert {known.arrivals.state, known.in_flight.state, known.tokens.state, known.replicas.state} == {"fresh"}
    world.bend = without(ARRIVALS)
    world.runs(1.0)
    known = world.plan.observations[0].knowledge
    assert (known.arrivals.state, known.in_flight.state) == ("unknown", "fresh")
    assert "on no page any more" in known.arrivals.why
    world.bend = lambda text, node: text
    world.rps = 0.0
    world.runs(3.0)
    assert world.plan.observations[0].knowledge.arrivals.state == "idle"
    assert math.isclose(world.plan.observations[0].rate_rps or 0.0, 0.0)
