"""Who leads, by a Lease of a real API server: never two writers, in the order in which the server wrote.

Every write there, of whatever kind, gets the next version of the whole store. So the versions of the lease's renewals
and of the leader's writes, from the audit log, say who held the lease at each write: not clocks. Three processes
compete; each reaches the server by a relay of its own, and is killed, stopped and woken, and cut off.
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.cluster.api import RealApi
from tests.cluster.control_plane import PATIENCE_S, ControlPlane, mortal
from tests.cluster.network import Relay
from tests.kube.elected_writer import LEASE_S
from tests.kube.helpers import until

pytestmark = pytest.mark.cluster
TARGET = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "target", "namespace": "leadtime"},
    "data": {"n": ""},
}
LEASE = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": "leadtime", "namespace": "leadtime"},
    "spec": {},
}


class Writers:
    """Processes that write while they lead."""

    def __init__(self, api: RealApi, folder: Path) -> None:
        self.api, self.folder = api, folder
        self.relays: dict[str, Relay] = {}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        relay = self.relays[name] = Relay(self.api.plane.port).__enter__()
        plane: ControlPlane = self.api.plane
        admin = {f"client-{part}": str(plane.folder / f"admin.{end}") for part, end in _PARTS}
        access = plane.kubeconfig(self.folder / name, admin, f"https://127.0.0.1:{relay.port}")
        command = [sys.executable, "-m", "tests.kube.elected_writer", str(access), name]
        root = Path(__file__).parents[2]
        with (self.folder / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(mortal(command), stdout=log, stderr=log, cwd=root)

    def said(self, name: str) -> list[str]:
        return (self.folder / f"{name}.log").read_text().splitlines()

    def writes(self) -> list[tuple[int, str, str]]:
        """(version, writer, when) of each write, in the order of the store."""
        calls = self.api.traffic.of("patch", "configmaps")
        return sorted((c.revision, c.answer["data"]["writer"], c.at) for c in calls if c.revision)

    def holders(self) -> list[tuple[int, str]]:
        """(version, holder) of each change of the lease, in the order of the store."""
        calls = self.api.traffic.of("update", "leases")
        held = ((c.revision, c.answer["spec"].get("holderIdentity") or "") for c in calls if c.revision)
        return sorted(held)

    async def leads(self, *names: str) -> str:
        """Which of them leads, once one wrote a few times in a row."""

        def one() -> bool:
            turn = {writer for _, writer, _ in self.writes()[-3:]}
            return len(self.writes()) >= 3 and len(turn) == 1 and turn <= set(names)

        await until(one, PATIENCE_S, 0.1)
        return self.writes()[-1][1]

    def end(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()
        for relay in self.relays.values():
            relay.__exit__()


_PARTS = (("certificate", "crt"), ("key", "key"))


@pytest.fixture
def writers(cluster: RealApi, tmp_path: Path) -> Iterator[Writers]:
    cluster.fresh(["leadtime"])
    cluster.add(TARGET)
    cluster.add(LEASE)
    made = Writers(cluster, tmp_path)
    yield made
    made.end()


async def test_of_three_one_writes_whoever_is_killed_stopped_or_cut_off(writers: Writers) -> None:
    names = {"a", "b", "c"}
    for name in sorted(names):
        writers.start(name)
    await until(lambda: all(writers.said(name) for name in names), PATIENCE_S, 0.1)

    # killed
    first = await writers.leads(*names)
    writers.running[first].kill()
    second = await writers.leads(*(names - {first}))

    # stopped, and woken when another leads
    writers.running[second].send_signal(signal.SIGUSR1)
    third = await writers.leads(*(names - {first, second}))
    writers.running[second].send_signal(signal.SIGCONT)
    await until(lambda: writers.said(second)[-1] == "follows", PATIENCE_S, 0.1)

    # cut off from the API, and healed when another leads
    writers.relays[third].silence()
    assert await writers.leads(second) == second
    writers.relays[third].heal()
    await until(lambda: writers.said(third)[-1] == "follows", PATIENCE_S, 0.1)

    # given back
    writers.running[second].terminate()
    assert await writers.leads(third) == third

    check_one_writer(writers)
    turns = [name for name, _ in itertools.groupby(writer for _, writer, _ in writers.writes())]
    assert turns == [first, second, third, second, third]
    for how, gap_s in zip(("killed", "stopped", "cut off", "ended"), gaps_s(writers), strict=True):
        print(f"{how}: {gap_s:.1f} s without a writer, with a lease of {LEASE_S:.0f} s")


def check_one_writer(writers: Writers) -> None:
    """At the version of each write the lease names its writer."""
    holders = writers.holders()
    for version, writer, at in writers.writes():
        holder = next((who for when, who in reversed(holders) if when < version), "")
        assert holder == writer, f"{writer} wrote at {version} ({at}) while {holder or 'nobody'} held the lease"


def gaps_s(writers: Writers) -> list[float]:
    """Between the last write of one and the first of the next, by the server's clock."""
    writes = [(writer, datetime.fromisoformat(at)) for _, writer, at in writers.writes()]
    pairs = itertools.pairwise(writes)
    return [(began - ended).total_seconds() for (was, ended), (now, began) in pairs if was != now]
