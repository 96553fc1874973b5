"""The elector against the fake API server, and real processes that are stopped, killed and terminated."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from autoscaler.kubernetes.leader import LeaderElector, LeaseSettings
from autoscaler.kubernetes.lease import KubernetesLease
from tests.fakes.kubernetes.server import FakeApi
from tests.fakes.kubernetes.traffic import Fault, when
from tests.kube.elected_writer import LEASE_S
from tests.kube.helpers import client_of, until

LEASE = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "lt", "namespace": "leadtime"}}
TARGET = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "target", "namespace": "leadtime"},
    "data": {"n": "0"},
}


class Clock:
    """Moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def elector(api: FakeApi, name: str, clock: Clock, said: list[str] | None = None) -> AsyncIterator[LeaderElector]:
    client = client_of(api)
    tell = None if said is None else said.append
    store = KubernetesLease(client, "leadtime", "lt")
    yield LeaderElector(store, LeaseSettings(name), clock=clock, on_trouble=tell)
    await client.close()


def spec(api: FakeApi) -> dict[str, Any]:
    return dict(api.read(LEASE)["spec"])


async def test_the_first_makes_the_lease_and_the_second_waits_for_it(api: FakeApi) -> None:
    clock = Clock()
    async with elector(api, "a", clock) as a, elector(api, "b", clock) as b:
        await a.attempt()
        await b.attempt()
        assert (a.is_leader(clock.now), b.is_leader(clock.now)) == (True, False)
        assert (spec(api)["holderIdentity"], spec(api)["leaseDurationSeconds"]) == ("a", 15)

        clock.now += 14.9
        await b.attempt()
        assert not b.is_leader(clock.now)
        clock.now += 0.1
        await b.attempt()

        assert (a.is_leader(clock.now), b.is_leader(clock.now)) == (False, True)
        assert (spec(api)["holderIdentity"], spec(api)["leaseTransitions"]) == ("b", 1)
        await a.attempt()
        assert a.status().holder == "b"


async def test_a_renewal_is_one_put_and_keeps_what_others_wrote_into_the_lease(api: FakeApi) -> None:
    clock = Clock()
    async with elector(api, "a", clock) as a:
        await a.attempt()
        api.requests.clear()
        await a.attempt()
        assert [(r.verb, r.resource) for r in api.requests] == [("update", "leases")]

        api.change(LEASE, {"metadata": {"annotations": {"note": "kept"}}})
        clock.now += 9
        await a.attempt()
        assert a.write_budget_s(clock.now) == 15.0
        assert api.read(LEASE)["metadata"]["annotations"] == {"note": "kept"}


async def test_a_lease_that_was_deleted_is_made_again(api: FakeApi) -> None:
    clock = Clock()
    async with elector(api, "a", clock) as a:
        await a.attempt()
        api.remove(LEASE)
        await a.attempt()
        assert a.is_leader(clock.now)
        assert a.term == 2


async def test_a_deleted_lease_that_no_pod_may_make_is_told_once_with_its_mend_and_taken_when_it_is_back(
    api: FakeApi,
) -> None:
    clock, said = Clock(), list[str]()
    api.traffic.hooks.append(when("create", "leases", fault=Fault(status=403)))
    api.add(LEASE)
    async with elector(api, "a", clock, said) as a, elector(api, "b", clock) as b:
        await a.attempt()
        await b.attempt()  # a lost race is no trouble
        assert (a.is_leader(clock.now), said) == (True, [])
        api.remove(LEASE)
        for _ in range(8):
            await a.attempt()
            clock.now += 2
        assert not a.is_leader(clock.now)
        assert said == [
            "Lease leadtime/lt is gone and this account may not make one, so nobody can lead and nothing is written: "
            "the chart makes it again (helm upgrade, with the values that it has)"
        ]
        api.add(LEASE)  # helm upgrade
        await a.attempt()
        assert (a.is_leader(clock.now), said[1:]) == (True, [""])


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503, text="no JSON at all"),
        Fault(status=403),
        Fault(status=429, retry_after_s=30),
        Fault(status=200, text="{}"),
        Fault(drop=True),
    ],
)
async def test_any_failed_renewal_costs_the_leadership_at_the_deadline_and_not_before(
    api: FakeApi, fault: Fault
) -> None:
    clock = Clock()
    async with elector(api, "a", clock) as a:
        await a.attempt()
        api.traffic.hooks.append(when(fault=fault))
        clock.now += 9.9
        await a.attempt()
        assert a.is_leader(clock.now)
        assert a.status().why
        clock.now += 0.1
        assert not a.is_leader(clock.now)

        api.traffic.hooks.clear()
        await a.attempt()
        assert a.is_leader(clock.now)
        assert a.status().why == ""


async def test_a_renewal_whose_answer_was_lost_is_not_counted_and_is_found_again(api: FakeApi) -> None:
    clock = Clock()
    async with elector(api, "a", clock) as a:
        await a.attempt()
        clock.now += 5
        api.traffic.hooks.append(when("update", "leases", times=1, fault=Fault(drop_after=True)))
        await a.attempt()
        assert a.write_budget_s(clock.now) == 10.0
        await a.attempt()
        assert a.write_budget_s(clock.now) == 15.0


async def test_two_that_take_a_free_lease_at_once_make_one_leader(api: FakeApi) -> None:
    clock = Clock()
    async with elector(api, "a", clock) as a, elector(api, "b", clock) as b:
        await asyncio.gather(a.attempt(), b.attempt())
        assert sorted((a.is_leader(clock.now), b.is_leader(clock.now))) == [False, True]
        await (a if a.is_leader(clock.now) else b).release()
        await asyncio.gather(a.attempt(), b.attempt())
        assert sorted((a.is_leader(clock.now), b.is_leader(clock.now))) == [False, True]


async def test_a_released_lease_is_taken_at_once(api: FakeApi) -> None:
    clock = Clock()
    async with elector(api, "a", clock) as a, elector(api, "b", clock) as b:
        await a.attempt()
        assert await a.release()
        assert spec(api)["holderIdentity"] == ""
        assert not a.is_leader(clock.now)
        await b.attempt()
        assert b.is_leader(clock.now)
        assert not await a.release()
        assert spec(api)["holderIdentity"] == "b"


async def test_a_release_that_cannot_be_sent_still_ends_the_writing(api: FakeApi) -> None:
    clock = Clock()
    async with elector(api, "a", clock) as a:
        await a.attempt()
        api.traffic.hooks.append(when(fault=Fault(status=503)))
        assert not await a.release()
        assert not a.is_leader(clock.now)
        assert "not released" in a.status().why


# ---------------------------------------------------------------- real processes


class Processes:
    def __init__(self, api: FakeApi) -> None:
        self.api, self.running = api, {}  # type: ignore[var-annotated]

    def start(self, name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.kube.elected_writer", self.api.url, name]
        root = Path(__file__).parents[2]
        self.running[name] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
        return self.running[name]

    def writer(self) -> str:
        return str(self.api.read(TARGET)["data"].get("writer", ""))

    def writes_of(self, name: str) -> list[float]:
        """When writes of a process arrived, by the server's monotonic clock."""
        return [r.at_s for r in self.api.traffic.of("patch", "configmaps") if r.body[0]["value"] == name]


@pytest.fixture
def processes(api: FakeApi) -> Iterator[Processes]:
    api.add(TARGET)
    made = Processes(api)
    yield made
    for process in made.running.values():
        process.kill()
        process.wait(10)


async def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        said = await asyncio.to_thread(process.stdout.readline)
    assert said, "the process ended"
    return said.strip()


async def read_until(process: subprocess.Popen[str], line: str) -> None:
    while await next_line(process) != line:
        pass


async def test_a_process_stopped_for_longer_than_the_lease_and_woken_writes_nothing(processes: Processes) -> None:
    first = processes.start("first")
    await read_until(first, "leads")
    second = processes.start("second")
    await read_until(second, "follows")
    await read_until(first, "leads")
    first.send_signal(signal.SIGUSR1)
    await read_until(first, "stops")
    stopped_after = len(processes.writes_of("first"))

    await read_until(second, "leads")
    await asyncio.sleep(LEASE_S)  # the stopped one is well past its lease
    first.send_signal(signal.SIGCONT)
    for _ in range(20):
        assert await next_line(first) == "follows"

    assert len(processes.writes_of("first")) == stopped_after
    assert processes.writer() == "second"
    assert min(processes.writes_of("second")) > max(processes.writes_of("first"))


async def test_a_killed_leader_is_followed_after_its_lease_and_not_before(processes: Processes) -> None:
    first, second = processes.start("first"), None
    await read_until(first, "leads")
    second = processes.start("second")
    await read_until(second, "follows")
    first.kill()
    await read_until(second, "leads")

    gap_s = min(processes.writes_of("second")) - max(processes.writes_of("first"))
    assert gap_s > LEASE_S / 4
    assert processes.writer() == "second"


async def test_a_terminated_leader_gives_the_lease_back(processes: Processes) -> None:
    first = processes.start("first")
    await read_until(first, "leads")
    second = processes.start("second")
    await read_until(second, "follows")
    first.send_signal(signal.SIGTERM)
    await read_until(first, "released")
    assert first.wait(10) == 0
    await read_until(second, "leads")

    await until(lambda: processes.writer() == "second")
