"""One head that answers with too much, too slowly or without an end costs its own service, and no other.

Each is read by a process of its own beside a good head (neighbours.py): that one is read at every tick, the tick is
late by less than a tick, the process grows by less than 64 MB, and what is refused is said.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from unittest.mock import Mock

import pytest

from autoscaler.clients.bodies import TooLarge
from autoscaler.clients.http_answers import OneAnswer, TooMuchAround
from autoscaler.clients.ray_dashboard import DashboardClient, NoAnswer
from autoscaler.clients.reading_limits import ReadingLimits
from autoscaler.common.errors import SourceError
from autoscaler.kuberay.fleet import KubeRayFleet
from autoscaler.kuberay.reach import Reach
from autoscaler.sources.node_metrics import NodeMetricsSource
from autoscaler.sources.page_reading import Budget, WantedLines, Weight
from autoscaler.sources.ray_dashboard import RayDashboardSource
from autoscaler.sources.sizes import check_sizes
from tests.autoscaler import neighbours
from tests.autoscaler.kuberay.test_fleet import World
from tests.autoscaler.neighbours import TICK_S
from tests.autoscaler.sources.test_node_metrics import FakeNode, page
from tests.fakes import hostile_head
from tests.fakes.dashboard import FakeApplication, FakeDashboard, FakeDeployment
from tests.fakes.hostile_head import HOSTILE, LIST, a_thousand_targets, body, head, listing, streamed
from tests.fakes.kubernetes import objects


@asynccontextmanager
async def started(module: str, *arguments: str) -> AsyncIterator[asyncio.StreamReader]:
    """What a program of the tests prints, by its module's name; it is ended afterwards."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_head_costs_the_others_less_than_a_tick_and_64_mb(kind: str) -> None:
    _, why = HOSTILE[kind]
    async with FakeNode(page(1)).serve() as node, started(hostile_head.__name__, kind) as said_by_it:
        hostile = (await said_by_it.readline()).decode().strip()
        good = FakeDashboard({"chat": FakeApplication({"llm": FakeDeployment()})}, metrics_pages=[node.target])
        async with good.serve(), started(neighbours.__name__, good.url, hostile) as reader:
            output = await asyncio.wait_for(reader.read(), 120)
    said: dict[str, Any] = json.loads(output)
    assert all(said["fresh"]), said
    assert said["slowest_s"] < TICK_S, said
    assert said["lag_s"] < TICK_S, said
    assert said["more_mb"] < 64, said
    assert why in said["why"], said
    print(kind, said)
    assert said["kept"] <= ReadingLimits().deployments


# ---------------------------------------------------------------- what comes around an answer

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def sending(first: bytes, again: bytes = b"") -> AsyncIterator[str]:
    """Answers every request with these bytes, the second ones without an end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(first)
            while again:
                writer.write(again)
                await writer.drain()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize(
    ("first", "again", "why"),
    [
        (b"", INTERIM * 5000, r"more than 8 interim answers \(1xx\)"),
        (INTERIM * 9 + EMPTY, b"", r"more than 8 interim answers \(1xx\)"),
        (CHUNKED, b"1\r\n \r\n" * 5000, "too long a head, or too small chunks"),
        (CHUNKED, b"20;" + b"x" * 500 + b"\r\n" + b" " * 32 + b"\r\n", "too long a head, or too small chunks"),
    ],
    ids=["without an end", "one too many", "chunks of a byte", "chunks with much to say"],
)
async def test_interim_answers_and_tiny_chunks_without_an_end_are_given_up(
    first: bytes, again: bytes, why: str
) -> None:
    async with sending(first, again) as url:
        client = DashboardClient(url, timeout_s=60.0)
        with pytest.raises(NoAnswer, match=why):
            await client.get(LIST)
        await client.close()
        source = NodeMetricsSource("m", "default", "local", DashboardClient(url), timeout_s=60.0)
        with pytest.raises(TooMuchAround, match=why):
            await source._fetch(url.removeprefix("http://"), WantedLines(frozenset(), fresh(1), Weight()))
        await source.close()


@pytest.mark.parametrize("head", [INTERIM * 8, b""], ids=["interim", "none"])
async def test_a_few_interim_answers_and_chunks_of_a_line_are_read(head: bytes) -> None:
    async with sending(head + CHUNKED + b"28\r\n" + b"x" * 40 + b"\r\n", b"") as url:
        client = DashboardClient(url, timeout_s=60.0)
        with pytest.raises(NoAnswer, match="cut off"):
            await client.get(LIST)
        await client.close()
    whole = head + CHUNKED + (b"28\r\n" + b"x" * 40 + b"\r\n") * 5000 + b"0\r\n\r\n"
    async with sending(whole) as url:
        client = DashboardClient(url, timeout_s=60.0)
        assert (await client.get(LIST)).body == b"x" * 200_000
        await client.close()


async def test_what_follows_an_answer_is_dropped_unread() -> None:
    """Ten thousand further answers in one read would be parsed, and kept."""
    connection = OneAnswer(loop=asyncio.get_running_loop())
    connection.connection_made(Mock(asyncio.Transport))
    connection.set_response_params()
    connection.data_received(EMPTY * 7000)
    assert len(connection) == 1
    connection.data_received(EMPTY * 7000)
    assert len(connection) == 1
    connection.connection_lost(None)


# ---------------------------------------------------------------- each limit by itself


@pytest.mark.parametrize("replicas", [1, 40])
def test_deployments_and_replicas_up_to_the_limit_are_read(replicas: int) -> None:
    limits = ReadingLimits(deployments=10, replicas=10 * replicas)
    check_sizes(json.loads(listing(10, replicas)), limits)
    for more in (listing(11, 1), listing(10, replicas + 1)):
        with pytest.raises(SourceError, match="lists more than"):
            check_sizes(json.loads(more), limits)


@pytest.mark.parametrize("name", ["x" * 254, "", "a\nb", "a\0b", "\ud800", "a\x1b[2Jb", "\u202eb"])
def test_names_that_could_not_be_shown_or_saved_are_refused(name: str) -> None:
    with pytest.raises(SourceError, match="has a name that is not used") as caught:
        check_sizes({"applications": {name: {"deployments": {}}}}, ReadingLimits())
    assert str(caught.value).isprintable()
    with pytest.raises(SourceError):
        check_sizes({"applications": {"a": {"deployments": {name: {}}}}}, ReadingLimits())
    if name:
        replicas = [{"replica_id": name, "state": "RUNNING"}]
        with pytest.raises(SourceError):
            check_sizes({"applications": {"a": {"deployments": {"d": {"replicas": replicas}}}}}, ReadingLimits())


@pytest.mark.parametrize(
    "content", [b"", b"short", b"x" * 10_000, bytes(range(256)) * 4000], ids=["empty", "short", "flat", "long"]
)
async def test_what_is_packed_arrives_whole(content: bytes) -> None:
    for headers, sent in (({}, content), ({"Content-Encoding": "gzip"}, gzip.compress(content))):
        async with head(list=body(sent, **headers)) as url:
            client = DashboardClient(url)
            assert (await client.get(LIST)).body == content
            await client.close()


@pytest.mark.parametrize(
    ("sent", "encoding", "why"),
    [
        (gzip.compress(b"hello")[:-4], "gzip", "cut off"),
        (b"hello", "gzip", "broken"),
        (b"hello", "br", "not asked for"),
        (b"hello", "gzip, gzip", "not asked for"),
        (gzip.compress(b"x" * 100_000), "gzip", "longer than 10000 bytes"),
        (b"x" * 10_001, "", "longer than 10000 bytes"),
    ],
)
async def test_a_body_that_is_packed_otherwise_or_too_long_is_no_answer(sent: bytes, encoding: str, why: str) -> None:
    async with head(list=body(sent, **({"Content-Encoding": encoding} if encoding else {}))) as url:
        client = DashboardClient(url, limits=ReadingLimits(answer_bytes=10_000))
        with pytest.raises(NoAnswer, match=why) as caught:
            await client.get(LIST)
        assert isinstance(caught.value, TooLarge) == ("longer" in why)
        await client.close()


def lines(count: int, first: int = 0) -> bytes:
    return b"".join(b'up{a="%d"} 1\nother 1\n' % i for i in range(first, first + count))


def test_a_page_that_comes_in_pieces_is_the_same_page() -> None:
    text = lines(20) + b'up{a="last"} 1\n'
    for size in (1, 7, 1000):
        wanted = WantedLines(frozenset([b"up"]), fresh(100), Weight())
        for i in range(0, len(text), size):
            wanted.feed(text[i : i + size])
        assert len(wanted.end().splitlines()) == 21


def fresh(series: int, round_bytes: int = 1 << 20) -> Budget:
    budget = Budget(ReadingLimits(series=series, round_bytes=round_bytes))
    budget.begin()
    return budget


def test_pages_that_are_kept_count_and_pages_that_are_replaced_do_not() -> None:
    budget, kept = fresh(100), Weight()
    for _ in range(3):  # the same page again and again
        wanted = WantedLines(frozenset([b"up"]), budget, kept)
        wanted.feed(lines(60))
        wanted.end()
        kept = wanted.weight
        assert (budget.held.lines, kept.lines) == (60, 60)
    other = WantedLines(frozenset([b"up"]), budget, Weight())
    with pytest.raises(SourceError, match="more than 100 known series"):
        other.feed(lines(41))
    other.undo()
    assert budget.held == kept
    smaller = WantedLines(frozenset([b"up"]), budget, kept)
    smaller.feed(lines(10))
    smaller.end()
    assert (budget.held.lines, budget.held.size) == (10, smaller.weight.size)
    budget.drop(smaller.weight)
    assert budget.held == Weight()


def test_short_lines_count_as_what_they_cost() -> None:
    wanted = WantedLines(frozenset([b"up"]), fresh(100, 40_000), Weight())
    wanted.feed(b"a\n" * 999)
    with pytest.raises(SourceError, match="round_bytes"):
        wanted.feed(b"a\n" * 2)


async def test_pages_whose_turn_does_not_come_in_a_round_are_named() -> None:
    async with head(targets=a_thousand_targets, page=streamed(b"a\n", every_s=0.1)) as url:
        source = NodeMetricsSource("m", "default", "local", DashboardClient(url), timeout_s=0.3, concurrency=4)
        async with asyncio.timeout(20):
            reading = await source.read(1.0)
        await source.close()
    assert not reading.up
    assert reading.why.startswith("1000 of 1000 metric pages could not be read")


async def test_a_namespace_fills_up_its_own_room_only() -> None:
    world = World()
    limits = ReadingLimits(namespace_deployments=3, namespace_services=2)
    async with (
        head(list=body(listing(2))) as two,
        head(list=body(listing(2, name="b{}"))) as more,
    ):
        urls = {"a-1": two, "b-1": more, "z-1": more, "other-1": two}
        fleet = KubeRayFleet(world, Reach(limits=limits, dashboard=lambda c: urls[c.name], timeout_s=60.0), wait_s=60.0)
        spec = objects.cluster_spec(authOptions={"mode": "disabled"})
        world.show(
            *(
                objects.ray_service(name, namespace=place, cluster=spec, status=objects.service_status(f"{name}-1"))
                for name, place in (("a", "llm"), ("b", "llm"), ("z", "llm"), ("other", "far"))
            )
        )
        for now_s in (1.0, 2.0, 3.0):
            why = (await fleet.inventories.read(now_s)).why
            assert why.startswith("2 of 4 Ray clusters cannot be read: llm/")
            seen = {(key.namespace, key.service) for key in fleet.all_inventories()}
            assert ("far", "other") in seen
            assert len(seen) == 2
        world.show(objects.ray_service("b", cluster=spec, status=objects.service_status("b-1")))
        assert (await fleet.inventories.read(4.0)).why == ""
        assert len(fleet.all_inventories()) == 2
        await fleet.close()


async def test_deployments_that_cannot_be_read_take_room_as_well() -> None:
    world = World()
    answer = json.loads(listing(4))
    for app in answer["applications"].values():
        app["deployments"] = dict.fromkeys(app["deployments"], "no mapping")
    async with head(list=body(json.dumps(answer).encode())) as url:
        limits = ReadingLimits(namespace_deployments=3)
        fleet = KubeRayFleet(world, Reach(limits=limits, dashboard=lambda _: url, timeout_s=60.0), wait_s=60.0)
        spec = objects.cluster_spec(authOptions={"mode": "disabled"})
        world.show(objects.ray_service("a", cluster=spec, status=objects.service_status("a-1")))
        assert "have more than 3 deployments" in (await fleet.inventories.read(1.0)).why
        await fleet.close()


async def test_a_service_that_makes_no_sense_ends_nobody_elses_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever bug a strange answer may find: it is that service's."""
    world = World()
    async with head(list=body(listing(1))) as url:
        fleet = KubeRayFleet(world, Reach(dashboard=lambda c: url, timeout_s=60.0), wait_s=60.0)
        spec = objects.cluster_spec(authOptions={"mode": "disabled"})
        world.show(*(objects.ray_service(n, cluster=spec, status=objects.service_status(f"{n}-1")) for n in "ab"))
        read = RayDashboardSource.read

        async def faulty(source: RayDashboardSource, now_s: float) -> Any:
            if source.service == "a":
                raise ZeroDivisionError
            return await read(source, now_s)

        monkeypatch.setattr(RayDashboardSource, "read", faulty)
        reading = await fleet.inventories.read(1.0)
        assert reading.why == "1 of 2 Ray clusters cannot be read: llm/a-1: bug: ZeroDivisionError()"
        assert {key.service for key in fleet.all_inventories()} == {"b"}
        await fleet.close()


async def test_a_ray_cluster_that_two_services_claim_is_each_ones_own() -> None:
    world = World()
    async with head(list=body(listing(1))) as url:
        fleet = KubeRayFleet(world, Reach(dashboard=lambda c: url, timeout_s=60.0), wait_s=60.0)
        spec = objects.cluster_spec(authOptions={"mode": "disabled"})
        claims = [objects.ray_service(n, cluster=spec, status=objects.service_status("one")) for n in "ab"]
        for shown in (claims, claims[1:], claims[:1]):
            world.show(*shown)
            world.now_s += 1
            assert (await fleet.metrics.read(world.now_s)).up
            assert {key.service for key in fleet.all_inventories()} == {s["metadata"]["name"] for s in shown}
        await fleet.close()
