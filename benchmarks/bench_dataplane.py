"""Times engine + router + preemption alone, without any controller: requests per wall second on one core.

    python benchmarks/bench_dataplane.py [--hours H] [--slice-s S] [--repeat N]

Jobs, each with telemetry and finished requests read at every slice:
    steady     8 x llama-3.1-8b/h100/tp1, 100 req/s Poisson, lognormal prompts and outputs of mean 512 / 128
    tight      the same traffic on engines with a fifth of the KV cache: preemption
    backlog    the same traffic on 4 replicas behind max_ongoing_requests 100: requests wait at the handle
    small      1 replica, 2 req/s: the cost of a tick, not of a request
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.timing import RATES, Timed, peak_mb
from policies.capacity import EngineProfile
from policies.capacity.load import load_profile
from simulator.dataplane.plane import DataPlane

CHUNK_S = 600.0


@dataclasses.dataclass(frozen=True)
class Job:
    name: str
    profile: EngineProfile
    replicas: int
    rps: float
    max_ongoing: int = 100_000


@dataclasses.dataclass(frozen=True)
class JobRun(Timed):
    preemptions: int
    steps: int


def jobs() -> list[Job]:
    profile = load_profile("llama-3.1-8b/h100/tp1")
    tight = dataclasses.replace(profile, limits=dataclasses.replace(profile.limits, kv_tokens=8192, max_model_len=8192))
    return [
        Job("steady", profile, 8, 100.0),
        Job("tight", tight, 8, 100.0),
        Job("backlog", profile, 4, 100.0, max_ongoing=20),
        Job("small", profile, 1, 2.0),
    ]


def run(job: Job, hours: float, slice_s: float) -> JobRun:
    """Drawing the traffic is not timed; everything that the data plane does is."""
    plane = DataPlane(job.profile, max_ongoing_requests=job.max_ongoing, request_timeout_s=600.0, seed=1)
    for replica in range(job.replicas):
        plane.add_replica(replica, 0.0)
    rng = np.random.default_rng(1)
    now_s, wall_s, cpu_s, finished = 0.0, 0.0, 0.0, 0
    while now_s < hours * 3600.0:
        count = rng.poisson(job.rps * CHUNK_S)
        times = now_s + np.sort(rng.uniform(0.0, CHUNK_S, count))
        prompts = np.maximum(1, rng.lognormal(np.log(512) - 0.125, 0.5, count)).astype(np.int64)
        outputs = np.maximum(1, rng.lognormal(np.log(128) - 0.18, 0.6, count)).astype(np.int64)
        begun, begun_cpu = time.perf_counter(), time.process_time()
        plane.feed(times, prompts, outputs)
        for _ in range(int(CHUNK_S / slice_s)):
            now_s += slice_s
            plane.advance(now_s)
            plane.gauges(now_s)
            plane.counters()
            finished += len(plane.completed())
        wall_s += time.perf_counter() - begun
        cpu_s += time.process_time() - begun_cpu
    counters = plane.counters()
    preemptions, steps = int(counters.preemptions_total.sum()), int(counters.steps_total.sum())
    return JobRun(finished, wall_s, cpu_s, now_s, preemptions, steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--slice-s", type=float, default=5.0)
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many is printed")
    parser.add_argument("--job", default="")
    options = parser.parse_args()
    begun = time.perf_counter()
    DataPlane(load_profile("llama-3.1-8b/h100/tp1"), max_ongoing_requests=1, request_timeout_s=None, seed=1).advance(
        0.0
    )
    print(f"kernels ready after {time.perf_counter() - begun:.1f} s (compiled, or read from numba's cache)")
    head = (*RATES, "wall s", "requests", "preempted", "steps")
    print(f"{'job':<10}" + "".join(f"{name:>16}" for name in head))
    for job in jobs():
        if options.job and options.job != job.name:
            continue
        best = min((run(job, options.hours, options.slice_s) for _ in range(options.repeat)), key=lambda o: o.wall_s)
        print(
            f"{job.name:<10}{best.rates()}{best.wall_s:>16.2f}{best.requests:>16,}"
            f"{best.preemptions:>16,}{best.steps:>16,}"
        )
    print(f"peak memory {peak_mb():,.0f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
