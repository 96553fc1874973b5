"""A process of its own that reads a good head beside a hostile one, and says what the hostile one cost.

    python -m tests.autoscaler.neighbours GOOD_URL HOSTILE_URL

Ticks with the good one alone, then with both; prints JSON. Not a test: test_one_bad_neighbour.py starts it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from autoscaler.kuberay.fleet import KubeRayFleet
from autoscaler.kuberay.reach import Reach
from autoscaler.sources.kuberay.services import KubeService
from autoscaler.sources.readings import Inventories, JoinedMetrics
from tests.autoscaler.sources.test_kuberay import found
from tests.fakes.kubernetes import objects

TICKS = 3
TICK_S = 5.0


class Discovered:
    def __init__(self) -> None:
        self.now: tuple[KubeService, ...] = ()

    def services(self) -> tuple[KubeService, ...]:
        return self.now

    def status(self) -> tuple[bool, float | None, str]:
        return True, 0.0, ""


def peak_mb() -> float:
    """Of this process alone: getrusage would begin with what its parent had."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024.0


def service(namespace: str) -> KubeService:
    """Without a token: what answers here asks for none."""
    spec = objects.cluster_spec(authOptions={"mode": "disabled"})
    status = objects.service_status(f"{namespace}-1")
    (one,) = found(objects.ray_service("s", namespace=namespace, cluster=spec, status=status), patterns=["*/*/*/*"])
    return one


async def lag(worst: list[float]) -> None:
    """How late the event loop is."""
    while True:
        asked_s = time.monotonic()
        await asyncio.sleep(0.02)
        worst[0] = max(worst[0], time.monotonic() - asked_s - 0.02)


async def main(good: str, hostile: str) -> None:
    urls = {"good-1": good, "hostile-1": hostile}
    discovery = Discovered()
    fleet = KubeRayFleet(discovery, Reach(dashboard=lambda cluster: urls[cluster.name], timeout_s=2.0))
    worst = [0.0]

    async def tick(now_s: float) -> tuple[bool, float, str]:
        """Whether the good one was read now, how long it took, and what is said of the others."""
        began_s = time.monotonic()
        inventories, metrics = await asyncio.gather(fleet.inventories.read(now_s), fleet.metrics.read(now_s))
        took_s = time.monotonic() - began_s
        assert isinstance(inventories.data, Inventories), inventories.why
        assert isinstance(metrics.data, JoinedMetrics), metrics.why
        ages = [one.as_of_s for key, one in inventories.data.deployments.items() if key.namespace == "good"]
        counts = [one for key, one in metrics.data.deployments.items() if key.namespace == "good"]
        fresh = bool(ages) and min(ages) == now_s and all(one.as_of_s == now_s for one in counts)
        return fresh, took_s, f"{inventories.why} | {metrics.why}"

    discovery.now = (service("good"),)
    for i in range(2):
        await tick(float(i))
    before_mb, watch = peak_mb(), asyncio.create_task(lag(worst))
    discovery.now = (service("good"), service("hostile"))
    ticks = []
    for i in range(TICKS):
        began_s = time.monotonic()
        ticks.append(await tick(10.0 + i))
        await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - began_s)))  # shorter than a tick: more of it at once
    for i in range(10):  # until it is known what is wrong with it
        if "no answer yet" not in ticks[-1][2]:
            break
        ticks.append(await tick(20.0 + i))
        await asyncio.sleep(1.0)
    kept = sum(key.namespace == "hostile" for key in fleet.known_keys())
    watch.cancel()
    await fleet.close()
    said = {
        "fresh": [fresh for fresh, _, _ in ticks],
        "slowest_s": max(took_s for _, took_s, _ in ticks),
        "lag_s": worst[0],
        "more_mb": peak_mb() - before_mb,
        "why": ticks[-1][2],
        "kept": kept,
    }
    print(json.dumps(said))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
