"""Ray's own list of nodes as pools, from what Ray 2.60 answered with a head, one node in use and its autoscaler."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from autoscaler.clients.ray_dashboard import DashboardClient
from autoscaler.common.errors import ConfigError, SourceError
from autoscaler.core.types import NodeSignal, PoolSettings
from autoscaler.settings import load_config
from autoscaler.sources.ray_nodes import AskedNode, NodeMemory, RayNodesSource, parse_asked, parse_nodes, pool_of
from autoscaler.sources.readings import Pools

SAMPLE = json.loads((Path(__file__).parents[2] / "samples" / "ray_nodes.json").read_text())
NODES, STATUS = SAMPLE["nodes"], SAMPLE["status"]
POOL = PoolSettings("gpu", gpus_per_node=8)


def with_report(**keys: Any) -> Any:
    status = copy.deepcopy(STATUS)
    status["data"]["clusterStatus"]["autoscalerReport"] |= keys
    return status


def pools_of(status: Any, memory: NodeMemory | None = None, now_s: float = 1795706900.0) -> tuple[NodeSignal, ...]:
    memory = memory or NodeMemory()
    (pool,) = memory.pools([POOL], parse_nodes(NODES, status), parse_asked(status), now_s)
    return pool.nodes


def test_a_node_with_gpus_is_listed_with_what_replicas_hold_and_the_head_is_not() -> None:
    (node,) = parse_nodes(NODES, STATUS)
    assert (node.address, node.gpus, node.gpus_used, node.started_at_s) == ("127.0.0.2", 8, 4, 1795706880.649)
    assert "gpu" in node.names


def test_a_node_that_replicas_are_on_is_busy_and_another_is_not() -> None:
    (node,) = pools_of(STATUS)
    assert (node.state, node.gpus_used, node.busy, node.requested_at_s) == ("ready", 4, True, None)
    idle = copy.deepcopy(NODES)
    idle["data"]["nodeLogicalResources"]["127.0.0.2"] = "0.0/4.0 CPU\n0.0/8.0 GPU"
    (pool,) = NodeMemory().pools([POOL], parse_nodes(idle, STATUS), (), 5.0)
    assert (pool.nodes[0].gpus_used, pool.nodes[0].busy) == (0, False)


def test_where_no_autoscaler_says_what_is_used_it_is_unknown_and_not_0() -> None:
    bare = copy.deepcopy(NODES)
    bare["data"]["nodeLogicalResources"] = {}
    (node,) = parse_nodes(bare, None)
    assert (node.gpus_used, pool_of([POOL], node.names, node.gpus)) == (None, "gpu")


def test_a_node_that_died_is_gone() -> None:
    dead = copy.deepcopy(NODES)
    for entry in dead["data"]["summary"]:
        entry["raylet"]["state"] = "DEAD"
    assert parse_nodes(dead, STATUS) == ()


def test_what_the_autoscaler_has_asked_for_is_on_its_way() -> None:
    status = with_report(
        pendingNodes=[["127.0.0.3", "127.0.0.3", "gpu", "setting-up"], ["10.0.0.9", "gpu", "waiting-for-ssh"]],
        pendingLaunches={"gpu": 1},
    )
    assert parse_asked(status) == (
        AskedNode("127.0.0.3", "gpu"), AskedNode("10.0.0.9", "gpu"), AskedNode("launch-of-gpu-0", "gpu", False),
    )  # fmt: skip
    assert [node.state for node in pools_of(status)] == ["ready", "starting", "starting", "starting"]


def test_a_node_that_came_is_known_to_have_been_asked_for_when_it_was_first_seen_to_be() -> None:
    memory = NodeMemory()
    asked = [AskedNode("127.0.0.2", "gpu")]
    memory.pools([POOL], (), asked, 1795706870.0)
    (waiting,) = memory.pools([POOL], (), asked, 1795706875.0)
    assert (waiting.nodes[0].requested_at_s, waiting.nodes[0].gpus, waiting.nodes[0].busy) == (1795706870.0, 8, False)
    (node,) = pools_of(STATUS, memory)
    assert (node.requested_at_s, node.ready_at_s) == (1795706870.0, 1795706880.649)
    memory.pools([POOL], (), (), 1795706990.0)
    assert memory.asked == {}


def test_a_node_that_is_neither_pending_nor_alive_for_a_moment_is_still_on_its_way() -> None:
    memory = NodeMemory()
    memory.pools([POOL], (), [AskedNode("127.0.0.2", "gpu"), AskedNode("launch-of-gpu-0", "gpu", False)], 100.0)
    counts = [len(memory.pools([POOL], (), (), 100.0 + after_s)[0].nodes) for after_s in (1.0, 9.0, 11.0)]
    assert counts == [1, 1, 0]


def test_an_answer_that_holds_a_node_as_pending_and_alive_counts_it_once() -> None:
    status = with_report(pendingNodes=[["127.0.0.2", "127.0.0.2", "gpu", "setting-up"]])
    assert [node.state for node in pools_of(status)] == ["ready"]


@pytest.mark.parametrize(
    ("names", "gpus", "pool"),
    [
        (["big_pool"], 4, "big_pool"),
        (["bigPool"], 4, "big_pool"),
        (["nvidia-l4"], 1, "small"),
        (["x"], 4, "small"),
        (["x"], 16, None),
        ([], None, None),
    ],
)
def test_a_pool_is_known_by_label_node_type_gpu_kind_or_else_by_the_gpus_of_its_nodes(
    names: list[str], gpus: int | None, pool: str | None
) -> None:
    pools = [PoolSettings("big_pool", 8), PoolSettings("other", 8), PoolSettings("small", 4, gpu="nvidia-l4")]
    assert pool_of(pools, names, gpus) == pool


@pytest.mark.parametrize("answer", [None, [], {}, {"data": {"summary": {}}}])
def test_what_is_no_list_of_nodes_is_an_error_and_no_empty_cluster(answer: Any) -> None:
    with pytest.raises(SourceError, match="list of nodes"):
        parse_nodes(answer, STATUS)


class Dashboard:
    """Answers as told; None: 500."""

    def __init__(self) -> None:
        self.nodes: Any = NODES
        self.status: Any = STATUS

    async def answer(self, request: web.Request) -> web.Response:
        found = self.nodes if request.path == "/nodes" else self.status
        return web.Response(status=500) if found is None else web.json_response(found)


@pytest.fixture
async def dashboard() -> AsyncIterator[tuple[Dashboard, RayNodesSource]]:
    fake, app = Dashboard(), web.Application()
    app.router.add_get("/{path:.*}", fake.answer)
    async with TestServer(app) as server:
        source = RayNodesSource("ray_nodes", DashboardClient(f"http://127.0.0.1:{server.port}"), [POOL])
        yield fake, source
        await source.close()


async def test_the_source_gives_pools(dashboard: tuple[Dashboard, RayNodesSource]) -> None:
    reading = await dashboard[1].read(1795706900.0)
    assert (reading.up, reading.why, reading.as_of_s) == (True, "", 1795706900.0)
    assert isinstance(reading.data, Pools)
    assert [(pool.name, len(pool.nodes)) for pool in reading.data.pools] == [("gpu", 1)]


async def test_without_the_autoscalers_report_nodes_are_still_seen_and_it_says_what_is_not(
    dashboard: tuple[Dashboard, RayNodesSource],
) -> None:
    fake, source = dashboard
    fake.status = None
    reading = await source.read(1795706900.0)
    assert reading.up
    assert "on their way cannot be seen" in reading.why
    assert len(reading.data.pools[0].nodes) == 1


async def test_without_the_list_of_nodes_it_is_down_and_says_why(dashboard: tuple[Dashboard, RayNodesSource]) -> None:
    fake, source = dashboard
    fake.nodes = None
    reading = await source.read(1795706900.0)
    assert (reading.up, reading.data) == (False, None)
    assert "500" in reading.why


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("services: [{dashboard: 'http://x:1', nodes: true}]", "services[0].nodes: true; there are no node_pools"),
        (
            "services: [{dashboard: 'http://x:1', nodes: true}, {name: b, dashboard: 'http://y:1', nodes: true}]\n"
            "node_pools: [{name: gpu}]",
            "services[1].nodes: true; services[0] tells of the nodes; allowed: true for one service",
        ),
    ],
)
def test_nodes_of_ray_are_told_by_one_service_and_of_pools(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "lt.yaml"
    path.write_text(f"version: 1\n{text}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert says in str(error.value)
