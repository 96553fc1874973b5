"""Watches many RayServices on a fake API server: memory, API calls a minute and processor time, and whether they stay.

    python benchmarks/bench_discovery.py [--services 500] [--minutes 3] [--changes-per-s 5]

The server runs in a process of its own. Every service has a RayCluster and two worker pods, each object some 20 kB as
with kubectl's annotation; statuses change all the time, as the operator changes them. Figures are of the watching side.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import sys
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from kubernetes.client import Configuration

from autoscaler.core.types import DeploymentSettings, PoolSettings
from autoscaler.kubernetes.api import KubernetesApi
from autoscaler.sources.kubernetes.discovery import KubernetesDiscovery, KubernetesPools
from tests.fakes.kubernetes import objects
from tests.fakes.kubernetes.crds import KUBERAY
from tests.fakes.kubernetes.server import FakeApi

TICK_S = 5.0
_PADDING = {"kubectl.kubernetes.io/last-applied-configuration": "x" * 15_000}


def serve(pipe: Connection, services: int, changes_per_s: float) -> None:
    """The server's process: answers `calls` with the counts since the last time, ends on `stop`."""
    made = [
        objects.ray_service(f"s{i}", annotations={**_PADDING, "leadtime.dev/enabled": "true"}) for i in range(services)
    ]
    with FakeApi(crds=KUBERAY, namespaces=("llm",), keep_changes=2000) as api:
        for i, service in enumerate(made):
            api.add({**service, "status": objects.service_status(f"s{i}-aaaaa")})
            api.add(objects.ray_cluster(f"s{i}-aaaaa", service=f"s{i}", annotations=_PADDING))
            for k in range(2):
                api.add(objects.pod(f"s{i}-w{k}", on=f"n{i % 50}"))
        for i in range(50):
            api.add(objects.node(f"n{i}"))
        pipe.send(api.url)
        changed = 0
        while True:
            if pipe.poll(1.0 / changes_per_s):
                if pipe.recv() == "stop":
                    return
                pipe.send(Counter(r.verb or "other" for r in api.requests))
                api.requests.clear()
            changed += 1
            status = objects.service_status(f"s{changed % services}-aaaaa")
            status["numServeEndpoints"] = changed
            api.set_status(made[changed % services], status)


async def watch(url: str, pipe: Connection, minutes: float) -> None:
    api = KubernetesApi(Configuration(host=url))
    now_s = time.time
    settings = [DeploymentSettings("chat/LLMServer:*", max_replicas=8)]
    discovery = KubernetesDiscovery(api, ["llm"], now_s=now_s, settings=settings)
    pools = KubernetesPools(api, ["llm"], [PoolSettings("h100")], now_s=now_s)
    before_mb, began_s = rss_mb(), time.monotonic()
    tasks = [asyncio.ensure_future(work()) for work in (discovery.run, pools.run)]
    while not (discovery.status()[0] and (await pools.read(0.0)).up):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    print(f"first view of {len(discovery.services())} services after {time.monotonic() - began_s:.2f} s; ", end="")
    print(f"memory {before_mb:.0f} MB before, {rss_mb():.0f} MB after")
    print(f"{'minute':>6} {'rss_mb':>7} {'calls':>6} {'of which':<40} {'cpu_s':>6} {'tick_ms':>8}")
    pipe.send("calls")
    pipe.recv()
    minute = 0
    while minute < minutes:
        minute, ends_s, cpu_s, slowest_s = minute + 1, time.monotonic() + 60.0, cpu(), 0.0
        while (left_s := ends_s - time.monotonic()) > 0:
            await asyncio.sleep(min(TICK_S, left_s))
            tick_s = time.perf_counter()
            discovery.services(), discovery.deployment_settings(), discovery.problems(), discovery.changes()
            await pools.read(0.0)
            slowest_s = max(slowest_s, time.perf_counter() - tick_s)
        pipe.send("calls")
        calls: Counter[str] = pipe.recv()
        kinds = ", ".join(f"{count} {verb}" for verb, count in sorted(calls.items()))
        figures = f"{rss_mb():>7.1f} {sum(calls.values()):>6} {kinds:<40} {cpu() - cpu_s:>6.2f} {slowest_s * 1e3:>8.1f}"
        print(f"{minute:>6} {figures}", flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await api.close()


def rss_mb() -> float:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--changes-per-s", type=float, default=5.0)
    options: Any = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs, options.services, options.changes_per_s), daemon=True)
    server.start()
    try:
        asyncio.run(watch(ours.recv(), ours, options.minutes))
    finally:
        ours.send("stop")
        server.join(10)
        server.kill()


if __name__ == "__main__":
    main()
