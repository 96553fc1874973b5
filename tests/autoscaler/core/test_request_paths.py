"""Ray Serve's request paths: a handle's 0 is no idleness where engines say otherwise (docs/ray-paths.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from autoscaler.core.types import DeploymentSettings
from tests.autoscaler.small_world import World

NO_PROFILE = DeploymentSettings("chat/llm", min_replicas=0, max_replicas=3)
PATHS = ("python proxy", "own ingress", "own ingress, woken once", "direct streaming")
BYPASSING = PATHS[1:]


@dataclass
class Streams:
    """A page of replica `r0` and the handle before it, as each path writes it; streams begin at even distances."""

    path: str
    every_s: float
    lasts_s: float
    until_s: float = float("inf")
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
        counted = {"python proxy": begun, "own ingress": None, "own ingress, woken once": 1}.get(self.path, begun)
        lines = [
            f"ray_serve_deployment_queued_queries{{{handle}}} 0",
            f"ray_serve_num_ongoing_requests_at_replicas{{{handle}}} {running if self.path == PATHS[0] else 0}",
        ]
        if counted is not None:
            lines.append(f"ray_serve_num_router_requests_total{{{handle}}} {counted}")
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


def world_on(path: str, every_s: float, lasts_s: float, until_s: float = float("inf")) -> World:
    """One replica, no profile, a floor of 0."""
    streams = Streams(path, every_s, lasts_s, until_s)
    world = streams.world = World(replicas=1, settings=(NO_PROFILE,), bend=streams)
    world.bend_inventory = lambda inventory: replace(inventory, max_ongoing_requests=100)
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
def test_what_no_handle_counts_is_unknown_and_not_zero_once_reports_can_be_there(path: str) -> None:
    world = world_on(path, every_s=1 / 3, lasts_s=2.0)
    while world.now_s < 20.0:
        world.step()
    while world.now_s < 300.0:
        world.step()
        seen = world.plan.observations[0]
        assert seen.knowledge.arrivals.state == "unknown"
        assert "no handle counted" in seen.why_stale


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
