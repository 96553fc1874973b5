"""Times one search with one worker and with one for each core: processes of this machine, and a local Ray cluster.

    python benchmarks/bench_tune.py [--trials N] [--scenario S] [--policy P] [--workers N,..]

The search is the same each time (what is tried does not depend on how many are made at a time), and so is what it
finds; that is checked. Seconds by the clock, without the start of Ray; a process pays the start of Python too.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from os import cpu_count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from leadtime.demo.local_ray import local_ray
from simulator.experiments.parallel.workers import Workers, workers
from simulator.experiments.tuning.tuner import Plan, Tuned, Tuner


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--scenario", default="preset:lunch-peak")
    parser.add_argument("--policy", default="hpa_ongoing")
    parser.add_argument(
        "--workers", default=f"1,{cpu_count() or 1}", help="how many at a time; the first is the measure"
    )
    args = parser.parse_args()
    counts = list(dict.fromkeys(int(n) for n in args.workers.split(",")))
    plan = Plan((args.scenario,), args.policy, args.trials)
    kinds = ["processes"] + (["ray"] if find_spec("ray") is not None else [])
    found: list[Tuned] = []
    print(f"{args.policy} on {args.scenario}, {args.trials} trials, {cpu_count()} cores")
    print(f"{'where':<12}{'workers':>8}{'wall s':>10}{'times as fast':>15}")
    for kind in kinds:
        first_s = 0.0
        for count in counts:
            tuned, took_s = _timed(kind, count, plan)
            found.append(tuned)
            first_s = first_s or took_s
            print(f"{kind:<12}{count:>8}{took_s:>10.1f}{first_s / took_s:>15.2f}", flush=True)
    if any(_told(one) != _told(found[0]) for one in found):
        print("what was found depends on who searched: it must not", file=sys.stderr)
        return 1
    return 0


def _told(found: Tuned) -> tuple[object, ...]:
    """All but the seconds that it took."""
    tried = sorted((t.number, sorted(t.params.items()), t.score.cost_usd, t.score.misses) for t in found.tried)
    return found.block(), found.best.score.cost_usd, tried


def _timed(kind: str, count: int, plan: Plan) -> tuple[Tuned, float]:
    with _cluster(count) if kind == "ray" else workers(count) as pool:
        tuner = Tuner(plan)
        begun_s = time.perf_counter()
        return tuner.run(pool), time.perf_counter() - begun_s


@contextmanager
def _cluster(cpus: int) -> Iterator[Workers]:
    """A Ray of its own with room for so many trials, on the loopback; gone afterwards."""
    loop, cluster = asyncio.new_event_loop(), local_ray(0, cpus=cpus)
    address = loop.run_until_complete(cluster.__aenter__()).address
    try:
        with workers(0, address) as pool:
            yield pool
    finally:
        loop.run_until_complete(cluster.__aexit__(None, None, None))
        loop.close()


if __name__ == "__main__":
    sys.exit(main())
