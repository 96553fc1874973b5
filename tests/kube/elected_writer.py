"""A process that competes for the lease and writes its name whenever it may: `python -m tests.kube.elected_writer`.

It is told a URL or a kubeconfig, and its name.

Started by test_leader.py as real processes, to be stopped, woken, killed and terminated. Writes carry no version guard,
as those to Ray Serve carry none: only the elector keeps a late one from starting. Says on stdout what it does. Asked by
SIGUSR1 it stops itself (SIGSTOP) between two writes: stopped from outside, a busy machine might catch it in a write.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from pathlib import Path

from kubernetes.client import Configuration

from autoscaler.common.errors import Unavailable
from autoscaler.kubernetes.api import KubernetesApi, connect
from autoscaler.kubernetes.leader import LeaderElector, LeaseSettings
from autoscaler.kubernetes.lease import KubernetesLease
from autoscaler.kubernetes.resources import CONFIG_MAPS, PatchOperation

LEASE_S, DEADLINE_S, RETRY_S = 3.0, 2.2, 0.25


def connected(where: str, threads: int) -> KubernetesApi:
    return KubernetesApi(Configuration(host=where), threads=threads) if "://" in where else connect(Path(where))


async def main(where: str, name: str) -> None:
    api, lease_api = connected(where, 8), connected(where, 2)
    numbers = itertools.count()
    elector = LeaderElector(
        KubernetesLease(lease_api, "leadtime", "leadtime"), LeaseSettings(name, LEASE_S, DEADLINE_S, RETRY_S)
    )
    ended, stopping = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, stopping.set)
    running = asyncio.ensure_future(elector.run())
    while not ended.is_set():
        budget_s = elector.write_budget_s(elector.clock())
        if budget_s > 0:
            written = {"writer": name, "n": str(next(numbers))}  # each write is a change, and gets a version
            operations = [PatchOperation("add", f"/data/{key}", value) for key, value in written.items()]
            try:
                await api.patch(CONFIG_MAPS, "leadtime", "target", operations, timeout_s=budget_s)
            except Unavailable:
                print("had no answer in time", flush=True)
                continue
        print("leads" if budget_s > 0 else "follows", flush=True)
        if stopping.is_set():
            stopping.clear()
            print("stops", flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)
        await asyncio.sleep(0.1)
    running.cancel()
    released = await elector.release()
    print("released" if released else "not released", flush=True)
    await api.close()
    await lease_api.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
