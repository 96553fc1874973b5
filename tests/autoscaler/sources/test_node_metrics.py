"""Reading all nodes' metric pages: a silent node ages, others go on; nothing is ever filled in with 0."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from autoscaler.clients.addresses import TargetRules
from autoscaler.clients.ray_dashboard import DashboardClient
from autoscaler.common.errors import SourceError
from autoscaler.sources import names
from autoscaler.sources.node_metrics import NodeMetricsSource, parse_targets
from autoscaler.sources.readings import NodePages
from tests.fakes.dashboard import FakeDashboard


@dataclass
class FakeNode:
    """One node's metrics page."""

    text: str
    status: int = 200
    hang: bool = False
    target: str = ""
    reads: int = 0
    peers: list[object] = field(default_factory=list)
    """Address and port that each read came from."""

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[FakeNode]:
        application = web.Application()
        application.add_routes([web.get("/metrics", self._page)])
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.target = f"127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _page(self, request: web.Request) -> web.Response:
        self.reads += 1
        assert "Authorization" not in request.headers
        assert request.transport is not None
        self.peers.append(request.transport.get_extra_info("peername"))
        if self.hang:
            await asyncio.Event().wait()
        return web.Response(text=self.text, status=self.status)


def page(value: float) -> str:
    return f'{names.SERVE_QUEUED}{{application="chat",deployment="llm",handle="h"}} {value}\nother 1\n'


@dataclass
class Cluster:
    dashboard: FakeDashboard
    nodes: tuple[FakeNode, FakeNode]
    source: NodeMetricsSource

    async def pages(self, now_s: float) -> dict[str, tuple[float, float]]:
        """Target -> (when read, value) of what the source hands over."""
        reading = await self.source.read(now_s)
        assert isinstance(reading.data, NodePages)
        return {t: (p.as_of_s, float(p.samples[0].value)) for t, p in reading.data.pages.items()}  # type: ignore[arg-type]


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with FakeDashboard().serve() as dashboard, FakeNode(page(1)).serve() as a, FakeNode(page(2)).serve() as b:
        dashboard.metrics_pages = [a.target, b.target]
        source = NodeMetricsSource("metrics", "default", "local", DashboardClient(dashboard.url), timeout_s=60.0)
        yield Cluster(dashboard, (a, b), source)
        await source.close()


async def test_all_nodes_are_read_and_only_known_metrics_are_kept(cluster: Cluster) -> None:
    a, b = cluster.nodes
    assert await cluster.pages(10.0) == {a.target: (10.0, 1.0), b.target: (10.0, 2.0)}


@pytest.mark.parametrize("fault", [{"hang": True}, {"status": 500}])
async def test_a_silent_node_keeps_its_last_page_with_its_age_and_is_named(
    cluster: Cluster, fault: dict[str, bool | int]
) -> None:
    a, b = cluster.nodes
    await cluster.pages(10.0)
    if "hang" in fault:  # the other node must be read within it
        cluster.source._timeout_s = 2.0
    for name, value in fault.items():
        setattr(b, name, value)
    a.text = page(5)
    assert await cluster.pages(20.0) == {a.target: (20.0, 5.0), b.target: (10.0, 2.0)}
    reading = await cluster.source.read(25.0)
    assert reading.up
    assert "1 of 2" in reading.why
    assert b.target in reading.why


async def test_no_connection_to_a_node_is_kept_for_what_it_might_send_meanwhile(cluster: Cluster) -> None:
    await cluster.pages(1.0)
    await cluster.pages(2.0)
    assert [len(set(node.peers)) for node in cluster.nodes] == [2, 2]


async def test_a_node_that_comes_back_is_fresh_again(cluster: Cluster) -> None:
    _, b = cluster.nodes
    await cluster.pages(10.0)
    b.status = 503
    await cluster.pages(20.0)
    b.status = 200
    assert (await cluster.pages(30.0))[b.target] == (30.0, 2.0)
    assert (await cluster.source.read(40.0)).why == ""


async def test_only_the_first_page_of_a_node_is_marked_so(cluster: Cluster) -> None:
    a, b = cluster.nodes
    b.status = 503

    async def marked(now_s: float) -> dict[str, bool]:
        return {target: page.first for target, page in (await cluster.source.read(now_s)).data.pages.items()}

    assert await marked(10.0) == {a.target: True}
    assert await marked(20.0) == {a.target: False}
    b.status = 200
    assert await marked(30.0) == {a.target: False, b.target: True}
    assert await marked(40.0) == {a.target: False, b.target: False}


async def test_a_node_that_left_the_cluster_is_dropped(cluster: Cluster) -> None:
    a, _ = cluster.nodes
    await cluster.pages(10.0)
    cluster.dashboard.metrics_pages = [a.target]
    assert list(await cluster.pages(20.0)) == [a.target]


async def test_no_page_at_all_is_unknown(cluster: Cluster) -> None:
    for node in cluster.nodes:
        node.status = 500
    reading = await cluster.source.read(10.0)
    assert (reading.up, reading.data, reading.as_of_s) == (False, None, None)
    assert "2 of 2" in reading.why


async def test_an_empty_list_of_targets_is_unknown(cluster: Cluster) -> None:
    cluster.dashboard.metrics_pages = []
    reading = await cluster.source.read(10.0)
    assert (reading.up, reading.data) == (False, None)
    assert reading.why


async def test_known_nodes_are_still_read_while_the_dashboard_is_away(cluster: Cluster) -> None:
    await cluster.pages(10.0)
    cluster.dashboard.status = 503
    assert {as_of for as_of, _ in (await cluster.pages(20.0)).values()} == {20.0}


async def test_without_the_dashboard_nothing_is_known_at_the_start(cluster: Cluster) -> None:
    cluster.dashboard.status = 503
    reading = await cluster.source.read(10.0)
    assert (reading.up, reading.data) == (False, None)
    assert "503" in reading.why


async def test_nodes_are_read_at_the_same_time(cluster: Cluster) -> None:
    both = asyncio.Barrier(2)

    async def page_when_both_were_asked(request: web.Request) -> web.Response:
        await both.wait()
        return web.Response(text=page(3))

    application = web.Application()
    application.add_routes([web.get("/metrics", page_when_both_were_asked)])
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    for _ in range(2):
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    cluster.dashboard.metrics_pages = [f"127.0.0.1:{address[1]}" for address in runner.addresses]
    assert len(await cluster.pages(10.0)) == 2
    await runner.cleanup()


def test_targets_are_read_from_prometheus_discovery() -> None:
    answer = [{"labels": {}, "targets": ["10.0.0.1:8080", "[::1]:9"]}, {"targets": ["10.0.0.1:8080"]}]
    assert parse_targets(answer, "d") == ("10.0.0.1:8080", "[::1]:9")


@pytest.mark.parametrize(
    "answer", [None, {}, [1], [{}], [{"targets": [3]}], [{"targets": ["nocolon"]}], [{"targets": ["a@b:1"]}],
               [{"targets": ["host/path:80"]}], [{"targets": ["h:0"]}], [{"targets": ["h:65536"]}],
               [{"targets": ["h:٣"]}], [{"targets": ["h\\x:1"]}], [{"targets": ["[::1%lo]:1"]}],
               [{"targets": ["[a]:1"]}]],
)  # fmt: skip
def test_anything_else_is_refused(answer: object) -> None:
    with pytest.raises(SourceError, match="metric targets"):
        parse_targets(answer, "d")


@pytest.mark.parametrize(
    "target",
    ["169.254.169.254:80", "[fe80::1]:80", "metadata.google.internal:80", "[::ffff:169.254.169.254]:80", "10.1.2.3:80"],
)
async def test_a_target_outside_of_the_rules_is_not_connected_to_and_named(cluster: Cluster, target: str) -> None:
    a, _ = cluster.nodes
    cluster.dashboard.metrics_pages = [a.target, target]
    rules = TargetRules(loopback=True, pods=lambda: frozenset(["10.0.0.7"]))
    source = NodeMetricsSource("m", "default", "local", DashboardClient(cluster.dashboard.url), rules=rules)
    reading = await source.read(10.0)
    await source.close()
    assert isinstance(reading.data, NodePages)
    assert list(reading.data.pages) == [a.target]
    assert f"{target} (not read, it is " in reading.why


async def test_a_name_is_checked_by_the_address_that_it_stands_for(cluster: Cluster) -> None:
    a, _ = cluster.nodes
    port = a.target.rpartition(":")[2]

    async def resolve(host: str, port: int) -> tuple[str, list[str]]:
        return host, ["169.254.1.1"] if host == "near" else ["127.0.0.1"]

    cluster.dashboard.metrics_pages = [f"near:{port}", f"node:{port}"]
    source = NodeMetricsSource("m", "default", "local", DashboardClient(cluster.dashboard.url), resolve=resolve)
    reading = await source.read(10.0)
    assert list(reading.data.pages) == [f"node:{port}"]
    assert "near: not connected to, has a link-local" in reading.why
    await source.close()
    elsewhere = NodeMetricsSource(
        "m", "default", "local", DashboardClient(cluster.dashboard.url), rules=TargetRules(), resolve=resolve
    )
    reading = await elsewhere.read(10.0)
    assert not reading.up
    assert "node: not connected to, is leadtime's own machine" in reading.why
    await elsewhere.close()


async def test_a_page_that_is_cut_off_counts_as_not_read(cluster: Cluster) -> None:
    """Its last number may be a part of one: 12345 that ends after 12 looks like a counter that began anew."""
    first, second = cluster.nodes
    first.text, second.text = page(1234.0), page(1.0)
    await cluster.pages(10.0)
    first.text = page(1234.0).partition("34.0")[0]
    assert (await cluster.pages(15.0))[first.target] == (10.0, 1234.0)
    reading = await cluster.source.read(20.0)
    assert (reading.up, "cut off: its last line has no end" in reading.why) == (True, True)


async def test_a_page_that_stands_still_while_its_engines_serve_is_an_old_one(cluster: Cluster) -> None:
    first, second = cluster.nodes
    first.text = page(3.0) + f'{names.VLLM_RUNNING}{{ReplicaId="r"}} 2.0\n'
    for now_s in range(0, 90, 5):
        second.text = page(now_s)
        found = await cluster.pages(float(now_s))
        assert found[first.target] == (0.0 if now_s > 30 else float(now_s), 3.0)
        assert found[second.target][0] == now_s
    first.text = first.text.replace("3.0", "4.0")
    second.text = page(90.0)
    assert (await cluster.pages(90.0))[first.target] == (90.0, 4.0)


@pytest.mark.parametrize(("others", "running"), [(False, 2.0), (True, 0.0)], ids=["nothing moves anywhere", "idle"])
async def test_a_page_that_stands_still_is_no_old_one(cluster: Cluster, others: bool, running: float) -> None:
    first, second = cluster.nodes
    first.text = page(3.0) + f'{names.VLLM_RUNNING}{{ReplicaId="r"}} {running}\n'
    second.text = page(0.0) + f'{names.VLLM_RUNNING}{{ReplicaId="s"}} 1.0\n'
    for now_s in range(0, 90, 5):
        second.text = page(now_s) if others else second.text
        assert (await cluster.pages(float(now_s)))[first.target] == (now_s, 3.0)
