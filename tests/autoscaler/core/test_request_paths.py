"""Ray Serve's request paths: a handle's 0 is no idleness where engines say otherwise (docs/ray-paths.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from autoscaler.core.types import DeploymentSettings
from tests.fakes.small_world import KEY, World, without

NO_PROFILE = DeploymentSettings("chat/llm", min_replicas=0, max_replicas=3)
PATHS = ("python proxy", "own ingress", "own ingress, woken once", "direct streaming")
HALF = "half of them by handle"


@dataclass
class Streams:
    """A page of replica `r0` and the handle before it, as each path writes it; streams begin at even distances."""

    path: str
    every_s: float
    lasts_s: float
    until_s: float = float("inf")
    front: float | None = None
    """The share of the requests that the front of the application counts; None: it has no counter."""
    world: World | None = None

    def __call__(self, text: str, node: int) -> str:
        assert self.world is not None
        if node:
            return ""
        now_s = self.world.now_s
        begun = int(min(now_s, self.until_s) // self.every_s)
        ended = max(0, int(min(now_s - self.lasts_s, self.until_s) // self.every_s))
        running = begun - ended
        handle = 'application="chat",deployment="llm",handle="h",WorkerId="proxy"'
        engine = 'ReplicaId="r0",WorkerId="wr0"'
        counted = {"own ingress": None, "own ingress, woken once": 1, HALF: begun // 2}.get(self.path, begun)
        at_handles = {"python proxy": running, HALF: running // 2}.get(self.path, 0)
        lines = [
            f"ray_serve_deployment_queued_queries{{{handle}}} 0",
            f"ray_serve_num_ongoing_requests_at_replicas{{{handle}}} {at_handles}",
        ]
        if counted is not None:
            lines.append(f"ray_serve_num_router_requests_total{{{handle}}} {counted}")
        if self.front is not None:
            of = 'application="chat",route="/",method="POST",status_code="200"'
            lines.append(f"ray_serve_num_http_requests_total{{{of}}} {int(self.front * ended)}")
        if self.world.names:
            lines += [
                f'ray_serve_replica_processing_queries{{application="chat",deployment="llm",replica="r0"}} {running}',
                f"ray_vllm_num_requests_running{{{engine}}} {running}",
                f"ray_vllm_num_requests_waiting{{{engine}}} 0",
                f"ray_vllm_kv_cache_usage_perc{{{engine}}} {0.01 * running}",
                f"ray_vllm_prompt_tokens_total{{{engine}}} {1000 * begun}",
                f"ray_vllm_generation_tokens_total{{{engine}}} {250 * ended + 100 * running}",
                f'ray_vllm_request_success_total{{{engine},finished_reason="stop"}} {ended}',
                f'ray_vllm_time_to_first_token_seconds_bucket{{{engine},le="0.5"}} {begun}',
                f'ray_vllm_time_to_first_token_seconds_bucket{{{engine},le="+Inf"}} {begun}',
                f"ray_vllm_time_to_first_token_seconds_sum{{{engine}}} {0.2 * begun}",
            ]
        return "\n".join(lines) + "\n"


def world_on(
    path: str, every_s: float, lasts_s: float, until_s: float = float("inf"), front: float | None = None
) -> World:
    """One replica, no profile, a floor of 0."""
    streams = Streams(path, every_s, lasts_s, until_s, front)
    world = streams.world = World(replicas=1, settings=(NO_PROFILE,), bend=streams)
    world.bend_inventory = lambda inventory: replace(inventory, max_ongoing_requests=100, is_ingress=True)
    return world


@pytest.mark.parametrize("path", PATHS)
def test_a_replica_with_open_streams_is_not_given_up(path: str) -> None:
    world = world_on(path, every_s=1 / 3, lasts_s=2.0)
    assert min(world.runs(15.0)) >= 1
    assert world.plan.observations[0].ongoing == pytest.approx(6.0, abs=1.0)


@pytest.mark.parametrize("path", PATHS)
def test_one_long_stream_after_another_keeps_its_replica(path: str) -> None:
    assert min(world_on(path, every_s=52.0, lasts_s=50.0).runs(20.0)) >= 1


@pytest.mark.parametrize("path", PATHS)
def test_short_requests_that_no_gauge_shows_keep_their_replica(path: str) -> None:
    """A page every five seconds sees none of them in flight: what engines ended is all that tells of them."""
    assert min(world_on(path, every_s=8.0, lasts_s=0.5).runs(20.0)) >= 1


@pytest.mark.parametrize("path", ["own ingress", "own ingress, woken once"])
@pytest.mark.parametrize(("front", "source"), [(1.0, "front"), (None, "engines"), (0.5, "engines")])
def test_what_no_handle_counts_is_unknown_until_another_count_agrees_with_the_engines(
    path: str, front: float | None, source: str
) -> None:
    """Unknown, not zero, once reports can be there; then counted by the first source that agrees."""
    world = world_on(path, every_s=1 / 3, lasts_s=2.0, front=front)
    while world.now_s < 20.0:
        world.step()
    world.step()
    seen = world.plan.observations[0]
    assert seen.knowledge.arrivals.state == "unknown"
    assert "no handle counted" in seen.why_stale
    while world.now_s < 120.0:
        world.step()
    for _ in range(60):
        world.step()
        seen = world.plan.observations[0]
        assert (seen.fresh, seen.arrivals.source) == (True, source)
        assert seen.rate_rps == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("front", [1.0, None])
def test_arrivals_are_counted_within_two_per_cent_on_every_path(path: str, front: float | None) -> None:
    world = world_on(path, every_s=1 / 3, lasts_s=2.0, front=front)
    world.runs(3.0)
    before = world.controller.state.memory(KEY.full).demand.totals.arrivals
    world.runs(5.0)
    counted = world.controller.state.memory(KEY.full).demand.totals.arrivals - before
    assert counted == pytest.approx(900.0, rel=0.02)


def test_handles_that_count_too_few_give_way_to_two_that_agree() -> None:
    world = world_on(HALF, every_s=0.1, lasts_s=2.0, front=1.0)
    world.runs(6.0)
    seen = world.plan.observations[0]
    assert (seen.fresh, seen.arrivals.source) == (True, "front")
    assert seen.rate_rps == pytest.approx(10.0, rel=0.05)


def test_handles_that_differ_from_engines_alone_are_said_and_take_nothing_away() -> None:
    world = world_on(HALF, every_s=0.1, lasts_s=2.0)
    world.runs(6.0)
    seen = world.plan.observations[0]
    assert seen.knowledge.arrivals.state == "unknown"
    assert "its handles counted 5.00 requests per second and engines 10.00" in seen.why_stale
    assert seen.rate_rps == pytest.approx(10.0, rel=0.05), "the larger one raises"
    [said] = [one for one in world.plan.conditions if one.name == "arrivals_disagree"]
    assert said.why == seen.why_stale
    assert min(world.runs(20.0)) >= 1


def test_without_any_count_of_arrivals_a_warning_comes_within_a_minute_and_nothing_is_given_up() -> None:
    """No engine metrics, no front: what is in flight at replicas is all that there is, and it raises."""
    world = world_on("own ingress", every_s=1 / 60, lasts_s=2.0)
    streams, hidden = world.bend, without("ray_vllm")
    world.bend = lambda text, node: hidden(streams(text, node) or "", node)
    while world.now_s < 60.0:
        world.step()
    assert "arrivals_uncounted" in [one.name for one in world.plan.conditions]
    assert min(world.runs(15.0)) >= 2, "120 requests in flight, and a replica has 100 slots"


def test_handles_are_asked_again_once_they_count_and_agree_for_five_minutes() -> None:
    world = world_on("own ingress", every_s=1 / 3, lasts_s=2.0)
    world.runs(3.0)
    assert world.plan.observations[0].arrivals.source == "engines"
    assert isinstance(world.bend, Streams)
    world.bend.path = "python proxy"
    world.runs(4.0)
    assert world.plan.observations[0].arrivals.source == "engines"
    world.runs(4.0)
    assert world.plan.observations[0].arrivals.source == "handles"


def test_arrivals_on_the_usual_path_stay_known_between_long_streams() -> None:
    """Handles show the stream that runs: counters that stand still meanwhile are no contradiction."""
    world = world_on("python proxy", every_s=52.0, lasts_s=50.0)
    world.runs(5.0)
    for _ in range(60):
        world.step()
        assert world.plan.observations[0].fresh


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("every_s", "lasts_s"), [(1 / 3, 2.0), (52.0, 50.0)], ids=["many", "one by one"])
def test_true_zero_gives_the_last_replica_up_in_its_normal_time(path: str, every_s: float, lasts_s: float) -> None:
    world = world_on(path, every_s, lasts_s, until_s=600.0)
    world.runs(11.0)
    assert world.target == 1
    world.runs(9.0)
    assert world.target == 0
